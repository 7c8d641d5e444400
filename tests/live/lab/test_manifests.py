"""A lab with a manifest: the pods and Services of the file are there, a changed file changes the running lab, and later
verbs need no file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import labctl
from labctl.kernel.host import paths
from labctl.lab import lifecycle
from tests.support.paths import GOLDEN

SHOP = GOLDEN / "manifests" / "good" / "shop.yaml"
NAME = "shop"


@pytest.fixture
def manifest(tmp_path: Path) -> Iterator[Path]:
    file = tmp_path / "shop.yaml"
    file.write_text(SHOP.read_text())
    yield file
    if NAME in paths.labs():
        labctl.down(NAME)


def answer(lab: labctl.RunningLab, machine: str, url: str) -> str:
    return lab[machine].run(["curl", "-s", "-m", "3", url]).stdout.strip()


def test_a_shop_serves_and_changes_with_its_manifest(manifest: Path) -> None:
    lab = labctl.up("flannel", name=NAME, manifests=[manifest])

    assert {"shop-frontend-1", "shop-cart-2", "shop-db-0"} <= set(paths.labs()[NAME])
    assert answer(lab, "shop-frontend-1", "http://cart.shop:8080/") == "cart"
    assert answer(lab, "a", "http://cart.shop:8080/") == "", "a policy of the shop allows its front end alone"
    assert answer(lab, "shop-frontend-1", "http://cart:8080/") == "cart", "a pod may leave out its own namespace"
    names = lab["shop-cart-1"].run(["getent", "ahosts", "db"]).stdout.split()
    assert lab["shop-db-0"].run(["ip", "-br", "-4", "addr", "show", "eth0"]).stdout.split()[2].split("/")[0] in names
    assert lab["a"].run(["getent", "hosts", "db-0.db.shop.svc.cluster.local"]).ok
    assert not lab["a"].run(["getent", "hosts", "cart"]).ok, "another namespace has no such Service"
    assert lab.status() == ()

    manifest.write_text(SHOP.read_text().replace("port: 8080, targetPort: api", "port: 8181, targetPort: api"))
    changed = labctl.up("flannel", name=NAME, manifests=[manifest])

    assert changed.result is not None
    assert not changed.result.created
    assert changed.result.updated
    assert {type(one.subject).__name__ for one in changed.result.changes} == {"Chain"}
    assert answer(changed, "shop-frontend-1", "http://cart.shop:8181/") == "cart"
    assert answer(changed, "shop-frontend-1", "http://cart.shop:8080/") == ""

    manifest.unlink()
    assert lifecycle.status(NAME, lifecycle.load_compiled_lab(NAME)) == ()
    assert labctl.up(labctl.load("flannel", name=NAME)).status() == ()
    assert "shop-cart-1" not in paths.labs()[NAME]


def test_a_pod_that_gets_the_address_of_a_removed_one_is_reached_at_once(tmp_path: Path) -> None:
    """The node has learned the other pod's MAC address. Without a change of what it learned, packets would go there."""
    pod = "apiVersion: v1\nkind: Pod\nmetadata: {{name: {0}}}\nspec: {{nodeName: node1, containers: [{{name: {0}}}]}}\n"
    before, after = tmp_path / "before.yaml", tmp_path / "after.yaml"
    before.write_text("---\n".join(map(pod.format, ("p1", "p2", "p3"))))
    service = "---\napiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {ports: [{port: 80}]}\n"
    after.write_text("---\n".join(map(pod.format, ("p2", "p3"))) + service)
    try:
        lab = labctl.up("kubenet", name=NAME, manifests=[before])
        for name in ("p1", "p2", "p3"):
            assert lab["node1"].run(["ping", "-c", "1", "-W", "2", name]).ok

        changed = labctl.up("kubenet", name=NAME, manifests=[after])

        for name in ("p2", "p3"):
            assert changed["node1"].run(["ping", "-c", "1", "-W", "1", name]).ok
    finally:
        labctl.down(NAME)

"""Manifests as people have them, and the golden messages for mistakes in them.

Each tests/golden/manifests/errors/NAME.yaml is refused with exactly the text of NAME.txt. After an intended change,
renew them with `--update-golden`, and read the difference.
"""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from labctl.core.scenario_types import Lab, Scenario
from labctl.errors import ScenarioError
from labctl.scenario.definition import parse_and_compile
from tests.support.golden import Golden
from tests.support.paths import GOLDEN
from tests.unit.scenario.manifests.support import NODES

FOLDER = GOLDEN / "manifests"
ERRORS = sorted(path.stem for path in (FOLDER / "errors").glob("*.yaml"))


def compiled(*files: Path) -> tuple[Scenario, Lab]:
    names = ", ".join(path.name for path in files)
    return parse_and_compile(
        f"{NODES}manifests: [{names}]\n", "t.yaml", files={path.name: path.read_text() for path in files}
    )


def refusal(name: str) -> ScenarioError:
    with pytest.raises(ScenarioError) as caught:
        compiled(FOLDER / "errors" / f"{name}.yaml")
    return caught.value


@pytest.mark.parametrize("name", ERRORS)
def test_the_message_is_the_golden_one(name: str, golden: Golden) -> None:
    began = time.process_time()
    text = f"{refusal(name)}\n"
    assert time.process_time() - began < 1.0
    golden(f"manifests/errors/{name}.txt").check(text)


@pytest.mark.parametrize("name", ERRORS)
def test_every_problem_has_its_place_in_the_file(name: str) -> None:
    lines = (FOLDER / "errors" / f"{name}.yaml").read_text().split("\n")
    problems = refusal(name).problems
    assert problems
    for problem in problems:
        assert problem.file == f"{name}.yaml"
        assert 1 <= problem.column <= len(lines[problem.line - 1]) + 1
        assert (problem.what + problem.hint).isprintable()
        assert not re.search(r"Traceback|<class|object at 0x|None\b", str(problem))


def test_a_shop_of_three_tiers_becomes_pods_services_and_policies() -> None:
    scenario, lab = compiled(FOLDER / "good" / "shop.yaml", FOLDER / "good" / "monitoring.json")

    pods = {pod for _, pod in scenario.pods}
    state = lab.kubernetes
    frontend, cart, db, collector = state.cluster.services
    assert pods == {
        *("a", "b", "shop-frontend-1", "shop-frontend-2", "shop-cart-1", "shop-cart-2", "shop-db-0"),
        "monitoring-collector-7d",
    }
    assert state.pod("shop/db-0").labels == {"app": "db", "tier": "data"}
    assert [str(one) for one in state.policies] == [
        f"shop/{name}" for name in ("default-deny", "allow-frontend", "allow-cart", "allow-db")
    ]
    assert (frontend.type, frontend.external_policy, [one.target_port for one in frontend.ports]) == (
        "LoadBalancer", "Local", ["http", "metrics"],
    )  # fmt: skip
    assert (cart.ports[0].target_port, db.headless, str(collector)) == ("api", True, "monitoring/collector")
    assert state.namespaces["shop"].labels["team"] == "checkout"


def test_what_is_not_used_is_named_once_and_what_is_left_out_with_its_place() -> None:
    _, lab = compiled(FOLDER / "good" / "shop.yaml", FOLDER / "good" / "monitoring.json")

    left_out, not_used = lab.warnings
    assert left_out.startswith("monitoring.json:22:40: DaemonSet monitoring/agent: left out: it has hostNetwork")
    assert not_used.startswith("not used: ConfigMap (1), PodDisruptionBudget (1), HorizontalPodAutoscaler (1), spec.")
    assert "spec.template.spec.containers.image (4 objects)" in not_used
    assert not_used.endswith(" more")
    assert len(not_used) < 600

"""A small test suite that needs a reliable network: two nodes, three pods, and the internet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import labctl
from labctl.testing import Labs, assert_laws

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def cluster(module_labs: Labs) -> labctl.RunningLab:
    """One cluster for all tests of this file."""
    return module_labs("kubenet")


def test_pods_meet_across_nodes(cluster: labctl.RunningLab) -> None:
    assert cluster["a"].run("ping -c1 c").ok
    assert cluster.trace("a", "c").hops == ("a", "node1", "fabric", "node2", "c")


def test_every_claim_of_the_scenario_is_true(cluster: labctl.RunningLab) -> None:
    report = cluster.check()

    assert [outcome.check.say for outcome in report.outcomes if outcome.verdict != "pass"] == []


def test_our_own_server_answers(cluster: labctl.RunningLab) -> None:
    answer = cluster.trace("a", "c", tcp=8080, listen=True)

    assert answer.answered, answer  # a failed assertion prints the trace of the packet


@pytest.fixture
def split(labs: Labs) -> Iterator[labctl.RunningLab]:
    """A separate cluster. Its fabric has lost the route to the pods of one node."""
    lab = labs("kubenet")
    assert lab["fabric"].run("ip route del 10.244.1.0/24 table 100").ok
    yield lab
    assert len(lab.status()) == 1, "the test itself has changed the lab"


def test_a_split_is_noticed_and_explained(split: labctl.RunningLab) -> None:
    lost = split.trace("a", "c")

    assert lost.verdict == "lost"
    assert "fabric has no route" in str(lost)
    assert split["a"].run("ping -c1 -W1 b").ok, "pods of one node still reach each other"


@pytest.mark.lab(HERE / "shop.yaml")
def test_the_front_is_published_and_the_store_is_not(lab: labctl.RunningLab) -> None:
    assert lab.check().verdict == "pass"
    assert lab.trace("internet", "host1", tcp=8080).hops[-1] == "front"
    assert not lab["internet"].run(["ping", "-c1", "-W1", str(lab["store"].address)]).ok


def test_the_scenario_keeps_the_three_laws() -> None:
    assert_laws(HERE / "shop.yaml")

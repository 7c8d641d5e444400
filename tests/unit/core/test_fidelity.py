"""Grades: what a model's parts say in a few words, and that they are read without running the model."""

from __future__ import annotations

import pytest

from labctl.core import fidelity
from labctl.core.fidelity import Fidelity, approximation, faithful, needs, skipped
from tests.support import samples


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ((faithful("a"),), "faithful"),
        ((faithful("a"), skipped("b")), "faithful"),
        ((approximation("a", "b"), approximation("c", "d")), "approximate (2)"),
        ((faithful("a"), needs("vlan", "b"), needs("ipip", "c"), needs("vlan", "d")), "needs vlan, ipip"),
        (samples.PARTS, "approximate (1), needs vlan"),
        ((), ""),
    ],
)
def test_a_model_in_a_few_words(parts: tuple[Fidelity, ...], said: str) -> None:
    assert fidelity.summary(parts) == said


def test_only_what_names_a_substitute_can_be_built_otherwise() -> None:
    assert fidelity.substitutes((*samples.PARTS, needs("ipip", "tunnels"))) == {"vlan": samples.PARTS[2]}


def test_what_differs_is_what_is_approximate_or_left_out() -> None:
    assert fidelity.deviations(samples.PARTS) == ("the load balancer", "without IPv6")


def test_parts_are_read_from_the_text_of_a_model() -> None:
    text = "raise SystemExit\nPARTS = (\n    faithful('a'),\n    needs('vlan', 'b' 'c', instead='d'),\n)\nMORE = ()\n"
    assert fidelity.read_parts(text) == (faithful("a"), needs("vlan", "bc", instead="d"))
    assert fidelity.read_parts("PARTS = (skipped('x'),)") == (skipped("x"),)


def test_parts_that_models_share_are_read_from_their_own_file() -> None:
    text = "from labctl.models.lib import pods\nPARTS = (\n    faithful('a'),\n    *pods.PARTS,\n)\n"
    assert fidelity.read_parts(text, lambda module: (faithful(module),)) == (faithful("a"), faithful("pods"))
    for line in ("import pods as ways", "import aws, pods as ways, vpc", "import (\n    aws,\n    pods as ways,\n)"):
        renamed = text.replace("import pods", line).replace("*pods", "*ways")
        assert fidelity.read_parts(renamed, lambda module: (faithful(module),)) == (faithful("a"), faithful("pods"))


def test_parts_are_told_by_grade() -> None:
    assert fidelity.sort_by_grade(reversed(samples.PARTS)) == samples.PARTS


@pytest.mark.parametrize(
    "text",
    [
        "",
        "PARTS = faithful('a')",
        "PARTS = (faithful(NAME),)",
        "PARTS = (\n    *others.PARTS,\n)",
        "PARTS = (\n    perfect('a'),\n)",
        "PARTS = (\n    faithful('a'),",
        "PARTS = (faithful(),)",
    ],
)
def test_parts_that_are_no_plain_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"PARTS is a tuple of faithful"):
        fidelity.read_parts(text)

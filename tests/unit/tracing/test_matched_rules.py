"""A report of the kernel names a rule by its number; the legacy tables call a rule without matches a policy."""

from __future__ import annotations

import pytest

from labctl.core.iptables import rule
from labctl.core.resources import Chain
from labctl.tracing.rule_context import RuleKind, matched_rule

OUTPUT = Chain("node1", "filter", "OUTPUT", (rule("-p tcp -j DOCKER"), rule("-j DROP")), "ACCEPT")
DOCKER = Chain("node1", "filter", "DOCKER", (rule("-j DROP"), rule("-j RETURN")))


@pytest.mark.parametrize(
    ("chain", "kind", "number", "right"),
    [
        (OUTPUT, "policy", 2, ("rule", "-j DROP", "DROP")),  # as the legacy tables report `-j DROP`
        (OUTPUT, "rule", 2, ("rule", "-j DROP", "DROP")),  # as nf_tables reports it
        (OUTPUT, "policy", 3, ("policy", "", "ACCEPT")),
        (OUTPUT, "rule", 1, ("rule", "-p tcp -j DOCKER", "DOCKER")),
        (DOCKER, "return", 1, ("rule", "-j DROP", "DROP")),
        (DOCKER, "return", 2, ("rule", "-j RETURN", "RETURN")),
        (DOCKER, "return", 3, ("return", "", "")),
        (None, "policy", 1, ("policy", "", "")),
    ],
)
def test_a_report_is_about_the_rule_with_its_number(
    chain: Chain | None, kind: RuleKind, number: int, right: tuple[RuleKind, str, str]
) -> None:
    assert matched_rule(kind, number, chain) == right

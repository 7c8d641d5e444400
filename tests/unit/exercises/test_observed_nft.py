"""Objects of nft in the words of an exercise: what is there is said, what should be there is not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from labctl.core.diff import Change
from labctl.core.resources import NftObject
from labctl.exercises.observed_state import describe, without_free_fields

TABLE = NftObject("host", "inet netavark", "table")
HEADER = ("type nat hook postrouting priority srcnat; policy accept;",)
CHAIN = NftObject(
    "host", "inet netavark", "chain", "POSTROUTING", HEADER, ('ip saddr @pods counter masquerade comment "x"',)
)
PODS = NftObject("host", "inet netavark", "set", "pods", ("type ipv4_addr",), ("10.88.0.2",))


def test_comments_and_counters_of_rules_are_free() -> None:
    made = replace(CHAIN, entries=("ip saddr @pods masquerade",))
    changes = (Change(CHAIN, made), Change(CHAIN, replace(made, entries=("masquerade",))))

    assert without_free_fields(changes) == changes[1:]
    assert without_free_fields((Change(CHAIN, replace(made, header=())),)), "the hook is not free"


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (Change(CHAIN, None), "host lacks a chain of nft; its chains of nft: inet netavark other"),
        (Change(PODS, None), "host lacks a set of nft; its sets of nft: none"),
        (Change(TABLE, None), "host lacks a table of nft; its tables of nft: inet netavark"),
        (Change(None, PODS), "host has something that does not belong there: set inet netavark pods"),
        (
            Change(CHAIN, replace(CHAIN, entries=("masquerade",))),
            "host: chain inet netavark POSTROUTING: masquerade; it has another rule, too few rules, or rules in another"
            " order",
        ),
        (
            Change(PODS, replace(PODS, entries=("10.88.0.9", "10.88.0.2"))),
            "host: set inet netavark pods has the elements 10.88.0.9, 10.88.0.2",
        ),
        (Change(PODS, replace(PODS, entries=())), "host: set inet netavark pods has the elements none"),
        (
            Change(CHAIN, replace(CHAIN, header=("type nat hook postrouting priority filter; policy accept;",))),
            "host: chain inet netavark POSTROUTING has type nat hook postrouting priority filter; policy accept;",
        ),
    ],
)
def test_what_is_there_is_said(change: Change, line: str) -> None:
    observed = (TABLE, replace(CHAIN, name="other", header=()))

    assert describe((change,), observed) == (line,)

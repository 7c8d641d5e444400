"""The order in which the kernel calls chains at a hook."""

from __future__ import annotations

import pytest

from labctl.core.netfilter_hooks import (
    HookChain,
    call_order,
    legacy_chains,
    listed_order,
    priority_text,
    with_listed_order,
)

LISTED = """family ip {
	hook prerouting {
		-0000000400 ipv4_conntrack_defrag [nf_defrag_ipv4]
		-0000000200 ipv4_conntrack_in [nf_conntrack]
		-0000000100 chain ip nat pre [nf_tables]
	}
	hook forward {
		+0000000000 chain inet b f [nf_tables]
		+0000000000 chain ip a f [nf_tables]
	}
}
"""


def _chain(table: str, priority: int, table_handle: int = 1, family: str = "ip", **more: object) -> HookChain:
    return HookChain(family, table, "f", "filter", "forward", priority, table_handle=table_handle, **more)  # type: ignore[arg-type]


def _names(order: object) -> list[tuple[str, bool]]:
    called = order["ip", "forward"]  # type: ignore[index]
    return [(one.chain.table, one.certain) for one in called]


def test_the_lower_priority_is_called_first_whatever_the_family() -> None:
    found = call_order([_chain("c", 10), _chain("a", -10, family="inet"), _chain("b", 0, family="ip6")])

    assert _names(found) == [("a", True), ("b", True), ("c", True)]


def test_among_equal_priorities_the_later_is_called_first_and_other_tables_are_uncertain() -> None:
    same = [HookChain("ip", "t", name, "filter", "forward", 0, handle=number) for number, name in ((1, "x"), (5, "y"))]
    (called,) = call_order(same).values()
    assert [(one.chain.name, one.certain) for one in called] == [("y", True), ("x", True)]

    assert _names(call_order([_chain("old", 0, 1), _chain("new", 0, 2)])) == [("new", False), ("old", False)]


def test_chains_that_no_packet_meets_together_are_not_uncertain() -> None:
    assert _names(call_order([_chain("a", 0), _chain("b", 0, 2, "ip6")])) == [("b", True), ("a", True)]
    devices = [HookChain("netdev", name, "i", "filter", "ingress", 0, devices=(name,)) for name in ("x", "y")]
    (called,) = call_order(devices).values()
    assert all(one.certain for one in called)


def test_the_layers_and_hooks_are_in_the_order_of_a_packet() -> None:
    chains = [
        HookChain("ip", "t", "o", "filter", "postrouting", 0),
        HookChain("inet", "t", "p", "filter", "prerouting", 0),
        HookChain("bridge", "t", "f", "filter", "forward", -200),
        HookChain("netdev", "t", "i", "filter", "ingress", 0),
        HookChain("inet", "t", "i", "filter", "ingress", 0),
    ]
    assert list(call_order(chains)) == [
        ("device", "ingress"), ("bridge", "forward"), ("ip", "prerouting"), ("ip", "postrouting"),
    ]  # fmt: skip


def test_legacy_tables_have_the_priorities_of_the_kernel() -> None:
    found = {(one.table, one.hook): one.priority for one in legacy_chains(("nat", "raw"), "iptables")}

    assert found["raw", "output"] == -300
    assert found["nat", "prerouting"] == -100
    assert found["nat", "postrouting"] == 100


@pytest.mark.parametrize(
    ("priority", "family", "text"),
    [(0, "ip", "filter"), (-90, "ip", "dstnat + 10"), (-110, "inet", "dstnat - 10"), (-200, "bridge", "filter"),
     (-130, "ip", "-130"), (5, "netdev", "filter + 5"), (-300, "ip", "raw")],
)  # fmt: skip
def test_priorities_have_names_where_they_are_near_one(priority: int, family: str, text: str) -> None:
    assert priority_text(priority, family) == text


def test_the_kernels_own_order_is_read_where_nft_lists_it() -> None:
    assert listed_order(LISTED)["ip", "ip", "forward"] == ((0, "inet", "b", "f"), (0, "ip", "a", "f"))
    order = call_order([_chain("a", 0, 2), _chain("b", 0, 1, "inet")])
    assert _names(order) == [("a", False), ("b", False)]

    assert _names(with_listed_order(order, LISTED)) == [("b", True), ("a", True)]
    with_legacy = call_order([_chain("a", 0), _chain("b", 0, 1, "inet"), _chain("filter", 0, tool="iptables")])
    assert all(not certain for _, certain in _names(with_listed_order(with_legacy, LISTED)))
    assert with_listed_order(order, "") == order

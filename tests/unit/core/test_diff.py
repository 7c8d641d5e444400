"""diff and assemble: what is a difference, what is none, and in which order things are done."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.core.diff import Change, by_namespace, diff, differing_fields
from labctl.core.iptables import rule
from labctl.core.kernel_defaults import kernel_default_fdb, kernel_default_rules, replaces_local_rule
from labctl.core.resources import (
    CREATION_ORDER,
    Address,
    Chain,
    Fdb,
    Interface,
    Link,
    Neighbour,
    Netns,
    NextHop,
    Resource,
    Route,
    Rule,
    Sysctl,
    assemble,
)

ETH0 = Interface("a", "eth0")
LINK = Link(ETH0, "veth", peer=Interface("n", "v0"), mtu=1500, mac="02:00:00:00:00:01")
ADDRESS = Address(ETH0, IPv4Interface("10.0.0.2/24"))
PROBE = Neighbour(ETH0, IPv4Address("169.254.1.1"), "aa:aa:aa:aa:aa:aa", "probe")
ROUTE = Route("a", IPv4Network("0.0.0.0/0"), via=IPv4Address("10.0.0.1"), dev="eth0")
MASQ = Chain("a", "nat", "POSTROUTING", (rule("-o eth0 -j MASQUERADE"),), "ACCEPT")
PLAN: tuple[Resource, ...] = (
    Netns("a"), LINK, Sysctl("a", "net.ipv4.ip_forward", "0"), ADDRESS, PROBE, Fdb(ETH0, "02:00:00:00:00:02"), ROUTE,
    Rule("a", 100, 100), MASQ,
)  # fmt: skip


def test_equal_plans_do_not_differ() -> None:
    assert diff(PLAN, PLAN) == ()
    assert diff(PLAN, tuple(reversed(PLAN))) == ()


def test_from_nothing_everything_is_missing_in_phase_order() -> None:
    changes = diff(tuple(reversed(PLAN)), ())
    assert [change.kind for change in changes] == ["missing"] * len(PLAN)
    phases = [CREATION_ORDER[type(change.want)] for change in changes]
    assert phases == sorted(phases)


def test_removals_come_first_and_last_phase_first() -> None:
    extra = (Address(ETH0, IPv4Interface("10.9.0.1/24")), Rule("a", 7, 7), Sysctl("b", "x", "1"))
    changes = diff(PLAN, (*(item for item in PLAN if item is not ROUTE), *extra[:2]))
    assert [(change.kind, type(change.subject)) for change in changes] == [
        ("extra", Rule), ("extra", Address), ("missing", Route),
    ]  # fmt: skip


def test_what_lies_in_an_extra_namespace_or_on_an_extra_link_goes_along() -> None:
    inside = (
        Netns("x"),
        Link(Interface("x", "eth0"), "veth"),
        Address(Interface("x", "eth0"), IPv4Interface("10.1.1.1/24")),
    )
    assert [change.have for change in diff(PLAN, (*PLAN, *inside))] == [inside[0]]
    link = Link(Interface("a", "extra0"), "bridge")
    on_it = (link, Address(link.at, IPv4Interface("10.1.1.1/24")), Route("a", IPv4Network("10.2.0.0/16"), dev="extra0"))
    assert [change.have for change in diff(PLAN, (*PLAN, *on_it))] == [link]


@pytest.mark.parametrize(
    ("want", "have", "fields"),
    [
        (LINK, replace(LINK, mtu=1400), ("mtu",)),
        (replace(LINK, mtu=None, mac=None), LINK, ()),
        (LINK, replace(LINK, peer=None), ("peer",)),
        (LINK, replace(LINK, master="br0"), ("master",)),
        (LINK, replace(LINK, up=False, promisc=True), ("up", "promisc")),
        (LINK, replace(LINK, autoconf=True), ("autoconf",)),
        (replace(LINK, link_netns="n"), LINK, ("link_netns",)),
        (LINK, replace(LINK, link_netns="n"), ("link_netns",)),
        (replace(LINK, link_netns="a"), LINK, ()),
        (replace(LINK, options=(("id", "1"),)), replace(LINK, options=(("ttl", "0"), ("id", "1"))), ()),
        (replace(LINK, options=(("id", "1"),)), replace(LINK, options=(("id", "2"),)), ("options",)),
        (ADDRESS, replace(ADDRESS, connected=False), ("connected",)),
        (ADDRESS, replace(ADDRESS, connected=None), ()),
        (ROUTE, replace(ROUTE, via=IPv4Address("10.0.0.9")), ("via",)),
        (replace(ROUTE, dev=None), ROUTE, ()),
        (ROUTE, replace(ROUTE, kind="blackhole", via=None, dev=None), ("via", "dev", "kind")),
        (MASQ, replace(MASQ, policy=None), ()),
        (MASQ, replace(MASQ, policy="DROP"), ("policy",)),
        (PROBE, replace(PROBE, state="reachable"), ()),
        (PROBE, replace(PROBE, state="failed", mac=None), ()),
        (PROBE, replace(PROBE, mac="02:00:00:00:00:66"), ("mac",)),
        (replace(PROBE, state="permanent"), PROBE, ("state",)),
    ],
)
def test_which_fields_differ(want: Resource, have: Resource, fields: tuple[str, ...]) -> None:
    assert differing_fields(want, have) == fields
    changes = diff((want,), (have,))
    assert changes == ((Change(want, have),) if fields else ())


def test_what_the_kernel_learns_or_always_has_is_no_drift() -> None:
    learned = (
        Neighbour(ETH0, IPv4Address("10.0.0.1"), "02:00:00:00:00:09", "reachable"),
        Chain("a", "filter", "FORWARD", (), "ACCEPT"),
        Link(Interface("a", "lo"), "loopback"),
    )
    assert diff(PLAN, (*PLAN, *learned)) == ()
    for extra in (replace(learned[0], state="permanent"), replace(learned[1], policy="DROP")):
        assert [change.have for change in diff(PLAN, (*PLAN, extra))] == [extra]


def test_a_transient_neighbour_may_age_away_but_a_new_link_needs_it() -> None:
    without = tuple(item for item in PLAN if item is not PROBE)
    assert diff(PLAN, without) == ()
    no_link = tuple(item for item in without if item is not LINK)
    assert {change.subject for change in diff(PLAN, no_link)} == {LINK, PROBE}


@pytest.mark.parametrize(("state", "expires"), [("reachable", True), ("noarp", True), ("permanent", False)])
def test_the_kernel_may_forget_every_neighbour_that_is_not_permanent(state: str, expires: bool) -> None:
    item = replace(PROBE, state=state)
    plan = tuple(item if one is PROBE else one for one in PLAN)

    assert (diff(plan, tuple(one for one in plan if one is not item)) == ()) == expires


def test_an_empty_builtin_chain_need_not_exist() -> None:
    empty = Chain("a", "filter", "INPUT", (), "ACCEPT")
    assert diff((*PLAN, empty), PLAN) == ()
    assert [c.want for c in diff((*PLAN, replace(empty, name="MINE", policy=None)), PLAN)] == [
        replace(empty, name="MINE", policy=None)
    ]


def test_assemble_folds_chains_and_sorts_by_phase() -> None:
    one, two = rule("-i a -j ACCEPT"), rule("-i b -j DROP")
    plan = assemble(
        [Chain("a", "filter", "FORWARD", (one,)), ROUTE, Chain("a", "filter", "FORWARD", (two,), "DROP"), Netns("a")]
    )
    assert plan == (Netns("a"), ROUTE, Chain("a", "filter", "FORWARD", (one, two), "DROP"))


def test_assemble_refuses_two_objects_of_one_key() -> None:
    with pytest.raises(ValueError, match="two different objects"):
        assemble([LINK, replace(LINK, mtu=9000)])


def test_by_place_keeps_the_order() -> None:
    changes = diff((Netns("b"), Netns("a"), Rule("b", 1, 1)), ())
    assert [(place, len(group)) for place, group in by_namespace(changes).items()] == [("b", 2), ("a", 1)]


STEADY = tuple(item for item in PLAN if item is not PROBE)


@given(st.sets(st.sampled_from(STEADY)), st.sets(st.sampled_from(STEADY)))
def test_applying_a_diff_on_plain_data_leaves_none(want: set[Resource], have: set[Resource]) -> None:
    """What goes along with a link or a namespace does not do so on plain data: it takes more rounds."""
    found = {item.key: item for item in have}
    for _ in range(3):
        for change in diff(tuple(want), tuple(found.values())):
            if change.have is not None:
                del found[change.have.key]
            if change.want is not None:
                found[change.want.key] = change.want
    assert set(found.values()) == want


def test_the_kernels_own_routing_rules_are_implied() -> None:
    own = kernel_default_rules("a", 4)
    assert diff(PLAN, (*PLAN, *own, *kernel_default_rules("a", 6))) == ()
    assert [change.want for change in diff(PLAN, (*PLAN, own[0], own[2]))] == [own[1]]


def test_the_kernels_first_rule_is_not_where_the_plan_has_it_elsewhere() -> None:
    own, moved = kernel_default_rules("a", 4), Rule("a", 50, 255)
    want = (*PLAN, moved)
    assert diff(want, (*PLAN, moved, *own[1:], *kernel_default_rules("a", 6))) == ()
    assert diff(want, (*PLAN, moved, *own)) == (Change(None, own[0]),)
    assert (replaces_local_rule(moved), replaces_local_rule(own[0])) == (True, False)
    some = replace(moved, mark=1)  # for some packets only: the kernel's stays
    assert diff((*PLAN, some), (*PLAN, some, *own)) == ()
    assert [change.want for change in diff((*PLAN, some), (*PLAN, some, *own[1:]))] == [own[0]]


def test_a_second_route_of_the_same_key_is_extra_whichever_comes_first() -> None:
    twin = replace(ROUTE, via=IPv4Address("10.0.0.9"))
    for have in ((*PLAN, twin), (twin, *PLAN)):
        assert diff(PLAN, have) == (Change(None, twin),)


@pytest.mark.parametrize(
    ("want", "have", "same"),
    [
        ("1", "1", True), ("0x10", "16", True), ("010", "8", True), ("1024\t60999", "1024 60999", True),
        ("-1", "-1", True), ("0", "00", True), ("cubic", "cubic", True), ("1", "2", False), ("1 2", "1", False), 
        ("cubic", "reno", False), ("a0", "160", False),
    ],
)  # fmt: skip
def test_a_sysctl_is_compared_by_its_value(want: str, have: str, same: bool) -> None:
    one, other = (Sysctl("a", "net.ipv4.x", value) for value in (want, have))
    assert (differing_fields(one, other) == ()) is same


def test_the_kernels_entry_of_a_vxlan_is_wanted_as_soon_as_the_vxlan_exists() -> None:
    link = Link(Interface("a", "vx0"), "vxlan", options=(("id", "5"), ("remote", "192.0.2.2"), ("dev", "eth0")))
    (entry,) = kernel_default_fdb(link)
    assert entry == Fdb(link.at, "00:00:00:00:00:00", IPv4Address("192.0.2.2"), "eth0")
    assert [change.subject for change in diff((link,), ())] == [link]
    assert [change.want for change in diff((link,), (link,))] == [entry]
    assert diff((link,), (link, entry)) == ()
    assert diff((link, replace(entry, via=None)), (link, entry)) == ()
    plain = replace(link, options=(("id", "5"),))
    assert [change.have for change in diff((plain,), (plain, entry))] == [entry]


def test_the_next_hops_of_a_route_are_compared_in_any_order() -> None:
    first, second = NextHop(IPv4Address("10.0.0.1"), "eth0", 2), NextHop(IPv4Address("10.0.0.3"), "eth1")
    have = Route("a", IPv4Network("10.9.0.0/16"), nexthops=(first, second))
    for same in ((second, first), (replace(first, dev=None), second)):
        assert differing_fields(replace(have, nexthops=same), have) == ()
    for other in ((first,), (replace(first, weight=1), second), (first, replace(second, dev="eth0")), ()):
        assert differing_fields(replace(have, nexthops=other), have) == ("nexthops",)
    assert differing_fields(have, replace(have, nhid=7)) == ()


def test_a_bridge_counts_its_ageing_time_in_jiffies() -> None:
    want = Link(Interface("a", "br0"), "bridge", options=(("ageing_time", "65535"),))
    for value, differs in (("65535", ()), ("65534", ()), ("65533", ("options",)), ("65536", ("options",))):
        have = replace(want, options=(("ageing_time", value), ("stp_state", "0")))
        assert differing_fields(want, have) == differs

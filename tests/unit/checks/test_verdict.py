"""A check cannot lie: each rule of the judge, without a kernel."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from labctl.checks.drift import describe, planned_resources
from labctl.checks.drop_counters import drops_since
from labctl.checks.evidence import CheckEvidence, Expectation
from labctl.checks.runner import select
from labctl.checks.verdict import Evaluation, cannot_change, evaluate, evaluate_mesh, worse
from labctl.core.diff import Change
from labctl.core.iptables import rule
from labctl.core.iptables_save import ChainCounters
from labctl.core.neighbour_presets import NeighbourPresets
from labctl.core.probe_kinds import equivalent_command, probe_text
from labctl.core.resources import (
    Address,
    Chain,
    Interface,
    IpSet,
    Link,
    Neighbour,
    Netns,
    NftObject,
    Resource,
    Route,
    Sysctl,
)
from labctl.core.results import MeshResult, Pair, PairCounts, Sighting
from labctl.core.scenario_types import Check, Lab, Machine, PortRange, See
from labctl.core.snat_ports import PortUse
from labctl.core.topology import Topology
from labctl.errors import UsageError
from labctl.packets.trail import IcmpError, Trail
from labctl.render.plan_json import check_json

A, C, NODE = ip_address("10.244.0.2"), ip_address("10.244.1.2"), ip_address("10.224.0.4")
PING = Check("a reaches c", "ping", "a", "c")
FAIL = replace(PING, expect="fail")


def seen(point: str, way: str, src: Any = A, dst: Any = C, ttl: int = 64, **more: Any) -> Sighting:
    ns, dev = point.split("/")
    more = {"time_ns": 0, "proto": "icmp", "reply": False, **more}
    return Sighting(at=Interface(ns, dev), direction=way, src=src, dst=dst, ttl=ttl, **more)  # type: ignore[arg-type]


REQUESTS = (
    seen("a/eth0", "out"),
    seen("node1/eth0", "out", ttl=63),
    seen("node2/eth0", "in", ttl=62),
    seen("c/eth0", "in", ttl=61),
)
REPLIES = (seen("c/eth0", "out", C, A, reply=True), seen("a/eth0", "in", C, A, 61, reply=True))
WHOLE = Trail(REQUESTS, REPLIES)
LOST = Trail(REQUESTS[:3])


def evidence(check: Check = PING, answer: Any = "reply", trail: Trail = WHOLE, **more: Any) -> CheckEvidence:
    return CheckEvidence(check, "a", more.pop("target_ns", "c"), answer, more.pop("detail", "said so"), trail, **more)


def want(at: str, src: Any = None, dst: Any = None, **more: Any) -> Expectation:
    ns, dev = at.split("/")
    see = See(Interface(ns, dev), "someone" if src else None, "someone" if dst else None, **more)
    return Expectation(see, src, dst)


def verdict(item: CheckEvidence) -> str:
    return evaluate(item)[0]


def words(item: CheckEvidence) -> str:
    return "\n".join(evaluate(item)[1])


# ---- replies -----------------------------------------------------------------------------------------


def test_a_reply_seen_both_ways_passes() -> None:
    assert evaluate(evidence()) == ("pass", ("said so",))


def test_no_reply_fails_and_tells_where_the_request_was_last_seen() -> None:
    item = evidence(answer="timeout", trail=LOST, probe_count=3)

    assert verdict(item) == "fail"
    assert "expected a reply within 5 s, got timeout after 3 probes" in words(item)
    assert "last seen entering node2/eth0: 10.244.0.2 > 10.244.1.2 ttl 62" in words(item)


def test_a_reply_that_was_never_seen_coming_back_is_inconclusive() -> None:
    assert verdict(evidence(trail=Trail(REQUESTS, REPLIES[:1]))) == "inconclusive"


def test_nobody_else_may_answer_for_the_target() -> None:
    item = evidence(trail=Trail(REQUESTS[:3], REPLIES))

    assert verdict(item) == "fail"
    assert "something else answered for c" in words(item)


def test_who_answered_is_unknown_where_the_targets_tap_was_not_proven() -> None:
    assert (
        verdict(evidence(trail=Trail(REQUESTS[:3], REPLIES), not_receiving={"c": "its lo is down"})) == "inconclusive"
    )
    assert verdict(evidence(trail=Trail(REQUESTS[:3], REPLIES), lost_frames={"c": 1})) == "inconclusive"


def test_an_address_of_no_machine_may_be_answered_by_anyone() -> None:
    assert verdict(evidence(trail=Trail(REQUESTS[:2], REPLIES), target_ns=None)) == "pass"


def test_a_foreign_listeners_answer_has_no_mark_and_needs_none() -> None:
    assert verdict(evidence(trail=Trail(REQUESTS), reply_has_probe_id=False)) == "pass"


def test_a_source_that_is_gone_fails_whatever_was_expected() -> None:
    gone = {"a": ("there is no namespace labctl.t.a",)}

    assert verdict(evidence(answer="broken", trail=Trail(), faults=gone)) == "fail"
    assert verdict(evidence(FAIL, "broken", Trail(), faults=gone)) == "fail"


def test_a_tool_that_broke_proves_no_silence() -> None:
    assert verdict(evidence(FAIL, "broken", Trail(REQUESTS))) == "inconclusive"
    assert verdict(evidence(answer="broken", trail=Trail(REQUESTS))) == "inconclusive"


def test_lost_frames_never_pass() -> None:
    item = evidence(lost_frames={"node1": 3})

    assert verdict(item) == "inconclusive"
    assert "3 frames were lost by the tap in node1" in words(item)


# ---- silence -----------------------------------------------------------------------------------------


def test_silence_with_the_probe_seen_leaving_passes_and_says_where_it_ended() -> None:
    item = evidence(FAIL, "timeout", LOST)

    assert verdict(item) == "pass"
    assert "last seen entering node2/eth0" in words(item)


ARRIVED = Trail(REQUESTS)
DEAF = "the request entered c, which did not answer, and nothing there shows that it was dropped"
BY_RULE = "dropped in c by iptables -t filter -A INPUT -p icmp -j DROP"


def test_who_only_overheard_the_request_did_not_get_it() -> None:
    overheard = Trail((*REQUESTS[:3], replace(REQUESTS[3], otherhost=True)), REPLIES)

    assert verdict(evidence()) == "pass"
    assert verdict(evidence(trail=overheard)) == "fail"


def test_a_target_that_was_reached_and_is_mute_needs_a_reason_of_its_own() -> None:
    item = evidence(FAIL, "timeout", ARRIVED)

    assert (verdict(item), item.silent_ns) == ("inconclusive", "c")
    assert DEAF in words(item)
    assert verdict(replace(item, silence_reasons=(BY_RULE,))) == "pass"
    assert BY_RULE in words(replace(item, silence_reasons=(BY_RULE,)))
    assert verdict(replace(item, answer="unreachable")) == "inconclusive"


def test_a_target_that_answered_in_any_way_is_not_mute() -> None:
    told = IcmpError(Interface("c", "eth0"), 0, "10.244.1.2", "10.244.0.2", "host prohibited", "request")

    assert verdict(evidence(FAIL, "timeout", Trail(REQUESTS, REPLIES[:1]))) == "pass"
    assert verdict(evidence(FAIL, "unreachable", Trail(REQUESTS, icmp_errors=(told,)))) == "pass"
    assert evidence(FAIL, "timeout", LOST).silent_ns is None


def test_what_the_target_sent_on_was_for_whom_it_reached() -> None:
    item = evidence(FAIL, "timeout", ARRIVED, target_ns="node2")
    through = Trail((*REQUESTS[:3], seen("node2/cbr0", "out"), REQUESTS[3]))

    assert item.silent_ns == "node2"
    assert replace(item, trail=through).silent_ns is None
    assert replace(item, trail=through, forwarded_to="c").silent_ns == "c"
    assert verdict(replace(item, trail=through, forwarded_to="c")) == "inconclusive"


def _counted(family: str, rules: str, *packets: int, policy: int = 0, name: str = "INPUT") -> ChainCounters:
    lines = tuple(rule(line, family) for line in rules.split(";") if line)
    chain = Chain("c", "filter", name, lines, "DROP", family)
    return ChainCounters(chain, tuple((number, 84 * number) for number in packets), (policy, 84 * policy))


def test_only_a_drop_that_counted_between_two_readings_is_a_reason() -> None:
    rules = "-p icmp -j DROP;-p tcp -j DROP;-p icmp -j ACCEPT;! -p tcp -j REJECT"
    before = [_counted("ip", rules, 1, 1, 1, 1), _counted("ip6", "-j DROP", 1)]
    after = [_counted("ip", rules, 2, 2, 2, 2), _counted("ip6", "-j DROP", 2)]

    assert drops_since(before, before, FAIL, 4) == ()
    assert drops_since((), after, FAIL, 4) == (), "without a first reading nothing moved"
    assert drops_since(before, after, FAIL, 4) == (
        BY_RULE,
        "rejected in c by iptables -t filter -A INPUT ! -p tcp -j REJECT --reject-with icmp-port-unreachable",
    )
    assert drops_since(before, after, FAIL, 6) == ("dropped in c by ip6tables -t filter -A INPUT -j DROP",)
    moved = [_counted("ip", rules, 1, 1, 1, 1, policy=3)]
    assert drops_since(before, moved, FAIL, 4) == ("dropped in c by iptables -t filter -P INPUT DROP",)
    assert drops_since(before, [_counted("ip", "-p icmp -j DROP", 9)], FAIL, 4) == (), "a chain that changed"


def test_silence_names_who_complained() -> None:
    complaint = IcmpError(Interface("a", "eth0"), 0, "10.224.0.1", "10.244.0.2", "net unreachable", "request")
    item = evidence(FAIL, "unreachable", Trail(REQUESTS[:2], icmp_errors=(complaint,)))

    assert verdict(item) == "pass"
    assert "icmp: 10.224.0.1 reported to 10.244.0.2: net unreachable" in words(item)


def test_a_reply_where_none_was_expected_fails_and_shows_the_way() -> None:
    item = evidence(FAIL)

    assert verdict(item) == "fail"
    assert "leaving a/eth0" in words(item)


@pytest.mark.parametrize("node", ["a", "c"])
def test_a_dead_end_cannot_pass_by_its_silence(node: str) -> None:
    item = evidence(FAIL, "timeout", LOST, faults={node: (f"{node}/eth0 is down",)})

    assert verdict(item) == "fail"
    assert f"{node}/eth0 is down" in words(item)


def test_a_dead_device_on_the_way_makes_silence_inconclusive() -> None:
    assert verdict(evidence(FAIL, "timeout", LOST, faults={"node2": ("node2/eth1 is down",)})) == "inconclusive"


def test_silence_without_the_probe_seen_leaving_is_inconclusive() -> None:
    assert verdict(evidence(FAIL, "timeout", Trail())) == "inconclusive"
    assert verdict(evidence(FAIL, "timeout", Trail(REQUESTS[1:3]))) == "inconclusive"


@pytest.mark.parametrize("node", ["a", "node2", "c"])
def test_a_canary_that_did_not_return_makes_silence_inconclusive(node: str) -> None:
    deaf = {node: "a canary was sent over its lo and never received"}

    assert verdict(evidence(FAIL, "timeout", LOST, not_receiving=deaf)) == "inconclusive"


def test_the_tap_of_a_stranger_does_not_matter_to_silence() -> None:
    assert verdict(evidence(FAIL, "timeout", LOST, not_receiving={"vm": "its lo is down"})) == "pass"


def test_frames_lost_make_silence_inconclusive() -> None:
    assert verdict(evidence(FAIL, "timeout", LOST, lost_frames={"c": 1})) == "inconclusive"


def test_a_reply_that_came_back_contradicts_silence() -> None:
    assert verdict(evidence(FAIL, "timeout", WHOLE)) == "inconclusive"


def test_a_source_whose_kernel_refuses_to_send_is_proof_enough_if_both_ends_live() -> None:
    said = "ping: connect: Network is unreachable"

    assert verdict(evidence(FAIL, "blocked", Trail(), detail=said)) == "pass"
    assert verdict(evidence(FAIL, "blocked", Trail(), detail=said, faults={"a": ("a/eth0 is down",)})) == "fail"
    assert verdict(evidence(FAIL, "blocked", Trail(), detail=said, faults={"c": ("c/eth0 is down",)})) == "fail"


def test_a_neighbour_that_never_answers_is_proof_if_nothing_is_broken() -> None:
    asked = ((Interface("a", "eth0"), C),)
    item = evidence(FAIL, "timeout", Trail(), unanswered_neighbours=asked)

    assert verdict(item) == "pass"
    assert "a/eth0 asked for the MAC address of 10.244.1.2 and got no answer" in words(item)
    assert verdict(replace(item, faults={"node1": ("node1/cbr0 is down",)})) == "inconclusive"
    assert verdict(replace(item, lost_frames={"a": 1})) == "inconclusive"
    assert verdict(replace(item, not_receiving={"a": "its lo is down"})) == "inconclusive"
    assert verdict(replace(item, unanswered_neighbours=((Interface("node2", "cbr0"), C),))) == "inconclusive"
    assert "asked for the MAC address" in words(evidence(answer="timeout", trail=LOST, unanswered_neighbours=asked))


def test_silence_on_a_road_that_is_not_as_planned_proves_nothing() -> None:
    drift = ("node1 is not as planned: missing address 10.244.0.1/24 dev cbr0",)
    asked = ((Interface("a", "eth0"), C),)

    for item in (
        evidence(FAIL, "timeout", LOST, drift=drift),
        evidence(FAIL, "blocked", Trail(), drift=drift),
        evidence(FAIL, "timeout", Trail(), unanswered_neighbours=asked, drift=drift),
    ):
        assert verdict(item) == "inconclusive"
        assert drift[0] in words(item)
        assert "the missing reply may have a reason other than the rules" in words(item)
    assert verdict(evidence(FAIL, drift=drift)) == "fail", "a reply is a reply on any road"
    assert verdict(evidence(drift=drift)) == "pass"


def test_a_check_has_five_seconds_for_an_answer_and_one_of_silence_or_what_it_asks_for() -> None:
    timeout = replace(PING, probe="tcp", expect="timeout")

    assert [check.timeout_s for check in (PING, FAIL, timeout, replace(PING, expect="refused"))] == [5, 1, 1, 5]
    assert [check.timeout_s for check in (replace(PING, within=0.5), replace(FAIL, within=3))] == [0.5, 3]
    assert [check_json(check)["within"] for check in (PING, FAIL, replace(FAIL, within=3))] == [5, 1, 3]


TCP = Check("c refuses", "tcp", "a", "c", 80, "refused")
RESET = Trail(REQUESTS, (seen("c/eth0", "out", C, A, reply=True), seen("a/eth0", "in", C, A, reply=True)), (), True)


def test_a_refusal_needs_its_reset_or_its_icmp_error() -> None:
    told = IcmpError(Interface("a", "eth0"), 0, "10.244.1.2", "10.244.0.2", "port unreachable", "request")

    assert verdict(evidence(TCP, "refused", RESET)) == "pass"
    assert "first seen leaving c/eth0" in words(evidence(TCP, "refused", RESET))
    assert verdict(evidence(TCP, "refused", Trail(REQUESTS, icmp_errors=(told,)))) == "pass"
    assert verdict(evidence(TCP, "refused", Trail(REQUESTS))) == "inconclusive"
    assert verdict(evidence(TCP, "refused", Trail(()))) == "inconclusive"
    own = evidence(TCP, "refused", Trail(()), own_rejects=("rejected in a by iptables -t filter -A OUTPUT -j REJECT",))
    assert verdict(own) == "pass"
    assert words(own) == "refused: rejected in a by iptables -t filter -A OUTPUT -j REJECT"


def test_a_probe_that_its_own_source_drops_needs_the_rule() -> None:
    silent = evidence(replace(TCP, expect="timeout"), "timeout", Trail(()))

    assert verdict(silent) == "inconclusive"
    assert verdict(replace(silent, own_drops=(BY_RULE,))) == "pass"
    assert BY_RULE in words(replace(silent, own_drops=(BY_RULE,)))


def test_refused_timeout_and_unreachable_are_three_things() -> None:
    timeout = replace(TCP, expect="timeout")

    assert verdict(evidence(timeout, "timeout", LOST)) == "pass"
    assert verdict(evidence(timeout, "refused", RESET)) == "fail"
    assert verdict(evidence(timeout, "unreachable", LOST)) == "fail"
    assert verdict(evidence(TCP, "timeout", LOST)) == "fail"
    assert verdict(evidence(TCP, "reply")) == "fail"


# ---- see and not see ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        (want("node2/eth0", src=A), want("node2/eth0", src=NODE)),
        (want("node2/eth0", dst=C), want("node2/eth0", dst=NODE)),
        (want("node2/eth0", ttl=62), want("node2/eth0", ttl=61)),
        (want("node2/eth0", direction="in"), want("node2/eth0", direction="out")),
        (want("node2/eth0", encap="none"), want("node2/eth0", encap="vxlan")),
        (want("node2/eth0"), want("node2/cbr0")),
        (want("c/eth0", src=C, packet="reply"), want("c/eth0", src=A, packet="reply")),
    ],
)
def test_each_word_of_see_can_fail(good: Expectation, bad: Expectation) -> None:
    assert verdict(evidence(expectations=(good,))) == "pass"
    assert verdict(evidence(expectations=(bad,))) == "fail"
    assert verdict(evidence(expectations=(good, bad))) == "fail"


def test_a_tunnel_is_judged_by_its_ends() -> None:
    near, far = ip_address("192.168.0.1"), ip_address("192.168.0.2")
    wrapped = seen("node2/eth0", "in", encap="vxlan 42", outer=(near, far))
    trail = Trail((*REQUESTS[:1], wrapped, *REQUESTS[3:]), REPLIES)

    def judged(**ends: Any) -> str:
        return verdict(evidence(trail=trail, expectations=(replace(want("node2/eth0", encap="vxlan"), **ends),)))

    assert judged(outer_src=near, outer_dst=far) == judged(outer_dst=far) == "pass"
    assert judged(outer_src=far) == judged(outer_dst=near) == "fail"
    bare = evidence(expectations=(replace(want("node2/eth0"), outer_src=near),))
    assert verdict(bare) == "fail"


def test_an_encapsulation_may_be_named_with_or_without_its_number() -> None:
    trail = Trail((*REQUESTS[:1], seen("node2/eth0", "in", encap="vxlan 42"), *REQUESTS[3:]), REPLIES)

    assert verdict(evidence(trail=trail, expectations=(want("node2/eth0", encap="vxlan"),))) == "pass"
    assert verdict(evidence(trail=trail, expectations=(want("node2/eth0", encap="vxlan 42"),))) == "pass"
    assert verdict(evidence(trail=trail, expectations=(want("node2/eth0", encap="vxlan 4"),))) == "fail"
    assert verdict(evidence(trail=trail, expectations=(want("node2/eth0", encap="none"),))) == "fail"


def test_an_unmet_see_says_what_was_expected_and_what_was_seen_there() -> None:
    item = evidence(expectations=(want("node1/eth0", src=NODE, direction="out"),))

    assert "expected leaving node1/eth0: src someone (10.224.0.4)" in words(item)
    assert "seen leaving node1/eth0: 10.244.0.2 > 10.244.1.2 ttl 63" in words(item)


def test_a_packet_never_seen_at_the_point_is_told_where_it_was_last_seen() -> None:
    assert "never seen at vm/eth0; last seen entering c/eth0" in words(evidence(expectations=(want("vm/eth0"),)))


def test_an_unmet_see_before_an_unproven_tap_is_inconclusive() -> None:
    item = evidence(expectations=(want("vm/eth0"),))

    assert verdict(replace(item, not_receiving={"vm": "its lo is down"})) == "inconclusive"
    assert verdict(replace(item, lost_frames={"vm": 1})) == "inconclusive"


def test_a_name_without_an_address_of_that_family_fails() -> None:
    item = evidence(expectations=(Expectation(See(Interface("c", "eth0"), "vm"), problem="vm has no IPv6 address"),))

    assert evaluate(item) == ("fail", ("said so", "vm has no IPv6 address"))


NOT_A = want("node2/eth0", src=NODE, negate=True)


def test_not_see_passes_with_the_packet_seen_otherwise() -> None:
    item = evidence(expectations=(NOT_A,))

    assert verdict(item) == "pass"
    assert "the packet itself was seen entering node2/eth0: 10.244.0.2" in words(item)


def test_not_see_fails_when_it_is_seen_and_is_not_tried_again() -> None:
    item = evidence(expectations=(want("node2/eth0", src=A, negate=True),))

    assert verdict(item) == "fail"
    assert cannot_change(item)
    assert not cannot_change(evidence(expectations=(NOT_A,)))
    assert cannot_change(evidence(FAIL))


@pytest.mark.parametrize(
    "doubt",
    [
        {"not_receiving": {"node2": "a canary was sent over its lo and never received"}},
        {"lost_frames": {"node2": 1}},
        {"faults": {"node2/eth0": ("node2/eth0 is down",)}},
    ],
)
def test_not_see_is_inconclusive_where_it_could_not_have_been_seen(doubt: dict[str, Any]) -> None:
    assert verdict(evidence(expectations=(NOT_A,), **doubt)) == "inconclusive"


def test_not_see_needs_the_packet_to_have_existed() -> None:
    said = evidence(FAIL, "blocked", Trail(), expectations=(NOT_A,))

    assert verdict(said) == "inconclusive"


def test_tcpdump_is_the_witness_where_it_is_asked_for() -> None:
    check = replace(PING, via="tcpdump")
    item = evidence(check, expectations=(want("node2/eth0", src=A),))

    assert verdict(item) == "inconclusive"
    assert verdict(replace(item, tcpdump_trails={Interface("node2", "eth0"): Trail()})) == "fail"
    assert verdict(replace(item, tcpdump_trails={Interface("node2", "eth0"): Trail(REQUESTS[2:3])})) == "pass"


def test_not_see_fails_if_either_witness_saw_it() -> None:
    check = replace(PING, via="tcpdump")
    item = evidence(
        check,
        expectations=(want("node2/eth0", src=A, negate=True),),
        tcpdump_trails={Interface("node2", "eth0"): Trail()},
    )

    assert verdict(item) == "fail"


# ---- all pairs ---------------------------------------------------------------------------------------


def mesh_verdict(asked: int, *bad: Pair, total: int | None = None, chosen: int | None = None) -> Evaluation:
    chosen = asked if chosen is None else chosen
    return evaluate_mesh(MeshResult(asked, bad), PairCounts(chosen if total is None else total, chosen, asked))


def test_a_mesh_passes_only_if_every_pair_was_answered_and_seen_as_itself() -> None:
    good = Pair("a", "c", C, True, A, True)

    assert mesh_verdict(1) == ("pass", ("1 of 1 pairs: replied, seen with own address",))
    assert mesh_verdict(2, replace(good, replied=False))[0] == "fail"
    verdict, lines = mesh_verdict(2, replace(good, observed_source=NODE, source_unchanged=False))
    assert verdict == "fail"
    assert lines[1] == "a -> c (10.244.1.2): replied, seen there as 10.224.0.4, which is not a's own"


def test_a_pair_that_the_tool_lost_proves_nothing_and_one_that_is_wrong_is_enough() -> None:
    good = Pair("a", "c", C, True, A, True)
    lost = Pair("a", "c", C, False, tool_fault="3 packets were lost by the socket in a")

    assert mesh_verdict(2, lost)[0] == "inconclusive"
    assert "no reply, never seen there; 3 packets were lost by the socket in a" in mesh_verdict(2, lost)[1][1]
    verdict, lines = mesh_verdict(2, lost, replace(good, replied=False))
    assert verdict == "fail"
    assert "lost" not in lines[1]


def test_a_mesh_that_was_not_asked_in_time_is_inconclusive_and_says_how_much_is_missing() -> None:
    assert mesh_verdict(300, chosen=1000) == (
        "inconclusive",
        ("300 of 300 pairs: replied, seen with own address", "700 of 1000 pairs were not asked"),
    )
    assert mesh_verdict(0, chosen=1000)[0] == "inconclusive"
    late = evaluate_mesh(MeshResult(300), PairCounts(1000, 1000, 300), "the time was up after 4.0 s")
    assert late[1][1] == "700 of 1000 pairs were not asked: the time was up after 4.0 s"
    assert mesh_verdict(300, Pair("a", "c", C, False), chosen=1000)[0] == "fail"


def test_a_sample_says_what_it_covers_whatever_its_verdict() -> None:
    says = "a sample of 40000 of 999000 pairs: every pair of nodes, every pod as sender and as receiver"

    for bad in ((), (Pair("a", "c", C, False),)):
        assert mesh_verdict(40000, *bad, total=999000)[1][0] == says


def test_a_mesh_lists_ten_failures_and_counts_the_rest() -> None:
    lines = mesh_verdict(12, *[Pair("a", "c", C, False)] * 12)[1]

    assert len(lines) == 12
    assert lines[-1] == "and 2 more"


def test_fail_beats_inconclusive_beats_pass() -> None:
    assert worse("pass", "inconclusive") == "inconclusive"
    assert worse("fail", "inconclusive") == "fail"


# ---- names -------------------------------------------------------------------------------------------


def lab(*plan: Resource, checks: tuple[Check, ...] = ()) -> Lab:
    machines = (
        Machine("a", "pod", (A,), "node1"),
        Machine("c", "pod", (C,), "node2"),
        Machine("node1", "node", (NODE,)),
    )
    return Lab("t", "raw", plan, machines, checks)


def address(point: str, text: str) -> Address:
    from ipaddress import ip_interface

    ns, dev = point.split("/")
    return Address(Interface(ns, dev), ip_interface(text))


def test_names_ports_and_addresses_mean_what_the_plan_says() -> None:
    who = Topology(lab(address("node1/cbr0", "10.244.0.1/24"), address("node1/cbr0", "2001:db8::1/64")))

    assert who.addresses("a") == (A,)
    assert who.address_of("node1/cbr0", 6) == ip_address("2001:db8::1")
    assert who.address_of("a", 6) is None
    assert who.namespace_of("node1/cbr0") == "node1"
    assert who.namespace_of("10.244.0.1") == "node1"
    assert who.namespace_of("10.244.1.2") == "c"
    assert who.namespace_of("8.8.8.8") is None
    assert who.addresses("nobody") == ()
    assert who.check_namespaces(replace(PING, sees=(See(Interface("vm", "eth0")),))) == (
        "a",
        "c",
        "node1",
        "node2",
        "vm",
    )


def test_a_word_chooses_checks_by_sentence_or_probe() -> None:
    checks = (PING, TCP)

    assert select(checks, None) == checks
    assert select(checks, "REFUSES") == (TCP,)
    assert select(checks, "tcp a -> c:80") == (TCP,)
    assert probe_text(Check("", "mesh", groups=((("a", "b"), ("c",)),))) == "mesh a b -> c"
    with pytest.raises(UsageError, match="no check contains 'banana'"):
        select(checks, "banana")


def test_the_command_by_hand_watches_every_point_and_then_probes() -> None:
    check = replace(TCP, sees=(See(Interface("c", "eth0")), See(Interface("node2", "eth0"), encap="vxlan")))

    assert equivalent_command("sudo labctl", check, C) == "sudo labctl trace a 10.244.1.2 --tcp 80"
    answered = replace(check, expect="reply")
    assert equivalent_command("sudo labctl", answered, C) == "sudo labctl trace a 10.244.1.2 --tcp 80 --listen"
    watched = equivalent_command("labctl -l t", replace(PING, sees=check.sees), ip_address("2001:db8::2"))
    assert watched.split(" & ") == [
        "labctl -l t capture c/eth0 node2/eth0 --seconds 3",
        "sleep 1; labctl -l t exec a -- ping -n -c 1 2001:db8::2",
    ]


def veth(one: str, other: str, master: str | None = None) -> tuple[Link, Link]:
    ends = [Interface(*point.split("/")) for point in (one, other)]
    return Link(ends[0], "veth", ends[1], master), Link(ends[1], "veth", ends[0])


def test_a_road_is_what_lies_between_and_nothing_that_hangs_beside() -> None:
    cables = ("a/eth0 node1/va", "b/eth0 node1/vb", "node1/eth0 fabric/f1", "node2/eth0 fabric/f2", "c/eth0 node2/vc")
    rest = ("node1/eth1 node3/eth0", "node2/eth1 node3/eth1", "vm/eth0 fabric/f3", "far/eth0 vm/eth1")
    ends = [pair.split() for pair in (*cables, *rest)]
    names = dict.fromkeys(point.split("/")[0] for pair in ends for point in pair)
    who = Topology(lab(*(Netns(name) for name in names), *(link for pair in ends for link in veth(*pair))))

    assert set(who.path("a", "c")) == {"a", "node1", "fabric", "node3", "node2", "c"}
    assert set(who.path("a", "vm")) == {"a", "node1", "fabric", "node3", "node2", "vm"}
    assert set(who.path("a", None)) == names.keys() - {"c"}
    assert set(who.path("far", "far")) >= {"far"}


def test_only_what_is_on_the_road_is_compared_and_no_firewall() -> None:
    drop = Chain("a", "filter", "INPUT", policy="DROP")
    some = IpSet("a", "pools", members=("10.0.0.0/16",))
    table = NftObject("a", "inet filter", "table")
    plan = (Netns("a"), Netns("b"), *veth("a/eth0", "node1/va"), some, drop, table, address("b/eth0", "10.0.0.1/8"))

    assert list(planned_resources(plan, frozenset({"a"}))) == [Netns("a"), Link(Interface("a", "eth0"), "veth")]
    assert list(planned_resources(plan, frozenset({"a", "node1"}))) == [Netns("a"), *veth("a/eth0", "node1/va")]


def test_a_few_differences_are_told_and_the_others_counted() -> None:
    changes = [Change(address("c/eth0", f"10.0.0.{last}/8"), None) for last in range(1, 6)]

    assert describe(changes[:1]) == ("c is not as planned: missing address 10.0.0.1/8 dev eth0",)
    assert describe(changes)[3:] == ("and 2 more differences, see labctl status",)
    assert describe(()) == ()


def test_neighbours_are_preset_on_a_shared_link_and_towards_a_proxy_only() -> None:
    plan: tuple[Resource, ...] = (
        Netns("node1"),
        *veth("node1/va", "a/eth0", "cbr0"),
        *veth("node1/vb", "b/eth0", "cbr0"),
        *veth("node1/eth0", "fabric/f1"),
        Link(Interface("node1", "cbr0"), "bridge"),
        address("a/eth0", "10.244.0.2/24"),
        address("b/eth0", "10.244.0.3/24"),
        address("node1/cbr0", "10.244.0.1/24"),
        address("node1/eth0", "10.0.0.4/8"),
        Route("a", address("x/y", "0.0.0.0/0").addr.network, ip_address("10.244.0.1"), "eth0"),
        Neighbour(Interface("b", "eth0"), A, "02:00:00:00:00:01"),
    )
    nobody = ip_address("10.244.0.99")  # on the bridge's link no single device could answer for it
    found = {
        (str(item.at), str(item.ip)): str(item.mac_interface)
        for item in NeighbourPresets(lab(*plan)).needed([A, C, nobody]).presets
    }

    assert found == {
        ("a/eth0", "10.244.0.1"): "node1/cbr0",
        ("node1/cbr0", "10.244.0.2"): "a/eth0",
        ("node1/eth0", "10.244.0.2"): "fabric/f1",
        ("node1/eth0", "10.244.1.2"): "fabric/f1",
        ("node1/eth0", "10.244.0.99"): "fabric/f1",
    }


def test_the_one_device_that_answers_for_others_is_a_neighbour_for_what_lies_beyond_it() -> None:
    plan: tuple[Resource, ...] = (
        *veth("node1/va", "a/eth0", "azure0"),
        *veth("node1/eth0", "fabric/f1", "azure0"),
        *veth("fabric/f2", "c/eth0"),
        Link(Interface("node1", "azure0"), "bridge"),
        address("a/eth0", "10.244.0.2/16"),
        address("c/eth0", "10.244.1.2/16"),
        Sysctl("fabric", "net.ipv4.conf.f1.proxy_arp", "1"),
        Sysctl("fabric", "net.ipv4.conf.f2.proxy_arp", "0"),
    )

    def asked(*more: Resource) -> dict[tuple[str, str], str]:
        found = NeighbourPresets(lab(*plan, *more)).needed([A, C]).presets
        return {(str(item.at), str(item.ip)): str(item.mac_interface) for item in found}

    assert asked() == {("a/eth0", "10.244.1.2"): "fabric/f1", ("c/eth0", "10.244.0.2"): "fabric/f2"}
    second = Sysctl("node1", "net.ipv4.conf.va.proxy_arp", "1")  # now either of two could answer
    assert asked(second) == {("c/eth0", "10.244.0.2"): "fabric/f2"}


# ---- pings of a size ---------------------------------------------------------------------------------

TOO_BIG = replace(FAIL, size=1423)


def test_a_kernel_that_would_not_send_so_much_proves_that_it_is_too_big() -> None:
    said = "ping: local error: message too long, mtu=1450"
    assert evaluate(evidence(TOO_BIG, "blocked", Trail(), detail=said)) == (
        "pass",
        (f"the kernel of a did not send it: {said}",),
    )


@pytest.mark.parametrize("text", ["fragmentation needed", "packet too big"])
def test_a_router_that_says_so_proves_that_it_is_too_big(text: str) -> None:
    told = IcmpError(Interface("a", "eth0"), 0, "10.244.0.1", "10.244.0.2", text, "request")
    item = evidence(TOO_BIG, "unreachable", replace(LOST, icmp_errors=(told,)))
    assert evaluate(item) == ("pass", (f"too big: 10.244.0.1 reported to 10.244.0.2: {text}",))


@pytest.mark.parametrize(
    ("answer", "said"), [("timeout", "no answer"), ("blocked", "ping: connect: Network is unreachable")]
)
def test_no_other_silence_proves_that_it_is_too_big(answer: str, said: str) -> None:
    item = evidence(TOO_BIG, answer, LOST, detail=said)
    assert verdict(item) == "inconclusive"
    assert "nothing reported it as too big" in words(item)
    assert verdict(evidence(FAIL, answer, LOST, detail=said)) == "pass"


# ---- questions for a neighbour -----------------------------------------------------------------------

NOBODY = ip_address("10.244.0.99")
ASKED = (seen("a/eth0", "out", A, NOBODY, 0, proto="arp"), seen("node1/br0", "in", A, NOBODY, 0, proto="arp"))
OTHERS = seen("node1/eth0", "out", NODE, C, 0, proto="arp")


def asked(*questions: Sighting, **more: Any) -> CheckEvidence:
    point = more.pop("at", "node1/eth0")
    about = want(point, None, NOBODY, packet="arp", **more)
    return evidence(trail=replace(WHOLE, neighbour_requests=questions), expectations=(about,))


def test_a_question_is_seen_where_it_is_asked() -> None:
    assert (
        evaluate(asked(*ASKED, at="node1/br0"))[1][-1] == "seen entering node1/br0: 10.244.0.2 asks who has 10.244.0.99"
    )
    assert verdict(asked(*ASKED)) == "fail"
    assert verdict(asked(*ASKED, at="a/eth0", direction="in")) == "fail"


def test_that_a_question_did_not_come_by_counts_only_if_it_was_asked_at_all() -> None:
    passed = asked(*ASKED, OTHERS, negate=True)
    assert verdict(passed) == "pass"
    assert "the packet itself was seen entering node1/br0: 10.244.0.2 asks who has 10.244.0.99" in words(passed)
    unasked = asked(OTHERS, negate=True)
    assert verdict(unasked) == "inconclusive"
    assert "no such question was seen anywhere" in words(unasked)
    leaked = seen("node1/eth0", "out", A, NOBODY, 0, proto="arp", encap="vxlan 4097")
    assert verdict(asked(*ASKED, leaked, negate=True)) == "fail"


# ---- source ports ------------------------------------------------------------------------------------

USED = PortUse("node2", "POSTROUTING", 1, "-j SNAT --to-source 192.0.2.1:1024-1031", "tcp", C, 80, "1024-1031", 8, 8)


@pytest.mark.parametrize(("check", "expected"), [(PING, "fail"), (FAIL, "pass")])
def test_a_lack_of_source_ports_is_named_whatever_the_check_expects(check: Check, expected: str) -> None:
    item = evidence(check, "timeout", LOST, port_uses=(USED,))
    assert verdict(item) == expected
    assert f"snat-port-exhaustion: node2 has no source port left, {USED}" in words(item)
    assert "snat-port-exhaustion" not in words(evidence(check, "timeout", LOST))


@pytest.mark.parametrize(
    ("port", "expected"), [(1023, "fail"), (1024, "pass"), (1031, "pass"), (1032, "fail"), (None, "fail")]
)
def test_a_source_port_is_one_of_a_range(port: int | None, expected: str) -> None:
    trail = Trail((*REQUESTS[:3], seen("c/eth0", "in", ttl=61, sport=port)), REPLIES)
    expectation = want("c/eth0", sport=PortRange(1024, 1031))
    assert verdict(evidence(trail=trail, expectations=(expectation,))) == expected
    assert "sport 1024-1031" in str(expectation)

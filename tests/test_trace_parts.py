"""The parts of a trace that need no kernel: events read, roads found, drops attributed, stories painted."""

from __future__ import annotations

import socket
from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from test_trace_story import recording

from labctl.core.observations import KernelEvent, ProbeMatch, RouteQuery
from labctl.core.resources import Interface, Link
from labctl.kernel.host import counters
from labctl.kernel.probes import trace_probes
from labctl.kernel.rule_trace import nft_trace
from labctl.kernel.rule_trace.tracefs import parse
from labctl.render import dataclass_json
from labctl.report.trace import lines
from labctl.tracing import drop_attribution
from labctl.tracing.diagnosis import diagnose
from labctl.tracing.evidence import NamespaceState, Question, TraceEvidence
from labctl.tracing.hop_routing import devices, last_route_query
from labctl.tracing.hops import PacketObservation

A, B = IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2")
SECOND = 1_000_000_000


# ---- the kernel's events ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "reason", "location"),
    [
        ("protocol=2048 location=ip_forward+0x1a/0x40", "", "ip_forward"),
        ("protocol=2048 location=000000001c8ab012", "", "000000001c8ab012"),
        ("protocol=2048 location=nf_hook_slow+0xa0/0xb0 reason: NETFILTER_DROP", "NETFILTER_DROP", "nf_hook_slow"),
        ("rx_sk=0000000000000000 protocol=2048 location=ip_error+0x5/0x9 reason: NOT_HERE", "NOT_HERE", "ip_error"),
    ],
    ids=["5.10", "no symbols", "6.1", "6.11"],
)  # fmt: skip
def test_drops_are_read_from_old_and_new_kernels(line: str, reason: str, location: str) -> None:
    (event,) = parse(
        f"          ping-4711    [001] b.s2.  12.345678: kfree_skb: skbaddr=00000000ee {line}\n", 5 * SECOND
    )

    assert event == KernelEvent("drop", 17_345_678_000, 4711, "00000000ee", "", 0, 2048, reason, location)


def test_passages_are_read_and_headers_are_not() -> None:
    text = (
        "# tracer: nop\n#\n"
        "          <idle>-0       [000] ..s1.  1.000001: netif_receive_skb: dev=veth1 skbaddr=00000000aa len=84\n"
        "          ping-12      [000] .....  1.000002: net_dev_queue: dev=eth0 skbaddr=00000000aa len=98\n"
        "          ping-12      [000] .....  1.000003: sched_switch: whatever\n"
    )
    receive, queue = parse(text, 0)

    assert (receive.kind, receive.pid, receive.dev, receive.length) == ("receive", 0, "veth1", 84)
    assert (queue.kind, queue.when, queue.dev, queue.length) == ("queue", 1_000_002_000, "eth0", 98)


# ---- roads -----------------------------------------------------------------------------------------------


def crossing(node: str, dev: str, way: str, when: int, ttl: int = 64, ours: bool = True) -> PacketObservation:
    return PacketObservation(node, dev, way, when, "request", A, B, ttl, 103, addressed_here=ours)  # type: ignore[arg-type]


def cable(one: str, other: str, master: str | None = None) -> tuple[Link, Link]:
    here, there = Interface(*one.split("/")), Interface(*other.split("/"))
    return Link(here, "veth", peer=there), Link(there, "veth", peer=here, master=master)


def lab(*crossings: PacketObservation) -> TraceEvidence:
    """a, b and c, each with a cable to a port of sw's bridge."""
    ends = [cable(f"{name}/eth0", f"sw/p{name}", "br0") for name in "abc"]
    rooms = [NamespaceState(name, (end[0],)) for name, end in zip("abc", ends, strict=True)]
    rooms.append(NamespaceState("sw", (*(end[1] for end in ends), Link(Interface("sw", "br0"), "bridge"))))
    question = Question("lab", "a", "b", B, "b", "icmp")
    return TraceEvidence(question, "reply", "", 1, tuple(rooms), crossings, machines={"b": (B,)})


FLOODED = lab(
    crossing("a", "eth0", "out", 0),
    crossing("sw", "pa", "in", 1),
    crossing("sw", "pc", "out", 2),
    crossing("c", "eth0", "in", 3, ours=False),
    crossing("sw", "pb", "out", 4),
    crossing("b", "eth0", "in", 5),
)


def test_of_a_flood_the_branch_to_the_target_is_the_road() -> None:
    hops = FLOODED.hops["request"]

    assert [hop.node for hop in hops] == ["a", "sw", "b"]
    assert devices(FLOODED, hops[1]) == ("pa", "(br0)", "pb")
    assert hops[1].flooded == 1
    notes = [note for step in diagnose(FLOODED).legs[0].steps for note in step.notes]
    assert [note.label for note in notes] == ["flood"]


def test_of_a_flood_that_found_nobody_a_stray_copy_is_not_the_road() -> None:
    stray = replace(FLOODED, observations=FLOODED.observations[:5])

    assert [hop.node for hop in stray.hops["request"]] == ["a", "sw"]


def test_what_a_machine_says_to_itself_was_routed_when_it_left() -> None:
    itself = lab(crossing("b", "lo", "out", 0), crossing("b", "lo", "in", 1))
    (hop,) = itself.hops["request"]

    assert last_route_query(itself, hop, "request") == RouteQuery("b", B)  # the kernel refuses `iif lo`


def test_what_tcp_sends_again_is_not_part_of_the_road() -> None:
    again = [replace(item, when=item.when + SECOND) for item in FLOODED.observations[:2]]
    evidence = replace(FLOODED, observations=(*FLOODED.observations, *again))

    assert evidence.hops["request"] == FLOODED.hops["request"]


# ---- blame -----------------------------------------------------------------------------------------------

DROP = KernelEvent("drop", 25_000, 1, "x", protocol=0x0800, reason="NETFILTER_DROP", location="nf_hook_slow")
LAST = (
    KernelEvent("queue", 1_000, 1, "x", "eth0", 103),
    KernelEvent("receive", 11_000, 1, "x", "pa", 89),
)
LOST = replace(lab(crossing("a", "eth0", "out", 1_500), crossing("sw", "pa", "in", 11_400)), events=(*LAST, DROP))


def blamed(*events: KernelEvent) -> KernelEvent | None:
    evidence = replace(LOST, events=events)
    return drop_attribution.find_drop_event(evidence, evidence.hops["request"])


def test_the_drop_that_follows_the_last_passage_is_ours() -> None:
    assert blamed(*LAST, DROP) == DROP


@pytest.mark.parametrize(
    "events",
    [
        (*LAST, replace(DROP, skb="y")),
        (*LAST, replace(DROP, when=10_000)),
        (*LAST, replace(DROP, when=25_000_000)),
        (*LAST, replace(DROP, pid=2)),
        (*LAST, replace(DROP, reason="OTHERHOST")),
        (*LAST, KernelEvent("receive", 20_000, 1, "x", "pb", 89), DROP),
        (*LAST, KernelEvent("queue", 20_000, 2, "x", "eth0", 103), replace(DROP, pid=2)),
        (replace(LAST[1], length=1500), DROP),
        (replace(LAST[1], dev="pb"), DROP),
        (DROP,),
    ],
    ids=["another", "before", "late", "thread", "harmless", "reused", "reused-by-other", "length", "device", "unseen"],
)
def test_no_other_drop_is(events: tuple[KernelEvent, ...]) -> None:
    assert blamed(*events) is None


def test_a_packet_that_waits_for_a_neighbour_is_dropped_late_and_by_a_timer() -> None:
    late = replace(DROP, when=3 * SECOND, pid=0, reason="NEIGH_FAILED")
    assert blamed(*LAST, late) == late


def test_of_two_packets_that_fit_alike_neither_is_blamed() -> None:
    twin = tuple(replace(event, skb="y", when=event.when + 500) for event in (*LAST, DROP))
    assert blamed(*LAST, DROP, *twin) is None


def test_a_packet_that_was_seen_before_is_preferred_to_one_that_only_is_near() -> None:
    near = replace(LAST[1], skb="y", when=11_401)
    assert blamed(*LAST, near, DROP, replace(DROP, skb="y", reason="QDISC_DROP")) == DROP


# ---- odds and ends ---------------------------------------------------------------------------------------


def test_only_counters_that_moved_are_told() -> None:
    assert counters.increases({"Ip.InAddrErrors": 4, "gone": 1}, {"Ip.InAddrErrors": 5, "same": 0, "new": 2}) == {
        "Ip.InAddrErrors": 1,
        "new": 2,
    }


def test_a_firewall_watches_for_the_probe_its_answer_and_errors_about_it() -> None:
    isn = (0xFFFFFFFF).to_bytes(4, "big")

    assert trace_probes.matches("tcp", 4, isn) == (
        ProbeMatch(6, 4, isn),
        ProbeMatch(1, 32, isn),
        ProbeMatch(6, 8, bytes(4)),
    )
    assert trace_probes.matches("icmp", 6, b"12345678") == (
        ProbeMatch(58, 24, b"12345678"),
        ProbeMatch(58, 72, b"12345678"),
    )


class UserNamespaceSocket:
    """A socket as it is in a user namespace: SO_RCVBUFFORCE is not permitted there."""

    options: list[tuple[int, int]]

    def __init__(self, *_: int) -> None:
        self.options = []

    def setsockopt(self, level: int, option: int, value: int) -> None:
        if (level, option) == (socket.SOL_SOCKET, 33):
            raise PermissionError(1, "Operation not permitted")
        self.options.append((option, value))

    def bind(self, address: tuple[int, int]) -> None: ...

    def setblocking(self, flag: bool) -> None: ...

    def settimeout(self, seconds: float) -> None: ...

    def close(self) -> None: ...


def test_reports_of_nft_rules_are_read_in_a_user_namespace_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "socket", UserNamespaceSocket)

    log = nft_trace.NftLog("labctl-lab-1")

    assert (socket.SO_RCVBUF, nft_trace.RCVBUF_BYTES) in log._socket._socket.options  # type: ignore[attr-defined]


def test_evidence_of_another_shape_is_refused() -> None:
    with pytest.raises((TypeError, ValueError)):
        dataclass_json.from_json(TraceEvidence, {"question": {"lab": "x"}})


def test_on_a_terminal_the_story_has_colours() -> None:
    painted = "\n".join(lines(diagnose(recording("drop")), lambda text, colour: f"<{colour}>{text}</>"))

    assert "<red>LOST</>  the request was last seen entering r2/r1" in painted
    assert "<red>a rule of FORWARD in r2 dropped the request</>" in painted


def test_stories_fit_a_hundred_columns_but_for_sentences_and_rules() -> None:
    for name in ("delivered-6", "tunnel-6", "service-tcp", "dead-backend", "loop-6"):
        wide = [line for line in lines(diagnose(recording(name))) if len(line) > 100]
        assert [line for line in wide if not line.startswith("  ") or " us  " in line] == []

"""Two traces: the first difference between them, and what does not count as one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from labctl.report.trace_comparison import comparison_lines
from labctl.tracing.comparison import Difference, compare_traces
from labctl.tracing.diagnosis import diagnose
from labctl.tracing.result import Cause, Leg, Note, Step, TraceResult, TraceVerdict
from tests.support.traces import recording

Notes = tuple[tuple[str, str], ...]


def step(node: str, devices: str, src: str, dst: str, ttl: int = 64, notes: Notes = (), tunnel: str = "") -> Step:
    return Step(node, tuple(devices.split()), 0, src, dst, ttl, tunnel, tuple(Note(*note) for note in notes))


def result(
    *request: Step, reply: tuple[Step, ...] = (), verdict: TraceVerdict = "answered", why: Cause | None = None
) -> TraceResult:
    legs = (Leg("request", request), *((Leg("reply", reply),) if reply else ()))
    return TraceResult(f"UDP datagram: {request[0].node} -> t" if request else "UDP datagram: a -> t", legs, verdict,
                       f"it was {verdict}", why)  # fmt: skip


def path(
    pod: str = "a",
    ip: str = "10.244.0.2",
    port: int = 40001,
    node: str = "node1",
    node_ip: str = "10.224.0.4",
    gateway: str = "10.244.0.1",
    veth: str = "veth1",
    rule: str = "nat/MASQ rule 2: -j MASQUERADE",
    route: str = "default via 10.224.0.1 dev eth0",
    out: str = "eth0",
) -> tuple[Step, ...]:
    """A request from a pod through its node to another network."""
    return (
        step(pod, "eth0", f"{ip}:{port}", "203.0.113.1:53", 64, (("route", f"default via {gateway} dev eth0"),)),
        step(
            node, f"{veth} cbr0 {out}", f"{node_ip}:{port}", "203.0.113.1:53", 63,
            (("route", route), ("rule", rule), ("SNAT", f"source {ip}:{port} becomes {node_ip}:{port}")),
        ),
        step("fabric", f"{node} pip", f"{node_ip}:{port}", "203.0.113.1:53", 62, (("route", "dev pip"),)),
        step("internet", "eth0", f"{node_ip}:{port}", "203.0.113.1:53", 62),
    )  # fmt: skip


FIRST = path()
OTHER_POD = path("b", "10.244.0.3", 40077, veth="veth2")
OTHER_NODE = path("c", "10.244.1.2", 40099, "node2", "10.224.0.5", "10.244.1.1", "veth3")


def difference(first: tuple[Step, ...], second: tuple[Step, ...]) -> Difference | None:
    return compare_traces(result(*first), result(*second)).difference


@pytest.mark.parametrize("second", [FIRST, path(port=50000), OTHER_POD, OTHER_NODE])
def test_what_must_differ_is_no_difference(second: tuple[Step, ...]) -> None:
    assert difference(FIRST, second) is None
    assert difference(second, FIRST) is None


@pytest.mark.parametrize(
    ("second", "kind", "hop", "text"),
    [
        (path(route="default via 10.224.0.9 dev eth0"), "route", 2, "default via 10.224.0.9 dev eth0"),
        (path(rule="nat/MASQ rule 3: -j MASQUERADE"), "rule", 2, "nat/MASQ rule 3: -j MASQUERADE"),
        (path(out="eth1"), "device", 2, "veth1 > cbr0 > eth1"),
        (path(node_ip="10.224.0.7"), "nat", 2, "source 10.244.0.2:40001 becomes 10.224.0.7:40001"),
        (path(gateway="10.244.0.9"), "route", 1, "default via 10.244.0.9 dev eth0"),
        (path("b", "10.244.0.3", 40077, veth="veth2", out="eth1"), "device", 2, "veth2 > cbr0 > eth1"),
        (path(node="node9"), "machine", 2, "node9"),
        (path("c", "10.244.1.2", node="node2", rule="nat/X rule 3: -j RETURN"), "rule", 2, "nat/X rule 3: -j RETURN"),
    ],
)  # fmt: skip
def test_the_first_difference(second: tuple[Step, ...], kind: str, hop: int, text: str) -> None:
    found = difference(FIRST, second)

    assert found is not None
    assert (found.kind, found.leg, found.hop, found.second) == (kind, "request", hop, text)


def test_the_device_of_one_end_is_no_counterpart_elsewhere() -> None:
    second = (replace(OTHER_POD[0], devices=("pip",)), *OTHER_POD[1:])  # the fabric has a device of that name, too

    assert difference(FIRST, second) is None


def to_pod(pod: str, ip: str, veth: str) -> tuple[Step, ...]:
    """A request to a pod, which its node sends to this device."""
    src, dst = "10.244.0.2:40001", f"{ip}:53"
    return (
        step("a", "eth0", src, dst),
        step("node1", f"veth1 {veth}", src, dst, 63, (("route", f"{ip} dev {veth}"),)),
        step(pod, "eth0", src, dst, 63),
    )


def test_two_targets_must_differ() -> None:
    assert difference(to_pod("x", "10.244.0.7", "veth7"), to_pod("y", "10.244.0.8", "veth8")) is None


def test_the_way_to_one_target_must_not_differ() -> None:
    found = difference(to_pod("x", "10.244.0.7", "veth7"), to_pod("x", "10.244.0.7", "veth8"))

    assert found is not None
    assert (found.kind, found.second) == ("route", "10.244.0.7 dev veth8")


def test_a_missing_note_is_told_by_what_was_met_instead() -> None:
    kept = replace(FIRST[1], src=FIRST[0].src, notes=(FIRST[1].notes[0], Note("nat", "source kept: rule 1")))
    found = difference(FIRST, (FIRST[0], kept, *FIRST[2:]))

    assert found is not None
    assert (found.kind, found.second) == ("rule", "source kept: rule 1")


@pytest.mark.parametrize("changed", [{"ttl": 60}, {"tunnel": "vxlan 1 a > b"}, {"dst": "203.0.113.9:53"}])
def test_the_packet_itself_can_differ(changed: dict[str, str]) -> None:
    found = difference(FIRST, (*FIRST[:2], replace(FIRST[2], **changed), FIRST[3]))  # type: ignore[arg-type]

    assert found is not None
    assert (found.kind, found.hop) == ({"dst": "address"}.get(next(iter(changed)), next(iter(changed))), 3)


def test_where_one_packet_ends_its_cause_is_the_difference() -> None:
    why = Cause("rule", "a rule of FORWARD in node1 dropped the request")
    cut = replace(OTHER_POD[1], devices=("veth2",), notes=())
    found = compare_traces(result(*FIRST), result(OTHER_POD[0], cut, verdict="lost", why=why)).difference

    assert found == Difference(
        "request", 2, "rule", ("node1", "node1"), "goes on to fabric", f"ends here: {why.sentence}"
    )  # fmt: skip


def test_a_packet_that_never_left() -> None:
    found = compare_traces(result(*FIRST), result(verdict="lost")).difference

    assert found == Difference("request", 1, "end", ("a", ""), "leaves a", "ends here: it was lost")


def test_the_replies_are_compared_after_the_requests() -> None:
    back = tuple(reversed(FIRST))
    found = compare_traces(result(*FIRST, reply=back), result(*FIRST, reply=back[:2], verdict="lost")).difference

    assert found is not None
    assert (found.leg, found.hop, found.kind) == ("reply", 2, "end")


def test_a_verdict_alone_can_differ() -> None:
    found = compare_traces(result(*FIRST), result(*FIRST, verdict="unanswered")).difference

    assert found is not None
    assert (found.leg, found.hop, found.first, found.second) == (None, 0, "it was answered", "it was unanswered")


@pytest.mark.parametrize(
    "name", ["delivered-tcp", "service-tcp", "old-backend", "drop", "vxlan-fdb", "loop", "unreachable"]
)
def test_a_recording_does_not_differ_from_itself(name: str) -> None:
    story = diagnose(recording(name))

    assert compare_traces(story, story).difference is None


def test_a_stale_connection_beside_another_port() -> None:
    both = compare_traces(diagnose(recording("same-backend")), diagnose(recording("old-backend-own")))

    assert both.difference is not None
    assert not both.answered


@pytest.mark.parametrize("width", [None, 80, 140])
def test_the_text_marks_the_difference(width: int | None) -> None:
    why = Cause("rule", "a rule of FORWARD in node1 dropped the request", tries=("labctl exec node1 -- iptables -L",))
    cut = replace(OTHER_POD[1], devices=("veth2",), notes=(Note("rule", "filter/FORWARD rule 1: -j DROP"),))
    both = compare_traces(result(*FIRST), result(OTHER_POD[0], cut, verdict="lost", why=why))
    lines = list(comparison_lines(both, width=width))
    hops = lines[: lines.index("")] if width == 140 else lines

    assert sum("!  2  node1" in line for line in lines) == (1 if width == 140 else 2)
    assert any("!     rule   filter/FORWARD rule 1: -j DROP" in line for line in lines)
    assert any("a rule of FORWARD in node1 dropped the request" in line for line in lines)
    assert any("first difference: rule, in the request, hop 2" in line for line in lines)
    assert all(len(line) <= (width or 1000) for line in hops)
    assert any(" | " in line for line in hops) is (width == 140)


def reply_to(pod: str, ip: str, veth: str, node: str = "node1", node_ip: str = "10.224.0.4") -> tuple[Step, ...]:
    """The reply to a pod behind a node that translated its source."""
    return (
        step("internet", "eth0", "203.0.113.1", "203.0.113.50"),
        step("fabric", f"pip {node}", "203.0.113.1", node_ip, 63),
        step(node, f"eth0 cbr0 {veth}", "203.0.113.1", ip, 62, (("un-NAT", f"destination {node_ip} becomes {ip}"),)),
        step(pod, "eth0", "203.0.113.1", ip, 62),
    )


def test_translated_replies_end_in_their_own_senders() -> None:
    first = result(*FIRST, reply=reply_to("a", "10.244.0.2", "veth1"))
    second = result(*OTHER_POD, reply=reply_to("b", "10.244.0.3", "veth2"))
    assert compare_traces(first, second).difference is None
    assert compare_traces(second, first).difference is None
    back = reply_to("b", "10.244.0.3", "veth2")
    other_way = (back[0], replace(back[1], devices=("pip", "spare")), *back[2:])
    found = compare_traces(first, result(*OTHER_POD, reply=other_way)).difference
    assert found is not None
    assert (found.leg, found.hop, found.kind) == ("reply", 2, "device")

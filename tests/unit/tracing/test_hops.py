"""The path of a packet from what the taps saw."""

from __future__ import annotations

from dataclasses import replace

from labctl.core.observations import RouteQuery
from labctl.tracing.diagnosis import diagnose
from labctl.tracing.hop_routing import devices, last_route_query
from tests.support.observations import SECOND, B, crossing, lab
from tests.support.traces import recording

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


def test_a_tunnel_with_its_socket_in_another_namespace_is_one_path() -> None:
    found = recording("vxlan-socket")

    assert [hop.node for hop in found.hops["request"]] == ["c2", "ov2", "host2", "host1", "ov1", "c1"]
    assert [hop.node for hop in found.hops["reply"]] == ["c1", "ov1", "host1", "host2", "ov2", "c2"]


def test_what_a_machine_says_to_itself_was_routed_when_it_left() -> None:
    itself = lab(crossing("b", "lo", "out", 0), crossing("b", "lo", "in", 1))
    (hop,) = itself.hops["request"]

    assert last_route_query(itself, hop, "request") == RouteQuery("b", B)  # the kernel refuses `iif lo`


def test_what_tcp_sends_again_is_not_part_of_the_road() -> None:
    again = [replace(item, when=item.when + SECOND) for item in FLOODED.observations[:2]]
    evidence = replace(FLOODED, observations=(*FLOODED.observations, *again))

    assert evidence.hops["request"] == FLOODED.hops["request"]

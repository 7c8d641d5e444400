"""The neighbour entries that the pairs of a mesh need, in compiled labs."""

from __future__ import annotations

from labctl.core.neighbour_presets import NeighbourPresets
from labctl.core.resources import IP
from labctl.core.scenario_types import Lab
from labctl.scenario.definition import parse_and_compile


def compiled(text: str) -> Lab:
    return parse_and_compile(text, "lab.yaml")[1]


def found(lab: Lab, pairs: list[tuple[str, str]], leaves: bool = True) -> dict[tuple[str, str], str]:
    main = {machine.name: machine.addresses[0] for machine in lab.machines if machine.addresses}
    peers: dict[str, set[IP]] = {}
    for one, other in pairs:
        peers.setdefault(one, set()).add(main[other])
        peers.setdefault(other, set()).add(main[one])
    entries = NeighbourPresets(lab).needed([main[name] for name in peers], peers if leaves else None)
    return {(str(item.at), str(item.ip)): str(item.mac_interface) for item in entries}


def test_a_pod_gets_the_entries_of_its_pairs_only() -> None:
    lab = compiled("{model: kubenet, name: k, nodes: {node1: {pods: [a, b, c]}, node2: {pods: [d]}}}")
    one = found(lab, [("a", "b"), ("c", "d")])
    every = found(lab, [("a", "b"), ("c", "d")], leaves=False)
    address = {machine.name: str(machine.addresses[0]) for machine in lab.machines if machine.addresses}

    assert one["a/eth0", address["b"]] == "b/eth0"
    assert one["b/eth0", address["a"]] == "a/eth0"
    assert ("a/eth0", address["c"]) not in one
    assert every["a/eth0", address["c"]] == "c/eth0"
    assert one["node1/cbr0", address["c"]] == "c/eth0", "what forwards needs the entries of all"
    assert one.items() < every.items()


def test_containers_of_an_overlay_are_known_from_its_peer_table() -> None:
    """The answer to a container on another host comes from the permanent entries of the VXLAN device."""
    lab = compiled("{model: docker-overlay, name: o, hosts: {count: 2, containers: 2}}")
    names = [machine.name for machine in lab.machines if machine.role == "container"]
    entries = found(lab, [(one, other) for one in names for other in names if one != other])
    address = {machine.name: machine.addresses[0] for machine in lab.machines if machine.addresses}
    here, there = names[0], names[-1]

    assert entries[f"{here}/eth0", str(address[there])] == f"{there}/eth0"
    assert entries[f"{there}/eth0", str(address[here])] == f"{here}/eth0"

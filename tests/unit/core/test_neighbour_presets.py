"""The neighbour entries that the pairs of a mesh need, in compiled labs."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from labctl.core.mesh_pairs import choose_pairs
from labctl.core.neighbour_presets import NeighbourPresets
from labctl.core.resources import IP
from labctl.core.scenario_types import Lab
from labctl.core.topology import LEAF_ROLES, Topology
from labctl.scenario import catalog
from labctl.scenario.definition import parse_and_compile


def compiled(text: str) -> Lab:
    return parse_and_compile(text, "lab.yaml")[1]


def found(lab: Lab, pairs: list[tuple[str, str]], leaves: bool = True) -> dict[tuple[str, str], str]:
    main = {machine.name: machine.addresses[0] for machine in lab.machines if machine.addresses}
    peers: dict[str, set[IP]] = {}
    for one, other in pairs:
        peers.setdefault(one, set()).add(main[other])
        peers.setdefault(other, set()).add(main[one])
    entries = NeighbourPresets(lab).needed([main[name] for name in peers], peers if leaves else None).presets
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


def test_an_address_that_no_device_is_known_to_answer_for_is_counted_if_it_is_probed() -> None:
    lab = compiled(RAW % ("remote: 192.0.2.0", 8, "remote: 192.0.2.1"))  # two numbers: the tunnel has no other end
    here, there = ip_address("10.0.0.1"), ip_address("10.0.0.2")
    presets = NeighbourPresets(lab)

    assert presets.needed([here, there], {"a": {there}}, {there}).unpredictable == 1
    assert presets.needed([here, there], {"a": {there}}, {here}).unpredictable == 0
    assert presets.needed([here, there], {"a": set()}, {there}).unpredictable == 0


def test_pods_of_one_ethernet_over_vxlan_know_each_other() -> None:
    lab = compiled("{model: weave, name: w, nodes: {node1: {pods: [a]}, node2: {pods: [b]}}}")
    address = {machine.name: str(machine.addresses[0]) for machine in lab.machines if machine.addresses}

    assert found(lab, [("a", "b")])["a/eth0", address["b"]] == "b/eth0"


RAW = """
name: x
model: raw
namespaces: [a, b, c, wire]
links:
  - {veth: [a/under, wire/a]}
  - {veth: [b/under, wire/b]}
  - {vxlan: a/vx0, id: 7, dstport: 4789, %s}
  - {vxlan: b/vx0, id: %s, dstport: 4789, %s}
  - {macvlan: a/mv0, dev: under}
addresses: {a/under: 192.0.2.1/31, b/under: 192.0.2.0/31, a/vx0: 10.0.0.1/24, b/vx0: 10.0.0.2/24}
"""


@pytest.mark.parametrize(
    ("one", "number", "other", "joined"),
    [
        ("remote: 192.0.2.0", 7, "remote: 192.0.2.1", True),
        ("group: 239.1.1.1, dev: under", 7, "group: 239.1.1.1, dev: under", True),
        ("remote: 192.0.2.0", 8, "remote: 192.0.2.1", False),
        ("remote: 192.0.2.77", 7, "remote: 192.0.2.77", False),
        ("local: 192.0.2.1", 7, "local: 192.0.2.0", False),
    ],
)
def test_vxlan_devices_share_a_link_layer_if_they_flood_to_each_other(
    one: str, number: int, other: str, joined: bool
) -> None:
    lab = compiled(RAW % (one, number, other))
    addresses = [ip_address("10.0.0.1"), ip_address("10.0.0.2")]
    entries = {(str(item.at), str(item.mac_interface)) for item in NeighbourPresets(lab).needed(addresses).presets}

    assert (("a/vx0", "b/vx0") in entries) == joined


@pytest.mark.parametrize("name", catalog.names())
def test_the_entries_of_every_mesh_of_a_built_in_scenario_can_be_predicted(name: str) -> None:
    """So the labs of these models fit, whatever their size: the kernel does not count preset entries."""
    file, text = catalog.find(name)
    lab = parse_and_compile(text, file)[1]
    topology = Topology(lab)
    leaves = [machine.name for machine in lab.machines if machine.role in LEAF_ROLES]
    for check in (check for check in lab.checks if check.probe == "mesh"):
        peers: dict[str, set[IP]] = {leaf: set() for leaf in leaves}
        for source, target in choose_pairs(check.groups, {}, "", None):
            peers.setdefault(source, set()).update(topology.addresses(target)[:1])
            peers.setdefault(target, set()).update(topology.addresses(source))
        addresses = [ip for machine in peers for ip in topology.addresses(machine)]
        targets = {ip for _, names in check.groups for name in names for ip in topology.addresses(name)[:1]}
        needed = NeighbourPresets(lab).needed(addresses, {leaf: peers[leaf] for leaf in leaves}, targets)

        assert needed.unpredictable == 0, check.say


def test_a_node_needs_only_the_entries_of_what_passes_it() -> None:
    lab = compiled("{model: kubenet, name: k, nodes: {count: 3, pods: 2}}")
    topology = Topology(lab)
    on_nodes = {f"node{number}": frozenset(topology.addresses(f"pod{number}-1")) for number in (1, 2, 3)}
    passing = {"node1": on_nodes["node1"], "node2": frozenset(), "node3": frozenset()}
    ends = [ip for name in ("node1", "pod1-1", "node2", "node3") for ip in topology.addresses(name)]
    peers = dict.fromkeys([machine.name for machine in lab.machines if machine.role in LEAF_ROLES], frozenset[IP]())
    all_of_them = {item.at.ns for item in NeighbourPresets(lab).needed(ends, peers).presets}
    bounded = NeighbourPresets(lab).needed(ends, peers, passing=passing).presets

    assert {"node1", "node2", "node3"} <= all_of_them
    assert {item.at.ns for item in bounded} == all_of_them - {"node2", "node3"}
    assert ("node1", topology.addresses("pod1-1")[0]) in {(item.at.ns, item.ip) for item in bounded}

"""A plan without some objects: by name, with what cannot exist without them."""

from __future__ import annotations

import pytest

from labctl.core import nft_objects
from labctl.core.left_out import known_names, leave_out, named
from labctl.core.resources import Address, Link, Netns, NftObject, Plan, Route, Sysctl, assemble
from labctl.scenario.definition import parse_and_compile

TEXT = """
name: t
model: raw
namespaces: {host: {role: host}, c1: {role: container, on: host}, c2: {role: container, on: host}}
links:
  - bridge: host/br0
  - veth: [{at: host/v1, master: br0}, c1/eth0]
  - veth: [{at: host/v2, master: br0}, c2/eth0]
addresses: {host/br0: 10.0.0.1/24, c1/eth0: 10.0.0.2/24, c2/eth0: 10.0.0.3/24}
routes: {c1: default via 10.0.0.1, c2: default via 10.0.0.1}
sysctls: {host: {net.ipv4.ip_forward: 1}}
firewall: {host: {nat: {POSTROUTING: [-o eth0 -j MASQUERADE]}}}
"""


@pytest.fixture(scope="module")
def plan() -> Plan:
    return parse_and_compile(TEXT, "t.yaml")[1].plan


def lost(plan: Plan, *names: str) -> set[tuple[object, ...]]:
    start = leave_out(plan, names)
    differing = {item.key for item in plan if item not in start.plan}
    assert differing == start.keys
    return differing


def test_a_device_goes_with_its_other_end_its_addresses_and_its_routes(plan: Plan) -> None:
    gone = [item for item in plan if item.key in lost(plan, "c1/eth0")]

    assert {str(item.at) for item in gone if isinstance(item, Link)} == {"host/v1", "c1/eth0"}
    assert [str(item.addr) for item in gone if isinstance(item, Address)] == ["10.0.0.2/24"]
    assert [item.ns for item in gone if isinstance(item, Route)] == ["c1"]
    assert lost(plan, "host/v1") == lost(plan, "c1/eth0")


def test_the_ports_of_a_bridge_stay_and_are_ports_of_none(plan: Plan) -> None:
    start = leave_out(plan, ("host/br0",))
    ports = [item for item in start.plan if isinstance(item, Link) and item.at.dev in ("v1", "v2")]

    assert [port.master for port in ports] == [None, None]
    assert {port.key for port in ports} < start.keys
    assert ("link", "host", "br0") in start.keys - {item.key for item in start.plan}


def test_a_machine_keeps_its_namespace_and_its_loopback_device(plan: Plan) -> None:
    start = leave_out(plan, ("host",)).plan
    host = [item for item in start if item.ns == "host"]

    assert [type(item).__name__ for item in host] == ["Netns", "Link", "Sysctl"]
    assert Netns("host") in host
    assert not [item for item in start if isinstance(item, Address)], "the cables have ended with the host"


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("c1/default", "route"),
        ("c1/0.0.0.0/0", "route"),
        ("host/net.ipv4.ip_forward", "sysctl"),
        ("host/nat/POSTROUTING", "chain"),
    ],
)
def test_a_single_object_has_a_name(plan: Plan, name: str, key: str) -> None:
    assert [one[0] for one in lost(plan, name)] == [key]
    assert lost(plan, name) == named(plan, (name,))
    assert name in known_names(plan)


def test_an_address_goes_with_the_routes_by_its_network(plan: Plan) -> None:
    assert sorted(str(one[0]) for one in lost(plan, "c1/eth0/10.0.0.2/24")) == ["address", "route"]
    assert [one[0] for one in named(plan, ("c1/eth0/10.0.0.2/24",))] == ["address"]


def test_a_switch_is_the_other_way_round(plan: Plan) -> None:
    found = [item for item in leave_out(plan, ("host/net.ipv4.ip_forward",)).plan if isinstance(item, Sysctl)]

    assert [item.value for item in found] == ["0"]


def test_nothing_is_left_out_without_a_name(plan: Plan) -> None:
    assert leave_out(plan, ()).plan == plan
    assert leave_out(plan, ()).keys == frozenset()


TABLE = "inet netavark"
NFT = assemble(
    (
        Netns("host"),
        nft_objects.base_chain(
            "host", TABLE, "POSTROUTING", ("ip saddr @pods counter jump NET", "counter accept"),
            type="nat", hook="postrouting", priority="srcnat",
        ),
        nft_objects.chain("host", TABLE, "NET", ("masquerade",)),
        nft_objects.set_("host", TABLE, "pods", ("10.88.0.2",), type="ipv4_addr"),
        nft_objects.map_("host", TABLE, "nets", ('"br0" : goto NET', '"br1" : accept'), type="ifname : verdict"),
        nft_objects.chain("host", "ip other", "NET", ("jump POSTROUTING",)),
    )
)  # fmt: skip


def left(*names: str) -> dict[str, tuple[str, ...]]:
    """The objects of nft that are left, with their entries."""
    start = leave_out(NFT, names).plan
    return {f"{one.table}/{one.name}": one.entries for one in start if isinstance(one, NftObject) and one.name}


def test_a_table_of_nft_goes_with_everything_in_it() -> None:
    assert left("host/inet netavark") == {"ip other/NET": ("jump POSTROUTING",)}
    assert {name for name in known_names(NFT) if name.endswith("POSTROUTING")} == {"host/inet netavark/POSTROUTING"}


def test_a_chain_of_nft_goes_with_the_rules_and_elements_that_lead_to_it() -> None:
    found = left("host/inet netavark/NET")

    assert found == {
        "inet netavark/POSTROUTING": ("counter accept",),
        "inet netavark/pods": ("10.88.0.2",),
        "inet netavark/nets": ('"br1" : accept',),
        "ip other/NET": ("jump POSTROUTING",),
    }
    keys = leave_out(NFT, ("host/inet netavark/NET",)).keys
    assert {key[-1] for key in keys} == {"NET", "POSTROUTING", "nets"}


def test_a_set_of_nft_goes_with_the_rules_that_look_it_up() -> None:
    assert left("host/inet netavark/pods")["inet netavark/POSTROUTING"] == ("counter accept",)

"""`show` without a name: one line for each machine, from what was read in its namespace."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, ip_interface

from labctl.core.node_state import ListeningSocket, NodeState
from labctl.core.resources import Address, Interface, Link, NftObject
from labctl.core.scenario_types import Machine
from labctl.report.lab_overview import MachineSummary, overview, summaries, summary_json
from labctl.report.node_view import NodeView
from tests.support import samples

C = NodeView(
    "c",
    (
        Link(Interface("c", "lo"), "loopback"),
        Link(Interface("c", "eth0"), "veth", up=False),
        Address(Interface("c", "lo"), ip_interface("127.0.0.1/8")),
        Address(Interface("c", "eth0"), ip_interface("fe80::1/64")),
        Address(Interface("c", "eth0"), ip_interface("10.9.9.9/24")),
        Address(Interface("c", "eth0"), ip_interface("10.244.1.2/24")),
    ),
    NodeState("c", sockets=(ListeningSocket("udp", IPv4Address("0.0.0.0"), 53),)),
)
SIDECAR = Machine("sidecar", "container", (IPv4Address("10.244.1.2"),), netns_of="c")
LAB = replace(samples.LAB, machines=(*samples.MACHINES[:3], SIDECAR))


def found(name: str) -> MachineSummary:
    return {one.name: one for one in summaries([samples.VIEW, C, NodeView("extra", (), NodeState("extra"))], LAB)}[name]


def test_a_machine_is_counted_as_it_is_now() -> None:
    assert found("node1") == MachineSummary(
        "node1", "node", None, None, (IPv4Address("10.224.0.4"),), ("veth1 no carrier",), 2, 3, 2, ("80/tcp",)
    )


def test_rules_of_nft_are_counted_too() -> None:
    table = NftObject("c", "ip calico", "chain", "filter-FORWARD", entries=("accept", "drop"))
    elements = NftObject("c", "ip calico", "set", "pods", entries=("10.0.0.1",))
    view = replace(C, plan=(*C.plan, table, elements))
    counts = {one.name: one.rules for one in summaries([samples.VIEW, view], LAB)}

    assert (counts["node1"], counts["c"]) == (3, 2)


def test_what_is_down_or_gone_is_said() -> None:
    assert found("c").problems == ("eth0 down",)
    assert found("a").problems == ("gone",)
    assert found("extra") == MachineSummary("extra", "", None, None), "a namespace that is no machine"


def test_the_main_address_is_the_first_and_only_addresses_that_it_has_are_shown() -> None:
    assert [str(ip) for ip in found("c").addresses] == ["10.244.1.2", "10.9.9.9"]
    assert [str(ip) for ip in found("sidecar").addresses] == ["10.244.1.2"]
    assert [str(ip) for ip in found("node1").addresses] == ["10.224.0.4"], "its second address is not there"


def test_each_machine_has_one_line_without_empty_columns() -> None:
    table = overview([found("c"), found("sidecar"), found("a")])

    assert table.columns == ("name", "role", "on", "addresses", "state", "listens")
    assert table.rows[0] == ("c", "pod", "node2", "10.244.1.2 10.9.9.9", "eth0 down", "53/udp")
    assert table.rows[1][:4] == ("sidecar", "container", "in c", "10.244.1.2")
    assert table.rows[2] == ("a", "pod", "node1", "", "gone", "")


def test_many_addresses_and_ports_are_counted() -> None:
    many = replace(
        found("c"), addresses=tuple(map(IPv4Address, range(6))), sockets=("1/tcp", "2/tcp", "3/tcp", "4/tcp")
    )

    assert overview([many]).rows[0][3] == "0.0.0.0 0.0.0.1 +4"
    assert overview([many]).rows[0][5] == "1/tcp 2/tcp 3/tcp +1"


def test_a_lost_record_leaves_the_namespaces() -> None:
    (one,) = summaries([C], None)

    assert (one.name, one.role) == ("c", "")
    assert summary_json(one)["role"] is None
    assert summary_json(one)["problems"] == ["eth0 down"]
    assert summary_json(one)["up"] is False

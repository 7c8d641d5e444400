"""What a drawing has of a lab, and what it leaves out of a large one."""

from __future__ import annotations

import pytest

from labctl.core.resources import Interface
from labctl.drawing.from_lab import MAX_NODES, MAX_PODS, draw
from labctl.drawing.text import text_lines
from tests.support.drawings import box, built_in, large


def test_pods_are_inside_their_node_and_the_others_beside() -> None:
    drawing = draw(built_in("kubenet"))

    assert [one.name for one in drawing.boxes] == ["fabric", "internet", "node1", "node2", "vm"]
    assert [one.name for one in box(drawing, "node1").boxes] == ["a", "b"]
    assert box(drawing, "node1").title == "node1 (node)"
    assert box(drawing, "fabric").title == "fabric"


def test_cables_have_two_ends_and_ports_their_bridge() -> None:
    drawing = draw(built_in("kubenet"))
    ports = [one for one in box(drawing, "node1").devices if one.master == "cbr0"]

    assert (Interface("a", "eth0"), ports[0].at) in drawing.cables
    assert len(drawing.cables) == 7
    assert len(ports) == 2


def test_tunnels_are_found_by_their_far_ends() -> None:
    calico, overlay = draw(built_in("calico")), draw(built_in("docker-overlay"))
    device = next(one for one in box(calico, "node1").devices if one.kind == "vxlan")

    assert device.lines[1:] == ("vxlan id 4096", "10.244.0.0/32", "to 192.168.0.2 node2", "to 192.168.1.3 node3")
    assert len(calico.tunnels) == 3
    assert [one.text for one in overlay.tunnels] == ["vxlan id 4097"]
    assert len(draw(built_in("calico-ipip")).tunnels) > 0


def test_routes_through_other_machines_come_first() -> None:
    routes = [str(one) for one in box(draw(built_in("kubenet")), "fabric").routes]

    assert routes[0] == "10.244.0.0/24 via 10.224.0.4 dev node1 table 100"
    assert routes[-1] == "10.225.0.4 dev vm"


def test_a_container_without_a_namespace_says_which_one_it_uses() -> None:
    web = box(draw(built_in("docker-host-none")), "web")

    assert web.notes == ("in the namespace of host1",)
    assert web.devices == ()
    assert web.addresses == ("192.168.50.11", "172.17.0.1")
    assert "│ 172.17.0.2 " in "\n".join(text_lines(draw(built_in("docker-host-none"))))


def test_services_are_one_line_each() -> None:
    services = draw(built_in("services")).services

    assert services[0] == "web (NodePort) 10.0.39.225 80:30080/TCP -> a, b"
    assert services[2].endswith("-> no machine")


def test_pods_that_plugins_attach_are_drawn() -> None:
    device = box(draw(built_in("cni")), "a").devices[0]

    assert device.kind == "cni"
    assert device.lines[:2] == ("eth0", "by CNI plugins")


@pytest.mark.parametrize(
    ("nodes", "pods", "collapsed"),
    [(MAX_NODES, 2, False), (MAX_NODES + 1, 2, True), (1, MAX_PODS, False), (1, MAX_PODS + 1, True)],
)
def test_many_pods_are_a_number_unless_all_are_wanted(nodes: int, pods: int, collapsed: bool) -> None:
    lab = large(nodes, pods)
    short, complete = draw(lab), draw(lab, everything=True)
    names = {one.name for one in short.walk()}

    assert (f"{pods} pods" in names) is collapsed
    assert ("p1-0" in names) is not collapsed
    assert any("--all" in one for one in short.omissions) is collapsed or nodes >= MAX_NODES
    assert complete.omissions == ()
    assert {one.name for one in complete.walk()} == {one.name for one in lab.machines}


def test_what_is_collapsed_leaves_no_end_of_a_cable() -> None:
    short = draw(large(MAX_NODES + 1, 2))
    devices = {one.at for each in short.walk() for one in each.devices}

    assert all(end in devices for cable in short.cables for end in cable)
    assert all(one.peer is None or one.peer in devices for each in short.walk() for one in each.devices)


def test_long_lists_say_how_many_there_are_besides() -> None:
    lab = large(MAX_NODES + 3, 1)
    short, complete = box(draw(lab), "node1"), box(draw(lab, everything=True), "node1")
    tunnel = next(one for one in short.devices if one.more_remotes)

    assert len(short.routes) + short.more_routes == len(complete.routes)
    assert str(short.route_lines[-1]) == f"and {short.more_routes} more"
    assert len(tunnel.remotes) + tunnel.more_remotes == MAX_NODES + 2
    assert tunnel.lines[-1] == f"to {MAX_NODES + 2} machines"

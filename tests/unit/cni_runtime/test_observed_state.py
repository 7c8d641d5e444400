"""The objects of plugins and those of the plan: merged, and separated again. Without a kernel."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest

from labctl.cni_runtime.observed_state import (
    changed_sysctls,
    merge,
    plugin_objects,
    result_addresses,
    with_addresses,
    without_attachments,
)
from labctl.core.diff import diff, surplus
from labctl.core.iptables import rule
from labctl.core.resources import (
    Address,
    Attachment,
    Chain,
    Interface,
    Link,
    Netns,
    Plan,
    Resource,
    Route,
    Sysctl,
    attachments_of,
)
from labctl.core.scenario_types import Lab, Machine
from labctl.render.plan_json import resource_from_json, resource_json
from tests.support.samples import ATTACHMENT

ANY = ip_network("0.0.0.0/0")
POD, NODE = Interface("a", "eth0"), Interface("node1", "veth1")
OTHER: Any = Attachment("b", "node1", ATTACHMENT.conflist)
POSTROUTING = Chain("node1", "nat", "POSTROUTING", (rule("-j RETURN"),), "ACCEPT")
PLAN: Plan = (Netns("node1"), Netns("a"), Sysctl("node1", "net.ipv4.ip_forward", "1"), POSTROUTING, ATTACHMENT)
CHANGED = Chain("node1", "nat", "POSTROUTING", (rule("-j CNI"), rule("-j RETURN")), "ACCEPT")
MADE: tuple[Resource, ...] = (
    Link(Interface("node1", "cni0"), "bridge"),
    Link(NODE, "veth", POD, "cni0"),
    Link(POD, "veth", NODE),
    Sysctl("node1", "net.ipv6.conf.veth1.accept_ra", "0"),
    Sysctl("node1", "net.ipv6.conf.cni0.accept_ra", "0"),
    Address(POD, ip_interface("10.0.0.2/24")),
    Address(Interface("node1", "cni0"), ip_interface("10.0.0.1/24")),
    Route("node1", ip_network("10.0.0.2/32"), dev="veth1"),
    Route("a", ANY, via=ip_address("10.0.0.1"), dev="eth0"),
    CHANGED,
    Chain("node1", "nat", "CNI"),
)
FOUND: Plan = (*PLAN[:3], *MADE)


def test_what_was_made_is_wanted_in_the_order_of_creation_and_in_the_place_of_what_it_changed() -> None:
    plan = merge(PLAN, MADE)
    kinds = [type(item) for item in plan]
    assert kinds == sorted(kinds, key=[Netns, Link, Sysctl, Address, Route, Chain, Attachment].index)
    assert CHANGED in plan
    assert POSTROUTING not in plan
    assert len(plan) == len(PLAN) + len(MADE) - 1
    assert merge(plan, MADE) == plan
    assert diff(plan, (*FOUND, ATTACHMENT)) == ()


def test_what_is_there_beyond_the_plan_is_what_was_made() -> None:
    made = plugin_objects(PLAN, FOUND, ())
    assert set(made) == set(MADE)
    assert diff(merge(PLAN, made), (*FOUND, ATTACHMENT)) == ()


def test_what_lies_elsewhere_or_is_learned_was_not_made_by_plugins() -> None:
    stray = Route("fabric", ANY, via=ip_address("10.9.9.9"), dev="eth0")
    assert set(plugin_objects((*PLAN, Netns("fabric")), (*FOUND, Netns("fabric"), stray), ())) == set(MADE)
    assert stray in surplus((*PLAN, Netns("fabric")), (*FOUND, stray))


def test_a_lost_namespace_takes_its_own_along_and_the_devices_that_led_there() -> None:
    left = without_attachments(MADE, [ATTACHMENT])
    assert [item for item in left if item.ns == "a"] == []
    assert NODE not in {getattr(item, "at", None) for item in left}
    assert not any(isinstance(item, Route) for item in left)
    assert [item for item in left if isinstance(item, Sysctl)] == [MADE[4]]
    assert CHANGED in left
    assert without_attachments(MADE, [OTHER]) == MADE
    assert without_attachments(MADE, [OTHER], {"node1"}) == tuple(item for item in MADE if item.ns == "a")


def test_a_setting_was_made_if_it_changed_or_is_not_as_a_new_device_has_it() -> None:
    before = {"net.ipv4.ip_forward": "0", "net.ipv4.conf.default.rp_filter": "1", "net.ipv4.tcp_mem": "1 2 3"}
    after = {
        **before,
        "net.ipv4.ip_forward": "1",
        "net.ipv4.conf.veth1.rp_filter": "1",
        "net.ipv4.conf.eth0/7.rp_filter": "2",
        "net.ipv6.conf.veth1.mtu": "1400",
        "net.ipv4.conf.veth1.forwarding": "1",
        "net.netfilter.nf_conntrack_count": "9",
        "net.new": "1",
    }
    assert changed_sysctls("n", before, after) == (
        Sysctl("n", "net.ipv4.ip_forward", "1"),
        Sysctl("n", "net.ipv4.conf.eth0/7.rp_filter", "2"),
    )


def test_machines_get_the_addresses_of_their_results() -> None:
    node = Machine("node1", "node", (ip_address("10.0.0.9"),))
    machines = (Machine("a", "pod", (), "node1"), Machine("b", "pod"), node)
    lab = Lab("l", "cni", PLAN, machines, ())
    result = {
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "cni0"}, {"name": "eth0", "sandbox": "/x"}],
        "ips": [{"address": "10.0.0.2/24", "interface": 1}, {"address": "10.0.0.1/24", "interface": 0}],
    }
    found = {
        one.name: [str(ip) for ip in one.addresses]
        for one in with_addresses(lab, {"a": result, "node1": result}).machines
    }
    assert found == {"a": ["10.0.0.2"], "b": [], "node1": ["10.0.0.9"]}
    assert with_addresses(lab, {}) is lab


@pytest.mark.parametrize("more", [{"cniVersion": "x"}, {"ips": 3}, {"ips": [{}]}, {}])
def test_a_result_without_addresses_gives_none(more: dict[str, Any]) -> None:
    assert result_addresses({"cniVersion": "1.0.0", **more}) == ()


def test_an_attachment_is_an_object_like_any_other() -> None:
    assert attachments_of(PLAN) == (ATTACHMENT,)
    assert resource_from_json(resource_json(ATTACHMENT)) == ATTACHMENT
    assert str(ATTACHMENT.at) == "a/eth0"

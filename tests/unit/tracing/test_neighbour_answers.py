"""What a trace says of a machine that does not answer for an address, if a part of the evidence is different."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_interface

import pytest

from labctl.core.resources import Address, Interface, Link
from labctl.tracing.diagnosis import diagnose
from labctl.tracing.evidence import NamespaceState, TraceEvidence
from labctl.tracing.result import Cause
from tests.support.traces import recording


def explained(evidence: TraceEvidence) -> Cause:
    why = diagnose(evidence).why
    assert why is not None
    return why


def with_links(evidence: TraceEvidence, change: Callable[[Link], Link]) -> TraceEvidence:
    states = [replace(state, links=tuple(map(change, state.links))) for state in evidence.namespaces]
    return replace(evidence, namespaces=tuple(states))


def with_sysctl(evidence: TraceEvidence, node: str, name: str, value: str) -> TraceEvidence:
    def changed(state: NamespaceState) -> NamespaceState:
        return replace(state, sysctls={**state.sysctls, name: value}) if state.node == node else state

    return replace(evidence, namespaces=tuple(map(changed, evidence.namespaces)))


@pytest.mark.parametrize("name", ["arp-ignore", "arp-filter", "arp-rp-filter", "arp-off-other", "other-device-6"])
def test_a_machine_that_got_no_question_is_not_blamed(name: str) -> None:
    found = recording(name)
    seen = tuple(one for one in found.neighbour_observations if one.node != "h2")

    assert explained(replace(found, neighbour_observations=seen)).kind == "neighbour"
    assert "does not answer" not in explained(replace(found, neighbour_observations=seen)).sentence


@pytest.mark.parametrize("value", ["0", "4", "5", "6", "7"])
def test_values_of_arp_ignore_without_effect_are_not_blamed(value: str) -> None:
    found = with_sysctl(recording("arp-ignore"), "h2", "net.ipv4.conf.all.arp_ignore", value)

    assert explained(found).kind == "neighbour"


def test_of_two_settings_the_higher_one_counts() -> None:
    found = with_sysctl(recording("arp-ignore"), "h2", "net.ipv4.conf.eth0.arp_ignore", "8")

    assert explained(found).sentence.endswith("net.ipv4.conf.eth0.arp_ignore = 8")


def test_a_filter_that_allows_the_answer_is_not_blamed() -> None:
    found = recording("arp-filter")
    lookups = tuple(
        replace(one, dev="eth0") if one.src is not None and one.iif is None else one for one in found.lookups
    )

    assert explained(replace(found, lookups=lookups)).kind == "neighbour"


def test_the_question_that_waits_for_an_earlier_one_went_to_the_other_end_of_the_cable() -> None:
    found = recording("proxy-arp-back")
    waiting = replace(found, unanswered_neighbours=(), neighbour_observations=())

    assert explained(waiting).kind == "proxy-arp-route"


def test_a_gateway_that_no_machine_has_is_wrong_where_the_router_has_an_address_of_that_network() -> None:
    """Without one, the router is the gateway by proxy ARP only, as in Calico."""
    found = recording("proxy-arp-off-alone")
    own = Address(Interface("node2", "calidbc51878acf"), ip_interface("169.254.1.9/24"))
    states = tuple(
        replace(state, addresses=(*state.addresses, own)) if state.node == "node2" else state
        for state in found.namespaces
    )

    assert explained(found).kind == "proxy-arp-off"
    assert explained(replace(found, namespaces=states)).kind == "neighbour"


def test_an_ipvlan_is_separated_from_its_lower_device_as_well() -> None:
    found = with_links(
        recording("macvlan-to-host"), lambda link: replace(link, kind="ipvlan") if link.kind == "macvlan" else link
    )

    assert explained(found).sentence.startswith("c1/eth0 is an ipvlan of host/eth0")


def test_a_macvlan_whose_question_arrived_is_not_blamed() -> None:
    found = recording("macvlan-to-host")
    asked = found.neighbour_observations[0]
    arrived = replace(found, neighbour_observations=(asked, replace(asked, node="host", dev="br7", direction="in")))

    assert explained(arrived).kind != "macvlan"


def test_a_tunnel_that_learned_a_wrong_far_end_is_told_so() -> None:
    found = recording("vxlan-remote")
    states = tuple(replace(state, fdb=()) for state in found.namespaces)

    assert explained(replace(found, namespaces=states)).sentence.startswith("the learned entry of v1/vx0 sends frames")


@pytest.mark.parametrize(("name", "option"), [("vxlan-vni", "id"), ("vxlan-port", "dstport")])
def test_ends_that_fit_are_not_blamed(name: str, option: str) -> None:
    def fitting(link: Link) -> Link:
        values = {"id": "42", "dstport": "4789"}
        return replace(link, options=tuple((key, values.get(key, value)) for key, value in link.options))

    why = diagnose(with_links(recording(name), fitting)).why

    assert why is None or why.kind not in ("vxlan-vni", "vxlan-port", "vxlan-remote"), option


def test_a_tunnel_that_took_the_packet_has_the_right_port() -> None:
    def unlike(link: Link) -> Link:
        if link.at.ns != "v2" or link.kind != "vxlan":
            return link
        options = dict(link.options) | {"dstport": "4799"}
        return replace(link, mac="02:00:00:00:01:99", options=tuple(options.items()))  # the address of the frame

    why = diagnose(with_links(recording("vxlan-lladdr-tcp"), unlike)).why

    assert why is None or why.kind != "vxlan-port"


def test_an_answer_with_the_address_of_another_device_of_the_machine_is_not_blamed() -> None:
    found = recording("stale-neighbour")

    def swapped(link: Link) -> Link:
        if link.at.ns == "h3":
            return replace(link, mac="02:00:00:00:04:77")
        return replace(link, mac="02:00:00:00:04:03") if (link.at.ns, link.at.dev) == ("h2", "eth1") else link

    assert diagnose(found).why is not None
    why = diagnose(with_links(found, swapped)).why
    assert why is None or why.kind != "stale-neighbour"

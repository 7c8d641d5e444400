"""Addresses of Azure's platform: 168.63.129.16 (DNS, health probes, wireserver) and 169.254.169.254 (IMDS).

They are the same in every virtual network, and no route of a user changes the way to them. They answer a machine at the
primary address of its NIC only. So a pod reaches them only if its node translates its source: ip-masq-agent does with
`masqLinkLocal`, which AKS sets. IMDS gives tokens of the node's identity to everyone who asks, so AKS can forbid it to
pods: the IMDS restriction is a rule of the node.

Follows what-is-ip-address-168-63-129-16.md of MicrosoftDocs/azure-docs, imds-restriction.md of azure-aks-docs, and
Azure/ip-masq-agent-v2.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from labctl.core.fidelity import approximation, skipped
from labctl.core.options import option
from labctl.core.resources import Interface, Process, Resource
from labctl.core.scenario_types import Check, Scenario, See
from labctl.core.sentence import sentence
from labctl.core.why import Component, Source, explained
from labctl.models.lib import primitives
from labctl.models.lib.azure import Nic

DNS, IMDS = IPv4Address("168.63.129.16"), IPv4Address("169.254.169.254")
LINK_LOCAL = IPv4Network("169.254.0.0/16")
_PLATFORM = Component(
    "Azure's platform",
    Source("MicrosoftDocs/azure-docs", "articles/virtual-network/what-is-ip-address-168-63-129-16.md"),
)
_IMDS_OWNER = Component(
    "AKS (IMDS restriction)", Source("MicrosoftDocs/azure-aks-docs", "articles/aks/imds-restriction.md")
)
_WHY_ADDRESS = _PLATFORM.why("It is an address of Azure's platform, the same in every virtual network of the world.")
_WHY_INPUT = _PLATFORM.why(
    "Packets to {dst}, an address of the platform, are only answered if the chain lets them pass."
)
_WHY_CHAIN = _PLATFORM.why("It knows which sources the platform answers.")
_WHY_PRIMARY = _PLATFORM.why("The platform answers {src}, the primary address of the NIC of {iif_machine}.")
_WHY_OTHERS = _PLATFORM.why("All other sources get no answer, such as a pod that keeps its address.")
_WHY_SERVER = _PLATFORM.why("It is the service {name} of the platform, which answers on {ports}.")
_WHY_RESTRICTED = _IMDS_OWNER.why(
    "Pods may not ask {dst} for tokens of the node's identity. The node itself ({src}) may."
)
CHAIN = "PLATFORM"  # of the fabric: which sources the platform's addresses answer
PARTS = (
    approximation("the platform's addresses (`platform:`)", "are servers of labctl, which reply who they are"),
    skipped("what the platform's services say", "names, health probes, the goal state, metadata and tokens"),
)


@dataclass(frozen=True, slots=True)
class Platform:
    """The addresses of Azure's platform, and what nodes do with packets of pods to them."""

    enabled: bool = option(True, "whether 168.63.129.16 and 169.254.169.254 answer in the fabric")
    imds_restriction: bool = option(False, "whether nodes drop packets of pods to 169.254.169.254 port 80")
    masq_link_local: bool = option(
        True, "whether nodes masquerade packets of pods to 169.254.0.0/16 (masqLinkLocal of ip-masq-agent)"
    )


def _platform(options: Any) -> Platform | None:
    found: Platform | None = options.platform
    return found if found is not None and found.enabled else None


def services(options: Any, nics: Iterable[Nic]) -> Iterator[Resource]:
    """The addresses in the fabric, their servers, and the rules that let them answer primary addresses only."""
    if _platform(options) is None:
        return
    platform_addresses = (primitives.with_prefix_length(address, 32) for address in (DNS, IMDS))
    yield from explained(_WHY_ADDRESS, primitives.addresses(Interface("fabric", "lo"), *platform_addresses))
    for address in (DNS, IMDS):
        yield primitives.chain("fabric", "filter", "INPUT", (f"-d {address} -j {CHAIN}", _WHY_INPUT))
    accepted = ((f"-s {nic.address} -i {nic.fabric_device} -j RETURN", _WHY_PRIMARY) for nic in nics)
    yield primitives.chain("fabric", "filter", CHAIN, *accepted, ("-j DROP", _WHY_OTHERS), why=_WHY_CHAIN)
    ports = (f"tcp:{DNS}:80", f"tcp:{DNS}:53", f"udp:{DNS}:53")
    yield Process("fabric", "wireserver", ("serve", "wireserver", *ports), why=_WHY_SERVER)
    yield Process("fabric", "imds", ("serve", "imds", f"tcp:{IMDS}:80"), why=_WHY_SERVER)


def exempt_ranges(options: Any) -> tuple[IPv4Network, ...]:
    """The ranges of the platform that nodes do not masquerade."""
    found = _platform(options)
    return (LINK_LOCAL,) if found is not None and not found.masq_link_local else ()


def imds_restriction(options: Any, nic: Nic) -> Iterator[Resource]:
    """The rule of a node that keeps its pods from IMDS."""
    found = _platform(options)
    if found is not None and found.imds_restriction:
        rule = f"! -s {nic.address} -d {IMDS} -p tcp -m tcp --dport 80 -j DROP"
        yield primitives.chain(nic.machine, "filter", "FORWARD", (rule, _WHY_RESTRICTED))


def checks(scenario: Scenario, *, masqueraded: bool = True) -> Iterator[Check]:
    """Who reaches the platform's addresses. `masqueraded` is whether nodes masquerade what leaves the cluster."""
    found = _platform(scenario.options)
    ends = next(((node.name, node.pods[0]) for node in scenario.nodes if node.pods), None)
    if found is None or ends is None:
        return
    node, pod = ends
    at = Interface("fabric", primitives.device_name(node))
    as_node = (See(at, src=node, direction="in"),)
    say = sentence("{node} reaches the platform's metadata service", node=node)
    yield Check(say, "tcp", node, str(IMDS), 80, listen=False, sees=as_node, origin="model")
    if masqueraded:
        say = sentence("a pod reaches the platform's DNS, which sees the node's address")
        yield Check(say, "udp", pod, str(DNS), 53, listen=False, sees=as_node, origin="model")
    if found.imds_restriction:
        say, sees = sentence("a pod's request to the metadata service ends in its node"), (See(at, negate=True),)
    elif not masqueraded or not found.masq_link_local:
        say = sentence("the metadata service does not answer a pod's own address")
        sees = (See(at, src=pod, direction="in"),)
    else:
        say = sentence("a pod reaches the platform's metadata service, which sees the node's address")
        yield Check(say, "tcp", pod, str(IMDS), 80, listen=False, sees=as_node, origin="model")
        return
    yield Check(say, "tcp", pod, str(IMDS), 80, expect="timeout", listen=False, sees=sees, origin="model")

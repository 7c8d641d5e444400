"""ip-masq-agent on a Kubernetes node: its configuration, its flags, and the chains that it writes. Pure.

The agent masquerades what pods send to places that have no route back to them. Its chain in nat/POSTROUTING returns
for each range where pods keep their addresses, in the order of the configuration, link-local addresses first; its last
rule masquerades everything else. With `to_ports`, a few ranges of source ports share the connections of TCP, UDP and
SCTP by their size.

Follows kubernetes-sigs/ip-masq-agent of June 2026, after v2.12.6: cmd/ip-masq-agent/ip-masq-agent.go, pkg/interval.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from labctl.core.iptables import BUILTIN
from labctl.core.options import option
from labctl.core.resources import Net, Resource
from labctl.models.lib import kubernetes

LINK_LOCAL = {4: IPv4Network("169.254.0.0/16"), 6: IPv6Network("fe80::/10")}
PRIVATE = tuple(map(IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")))
# the other ranges that RFCs reserve, in the agent's order
RESERVED = tuple(
    map(
        IPv4Network,
        (
            "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24",
            "203.0.113.0/24", "240.0.0.0/4",
        ),
    )
)  # fmt: skip
MAX_CIDRS = 64  # of a configuration; the agent refuses more, "to protect against really bad mistakes"
MAX_CHAIN_NAME = 28  # characters, of iptables
_CHAIN_NAME = re.compile(rf"[A-Za-z0-9][\w-]{{0,{MAX_CHAIN_NAME - 1}}}", re.ASCII)


@dataclass(frozen=True, slots=True)
class MasqAgent:
    """The agent of every node: keys of its configuration file, then its flags. The defaults are the program's."""

    enabled: bool = option(True, "whether ip-masq-agent runs on the nodes")
    non_masquerade_cidrs: tuple[IPv4Network | IPv6Network, ...] | None = option(
        None, "ranges where pods keep their addresses (nonMasqueradeCIDRs; default: the private ranges of RFC 1918)"
    )
    masq_link_local: bool = option(False, "masquerade packets to 169.254.0.0/16 too (masqLinkLocal)")
    masq_link_local_ipv6: bool = option(False, "masquerade packets to fe80::/10 too (masqLinkLocalIPv6)")
    masq_chain: str = option("IP-MASQ-AGENT", "the name of its chain (--masq-chain)")
    nomasq_all_reserved_ranges: bool = option(
        False, "keep addresses towards all ranges that RFCs reserve (--nomasq-all-reserved-ranges)"
    )
    enable_ipv6: bool = option(False, "write the chains of ip6tables as well (--enable-ipv6)")
    random_fully: bool = option(True, "choose source ports at random (--random-fully)")
    to_ports: tuple[str, ...] = option(
        (), "ranges of source ports, as 1024-29999; connections are shared by their size (--to-ports)", single=True
    )

    def exempt_ranges(self, version: int) -> tuple[Net, ...]:
        """The ranges of one IP version for which the chain returns, in its order."""
        named: tuple[Net, ...] = self.non_masquerade_cidrs or ()
        if self.non_masquerade_cidrs is None:
            named = (*PRIVATE, *(RESERVED if self.nomasq_all_reserved_ranges else ()))
        link_local = self.masq_link_local if version == 4 else self.masq_link_local_ipv6
        first = () if link_local else (LINK_LOCAL[version],)
        return (*first, *(network for network in named if network.version == version))

    def chains(self, ns: str) -> Iterator[Resource]:
        """The agent's chains on a node."""
        for version in (4, 6) if self.enable_ipv6 else (4,):
            yield from kubernetes.ip_masq_agent(
                ns,
                self.exempt_ranges(version),
                random_fully=self.random_fully,
                chain=self.masq_chain,
                to_ports=tuple(_interval(text) for text in self.to_ports),
                family="ip" if version == 4 else "ip6",
            )


def _interval(text: str) -> tuple[int, int]:
    """A range of ports as the agent reads it: `1024-29999`, or one port. Raises ValueError."""
    first, _, last = text.partition("-")
    return int(first), int(last or first)


def refuse(agent: MasqAgent | None, at: str) -> Iterator[tuple[str, str, str]]:
    """Errors for what the agent, or iptables, refuses. `at` is the key of the section."""
    if agent is None:
        return
    named = agent.non_masquerade_cidrs or ()
    if len(named) > MAX_CIDRS:
        what = f"non_masquerade_cidrs has {len(named)} ranges, but ip-masq-agent accepts {MAX_CIDRS}"
        yield f"{at}/non_masquerade_cidrs", what, "join neighbouring ranges"
    sixth = next((network for network in named if network.version == 6), None)
    if sixth is not None and not agent.enable_ipv6:
        what = f"non_masquerade_cidrs has the IPv6 range {sixth}, but ip-masq-agent runs without IPv6"
        yield f"{at}/non_masquerade_cidrs", what, "set enable_ipv6: true"
    if not _CHAIN_NAME.fullmatch(agent.masq_chain) or agent.masq_chain in BUILTIN["ip", "nat"]:
        what = f"masq_chain {agent.masq_chain!r} is not a name for a new chain"
        yield f"{at}/masq_chain", what, f"up to {MAX_CHAIN_NAME} letters, digits, and - or _ between them"
    for number, text in enumerate(agent.to_ports):
        try:
            first, last = _interval(text)
            valid = 1 <= first <= last <= 65535
        except ValueError:
            valid = False
        if not valid:
            yield f"{at}/to_ports/{number}", f"to_ports {text!r} is not a range of ports", "write it like 1024-29999"

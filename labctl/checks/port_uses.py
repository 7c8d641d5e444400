"""Whether source NAT had a port for a probe that was lost: rules with a range of ports, and the connections there."""

from __future__ import annotations

from labctl.checks.context import CheckContext
from labctl.core.resources import IP, Chain
from labctl.core.results import Sighting
from labctl.core.snat_ports import PortUse, matching_rules, port_use
from labctl.errors import KernelError, MissingError
from labctl.kernel.firewall import chains
from labctl.kernel.host import paths
from labctl.kernel.netlink import conntrack


def exhausted_ports(context: CheckContext, last: Sighting, dport: int) -> tuple[PortUse, ...]:
    """The rules in the namespace where the request was last seen entering that have no port left for it. Empty if they
    cannot be read: then they explain nothing."""
    path = paths.netns_path(context.lab, last.at.ns)
    try:
        found = context.thread.run(path, chains.read_chains, last.at.ns, (), context.topology.lab.firewall)
        chains_found = (one for one in found if isinstance(one, Chain))
        rules = tuple(matching_rules(chains_found, last.src, last.proto))
        flows = context.thread.run(path, conntrack.flows, last.at.ns, last.dst.version) if rules else ()
    except (OSError, KernelError, MissingError):
        return ()
    end: tuple[IP, int] = (last.dst, dport)
    uses = (
        port_use(last.at.ns, chain.name, number, rule, last.proto, end, flows)
        for chain, number, rule in rules
        if (chain.family == "ip6") == (last.dst.version == 6)
    )
    return tuple(use for use in uses if use is not None and use.exhausted)

"""What the kernel's own chains are for: which packets pass them, and what the table can do there. Pure data."""

from __future__ import annotations

from labctl.core.resources import Chain
from labctl.core.why import Component, Source, Why

_NETFILTER = Component("the Linux kernel (netfilter)", Source("iptables(8)", "", "1.8"))
_EBTABLES = Component("the Linux kernel (bridge netfilter)", Source("ebtables(8)", "", "1.8"))
_PLACES = {
    "PREROUTING": "packets pass it when they come in, before the kernel looks for a route",
    "INPUT": "packets for {ns} itself pass it",
    "FORWARD": "packets that {ns} forwards for others pass it",
    "OUTPUT": "packets that programs of {ns} send pass it",
    "POSTROUTING": "packets pass it as the last one before they leave",
}
_TABLES = {
    "nat": " The table nat sees the first packet of each connection only.",
    "raw": " The table raw comes before conntrack, so it sees packets that are not translated yet.",
    "mangle": " The table mangle changes fields and marks.",
}
_FRAMES = {
    "PREROUTING": "frames pass it when they come in, before the bridge looks up their MAC address",
    "INPUT": "frames for {ns} itself pass it",
    "FORWARD": "frames between two ports of a bridge pass it",
    "OUTPUT": "frames that {ns} itself sends out of a bridge pass it",
    "POSTROUTING": "frames pass it as the last one before they leave by a port",
}


def reason(chain: Chain) -> Why | None:
    """What a built-in chain is for; None for any other chain."""
    places = _FRAMES if chain.family == "bridge" else _PLACES
    if chain.name not in places:
        return None
    policy = (
        "" if chain.policy in (None, "ACCEPT") else f" A packet that no rule decides is for the policy {chain.policy}."
    )
    component = _EBTABLES if chain.family == "bridge" else _NETFILTER
    more = "" if chain.family == "bridge" else _TABLES.get(chain.table, "")
    return component.why(f"It is a chain of the kernel: {places[chain.name]}.{more}{policy}")

"""Which UDP datagrams of one probe are requests and which are replies, from their addresses and ports. Pure.

A server that echoes its input returns the marker of the request, so the payload does not decide. Address translation
changes one end of a datagram, or both, and on lo the taps see a datagram only after that. So every end that a request
came from, and every end that it went to, is remembered: what comes from the second to the first is a reply.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from labctl.core.observations import Flow, PacketRole
from labctl.core.resources import IP
from labctl.tracing.hops import PacketObservation

UDP = 17
End: TypeAlias = tuple[IP, int | None]  # an address and a port


class DatagramRoles:
    """The ends of one probe's datagrams, as far as they are known. `target` is the end that the user asked for."""

    def __init__(self, target: End) -> None:
        self._sources: set[End] = set()
        self._targets: set[End] = {target}

    def role(self, source: End, target: End, default: PacketRole = "request") -> PacketRole:
        """The role of a datagram between two ends; `default` if the known ends do not decide."""
        forward = (source in self._sources) + (target in self._targets)
        backward = (source in self._targets) + (target in self._sources)
        if forward == backward:
            return default
        return "request" if forward > backward else "reply"

    def add(self, source: End, target: End, role: PacketRole) -> None:
        """Remember the ends of a datagram."""
        if role == "reply":
            source, target = target, source
        self._sources.add(source)
        self._targets.add(target)


def roles_of_trace(target: End, observations: Iterable[PacketObservation], flows: Iterable[Flow]) -> DatagramRoles:
    """The ends that the captured datagrams and the connections of conntrack name."""
    roles = DatagramRoles(target)
    for item in observations:
        if item.role != "error":
            roles.add((item.src, item.sport), (item.dst, item.dport), item.role)
    for flow in flows:
        if flow.protocol == UDP:
            ends = (flow.src, flow.sport), (flow.dst, flow.dport)
            role = roles.role(*ends)  # where only the reply passed, conntrack takes it for a request
            roles.add(*ends, role)
            roles.add((flow.reply_src, flow.reply_sport), (flow.reply_dst, flow.reply_dport), _other(role))
    return roles


def _other(role: PacketRole) -> PacketRole:
    return "request" if role == "reply" else "reply"

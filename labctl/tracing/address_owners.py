"""The machines that have an address, as planned or as read after the probe, and which of them is meant. Pure."""

from __future__ import annotations

from labctl.core.resources import IP
from labctl.core.sentence import sentence
from labctl.tracing.evidence import TraceEvidence


def address_text(evidence: TraceEvidence, ip: IP, near: str) -> str:
    """An address with the name of the machine that has it, as seen from `near`, if that is certain. A loopback address
    is that of the machine itself, whichever it is."""
    if ip.is_loopback:
        return sentence("{ip} (itself)", ip=ip)
    name = owner(evidence, ip, near)
    return f"{ip} ({name})" if name else str(ip)


def owner(evidence: TraceEvidence, ip: IP, near: str) -> str | None:
    """The machine that has an address, as seen from the namespace `near`: the nearest one, counted in cables. None if
    no machine has it, or if several are equally near. Every machine has the loopback addresses itself."""
    if ip.is_loopback:
        return near
    names = owners(evidence, ip)
    if len(names) < 2:
        return names[0] if names else None
    distances = _distances(evidence, near)
    ranked = sorted((distances[name], name) for name in names if name in distances)
    if not ranked or (len(ranked) > 1 and ranked[0][0] == ranked[1][0]):
        return None
    return ranked[0][1]


def owners(evidence: TraceEvidence, ip: IP) -> tuple[str, ...]:
    """All machines that have an address: those that the plan names, and those that have it now. A machine that the
    plan names, but that does not have it any more, is left out if another machine has it."""
    planned = [name for name, addresses in evidence.machines.items() if ip in addresses]
    present = [state.node for state in evidence.namespaces if any(one.addr.ip == ip for one in state.addresses)]
    names = [name for name in planned if name in present or not is_read(evidence, name)] + present
    return tuple(dict.fromkeys(names or planned))


def is_read(evidence: TraceEvidence, node: str) -> bool:
    """Whether a namespace was read after the probe."""
    return bool(evidence.namespace(node).links)


def has_address(evidence: TraceEvidence, node: str, ip: IP) -> bool:
    """Whether a namespace had the address when it was read."""
    return any(one.addr.ip == ip for one in evidence.namespace(node).addresses)


def _distances(evidence: TraceEvidence, near: str) -> dict[str, int]:
    """The number of cables from a namespace to each other one that cables connect with it."""
    cables: dict[str, set[str]] = {}
    for state in evidence.namespaces:
        for link in state.links:
            for other in (link.peer.ns if link.peer is not None else None, link.link_netns):
                if other is not None:
                    cables.setdefault(state.node, set()).add(other)
                    cables.setdefault(other, set()).add(state.node)
    distances = {near: 0}
    border = [near]
    while border:
        border = [name for node in border for name in sorted(cables.get(node, ())) if _is_new(distances, name, node)]
    return distances


def _is_new(distances: dict[str, int], name: str, node: str) -> bool:
    if name in distances:
        return False
    distances[name] = distances[node] + 1
    return True

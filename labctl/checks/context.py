"""What checks and traces share: where taps are, the listener in a target, and what is broken in the lab."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from dataclasses import dataclass

from labctl.core.resources import IP, Interface
from labctl.core.sentence import joined, sentence
from labctl.core.topology import LEAF_ROLES, Topology
from labctl.errors import KernelError
from labctl.kernel.capture.tap import Taps
from labctl.kernel.host import paths
from labctl.kernel.namespaces import device_state
from labctl.kernel.namespaces.thread import NetnsThread
from labctl.kernel.probes.listener import Listener

FULL_TAP_LIMIT = 64  # in labs with up to this many namespaces, each namespace gets a tap
NODE_TAP_LIMIT = 200  # in larger labs, nodes, fabrics and hosts get taps if there are at most this many


@dataclass(frozen=True, slots=True)
class CheckContext:
    """What all probes of a run share: the lab, the thread that enters its namespaces, the taps, and tcpdump's path."""

    topology: Topology
    thread: NetnsThread
    taps: Taps
    tcpdump_path: str | None

    @property
    def lab(self) -> str:
        """The lab's name."""
        return self.topology.lab.name


@dataclass(frozen=True, slots=True)
class ProbeEndpoints:
    """The two ends of a probe. `target_ns` is the namespace that has `address`, None if no machine has it."""

    source: str
    target_ns: str | None
    address: IP


def namespaces_to_tap(topology: Topology, named: Iterable[str], most_between: int | None = None) -> tuple[str, ...]:
    """The namespaces that get a tap: all of a small lab; else `named`, and those between pods: nodes, hosts, fabrics.
    If there are more than `most_between` of these, only `named`."""
    if len(topology.namespaces) <= FULL_TAP_LIMIT:
        return topology.namespaces
    between = [node for node in topology.namespaces if topology.role(node) not in LEAF_ROLES]
    if most_between is not None and len(between) > most_between:
        between = []
    return tuple(dict.fromkeys((*named, *between)))


def open_listener(
    context: CheckContext, node: str | None, protocol: str, address: IP, port: int
) -> tuple[Listener | None, str]:
    """The listener that answers a probe in the namespace that has `address`; or None, and a sentence with the reason.

    Raises KernelError if the kernel does not let it listen.
    """
    if node is None:
        return None, sentence("no machine of the lab has {address}, so labctl started no listener", address=address)
    socket_text = sentence("on {protocol} port {port} of {node}", protocol=protocol, port=port, node=node)
    try:
        listener: Listener = context.thread.run(
            paths.netns_path(context.lab, node), Listener, protocol, address.version, port
        )
    except OSError as error:
        why = sentence("a process listens there already") if error.errno == errno.EADDRINUSE else str(error)
        return None, sentence("labctl could not listen {where}: {why}", where=socket_text, why=why)
    if not listener.ready:
        listener.close()
        raise KernelError(sentence("labctl's listener {where} is not listening", where=socket_text))
    return listener, ""


def source_port_error(
    context: CheckContext, node: str, protocol: str, sport: int | None, error: OSError
) -> KernelError:
    """The error that a probe could not be sent from `node`: its source port is in use, or the kernel's words."""
    if sport is None or error.errno != errno.EADDRINUSE:
        return KernelError(
            sentence("cannot send from {node}: {error}", node=node, error=error.strerror or error),
            errno=error.errno or 0,
        )
    from labctl.kernel.namespaces import ports

    path = paths.netns_path(context.lab, node)
    holders: tuple[str, ...] = context.thread.run(path, ports.port_holders, path, protocol, sport)
    by = ", ".join(holders) or sentence("a process outside the lab")
    return KernelError(
        sentence(
            "{node} cannot send from {protocol} port {sport}: the port is in use by {by}",
            node=node,
            protocol=protocol,
            sport=sport,
            by=by,
        ),
        sentence("choose another source port"),
        error.errno,
    )


def refresh_carriers(context: CheckContext) -> None:
    """Read the carrier of each end of a cable, and of each bridge and subinterface, which makes the kernel process a
    pending carrier change at once. Otherwise the first packets are dropped, and a lost ARP request is repeated only
    after a second."""
    for node in context.topology.namespaces:
        for device in device_state.carrier_order(context.topology.links.get(node, ())):
            device_fault(context, Interface(node, device))


def device_fault(context: CheckContext, at: Interface) -> str | None:
    """What is wrong with a device; None if it works. Devices in a namespace without a tap are not examined."""
    sock = context.taps.socket_of(at.ns)
    if sock is not None:
        return device_state.device_problem(sock, at.dev)
    return None if paths.netns_path(context.lab, at.ns).exists() else sentence("is in a namespace that does not exist")


def find_faults(
    context: CheckContext, locations: Iterable[str | Interface], ends: ProbeEndpoints
) -> dict[str, tuple[str, ...]]:
    """What is broken at the ends of a probe and at these namespaces and points. The keys are their names."""
    faults: dict[str, tuple[str, ...]] = {}
    for location in dict.fromkeys((ends.source, *((ends.target_ns,) if ends.target_ns else ()), *locations)):
        if isinstance(location, Interface):
            what = device_fault(context, location)
            faults[str(location)] = (joined(" ", (location, what)),) if what else ()
        else:
            faults[location] = _device_faults(context, location, ends)
    target_ns = ends.target_ns
    if (
        target_ns is not None
        and not faults[target_ns]
        and not device_state.has_address(context.thread, context.lab, target_ns, ends.address)
    ):
        faults[target_ns] = (
            sentence("{node} does not have its address {address}", node=target_ns, address=ends.address),
        )
    return {location: lines for location, lines in faults.items() if lines}


def _device_faults(context: CheckContext, node: str, ends: ProbeEndpoints) -> tuple[str, ...]:
    """The planned devices of a namespace that do not work. The node's end of a cable to a pod that is not an end
    of the probe does not count: that pod does not affect the probe."""
    path = paths.netns_path(context.lab, node)
    if not path.exists():
        return (sentence("there is no namespace {name}", name=path.name),)
    lines = []
    for link in context.topology.links.get(node, ()):
        other = link.peer.ns if link.peer is not None else None
        aside = other not in (None, ends.source, ends.target_ns) and context.topology.role(other or "") in (
            "pod",
            "container",
        )
        what = device_fault(context, link.at) if link.up and not aside else None
        if what and (what != device_state.NO_CARRIER or device_state.needs_carrier(link)):
            lines.append(joined(" ", (link.at, what)))
    return tuple(lines)

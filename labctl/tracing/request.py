"""Check the names and options of a trace, and turn them into a `Question` for one running lab."""

from __future__ import annotations

from typing import Any

from labctl.core.names import did_you_mean, summarize_names
from labctl.core.resources import IP
from labctl.core.topology import Topology
from labctl.errors import UsageError
from labctl.tracing import MAX_PAYLOAD_BYTES
from labctl.tracing.evidence import ListenPoint, Question, TraceProtocol


def question_of(topology: Topology, source: str, target: str, options: dict[str, Any]) -> Question:
    """The checked question. Raises UsageError for an unknown name or an option that does not fit."""
    kinds: tuple[TraceProtocol, ...] = ("icmp", "tcp", "udp")
    protocols = [kind for kind in kinds if options[kind]]
    if len(protocols) > 1:
        raise UsageError(f"--{protocols[0]} and --{protocols[1]} are two probes", "a trace sends one")
    protocol: TraceProtocol = protocols[0] if protocols else "icmp"
    if source not in topology.namespaces and source not in topology.machines:
        raise _unknown_name(topology, source, "machine")
    found = topology.addresses(target)
    if not found:
        if target in topology.namespaces or ("/" in target and target.partition("/")[0] in topology.namespaces):
            machine, _, device = target.partition("/")
            devices = ["lo", *(link.at.dev for link in topology.links.get(machine, ()))]
            if "/" in target and device not in devices:
                hint = f"{did_you_mean(device, devices, 0.5)} its devices are {summarize_names(devices, 30)}".lstrip()
                raise UsageError(f"{machine} has no device {device!r}", hint)
            raise UsageError(f"{target} has no address")
        raise _unknown_name(topology, target, "machine, point or address")
    sport: int | None = options["sport"]
    if sport is not None and protocol == "icmp":
        raise UsageError("--sport is for TCP and UDP", "labctl trace ... --udp PORT --sport PORT")
    _check_size(protocol, options)
    _check_range("source port", sport, 65535)
    _check_range(f"{protocol} port", options[protocol] if protocol != "icmp" else None, 65535)
    _check_range("size", options["size"], MAX_PAYLOAD_BYTES)
    held = {ip.version for ip in topology.possible_addresses(_namespace_of(topology, source))}
    address = next((ip for ip in found if ip.version in held), found[0])
    port = options[protocol] if protocol != "icmp" else None
    if sport is not None and sport == port and topology.is_own(source, address):
        raise UsageError(f"{source} cannot send from port {sport} to port {sport} of itself", "choose another --sport")
    source = _namespace_of(topology, source)
    own = address.is_loopback and target == str(address)  # every machine has its own 127.0.0.1
    target_ns = source if own else topology.namespace_of(target)
    target_ns = _namespace_of(topology, target_ns) if target_ns is not None else None
    return Question(
        topology.lab.name, source, target, address, target_ns, protocol, port, options["size"], options["fragment"],
        sport, _listen_point(topology, options["listen"], target_ns, port), _service(topology, address, protocol, port),
        _health_port(topology, address, protocol, port),
    )  # fmt: skip


def _service(topology: Topology, address: IP, protocol: str, port: int | None) -> str:
    """What the lab's cluster knows about the target, for a lab with Services."""
    if topology.lab.kubernetes is None:
        return ""
    from labctl.kubernetes.services.service_facts import service_fact

    return service_fact(topology.lab.kubernetes, address, protocol, port)


def _health_port(topology: Topology, address: IP, protocol: str, port: int | None) -> int | None:
    """Where the load balancer of an address checks its nodes (`Question.health_port`)."""
    if topology.lab.kubernetes is None:
        return None
    from labctl.kubernetes.services.load_balancer import health_port

    return health_port(topology.lab.kubernetes, address, protocol, port)


def _listen_point(
    topology: Topology, listen: bool | str, target_ns: str | None, port: int | None
) -> ListenPoint | None:
    """Where labctl listens: `listen` is whether it does, or `PORT` or `MACHINE:PORT`. Raises UsageError."""
    if listen is False or listen is None:
        return None
    if port is None:
        raise UsageError("--listen needs a port", "labctl trace ... --tcp PORT --listen")
    if listen is True:
        return ListenPoint(target_ns, port)
    machine, colon, number = str(listen).rpartition(":")
    if not (number.isascii() and number.isdigit()) or (colon and not machine):
        raise UsageError(f"--listen {listen} is not MACHINE:PORT", "such as --listen web:80")
    _check_range("listening port", int(number), 65535)
    if colon and machine not in topology.namespaces and machine not in topology.machines:
        raise _unknown_name(topology, machine, "machine")
    return ListenPoint(_namespace_of(topology, machine) if colon else target_ns, int(number))


def _namespace_of(topology: Topology, name: str) -> str:
    """The namespace of a machine: another machine's, if it shares that one's."""
    machine = topology.machines.get(name)
    return machine.netns_of if machine is not None and machine.netns_of is not None else name


def _check_range(label: str, number: int | None, maximum: int) -> None:
    if number is not None and not 1 <= number <= maximum:
        raise UsageError(f"{label} {number} is not between 1 and {maximum}")


def _check_size(protocol: str, options: dict[str, Any]) -> None:
    from labctl.kernel.probes.trace_probes import MIN_PAYLOAD_BYTES

    if options["size"] is not None and protocol == "tcp":
        raise UsageError("--size is for ICMP and UDP", "the first packet of a TCP connection has no payload")
    if options["fragment"] and protocol == "tcp":
        raise UsageError("--fragment is for ICMP and UDP")
    if options["size"] is not None and options["size"] < MIN_PAYLOAD_BYTES[protocol]:
        raise UsageError(f"--size {options['size']} is too small", f"it must be at least {MIN_PAYLOAD_BYTES[protocol]}")


def _unknown_name(topology: Topology, name: str, kinds: str) -> UsageError:
    services = [one.names[0] for one in topology.lab.virtual_addresses if "address" in kinds]
    known = f"the machines are {summarize_names(topology.namespaces, 30)}"
    if services:
        known += f"; the Services are {summarize_names(services, 30)}"
    full = next((one for one in services if one.partition(".")[0] == name), None)  # of another namespace than `default`
    guess = f"did you mean {full}?" if full else did_you_mean(name, (*topology.namespaces, *services), 0.5)
    hint = f"{guess} {known}".lstrip()
    return UsageError(f"lab {topology.lab.name} has no {kinds} {name!r}", hint)

"""Scalar types for ports: published on a host, listened on by a program, used by the listener of a check."""

from __future__ import annotations

import re
from dataclasses import replace

from labctl.core.scenario_types import (
    ListeningPort,
    NetworkRule,
    PodContainer,
    PortRange,
    PublishedPort,
    PublishedProtocol,
)
from labctl.scenario.document import quote_text
from labctl.scenario.field_types import InvalidValue, Scalar, suggest
from labctl.scenario.values import BOOLEAN, LABEL, address, integer, network

PORT = integer(1, 65535)
PUBLISH_EXAMPLES = "such as 8080:80, 127.0.0.1:8080:80 or 53:53/udp"


def _published_port(text: str) -> PublishedPort:
    """`-p` of docker run. Forms that let Docker choose (a random port, a range of ports) are refused."""
    body, slash, protocol = text.partition("/")
    parts = body.split(":")
    if len(parts) == 1:
        hint = f"write HOST:CONTAINER, such as 8080:{body}"
        raise InvalidValue(
            f"{quote_text(text)} does not name a port of the host", hint if body.isdecimal() else PUBLISH_EXAMPLES
        )
    if len(parts) > 3:
        raise InvalidValue(f"{quote_text(text)} is not a published port", PUBLISH_EXAMPLES)
    if slash and protocol not in ("tcp", "udp"):
        raise InvalidValue(f"{quote_text(protocol)} is not one of tcp, udp", suggest(protocol, ("tcp", "udp")))
    if any("-" in part for part in parts[-2:]):
        raise InvalidValue(f"{quote_text(text)} is a range of ports", "write each port separately")
    host_port, port = (PORT.convert(part) for part in parts[-2:])
    where = address(4).convert(parts[0]) if len(parts) == 3 else None
    everywhere = where is None or where.is_unspecified
    return PublishedPort(host_port, port, "udp" if protocol == "udp" else "tcp", None if everywhere else where)


PUBLISHED_PORT = Scalar(
    f"a published port {PUBLISH_EXAMPLES}",
    _published_port,
    {"type": "string", "pattern": "^([0-9.]+:)?[0-9]{1,5}:[0-9]{1,5}(/(tcp|udp))?$"},
)


DOCKER_EXAMPLES = "such as 8080:80, 127.0.0.1:8080:80, [::1]:8080:80, 8000-8010:9000-9010 or 53:53/udp"


_PLAIN_PORTS = re.compile("([0-9]{1,5}):([0-9]{1,5})")


def _docker_port(text: str, protocols: tuple[PublishedProtocol, ...] = ("tcp", "udp")) -> PublishedPort:
    """`-p` of docker run: also two ranges of as many ports, and an IPv6 address of the host in brackets. The forms that
    let Docker choose a port of the host are refused."""
    if plain := _PLAIN_PORTS.fullmatch(text):  # nearly all are such
        return PublishedPort(PORT.convert(plain[1]), PORT.convert(plain[2]))
    body, slash, protocol = text.partition("/")
    found = re.fullmatch(r"(?:(?:\[(?P<six>.*)\]|(?P<four>[^:]*\.[^:]*)):)?(?:(?P<host>[^:]*):)?(?P<port>[^:]+)", body)
    if found is None:
        raise InvalidValue(f"{quote_text(text)} is not a published port", DOCKER_EXAMPLES)
    six, four, ports, port = found.groups()
    if not ports:
        host_address = "" if six is None and four is None else body.removesuffix(port).rstrip(":") + ":"
        hint = f"write HOST:CONTAINER, such as {host_address}8080:{port}" if port.isdecimal() else DOCKER_EXAMPLES
        raise InvalidValue(f"{quote_text(text)} does not name a port of the host", hint)
    known = next((one for one in protocols if one == (protocol if slash else "tcp")), None)
    if known is None:
        raise InvalidValue(f"{quote_text(protocol)} is not one of {', '.join(protocols)}", suggest(protocol, protocols))
    of_host, of_container = _port_range(ports), _port_range(port)
    count = of_container.last - of_container.first + 1
    if of_host.last - of_host.first + 1 != count:
        what = f"{quote_text(text)}: {ports} and {port} are not ranges of as many ports"
        raise InvalidValue(what, f"{port} is {'one port' if count == 1 else f'{count} ports'}")
    where = None if six is None and four is None else address(4 if six is None else 6).convert(six or four)
    return PublishedPort(of_host.first, of_container.first, known, where, count)


_PORTS = "[0-9]{1,5}(-[0-9]{1,5})?"
DOCKER_PORT = Scalar(
    f"a published port {DOCKER_EXAMPLES}",
    _docker_port,
    {"type": "string", "pattern": rf"^(([0-9.]+|\[[0-9a-fA-F:.]+\]):)?{_PORTS}:{_PORTS}(/(tcp|udp))?$"},
)


def _podman_port(text: str) -> PublishedPort:
    """`-p` of podman run: the same, also of sctp."""
    return _docker_port(text, ("tcp", "udp", "sctp"))


PODMAN_PORT = Scalar(
    DOCKER_PORT.what,
    _podman_port,
    {**DOCKER_PORT.json, "pattern": str(DOCKER_PORT.json["pattern"]).replace("udp", "udp|sctp")},
)


def _listener(text: str) -> bool | tuple[str, int]:
    machine, colon, port = text.rpartition(":")
    if colon:
        return LABEL.convert(machine), PORT.convert(port)
    try:
        return bool(BOOLEAN.convert(text))
    except InvalidValue:
        hint = "such as web:80, the destination of a published port"
        raise InvalidValue(f"{quote_text(text)} is neither true, false nor MACHINE:PORT", hint) from None


LISTENER = Scalar(
    "true, false or MACHINE:PORT",
    _listener,
    {"anyOf": [BOOLEAN.json, {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?:[0-9]{1,5}$"}]},
)


def _listening_port(text: str) -> ListeningPort:
    """A port with or without a name: `80`, `53/udp`. A pod's port may have a name: `http=80`."""
    number, slash, protocol = text.partition("/")
    if slash and protocol not in ("tcp", "udp"):
        raise InvalidValue(f"{quote_text(protocol)} is not one of tcp, udp", suggest(protocol, ("tcp", "udp")))
    return ListeningPort(PORT.convert(number), "udp" if protocol == "udp" else "tcp")


_PORT_NAME = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_PORT = "[0-9]{1,5}(/(tcp|udp))?"
LISTENING_PORT = Scalar(
    "a port such as 80 or 53/udp", _listening_port, {"type": ["string", "integer"], "pattern": f"^{_PORT}$"}
)


def _named_port(text: str) -> ListeningPort:
    name, equals, port = text.partition("=")
    if not equals:
        return _listening_port(text)
    if not re.fullmatch(_PORT_NAME, name) or len(name) > 15 or not re.search("[a-z]", name) or "--" in name:
        raise InvalidValue(
            f"{quote_text(name)} is not the name of a port", "at most 15 of a-z, 0-9 and -, such as http"
        )
    return replace(_listening_port(port), name=name)


def _pod_container(text: str) -> PodContainer:
    name, colon, ports = text.partition(":")
    listens = tuple(_named_port(port.strip()) for port in ports.split(",")) if colon else ()
    twice = next((one for number, one in enumerate(listens) if one in listens[:number]), None)
    if twice is not None:
        raise InvalidValue(f"port {twice} appears twice", "keep one of them")
    return PodContainer(LABEL.convert(name.strip()), listens)


_POD_PORT = f"({_PORT_NAME}=)?{_PORT}"
POD_CONTAINER = Scalar(
    "a container such as web:80, web:http=80, dns:53/udp,53 or sidecar",
    _pod_container,
    {"type": "string", "pattern": f"^[a-z0-9][-a-z0-9]*(: *{_POD_PORT}(, *{_POD_PORT})*)?$"},
)


def _port_in_use(text: str) -> tuple[str, ListeningPort]:
    machine, colon, port = text.partition(":")
    if not colon:
        raise InvalidValue(f"{quote_text(text)} does not name a port", "write MACHINE:PORT, such as a:80 or a:53/udp")
    return LABEL.convert(machine.strip()), _listening_port(port.strip())


PORT_IN_USE = Scalar("MACHINE:PORT", _port_in_use, {"type": "string", "pattern": f"^[a-z0-9][-a-z0-9]*: *{_PORT}$"})


def _network(text: str) -> str:
    """A network's name, or `container:NAME` as docker run's --network takes it."""
    kind, colon, name = text.partition(":")
    if not colon:
        return str(LABEL.convert(text))
    if kind != "container":
        raise InvalidValue(f"{quote_text(text)} is not a network", "write a network's name, or container:NAME")
    return f"container:{LABEL.convert(name)}"


NETWORK = Scalar(
    "a network's name or container:NAME",
    _network,
    {"type": "string", "pattern": "^(container:)?[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"},
)


def _endpoint(text: str) -> str:
    """A network with options, `net0:ip=10.89.0.5,mac=...`, as podman run's --network takes it; or container:NAME."""
    name, _, options = text.partition(":")
    return _network(text) if name == "container" or not options else f"{LABEL.convert(name)}:{options}"


ENDPOINT = Scalar(
    "a network's name, with options as in net0:ip=10.89.0.5, or container:NAME",
    _endpoint,
    {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(:.+)?$"},
)


def _port_range(text: str) -> PortRange:
    first, dash, last = (part.strip() for part in text.partition("-"))
    lowest = PORT.convert(first)
    found = PortRange(lowest, PORT.convert(last) if dash else lowest)
    if found.first > found.last:
        raise InvalidValue(f"{quote_text(text)} begins after its end", f"write {found.last}-{found.first}")
    return found


PORT_RANGE = Scalar(
    "a port or a range of ports (443, 1024-2047)",
    _port_range,
    {"anyOf": [PORT.json, {"type": "string", "pattern": r"^\s*[0-9]{1,5}(\s*-\s*[0-9]{1,5})?\s*$"}]},
)
NETWORK_RULE_EXAMPLES = 'such as "tcp *:443", "udp 203.0.113.0/24:53" or "icmp 203.0.113.1"'


def _network_rule(text: str) -> NetworkRule:
    """A protocol, a destination, and for tcp and udp its ports."""
    protocol, _, place = text.strip().partition(" ")
    if protocol not in ("tcp", "udp", "icmp", "any"):
        known = ("tcp", "udp", "icmp", "any")
        raise InvalidValue(f"{quote_text(protocol)} is not one of {', '.join(known)}", suggest(protocol, known))
    where, colon, ports = place.strip().partition(":")
    if not where:
        raise InvalidValue(f"{quote_text(text)} does not name a destination", NETWORK_RULE_EXAMPLES)
    destination = network(4).convert("0.0.0.0/0" if where == "*" else where)
    if colon and protocol not in ("tcp", "udp"):
        raise InvalidValue(f"{quote_text(text)} names a port, but {protocol} has no ports", "write tcp or udp")
    if not colon:
        return NetworkRule(protocol, destination)  # type: ignore[arg-type]
    return NetworkRule(protocol, destination, _port_range(ports))  # type: ignore[arg-type]


NETWORK_RULE = Scalar(
    "PROTOCOL DESTINATION[:PORT[-PORT]]",
    _network_rule,
    {"type": "string", "pattern": r"^\s*(tcp|udp|icmp|any)\s+(\*|[0-9./]+)(:[0-9]{1,5}(-[0-9]{1,5})?)?\s*$"},
)

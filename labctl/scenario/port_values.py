"""Scalar types for ports: published on a host, listened on by a program, used by the listener of a check."""

from __future__ import annotations

from labctl.core.scenario_types import Listen, Publish, Run
from labctl.scenario.document import show
from labctl.scenario.field_types import Bad, Scalar, suggest
from labctl.scenario.values import BOOLEAN, LABEL, address, integer

PORT = integer(1, 65535)
PUBLISHED = "such as 8080:80, 127.0.0.1:8080:80 or 53:53/udp"


def _publish(text: str) -> Publish:
    """`-p` of docker run. Forms that let Docker choose (a random port, a range of ports) are refused."""
    body, slash, protocol = text.partition("/")
    parts = body.split(":")
    if len(parts) == 1:
        hint = f"write HOST:CONTAINER, such as 8080:{body}"
        raise Bad(f"{show(text)} does not name a port of the host", hint if body.isdecimal() else PUBLISHED)
    if len(parts) > 3:
        raise Bad(f"{show(text)} is not a published port", PUBLISHED)
    if slash and protocol not in ("tcp", "udp"):
        raise Bad(f"{show(protocol)} is not one of tcp, udp", suggest(protocol, ("tcp", "udp")))
    if any("-" in part for part in parts[-2:]):
        raise Bad(f"{show(text)} is a range of ports", "write each port separately")
    host_port, port = (PORT.convert(part) for part in parts[-2:])
    where = address(4).convert(parts[0]) if len(parts) == 3 else None
    everywhere = where is None or where.is_unspecified
    return Publish(host_port, port, "udp" if protocol == "udp" else "tcp", None if everywhere else where)


PUBLISH = Scalar(
    f"a published port {PUBLISHED}",
    _publish,
    {"type": "string", "pattern": "^([0-9.]+:)?[0-9]{1,5}:[0-9]{1,5}(/(tcp|udp))?$"},
)


def _listening(text: str) -> bool | tuple[str, int]:
    machine, colon, port = text.rpartition(":")
    if colon:
        return LABEL.convert(machine), PORT.convert(port)
    try:
        return bool(BOOLEAN.convert(text))
    except Bad:
        hint = "such as web:80, the destination of a published port"
        raise Bad(f"{show(text)} is neither true, false nor MACHINE:PORT", hint) from None


LISTEN = Scalar(
    "true, false or MACHINE:PORT",
    _listening,
    {"anyOf": [BOOLEAN.json, {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?:[0-9]{1,5}$"}]},
)


def _port_of(text: str) -> Listen:
    number, slash, protocol = text.partition("/")
    if slash and protocol not in ("tcp", "udp"):
        raise Bad(f"{show(protocol)} is not one of tcp, udp", suggest(protocol, ("tcp", "udp")))
    return Listen(PORT.convert(number), "udp" if protocol == "udp" else "tcp")


_PORT = "[0-9]{1,5}(/(tcp|udp))?"
LISTENING = Scalar("a port such as 80 or 53/udp", _port_of, {"type": ["string", "integer"], "pattern": f"^{_PORT}$"})


def _run(text: str) -> Run:
    name, colon, ports = text.partition(":")
    listens = tuple(_port_of(port.strip()) for port in ports.split(",")) if colon else ()
    twice = next((one for number, one in enumerate(listens) if one in listens[:number]), None)
    if twice is not None:
        raise Bad(f"port {twice} appears twice", "keep one of them")
    return Run(LABEL.convert(name.strip()), listens)


RUN = Scalar(
    "a container such as web:80, dns:53/udp,53 or sidecar",
    _run,
    {"type": "string", "pattern": f"^[a-z0-9][-a-z0-9]*(: *{_PORT}(, *{_PORT})*)?$"},
)


def _taken(text: str) -> tuple[str, Listen]:
    machine, colon, port = text.partition(":")
    if not colon:
        raise Bad(f"{show(text)} does not name a port", "write MACHINE:PORT, such as a:80 or a:53/udp")
    return LABEL.convert(machine.strip()), _port_of(port.strip())


TAKEN = Scalar("MACHINE:PORT", _taken, {"type": "string", "pattern": f"^[a-z0-9][-a-z0-9]*: *{_PORT}$"})


def _network(text: str) -> str:
    """A network's name, or `container:NAME` as docker run's --network takes it."""
    kind, colon, name = text.partition(":")
    if not colon:
        return str(LABEL.convert(text))
    if kind != "container":
        raise Bad(f"{show(text)} is not a network", "write a network's name, or container:NAME")
    return f"container:{LABEL.convert(name)}"


NETWORK = Scalar(
    "a network's name or container:NAME",
    _network,
    {"type": "string", "pattern": "^(container:)?[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"},
)

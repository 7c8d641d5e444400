"""The checks of the scenario language: their keys, with the types of their values and their help texts."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, TypeAlias

from labctl.core.probe_kinds import (
    CONNECTIONS_PER_MACHINE,
    HTTP_PORT,
    MAX_CONNECTIONS,
    MAX_DEFAULT_CONNECTIONS,
    MAX_PAIRS,
    PROBE_KEYS,
    STICKY_CONNECTIONS,
)
from labctl.core.resources import IP, Interface
from labctl.core.scenario_types import ListeningPort
from labctl.scenario import port_values, values
from labctl.scenario.answered_by_field import AnsweredByField
from labctl.scenario.document import quote_text
from labctl.scenario.field_types import (
    InvalidValue,
    Key,
    LaterField,
    ListOf,
    Scalar,
    Section,
    suggest,
)
from labctl.scenario.nodes_field import INNER_WORDS, inner_words

_Source: TypeAlias = tuple[str, int | None]  # a machine and its source port
_Target: TypeAlias = tuple[str | Interface | IP, int | None]


def _parse_arrow(text: str) -> tuple[str, str]:
    """The two sides of `SOURCE -> TARGET`."""
    source, arrow, target = text.partition("->")
    if not arrow or "->" in target:
        raise InvalidValue(
            f"{quote_text(text)} does not name a source and a target", "write SOURCE -> TARGET, such as a -> c"
        )
    return source.strip(), target.strip()


def _parse_ping(text: str) -> tuple[_Source, _Target]:
    """The source and target of a ping; the ports are None."""
    source, end = _parse_arrow(text)
    host, port = _split_port(end)
    for side in (source, end if port is not None and "/" not in host else ""):
        if ":" in side:
            raise InvalidValue(f"{quote_text(side)} names a port, but a ping has no port", "use tcp: or udp:")
    return (values.LABEL.convert(source), None), (values.target(end), None)


def _parse_connection(text: str) -> tuple[_Source, _Target]:
    """The source, target and ports of a TCP or UDP probe. The source port is None if the text does not name it."""
    start, end = _parse_arrow(text)
    host, port = _split_port(end)
    if port is None:
        raise InvalidValue(
            f"{quote_text(end)} does not name a port", "write TARGET:PORT, such as c:8080 or [2001:db8::1]:53"
        )
    source = _parse_source(start)
    target = values.target(host), port_values.PORT.convert(port)
    if source == target:
        raise InvalidValue(
            f"{quote_text(text)} has one port at both ends in one machine", "a socket cannot be its own peer"
        )
    return source, target


def _parse_balance(text: str) -> tuple[str, str | Interface | IP, ListeningPort]:
    """The source, the target and the port of connections that are balanced: `a -> web:80`, `a -> dns:53/udp`."""
    body, slash, protocol = text.rpartition("/")
    if not slash or ":" in protocol:  # none, or that of a point
        body, protocol = text, "tcp"
    if protocol not in ("tcp", "udp"):
        raise InvalidValue(f"{quote_text(protocol)} is not one of tcp, udp", suggest(protocol, ("tcp", "udp")))
    (source, sport), (target, port) = _parse_connection(body)
    if sport is not None:
        raise InvalidValue(f"{quote_text(text)} names a source port", "each connection has another one")
    return source, target, ListeningPort(port or 0, "udp" if protocol == "udp" else "tcp")


def _parse_http(text: str) -> tuple[str, str | Interface | IP, int, str]:
    """The source, the target, the port and the path of an HTTP request: `a -> shop.example/cart`."""
    source, url = _parse_arrow(text)
    scheme, separator, rest = url.partition("://")
    if separator and scheme.lower() != "http":
        raise InvalidValue(f"{quote_text(scheme)} is not http", "labctl sends HTTP without TLS")
    end, slash, path = (rest if separator else url).partition("/")
    host, port = _split_port(end)
    number = HTTP_PORT if port is None else port_values.PORT.convert(port)
    return values.LABEL.convert(source), values.target(host), number, HTTP_PATH.convert(slash + path or "/")


def _parse_source(text: str) -> _Source:
    """A machine with or without a source port: `a`, `a:4000`."""
    name, colon, port = text.partition(":")
    machine = values.LABEL.convert(name.strip())
    if not colon:
        return machine, None
    try:
        return machine, port_values.PORT.convert(port.strip())
    except InvalidValue as error:
        hint = "write SOURCE:PORT, such as a:4000"
        raise InvalidValue(f"the source port of {quote_text(text)}: {error.message}", error.hint or hint) from None


def _split_port(end: str) -> tuple[str, str | None]:
    """A target and its port: `c:80`, `[fd00::1]:53`; a bare IPv6 address has none."""
    if end.startswith("["):
        host, _, port = end[1:].partition("]")
        return host, port[1:] if port.startswith(":") else None
    if end.count(":") != 1:
        return end, None
    host, _, port = end.partition(":")
    return host, port


def _matching(what: str, pattern: str) -> Scalar:
    """A text of a form."""

    def convert(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise InvalidValue(f"{quote_text(text)} is not {what}")
        return text

    return Scalar(what, convert, {"type": "string", "pattern": f"^{pattern}$"})


_SOURCE_PATTERN = r"^\s*[a-z0-9][-a-z0-9]*\s*->\s*\S+"
PING = Scalar("SOURCE -> TARGET", _parse_ping, {"type": "string", "pattern": rf"{_SOURCE_PATTERN}\s*$"})
CONNECT = Scalar(
    "SOURCE[:PORT] -> TARGET:PORT",
    _parse_connection,
    {"type": "string", "pattern": r"^\s*[a-z0-9][-a-z0-9]*(\s*:\s*[0-9]{1,5})?\s*->\s*\S+:[0-9]+\s*$"},
)
BALANCE = Scalar(
    "SOURCE -> TARGET:PORT, with /udp for datagrams",
    _parse_balance,
    {"type": "string", "pattern": r"^\s*[a-z0-9][-a-z0-9]*\s*->\s*\S+:[0-9]+(/(tcp|udp))?\s*$"},
)
HTTP_HOST = _matching("the name of a host, such as shop.example", r"[A-Za-z0-9]([-.:A-Za-z0-9]*[A-Za-z0-9])?")
HTTP_PATH = _matching("a path, such as /cart", r"/[!-~]*")
HTTP = Scalar(
    "SOURCE -> HOST[:PORT][/PATH]",
    _parse_http,
    {"type": "string", "pattern": r"^\s*[a-z0-9][-a-z0-9]*\s*->\s*\S+\s*$"},
)
_TUNNELS = ("none", "vxlan", "geneve", "ipip", "udp")
_TUNNEL = re.compile(rf"({'|'.join(_TUNNELS)})|(vxlan|geneve) [0-9]{{1,8}}")


def _parse_encap(text: str) -> str:
    """A kind of tunnel, with or without its number: `vxlan 42`."""
    text = " ".join(text.split())
    if not _TUNNEL.fullmatch(text):
        raise InvalidValue(
            f"{quote_text(text)} is not one of {', '.join(_TUNNELS)}", suggest(text, _TUNNELS) or "such as vxlan 42"
        )
    return text


ENCAP = Scalar(
    f"one of {', '.join(_TUNNELS)}; with the tunnel's number: vxlan 42",
    _parse_encap,
    {"type": "string", "pattern": f"^({_TUNNEL.pattern})$"},
)
PACKET = values.choice("request", "reply", "arp")
PING_SIZE = values.integer(24, 65507)  # ping's time stamp and the payload marker fit; the maximum of IPv4

SEE = Section(
    "see",
    (
        Key("at", values.POINT, "the point where labctl looks for the packet, MACHINE/DEVICE", required=True),
        Key("src", values.TARGET, "its source there: a machine (meaning its address), a point or an address"),
        Key("dst", values.TARGET, "its destination there: a machine (meaning its address), a point or an address"),
        Key("sport", port_values.PORT_RANGE, "its source port there (tcp, udp), or a range of ports: 1024-2047"),
        Key("ttl", values.integer(1, 255), "its TTL (IPv6: hop limit) there"),
        Key("encap", ENCAP, "the tunnel that carries it there, with or without the tunnel's number: vxlan 42"),
        Key("outer_src", values.TARGET, "the outer source of that tunnel: a machine, a point or an address"),
        Key("outer_dst", values.TARGET, "the outer destination of that tunnel: a machine, a point or an address"),
        Key("direction", values.choice("in", "out"), "whether it enters or leaves the device", "either"),
        Key("packet", PACKET, "the check's request or reply, or the ARP or NDP request for `dst`", "request"),
    ),
)
CHECK = Section(
    "check",
    (
        Key("say", values.SENTENCE, "the claim in one sentence", "made from the probe"),
        Key("ping", PING, "an ICMP echo request, sent by the program ping: SOURCE -> TARGET"),
        Key(
            "tcp",
            CONNECT,
            "a TCP connection: a -> c:80, or with its source port a:4000 -> c:80",
        ),
        Key("udp", CONNECT, "a UDP datagram and its reply: a -> dns:53, or with its source port a:4000 -> dns:53"),
        Key(
            "http",
            HTTP,
            "one HTTP request (GET): a -> web:8080, or with a path internet -> shop.example/cart. The target is also"
            " the header Host",
        ),
        Key("status", values.integer(100, 599), "the status of the answer to `http`", "200"),
        Key(
            "forwarded_for",
            values.TARGET,
            "the client that the server of `http` finds in X-Forwarded-For: a machine, a point or an address",
            "anything",
        ),
        Key(
            "balance",
            BALANCE,
            "many TCP connections, or datagrams, each from another source port, to an address with several servers"
            " behind it: a -> web:80, a -> dns:53/udp. labctl's servers say who they are",
        ),
        Key(
            "answered_by",
            AnsweredByField(),
            "the machines that answer the connections of `balance`, each of them and no other. Their shares are equal,"
            " or as the weights say; the chi-square test judges them. The answer to `http` is from one of them",
        ),
        Key(
            "saw",
            ListOf(values.TARGET, allow_single=True, min_items=1),
            "what these machines see as the client: one of these machines (meaning its address), points or addresses",
            "anything",
        ),
        Key("sticky", values.BOOLEAN, "whether one machine answers all connections, as with sessionAffinity", "false"),
        Key(
            "connections",
            values.integer(1, MAX_CONNECTIONS),
            "how many connections `balance` makes",
            f"{CONNECTIONS_PER_MACHINE} for each machine of `answered_by`, at most {MAX_DEFAULT_CONNECTIONS}; for one"
            f" machine, and for `sticky`, {STICKY_CONNECTIONS}",
        ),
        Key("host", HTTP_HOST, "the header `Host` of HTTP requests", "the target of `http`, the address of `balance`"),
        Key("path", HTTP_PATH, "the path of the HTTP requests of `balance`", "/who"),
        Key(
            "port_in_use",
            port_values.PORT_IN_USE,
            "a port that is in use there, so that no other process can listen on it: MACHINE:PORT",
            old=("taken",),
        ),
        Key(
            "mesh",
            values.choice(*INNER_WORDS),
            "every pod reaches every pod, without source NAT; if the model has another word for pods, that word too",
        ),
        Key(
            "pairs",
            values.choice("sample", "all"),
            f"whether a mesh of more than {MAX_PAIRS} pairs asks a sample of them (every pair of nodes, every pod as"
            " sender and as receiver) or all",
            "sample",
        ),
        Key(
            "expect",
            values.choice("reply", "fail", "refused", "timeout"),
            "the expected result: `fail` is for ping, `refused` and `timeout` are for tcp and udp",
            "reply",
        ),
        Key(
            "listen",
            port_values.LISTENER,
            "whether labctl starts the listener in the target (tcp, udp); or the machine and port where it must"
            " listen, if the destination is translated on the way",
            "true",
        ),
        Key(
            "within",
            values.DURATION,
            "the time in which the answer must come; for `expect: fail` and `timeout`, in which no answer may come (a"
            " silent neighbour is asked once more, which may take 1.25s). It holds a whole mesh: pairs that"
            " could not be asked in time make it inconclusive",
            "5s; 1s for `fail` and `timeout`; for a mesh 5s after the last pair was asked",
        ),
        Key(
            "size",
            PING_SIZE,
            "payload bytes of a ping that is never fragmented (ping -M do -s): 28 less than the packet's size. With"
            " `expect: fail` the packet must be too big: only an EMSGSIZE error, or an ICMP 'fragmentation needed' or"
            " 'packet too big', counts as proof",
            "56, and fragments allowed",
        ),
        Key(
            "while_open",
            LaterField("labctl.scenario.connections_field", "CONNECTIONS"),
            "tcp connections that are open already when the check opens another, which shows how many ports a"
            " translation has: a number of them with the same ends, or a mapping with `count` and `tcp`, their ends."
            " All of them must be answered, or the check is inconclusive",
            "none",
        ),
        Key("via", values.choice("tap", "tcpdump"), "what captures packets at the points of `see`", "tap"),
        Key("see", ListOf(SEE, allow_single=True), "how the check's packet looks at a point on its path"),
        Key(
            "not see",
            ListOf(SEE, allow_single=True),
            "a packet that does not pass a point; its absence needs positive evidence",
        ),
    ),
    exactly_one=PROBE_KEYS,
)


def check_section(model: Any) -> Section:
    """The keys of a check in a scenario of this model: `mesh` also accepts the model's word for its inner machines."""
    words = inner_words(model.MACHINES[1])
    if set(words) <= {*INNER_WORDS, ""}:
        return CHECK
    mesh = values.choice(*words)
    keys = (dataclasses.replace(key, field_type=mesh) if key.name == "mesh" else key for key in CHECK.keys)
    return dataclasses.replace(CHECK, keys=tuple(keys))

"""Parse routes, rules, neighbours and forwarding entries in iproute2's syntax into the plan's objects.

Each function raises InvalidValue for words that are unknown or contradict each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any

from labctl.core.resources import (
    ALL_ZEROS_MAC,
    IP,
    ROUTE_PROTOCOLS,
    RT_TABLE_MAIN,
    TRANSIENT_NUD_STATES,
    Fdb,
    Interface,
    Neighbour,
    NextHop,
    Route,
    Rule,
)
from labctl.scenario import values
from labctl.scenario.document import quote_text
from labctl.scenario.field_types import InvalidValue, suggest

TABLES = {"main": RT_TABLE_MAIN, "local": 255, "default": 253}
ROUTE_KINDS = ("unicast", "blackhole", "unreachable", "prohibit", "throw")
SCOPES = ("global", "site", "link", "host")  # `nowhere` is only for the removal of a route
RULE_KINDS = ("blackhole", "unreachable", "prohibit")
_PREFIX, _ADDRESS = values.network(), values.address()
_METRIC, _MAX_FWMARK = values.integer(0, 2**32 - 1), 2**32 - 1
_MTU = values.integer(68, 65520)  # the kernel makes 65520 of a larger one (ip_metrics_convert)
_KERNEL_PROTO = 2
_DEFAULT_IPV6_METRIC = 1024  # the kernel's, which ip shows and labctl does not


def route(ns: str, text: str) -> Route:
    """`[-6] [TYPE] PREFIX [via ADDRESS] [dev DEVICE] [table T] [metric N] [src ADDRESS] [mtu N] [scope S]
    [proto P] [encap ip id N dst ADDRESS] [onlink]`, in any order after the prefix. Instead of via and dev: several
    times `nexthop [via ADDRESS] [dev DEVICE] [weight N] [onlink]` at the end."""
    cursor = _Cursor(text, "a route")
    six = cursor.accept("-6", "-4") == "-6"
    kind = cursor.accept(*ROUTE_KINDS) or "unicast"
    prefix = cursor.expect("a prefix or default")
    given: dict[str, Any] = {}
    while cursor.args:
        word = cursor.keyword({*_ROUTE, "onlink", "scope", "proto", "encap", "nexthop"})
        if word == "nexthop":
            given["nexthops"] = tuple(_nexthops(cursor))
        elif word == "onlink":
            given[word] = True
        elif word == "proto":
            given[word] = _route_protocol(cursor.expect("a protocol"))
        elif word == "encap":
            given[word] = _encap(cursor)
        elif word == "scope":
            given[word] = cursor.expect("a scope")
        else:
            name, convert = _ROUTE[word]
            if word == "via":
                cursor.accept("inet", "inet6")
            given[name] = convert(cursor.expect(f"a value after {word}"))
    if prefix in ("default", "any"):
        ends = [given[end].version for end in ("via", "src") if end in given]
        ends += [hop.via.version for hop in given.get("nexthops", ()) if hop.via is not None]
        dst = ip_network("::/0" if six or 6 in ends else "0.0.0.0/0")
    else:
        dst = _PREFIX.convert(prefix)
    for end in ("via", "src"):
        if end in given and given[end].version != dst.version:
            raise InvalidValue(f"{end} {given[end]} is not of the same family as {prefix}")
    if "nexthops" in given:
        _check_nexthops(given, dst.version, kind)
        given = _with_plain_nexthop(given)
    scope = _scope(given.pop("scope", None), "via" in given or "nexthops" in given, kind)
    if kind == "unicast" and not {"via", "dev", "nexthops"} & set(given):
        raise InvalidValue(f"the route to {prefix} has neither via nor dev")
    if kind != "unicast" and ("via" in given or "dev" in given):
        raise InvalidValue(f"{kind} routes have no next hop", "remove via and dev")
    if scope is not None and dst.version == 6:
        raise InvalidValue(f"scope {quote_text(scope)} is not possible", "IPv6 routes have none")
    if given.get("proto") == _KERNEL_PROTO:
        like_connected = "dev" in given and "via" not in given
        if dst.version == 6 or given.get("table") == TABLES["local"] or like_connected:
            raise InvalidValue("such a route with proto kernel is one of the kernel's own", "remove proto kernel")
    if dst.version == 6 and given.get("metric") == _DEFAULT_IPV6_METRIC:
        del given["metric"]
    return Route(ns, dst, kind=kind, scope=scope, **given)


def _nexthops(cursor: _Cursor) -> Iterator[NextHop]:
    """`[via ADDRESS] [dev DEVICE] [weight N] [onlink] nexthop ...`, to the end of the line."""
    convert = {"via": _ADDRESS.convert, "dev": values.device, "weight": values.integer(1, 256).convert}
    while True:
        cursor.seen = set()
        given: dict[str, Any] = {}
        while cursor.args and cursor.args[0] != "nexthop":
            if cursor.args[0] in {*_ROUTE, "scope", "proto"} - {*convert}:
                raise InvalidValue(f"{cursor.args[0]} is not a word of a nexthop", "write it before the first nexthop")
            word = cursor.keyword({*convert, "onlink"})
            given[word] = True if word == "onlink" else convert[word](cursor.expect(f"a value after {word}"))
        if not {"via", "dev"} & set(given):
            raise InvalidValue("a nexthop has neither via nor dev")
        yield NextHop(**given)
        if cursor.accept("nexthop") is None:
            return


def _check_nexthops(given: dict[str, Any], version: int, kind: str) -> None:
    """Refuse next hops that the kernel refuses."""
    hops: tuple[NextHop, ...] = given["nexthops"]
    if {"via", "dev", "onlink", "encap"} & set(given) or kind != "unicast":
        raise InvalidValue("a route with nexthop has no other next hop", "write via and dev after nexthop")
    wrong = next((hop.via for hop in hops if hop.via is not None and hop.via.version != version), None)
    if wrong is not None:
        raise InvalidValue(f"nexthop via {wrong} is not of the same family as the route")
    if version == 6 and any(hop.via is None for hop in hops):
        raise InvalidValue("an IPv6 route with several nexthops needs via for each")
    if len({(hop.via, hop.dev) for hop in hops}) < len(hops):
        raise InvalidValue("one nexthop appears twice", "give it a weight")


def _with_plain_nexthop(given: dict[str, Any]) -> dict[str, Any]:
    """A single next hop is an ordinary route for the kernel."""
    first, *others = given["nexthops"]
    if others:
        return given
    plain = {name: value for name, value in given.items() if name != "nexthops"}
    plain |= {name: getattr(first, name) for name in ("via", "dev") if getattr(first, name) is not None}
    return plain | ({"onlink": True} if first.onlink else {})


def _route_protocol(text: str) -> int | None:
    """A route's protocol, by iproute2's name or by number; None for boot, which is the one of a route without."""
    known = {word: number for number, word in ROUTE_PROTOCOLS.items()}
    number = known[text] if text in known else int(values.integer(2, 255).convert(text))
    return None if number == known["boot"] else number


def _encap(cursor: _Cursor) -> tuple[int, IP]:
    """`ip id NUMBER dst ADDRESS`, for a device that gets the tunnel of each packet from the route (`external`)."""
    for expected in ("ip", "id"):
        if (word := cursor.expect(expected)) != expected:
            raise InvalidValue(f"expected {expected}, not {quote_text(word)}", "encap ip id NUMBER dst ADDRESS")
    number = int(values.integer(0, 2**24 - 1).convert(cursor.expect("a number")))
    if (word := cursor.expect("dst")) != "dst":
        raise InvalidValue(f"expected dst, not {quote_text(word)}", "encap ip id NUMBER dst ADDRESS")
    far: IP = _ADDRESS.convert(cursor.expect("an address"))
    return number, far


def _scope(scope: str | None, gateway: bool, kind: str) -> str | None:
    """A scope that differs from the implied one. Only unicast routes can have such a scope."""
    implied = "link" if not gateway and kind == "unicast" else "global"
    if scope is None or scope == implied:
        return None
    if scope not in SCOPES or kind != "unicast" or (gateway and scope != "site"):
        raise InvalidValue(f"scope {quote_text(scope)} is not possible", f"the other words imply {implied}")
    return scope


def rule(ns: str, text: str) -> Rule:
    """`[-6] [not] [from PREFIX] [to PREFIX] [iif D] [oif D] [fwmark M[/MASK]] pref N [lookup T | blackhole | ...]`."""
    cursor = _Cursor(text, "a rule")
    family = 6 if cursor.accept("-6", "-4") == "-6" else 4
    given: dict[str, Any] = {}
    while cursor.args:
        word = cursor.keyword({*_RULE, *RULE_KINDS, "fwmark", "not"})
        if word in RULE_KINDS:
            given["kind"] = word
        elif word == "not":
            given["invert"] = True
        elif word == "fwmark":
            mark, slash, mask = cursor.expect("a mark").partition("/")
            given["mark"], given["mask"] = _fwmark(_number(mark), _number(mask) if slash else _MAX_FWMARK)
        else:
            name, convert = _RULE[word]
            given[name] = convert(cursor.expect(f"a value after {word}"))
    ranges = [given[end] for end in ("src", "dst") if given.get(end) is not None]
    versions = {item.version for item in ranges}
    given |= {end: None for end in ("src", "dst") if given.get(end) is not None and not given[end].prefixlen}
    if len(versions) > 1:
        raise InvalidValue("from and to are of different families")
    if "pref" not in given:
        raise InvalidValue("the rule has no pref", "add its preference, such as pref 1000")
    if "table" not in given and "kind" not in given:
        raise InvalidValue("the rule has no action", "such as lookup 100 or blackhole")
    return Rule(ns, family=max(versions, default=family), **given)


def neighbour(ns: str, text: str) -> Neighbour:
    """`[proxy] ADDRESS [lladdr MAC] dev DEVICE [nud STATE]`; a proxy entry has no lladdr."""
    cursor = _Cursor(text, "a neighbour")
    proxy = cursor.accept("proxy") is not None
    ip, given = _ADDRESS.convert(cursor.expect("an address")), {"nud": "permanent"}
    while cursor.args:
        word = cursor.keyword({"dev"} if proxy else {"dev", "lladdr", "nud"})
        given[word] = cursor.expect(f"a value after {word}")
    at = _interface(ns, given)
    if proxy:
        return Neighbour(at, ip, None, proxy=True)
    if "lladdr" not in given:
        raise InvalidValue(f"the neighbour {ip} has no lladdr")
    states = ("permanent", "noarp", *sorted(TRANSIENT_NUD_STATES - {"incomplete", "failed"}))
    return Neighbour(at, ip, values.MAC.convert(given["lladdr"]), values.choice(*states).convert(given["nud"]))


def fdb(ns: str, text: str) -> Fdb:
    """`MAC dev DEVICE [dst ADDRESS [via DEVICE]]`."""
    cursor = _Cursor(text, "a forwarding entry")
    mac = cursor.expect("a MAC address")
    mac = mac if mac == ALL_ZEROS_MAC else values.MAC.convert(mac)
    given: dict[str, str] = {}
    while cursor.args:
        word = cursor.keyword({"dev", "dst", "via"})
        given[word] = cursor.expect(f"a value after {word}")
    if "via" in given and "dst" not in given:
        raise InvalidValue("via is for an entry with dst")
    via = values.device(given["via"]) if "via" in given else None
    return Fdb(_interface(ns, given), mac, _ADDRESS.convert(given["dst"]) if "dst" in given else None, via)


def _interface(ns: str, given: dict[str, str]) -> Interface:
    if "dev" not in given:
        raise InvalidValue("the entry names no device", "such as dev eth0")
    return Interface(ns, values.device(given["dev"]))


class _Cursor:
    """Iterates over the words of one line."""

    def __init__(self, text: str, subject: str) -> None:
        self.args, self.subject = text.split(), subject
        self.seen: set[str] = set()

    def accept(self, *allowed: str) -> str | None:
        """The next word if it is one of these."""
        return self.args.pop(0) if self.args and self.args[0] in allowed else None

    def expect(self, what: str) -> str:
        """The next word, which must be there."""
        if not self.args:
            raise InvalidValue(f"{self.subject} ends, but {what} is expected")
        return self.args.pop(0)

    def keyword(self, allowed: set[str]) -> str:
        """The next word. It must be one of these, and must not appear twice."""
        word = self.expect("a word")
        if word not in allowed:
            hint = suggest(word, allowed) or f"known words: {', '.join(sorted(allowed))}"
            raise InvalidValue(f"{self.subject} cannot have {quote_text(word)}", hint)
        if word in self.seen:
            raise InvalidValue(f"{word!r} appears twice")
        self.seen.add(word)
        return word


def _table(text: str) -> int:
    if text in TABLES:
        return TABLES[text]
    return int(values.integer(1, 2**32 - 1).convert(text))


def _number(text: str) -> int:
    """A fwmark: decimal or hexadecimal."""
    try:
        number = int(text[:12], 0)
    except ValueError:
        raise InvalidValue(f"{quote_text(text)} is not a fwmark", "such as 0x1 or 0x1/0xff") from None
    if not 0 <= number <= _MAX_FWMARK or len(text) > 12:
        raise InvalidValue(f"{quote_text(text)} is out of bounds for a fwmark")
    return number


def _fwmark(mark: int, mask: int) -> tuple[int | None, int | None]:
    """The mark and the mask as the kernel shows them: no mask of all bits, and nothing for 0/0, which is every mark."""
    if mark == mask == 0:
        return None, None
    return mark, None if mask == _MAX_FWMARK else mask


def _prefix_or_all(text: str) -> Any:
    return None if text in ("all", "any", "default") else _PREFIX.convert(text)


_ROUTE: dict[str, tuple[str, Any]] = {
    "via": ("via", _ADDRESS.convert),
    "dev": ("dev", values.device),
    "table": ("table", _table),
    "metric": ("metric", _METRIC.convert),
    "src": ("src", _ADDRESS.convert),
    "mtu": ("mtu", _MTU.convert),
}
_RULE: dict[str, tuple[str, Any]] = {
    "from": ("src", _prefix_or_all),
    "to": ("dst", _prefix_or_all),
    "iif": ("iif", values.device),
    "oif": ("oif", values.device),
    "pref": ("pref", values.integer(1, 32765).convert),
    "priority": ("pref", values.integer(1, 32765).convert),
    "lookup": ("table", _table),
    "table": ("table", _table),
}

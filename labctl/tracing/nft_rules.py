"""What a rule of an nft table did to a packet: its target in the words of iptables, and the element that decided. Pure.

The kernel reports a rule's verdict, and nft prints its text. An element is named only if no other one of its set or map
can have matched: every part of the key that is known here is compared, and the verdict of a verdict map as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

from labctl.core.iptables_forms import IP_PROTOCOLS
from labctl.core.nft_ruleset import split_elements
from labctl.core.resources import IP, NftObject

# targets of iptables that do the same as a statement of nft; those that end the rule first
STATEMENTS = (
    (re.compile(r"\breject\b"), "REJECT"), (re.compile(r"\bdnat\b"), "DNAT"), (re.compile(r"\bsnat\b"), "SNAT"),
    (re.compile(r"\bmasquerade\b"), "MASQUERADE"), (re.compile(r"\bredirect\b"), "REDIRECT"),
    (re.compile(r"\btproxy\b"), "TPROXY"), (re.compile(r"\bsynproxy\b"), "SYNPROXY"),
    (re.compile(r"\bnotrack\b"), "NOTRACK"), (re.compile(r"\b(?:meta )?mark set\b"), "MARK"),
    (re.compile(r"\bct mark set\b"), "CONNMARK"),
)  # fmt: skip
PLAIN_VERDICTS = {"drop": "DROP", "accept": "ACCEPT", "return": "RETURN", "queue": "QUEUE", "stolen": "STOLEN"}
NAT_TARGETS = ("DNAT", "SNAT", "MASQUERADE", "REDIRECT")
PASSING_STATES = ("ESTABLISHED", "NEW")  # the states that `passing_states` tells
_QUOTED = re.compile(r'"[^"]*"')
_KEY = (
    r"(?:ip6? [sd]addr|(?:tcp|udp|th|sctp) [sd]port|(?:meta )?[io]if(?:name)?|(?:meta )?mark|meta l4proto|ip protocol|"
    r"ip6 nexthdr|meta nfproto|ct state|ct direction)"
)
_LOOKUP = re.compile(rf"({_KEY}(?: \. {_KEY})*) (?:(vmap|map) )?(@[\w.-]+|\{{[^}}]*\}})")
_OTHER_LOOKUP = re.compile(r"\b(vmap|map) (@[\w.-]+|\{[^}]*\})")
_VERDICT_WORDS = ("jump", "goto", "accept", "drop", "return", "continue", "queue")
_STATE_MATCH = re.compile(r"\bct state (!= )?(?:\{ ([^}]*) \}|(\S+))")
_SOURCE_MATCH = re.compile(r"\bip6? saddr (!= )?")


@dataclass(frozen=True, slots=True)
class PacketKeys:
    """The fields of a packet that keys of sets and maps are made of; None is not known."""

    src: IP
    dst: IP
    protocol: int | None = None
    sport: int | None = None
    dport: int | None = None
    iif: str = ""
    oif: str = ""
    mark: int = 0
    ct: Mapping[str, str] = field(default_factory=dict)  # `state`, `direction`


def target_of(text: str, verdict: str) -> str:
    """The target of a rule as iptables would name it: `DROP`, `DNAT`, a chain; "" if it does not act.

    `text` is "" if the rule could not be read; then the kernel's verdict alone decides.
    """
    word, _, chain = verdict.partition(" ")
    if word in ("jump", "goto"):
        return chain
    code = _QUOTED.sub('""', text)
    if word == "drop":
        return "REJECT" if STATEMENTS[0][0].search(code) else "DROP"
    if word not in ("accept", "continue", "break", "stolen", ""):
        return PLAIN_VERDICTS.get(word, "")
    acting = next((name for pattern, name in STATEMENTS[1:] if pattern.search(code)), "")
    if word in ("continue", "break", ""):
        return "" if acting in NAT_TARGETS else acting
    return acting if acting in (*NAT_TARGETS, "TPROXY", "SYNPROXY") else PLAIN_VERDICTS[word]


def deciding_element(text: str, verdict: str, objects: Mapping[tuple[str, str], NftObject], packet: PacketKeys) -> str:
    """The element of a set or map because of which the rule matched: that of a map if there is one, else of a named
    set. "" if there is none, or if it is not certain. `objects` are those of the rule's table, by kind and name."""
    found = ""
    for keys, kind, where in _lookups(text):
        if kind != "map" and kind != "vmap" and not where.startswith("@"):
            continue  # an unnamed set: the text of the rule shows it
        element = _only_match(keys, kind, _elements(where, kind, objects), verdict, packet)
        if kind and element:
            return element
        found = found or element
    return found


def _lookups(text: str) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """The lookups of a rule: the parts of the key (none if one of them is not known here), `vmap`, `map` or "" for a
    set, and the set itself."""
    seen: set[int] = set()
    for match in _LOOKUP.finditer(text):
        seen.add(match.start(3))
        known = not text[: match.start()].endswith(" . ")
        yield tuple(match[1].split(" . ")) if known else (), match[2] or "", match[3]
    for match in _OTHER_LOOKUP.finditer(text):
        if match.start(2) not in seen:
            yield (), match[1], match[2]


def _elements(where: str, kind: str, objects: Mapping[tuple[str, str], NftObject]) -> Sequence[str]:
    if where.startswith("@"):
        found = objects.get(("map" if kind else "set", where[1:]))
        return found.entries if found is not None else ()
    return tuple(split_elements(where[1:-1]))


def _only_match(keys: Sequence[str], kind: str, elements: Iterable[str], verdict: str, packet: PacketKeys) -> str:
    fits: list[str] = []
    default = ""
    for element in elements:
        key, _, value = split_value(element)
        if kind == "vmap" and value != verdict:
            continue
        if key == "*":
            default = element
        elif _matches(keys, key, packet):
            fits.append(element)
    if len(fits) == 1:
        return fits[0]
    return default if not fits else ""


def split_value(element: str) -> tuple[str, str, str]:
    """The key of an element, its settings (`timeout 1h`, `comment "x"`, `counter`), and the value of one of a map."""
    left, colon, value = _split_at_colon(element)
    if not colon:
        value = ""
    key = re.match(r"\S+(?: \. \S+)*", left)
    head = key[0] if key is not None else left
    return head, left[len(head) :].strip(), re.sub(r'\s+comment "[^"]*"$', "", value)


def _split_at_colon(element: str) -> tuple[str, str, str]:
    left = ""
    for part in re.split(r'("[^"]*")', element):
        before, colon, after = part.partition(" : ")
        if colon and not part.startswith('"'):
            return left + before, colon, after + element[len(left) + len(part) :]
        left += part
    return element, "", ""


def _matches(keys: Sequence[str], element: str, packet: PacketKeys) -> bool:
    """Whether the packet can have matched the element: no known part of the key differs."""
    values = element.split(" . ")
    if len(values) != len(keys):
        return True
    return all(_field_matches(key, value, packet) is not False for key, value in zip(keys, values, strict=True))


def _field_matches(key: str, value: str, packet: PacketKeys) -> bool | None:
    words = key.split()
    last = words[-1]
    if last in ("saddr", "daddr"):
        return _address_matches(value, packet.src if last == "saddr" else packet.dst)
    if last in ("sport", "dport"):
        return _number_matches(value, packet.sport if last == "sport" else packet.dport)
    if last in ("l4proto", "protocol", "nexthdr"):
        number = IP_PROTOCOLS.get({"ipv6-icmp": "icmpv6"}.get(value, value))
        number = 58 if value in ("icmpv6", "ipv6-icmp") else number
        return _number_matches(str(number) if number is not None else value, packet.protocol)
    if last.startswith(("iif", "oif")):
        name, wanted = packet.iif if last[0] == "i" else packet.oif, value.strip('"')
        return name.startswith(wanted[:-1]) if wanted.endswith("*") else name == wanted
    if last == "mark":
        return _number_matches(value, packet.mark)
    if last == "nfproto":
        return value == f"ipv{packet.src.version}"
    if words[0] == "ct":
        return None if words[1] not in packet.ct else packet.ct[words[1]] in value.split(",")
    return None


def _address_matches(value: str, ip: IP) -> bool | None:
    try:
        if "/" in value:
            return ip in ip_network(value, strict=False)
        low, _, high = value.partition("-")
        first, last = ip_address(low), ip_address(high or low)
    except ValueError:
        return None
    return first.version == ip.version and int(first) <= int(ip) <= int(last)


def _number_matches(value: str, number: int | None) -> bool | None:
    low, _, high = value.partition("-")
    try:
        return None if number is None else int(low, 0) <= number <= int(high or low, 0)
    except ValueError:
        return None


def only_some_sources(rules: Sequence[str], number: int) -> bool:
    """Whether the chain lets packets with certain sources pass before this rule, or at it (`ip saddr != ...`). The
    policy has the number after that of the last rule."""
    before = rules[: max(0, number - 1)]
    if 0 < number <= len(rules) and (match := _SOURCE_MATCH.search(rules[number - 1])) is not None and match[1]:
        return True
    passing = [rule for rule in before if rule.endswith((" accept", " return"))]
    return any((match := _SOURCE_MATCH.search(rule)) is not None and not match[1] for rule in passing)


def passing_states(rules: Sequence[str], number: int) -> tuple[str, ...]:
    """The states of connections, NEW and ESTABLISHED, of which packets do not come to the end of their way at the rule
    or policy: it matches other states only, or rules before it in the chain accept them."""
    if 0 < number <= len(rules) and (found := _states(rules[number - 1])) is not None:
        states, negated = found
        return tuple(one for one in PASSING_STATES if (one.lower() in states) == negated)
    passed: set[str] = set()
    for rule in rules[: max(0, number - 1)]:
        found = _states(rule)
        if found is not None and not found[1] and rule.endswith(" accept"):
            passed |= found[0]
    return tuple(one for one in PASSING_STATES if one.lower() in passed)


def _states(rule: str) -> tuple[frozenset[str], bool] | None:
    match = _STATE_MATCH.search(rule)
    if match is None or (match[3] or "").startswith(("vmap", "@", "{")):
        return None
    return frozenset(re.split(r"[,\s]+", match[2] or match[3])), match[1] is not None


def names_address(text: str, end: str) -> bool:
    """Whether a rule matches packets with certain addresses as their `saddr` or `daddr`."""
    return re.search(rf"\bip6? {end} (?!!=)", _QUOTED.sub('""', text)) is not None


def translation_of(text: str, element: str) -> tuple[str, int | None]:
    """The address and the port to which a `dnat` or `redirect` rule translates, with the value of the map's element if
    a map decides; "" and None where it does not name exactly one."""
    match = re.search(r"\b(?:dnat|redirect)(?: ip6?)? to (.+)", _QUOTED.sub('""', text))
    if match is None:
        return "", None
    if " map " in match[1]:
        value = split_value(element)[2]
        address, _, port = value.partition(" . ")
    else:
        address, port = _endpoint(match[1].split()[0])
    if not port and address.isdigit():
        address, port = "", address
    return ("" if "-" in address else address), int(port) if port.isdigit() else None


def _endpoint(text: str) -> tuple[str, str]:
    """The address and the port of `10.0.0.2:80`, `[fd00::2]:80`, `:80`, `fd00::2`."""
    if text.startswith("["):
        address, _, port = text[1:].partition("]")
        return address, port.removeprefix(":")
    if text.count(":") > 1:
        return text, ""
    address, _, port = text.partition(":")
    return address, port

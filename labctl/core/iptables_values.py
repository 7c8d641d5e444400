"""The values of options in firewall rules: which texts iptables and ebtables accept, as far as the text alone says.

Names of services and of set types, for example, are left to the tools: they depend on the machine. Source: the parsers
of libxtables and its extensions (iptables 1.8.11).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

from labctl.core.iptables_forms import IP_PROTOCOLS, protocol
from labctl.core.names import did_you_mean

MAX_DEVICE_NAME = 15  # IFNAMSIZ - 1, also with a + at the end
_STATES = ("INVALID", "NEW", "RELATED", "ESTABLISHED", "UNTRACKED", "SNAT", "DNAT")
_TCP_FLAGS = ("SYN", "ACK", "FIN", "RST", "URG", "PSH", "ALL", "NONE")
# the names of /etc/ethertypes in the package netbase, and LENGTH of ebtables
_ETHERTYPE_NAMES = (
    *("ipv4", "x25", "arp", "fr_arp", "bpq", "dec", "dna_dl", "dna_rc", "dna_rt", "lat", "diag", "cust", "sca", "teb"),
    *("raw_fr", "rarp", "aarp", "atalk", "802_1q", "ipx", "netbeui", "ipv6", "ppp", "mpls", "mpls_multi", "atmmpoa"),
    *("ppp_disc", "ppp_ses", "atmfate", "loop", "length"),
)
_IPSEC = ("ah", "esp", "ipcomp", "51", "50", "108")
_ARP_OPERATIONS = (
    *("REQUEST", "REPLY", "REQUEST_REVERSE", "REPLY_REVERSE", "DRARP_REQUEST", "DRARP_REPLY", "DRARP_ERROR"),
    *("INARP_REQUEST", "ARP_NAK"),
)
_SERVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+*/-]*")
_NUMBER = re.compile(r"0[xX][0-9A-Fa-f]+|[0-9]+")
_RATE = re.compile(r"[0-9]+([kKmM]?b)?(/(s|sec|second|m|min|minute|h|hour|d|day))?")
_MAC = re.compile(r"[0-9A-Fa-f]{1,2}(:[0-9A-Fa-f]{1,2}){5}")
_MAC_GROUPS = ("unicast", "multicast", "broadcast", "bga")
_MAX_MULTIPORTS = 15
_MAX_BYTES = {"comment": 255, "log-prefix": 29, "nflog-prefix": 63, "text": 1000}
Check = Callable[[str, str], str]  # a value and the family of the rule -> what is wrong with the value, or ""


def value_problem(kind: str, text: str, family: str) -> str:
    """What is wrong with a value of one of the types in `labctl.core.iptables_extensions`; "" if nothing is known to
    be."""
    if kind in _MAX_BYTES:
        size = len(text.encode())
        return f"is {size} bytes long, {_MAX_BYTES[kind]} are possible" if size > _MAX_BYTES[kind] else ""
    if not text or text.startswith("-"):
        return "is not a value"
    return _CHECKS[kind](text, family)


def device_problem(text: str, family: str = "ip") -> str:
    """What is wrong with the name of an interface in a rule (`eth0`, or `eth+` for all that begin so), or ""."""
    if len(text) > MAX_DEVICE_NAME:
        return f"is longer than the {MAX_DEVICE_NAME} characters of an interface name"
    if "/" in text or any(letter.isspace() for letter in text):
        return "is not the name of an interface"
    return ""


def protocol_problem(text: str, family: str = "ip") -> str:
    """What is wrong with a protocol, or ""."""
    if text.isdigit():
        return "" if int(text) <= 255 else "is not a protocol (0 to 255)"
    known = protocol(text)
    if known is None or known in IP_PROTOCOLS:
        return ""
    hint = did_you_mean(text, (*IP_PROTOCOLS, "all"))
    return f"is not a protocol{f' ({hint})' if hint else ''}"


def bridge_problem(flag: str, text: str) -> str:
    """What is wrong with an address or a protocol of ebtables (-s, -d, -p), or ""."""
    if flag != "-p":
        return _bridge_mac(text, "bridge")
    if text.lower() in _ETHERTYPE_NAMES or _NUMBER.fullmatch(text):
        return ""
    hint = did_you_mean(text, _ETHERTYPE_NAMES)
    return f"is neither a number nor in the list of ethertypes{f' ({hint})' if hint else ''}"


def address_problem(text: str, family: str) -> str:
    """What is wrong with a single address of a family, or ""."""
    try:
        (IPv6Address if family == "ip6" else IPv4Address)(text)
    except ValueError:
        return f"is not an {_version(family)} address"
    return ""


def network_problem(text: str, family: str) -> str:
    """What is wrong with an address with an optional prefix length or mask, or ""."""
    if split_network(text, family) is None:
        if re.search("[A-Za-z]", text.partition("/")[0]) and ":" not in text:
            return "is a host name: a rule needs an address, because a name may have another address tomorrow"
        return f"is not an {_version(family)} address, or one with a prefix length or mask"
    return ""


def split_network(text: str, family: str) -> tuple[int, int] | None:
    """An address and its mask as numbers: `10.0.0.0/255.0.0.255`, `10/8`, `fd00::/ffff::1`. None if it is none."""
    base, slash, mask = text.partition("/")
    parse, bits = (_ipv6, 128) if family == "ip6" else (_ipv4, 32)
    all_ones = (1 << bits) - 1
    try:
        if not slash:
            return parse(base), all_ones
        if mask.isdecimal() and int(mask) <= bits:
            return parse(base), all_ones ^ (all_ones >> int(mask))
        if family != "ip6" and mask.count(".") != 3:
            return None
        return parse(base), parse(mask)
    except ValueError:
        return None


def address_text(number: int, family: str) -> str:
    """A number as an address of a family."""
    return str(IPv6Address(number)) if family == "ip6" else ".".join(map(str, number.to_bytes(4, "big")))


def _ipv4(text: str) -> int:
    parts = text.split(".")
    if len(parts) > 4 or not all(part.isascii() and part.isdecimal() and len(part) < 4 for part in parts):
        raise ValueError(text)
    return int.from_bytes(bytes(map(int, parts)).ljust(4, b"\0"), "big")  # libxtables fills with zeros at the end


def _ipv6(text: str) -> int:
    return int(IPv6Address(text))


def _version(family: str) -> str:
    return "IPv6" if family == "ip6" else "IPv4"


def _number(most: int) -> Check:
    def check(text: str, family: str) -> str:
        if not _NUMBER.fullmatch(text):
            return "is not a number"
        # C reads a number with a leading 0 as octal
        value = int(text, 16) if text[:2].lower() == "0x" else int(text, 8 if re.fullmatch("0[0-7]+", text) else 10)
        return "" if value <= most else f"is too large (0 to {most})"

    return check


def _port(text: str, family: str) -> str:
    if _NUMBER.fullmatch(text):
        return "" if not _number(65535)(text, family) else "is not a port (0 to 65535)"
    return "" if _SERVICE.fullmatch(text) and not text[0].isdigit() else "is not a port"


def _ports(text: str, family: str) -> str:
    ends = text.split(":")
    if len(ends) > 2 or not any(ends):
        return "is not a port or a range such as 1000:2000"
    return next((why for end in ends if end and (why := _port(end, family))), "") or _order(ends)


def _order(ends: list[str]) -> str:
    if len(ends) == 2 and all(end.isdigit() for end in ends) and int(ends[0]) > int(ends[1]):
        return "is a range that ends before it begins"
    return ""


def _port_list(text: str, family: str) -> str:
    items = text.split(",")
    if sum(1 + (":" in item) for item in items) > _MAX_MULTIPORTS:
        return f"has too many ports (at most {_MAX_MULTIPORTS}; a range counts as two)"
    return next((why for item in items if (why := _ports(item, family) if item else "has an empty port")), "")


def _nat_ports(text: str, family: str) -> str:
    ends = text.partition("/")[0].split("-")
    if len(ends) == 2 and all(ends) and all(_NUMBER.fullmatch(end) for end in ends):
        return next((why for end in ends if (why := _port(end, family))), "") or _order(ends)
    return _port(text, family)


def _nat(text: str, family: str) -> str:
    """`[ADDRESS[-ADDRESS]][:PORT[-PORT]]`; an IPv6 address before a port is in brackets."""
    if family == "ip6":
        found = re.fullmatch(r"(?:\[([^\]]*)\]|([^\[\]]*?))(?::([0-9][0-9-/]*))?", text) if "[" in text else None
        addresses, ports = (found[1], found[3]) if found else (text, None)
    else:
        addresses, _, tail = text.partition(":")
        ports = tail or None
        if ":" in text and not tail:
            return "has no port after the :"
    if addresses and (why := _addresses(addresses.strip("[]"), family)):
        return why
    return _nat_ports(ports, family) if ports else ("" if addresses else "has no address and no port")


def _addresses(text: str, family: str) -> str:
    ends = text.split("-")
    return (
        next((why for end in ends if (why := address_problem(end, family))), "") if len(ends) <= 2 else "is not a range"
    )


def _range(text: str, family: str) -> str:
    ends = text.split(":")
    if len(ends) > 2 or not any(ends):
        return "is not a number or a range such as 10:20"
    return next((why for end in ends if end and (why := _number((1 << 64) - 1)(end, family))), "") or _order(ends)


def _mark(text: str, family: str) -> str:
    parts = text.split("/")
    if len(parts) > 2:
        return "is not a value or a value/mask"
    return next((why for part in parts if (why := _number(0xFFFFFFFF)(part, family))), "")


def _words(known: tuple[str, ...]) -> Check:
    def check(text: str, family: str) -> str:
        odd = next((word for word in text.split(",") if word.upper() not in known), None)
        if odd is None:
            return ""
        return f"has {odd!r}, which is none of {', '.join(known)}"

    return check


def _fraction(text: str, family: str) -> str:
    try:
        return "" if 0 <= float(text) <= 1 else "is not between 0 and 1"
    except ValueError:
        return "is not a number"


def _bridge_mac(text: str, family: str) -> str:
    fine = text.lower() in _MAC_GROUPS or all(_MAC.fullmatch(part) for part in text.split("/", 1))
    return "" if fine else "is not a MAC address, or one of Unicast, Multicast, Broadcast, BGA"


_CHECKS: dict[str, Check] = {
    "word": lambda text, family: "",
    "optional": lambda text, family: "",
    "ipset": lambda text, family: "" if len(text) <= 31 else "is longer than the 31 characters of a set's name",
    "osf": _number(2),
    "ipsec": lambda text, family: "" if text in _IPSEC else f"is none of {', '.join(_IPSEC[:3])}",
    "decimal": lambda text, family: "" if text.isdecimal() else "is not a decimal number",
    "u2": _number(3),
    "u3": _number(7),
    "u12": _number(4095),
    "arp-op": lambda text, family: "" if text.isdigit() or text.upper() in _ARP_OPERATIONS else "is not an ARP opcode",
    "u6": _number(63),
    "prefix": lambda text, family: _number(128 if family == "ip6" else 32)(text, family),
    "shift": _number(32),
    "burst": _number(10000),
    "queues": lambda text, family: _range(text, family) if text.count(":") == 1 else "is not a range such as 0:3",
    "u8": _number(255),
    "u16": _number(0xFFFF),
    "u32": _number(0xFFFFFFFF),
    "u64": _number((1 << 64) - 1),
    "mark": _mark,
    "port": _port,
    "ports": _ports,
    "port-list": _port_list,
    "nat-ports": _nat_ports,
    "nat": _nat,
    "address": address_problem,
    "addresses": _addresses,
    "net": network_problem,
    "net6": lambda text, family: network_problem(text, "ip6"),
    "range": _range,
    "protocol": protocol_problem,
    "device": device_problem,
    "mac": lambda text, family: "" if _MAC.fullmatch(text) else "is not a MAC address",
    "bridge-mac": _bridge_mac,
    "states": _words(_STATES),
    "tcp-flags": _words(_TCP_FLAGS),
    "fraction": _fraction,
    "rate": lambda text, family: "" if _RATE.fullmatch(text) else "is not a rate such as 5/second",
}

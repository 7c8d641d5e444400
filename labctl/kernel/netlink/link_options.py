"""The options of each kind of link, in iproute2's words, and their attributes in the kernel's messages.

The same table serves to build a message and to read one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Literal

from labctl.kernel.netlink.encoding import U32
from labctl.kernel.netlink.rtnetlink import attributes

Form = Literal["u8", "u16", "u32", "be16", "ip", "dev", "name", "flag"]


@dataclass(frozen=True, slots=True)
class LinkOption:
    """One option: the name of its attribute in pyroute2, its number in the kernel, and its form."""

    name: str
    number: int
    form: Form
    names: tuple[str, ...] = ()  # for the form `name`: the names of the numbers 0, 1, ...


_MACVLAN = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8, "source": 16}
_ON = ("off", "on")

OPTIONS: dict[str, dict[str, LinkOption]] = {
    "vxlan": {
        "id": LinkOption("IFLA_VXLAN_ID", 1, "u32"),
        "remote": LinkOption("IFLA_VXLAN_GROUP", 2, "ip"),
        "group": LinkOption("IFLA_VXLAN_GROUP", 2, "ip"),  # a multicast address; `remote` is any other
        "dev": LinkOption("IFLA_VXLAN_LINK", 3, "dev"),
        "local": LinkOption("IFLA_VXLAN_LOCAL", 4, "ip"),
        "ttl": LinkOption("IFLA_VXLAN_TTL", 5, "u8"),
        "learning": LinkOption("IFLA_VXLAN_LEARNING", 7, "name", _ON),
        "ageing": LinkOption("IFLA_VXLAN_AGEING", 8, "u32"),
        "proxy": LinkOption("IFLA_VXLAN_PROXY", 11, "name", _ON),
        "rsc": LinkOption("IFLA_VXLAN_RSC", 12, "name", _ON),
        "l2miss": LinkOption("IFLA_VXLAN_L2MISS", 13, "name", _ON),
        "l3miss": LinkOption("IFLA_VXLAN_L3MISS", 14, "name", _ON),
        "dstport": LinkOption("IFLA_VXLAN_PORT", 15, "be16"),
        "external": LinkOption("IFLA_VXLAN_COLLECT_METADATA", 25, "name", _ON),
    },
    "bridge": {
        "ageing_time": LinkOption("IFLA_BR_AGEING_TIME", 4, "u32"),
        "stp_state": LinkOption("IFLA_BR_STP_STATE", 5, "u32"),
        "vlan_filtering": LinkOption("IFLA_BR_VLAN_FILTERING", 7, "u8"),
        "mcast_snooping": LinkOption("IFLA_BR_MCAST_SNOOPING", 23, "u8"),
        "vlan_default_pvid": LinkOption("IFLA_BR_VLAN_DEFAULT_PVID", 39, "u16"),
    },
    "macvlan": {"dev": LinkOption("", 0, "dev"), "mode": LinkOption("IFLA_MACVLAN_MODE", 1, "u32")},
    "vlan": {"dev": LinkOption("", 0, "dev"), "id": LinkOption("IFLA_VLAN_ID", 1, "u16")},
    "ipvlan": {"dev": LinkOption("", 0, "dev"), "mode": LinkOption("IFLA_IPVLAN_MODE", 1, "u16")},
    "ipip": {
        "dev": LinkOption("IFLA_IPIP_LINK", 1, "dev"),
        "local": LinkOption("IFLA_IPIP_LOCAL", 2, "ip"),
        "remote": LinkOption("IFLA_IPIP_REMOTE", 3, "ip"),
        "ttl": LinkOption("IFLA_IPIP_TTL", 4, "u8"),
    },
    "geneve": {
        "id": LinkOption("IFLA_GENEVE_ID", 1, "u32"),
        "remote": LinkOption("IFLA_GENEVE_REMOTE", 2, "ip"),
        "ttl": LinkOption("IFLA_GENEVE_TTL", 3, "u8"),
        "dstport": LinkOption("IFLA_GENEVE_PORT", 5, "be16"),
        "external": LinkOption("IFLA_GENEVE_COLLECT_METADATA", 6, "flag"),
    },
    "tun": {},
    "dummy": {},
    "ifb": {},
    "veth": {},
    "loopback": {},
}
_MAX = {"u8": 2**8 - 1, "u16": 2**16 - 1, "be16": 2**16 - 1, "u32": 2**32 - 1}
_MODES = {"macvlan": _MACVLAN, "ipvlan": {"l2": 0, "l3": 1, "l3s": 2}}
_INET6 = {"IFLA_VXLAN_GROUP": "IFLA_VXLAN_GROUP6", "IFLA_VXLAN_LOCAL": "IFLA_VXLAN_LOCAL6"}
_INET6_NUMBER = {16: 2, 17: 4}


def info_data(kind: str, options: Iterable[tuple[str, str]], index_of: Any) -> list[tuple[str, Any]]:
    """The IFLA_INFO_DATA attributes for a link's options; `index_of(dev)` finds a device's index.

    Raises ValueError or KeyError for an option that this kind does not have, or for a value that is not possible.
    """
    table = OPTIONS.get(kind, {})
    attrs: list[tuple[str, Any]] = []
    for name, value in options:
        if name not in table:
            names = ", ".join(sorted(table)) or "none"
            raise ValueError(f"a {kind} has no option {name!r} (it has: {names})")
        option = table[name]
        if option.name:
            attrs.append(_attribute(kind, name, option, value, index_of))
    return attrs


def _attribute(kind: str, name: str, option: LinkOption, value_text: str, index_of: Any) -> tuple[str, Any]:
    if option.form == "ip":
        value: IPv4Address | IPv6Address = ip_address(value_text)
        return (_INET6.get(option.name, option.name) if value.version == 6 else option.name), value
    if option.form == "dev":
        return option.name, U32(index_of(value_text))
    if option.form == "name":
        return option.name, option.names.index(value_text)
    if option.form == "flag":
        return option.name, True  # a flag has no value: the attribute is present or absent
    if name == "mode" and kind in _MODES:
        return option.name, _MODES[kind][value_text]
    number = int(value_text)
    if not 0 <= number <= _MAX[option.form]:
        raise ValueError(f"{name} {number} is out of bounds: from 0 up to {_MAX[option.form]}")
    return option.name, number


def read_options(kind: str, data: bytes, start: int, end: int, name_of: Any) -> tuple[tuple[str, str], ...]:
    """A link's options as the kernel reports them, in the table's words; `name_of(index)` gives a device's name."""
    found = attributes(data, start, end)
    for six, four in _INET6_NUMBER.items():
        if kind == "vxlan" and six in found:
            found[four] = found[six]
    options = []
    for name, option in OPTIONS.get(kind, {}).items():
        span = found.get(option.number) if option.number else None
        if span is not None:
            text = _text(kind, name, option, data[span[0] : span[1]], name_of)
            if kind != "vxlan" or name not in _DESTINATIONS or name == _destination(text):
                options.append((name, text))
    return tuple(options)


_DESTINATIONS = ("remote", "group")  # two words of iproute2 for one attribute


def _destination(text: str) -> str:
    return _DESTINATIONS[ip_address(text).is_multicast]


def _text(kind: str, option_name: str, option: LinkOption, payload: bytes, name_of: Any) -> str:
    if option.form == "ip":
        return str(ip_address(payload))
    number = int.from_bytes(payload, "big" if option.form == "be16" else _ORDER)
    if option.form == "dev":
        return str(name_of(number))
    if option.form == "name":
        return option.names[min(number, 1)]
    if option.form == "flag":
        return "on"
    if option_name == "mode" and kind in _MODES:
        return next((name for name, value in _MODES[kind].items() if value == number), str(number))
    return str(number)


_ORDER: Literal["little", "big"] = "little" if struct.pack("=H", 1) == b"\x01\x00" else "big"

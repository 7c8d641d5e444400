"""The printed forms of options that iptables and ebtables accept in several spellings; tests compare with the tools.

Only the forms that the sources of real systems use; anything else stays as it is written, and the tools themselves can
be asked (`labctl.kernel.firewall.kernel_spelling`).
"""

from __future__ import annotations

from labctl.core.iptables_parts import split_options

# a spelling of an option -> what iptables-save prints for it
ALIASES = {
    "--destination-port": ("--dport",),
    "--source-port": ("--sport",),
    "--destination-ports": ("--dports",),
    "--source-ports": ("--sports",),
    "--syn": ("--tcp-flags", "FIN,SYN,RST,ACK", "SYN"),
}
_PORT_PROTOCOLS = ("tcp", "udp", "sctp", "dccp", "udplite")
# options that need no -m, because -p implies their match
IMPLIED: dict[str, tuple[str, ...]] = {
    "--sport": _PORT_PROTOCOLS,
    "--dport": _PORT_PROTOCOLS,
    "--tcp-flags": ("tcp",),
    "--tcp-option": ("tcp",),
    "--icmp-type": ("icmp",),
    "--icmpv6-type": ("icmp6",),
}
_ORDER = ("--sport", "--dport", "--tcp-option", "--tcp-flags")
_STATES = ("INVALID", "NEW", "RELATED", "ESTABLISHED", "UNTRACKED", "SNAT", "DNAT")
# the list of /etc/protocols (netbase): some releases of iptables print the name, some the number
IP_PROTOCOLS = {
    "icmp": 1, "igmp": 2, "ggp": 3, "ipencap": 4, "st": 5, "tcp": 6, "egp": 8, "igp": 9, "pup": 12, "udp": 17,
    "hmp": 20, "xns-idp": 22, "rdp": 27, "iso-tp4": 29, "dccp": 33, "xtp": 36, "ddp": 37, "idpr-cmtp": 38,
    "ipv6": 41, "ipv6-route": 43, "ipv6-frag": 44, "idrp": 45, "rsvp": 46, "gre": 47, "esp": 50, "ah": 51,
    "skip": 57, "ipv6-icmp": 58, "ipv6-nonxt": 59, "ipv6-opts": 60, "rspf": 73, "vmtp": 81, "eigrp": 88,
    "ospf": 89, "ax.25": 93, "ipip": 94, "etherip": 97, "encap": 98, "pim": 103, "ipcomp": 108, "vrrp": 112,
    "l2tp": 115, "isis": 124, "sctp": 132, "fc": 133, "mobility-header": 135, "udplite": 136,
    "mpls-in-ip": 137, "manet": 138, "hip": 139, "shim6": 140, "wesp": 141, "rohc": 142, "ethernet": 143,
}  # fmt: skip
_PROTOCOL_NAMES = {str(number): name for name, number in IP_PROTOCOLS.items()}
_PROTOCOL_NAMES |= {"icmpv6": "ipv6-icmp", "ipv6-mh": "mobility-header", "mh": "mobility-header"}
_ICMP = {"echo-reply": "0", "destination-unreachable": "3", "echo-request": "8", "time-exceeded": "11"}
_ICMP6 = {"destination-unreachable": "1", "packet-too-big": "2", "echo-request": "128", "echo-reply": "129"}
_REJECTS = {"ip": "icmp-port-unreachable", "ip6": "icmp6-port-unreachable"}
_ETHERTYPES = {"0x0800": "IPv4", "0x0806": "ARP", "0x86dd": "IPv6", "0x8100": "802_1Q"}
_ETHERTYPES |= {name.lower(): name for name in _ETHERTYPES.values()}
_GROUPS = {name.lower(): name for name in ("Unicast", "Multicast", "Broadcast", "BGA")}
_FULL = 0xFFFFFFFF
_BRIDGE_LONG = {
    "--ip-source": "--ip-src", "--ip-destination": "--ip-dst", "--ip-protocol": "--ip-proto",
    "--ip-source-port": "--ip-sport", "--ip-destination-port": "--ip-dport", "--arp-opcode": "--arp-op",
    "--to-source": "--to-src", "--to-destination": "--to-dst",
}  # fmt: skip
_BRIDGE_MACS = ("--arpreply-mac", "--to-src", "--to-dst")
_ARP_OPS = {"1": "Request", "2": "Reply"}
# the targets of ebtables' nat table, with their options in the order that ebtables-save prints them
_BRIDGE_TARGETS = {
    "arpreply": ("--arpreply-mac", "--arpreply-target"),
    "snat": ("--to-src", "--snat-arp", "--snat-target"),
    "dnat": ("--to-dst", "--dnat-target"),
    "redirect": ("--redirect-target",),
}
# defaults that ebtables-save prints even if they were not written, and values that it does not print
_PRINTED_DEFAULTS = {"--arpreply-mac": "00:00:00:00:00:00", "--snat-target": "ACCEPT", "--dnat-target": "ACCEPT"}
_OMITTED_DEFAULTS = {"--arpreply-target": "DROP", "--redirect-target": "ACCEPT"}


def protocol(value: str) -> str | None:
    """A protocol by its name in /etc/protocols; None for `all`."""
    value = value.lower()
    return None if value in ("all", "0") else _PROTOCOL_NAMES.get(value, value)


def bridge_protocol(value: str) -> str:
    """An ethertype by the name that ebtables-save prints: `0x0800` and `ipv4` are `IPv4`."""
    value = value.lower()
    return _ETHERTYPES.get(value, value)


def bridge_address(value: str) -> str:
    """A MAC address (and mask) with two digits per byte in lower case, a group by its name."""
    if value.lower() in _GROUPS:
        return _GROUPS[value.lower()]
    return "/".join(":".join(byte.lower().zfill(2) for byte in mac.split(":")) for mac in value.split("/"))


def normalize_bridge_part(part: list[str]) -> list[str]:
    """ebtables' matches, or a target with its options, in the printed form."""
    args = [_BRIDGE_LONG.get(word, word) for word in part]
    for at, flag in enumerate(args[:-1]):
        if flag in _BRIDGE_MACS:
            args[at + 1] = bridge_address(args[at + 1])
        elif flag == "--arp-op":
            args[at + 1] = _ARP_OPS.get(args[at + 1], args[at + 1])
    if args[0] != "-j":
        options = sorted(split_options(args), key=lambda option: option.flag.startswith(("--log", "--nflog")))
        return [word for option in options for word in option.args]  # the watchers come last
    return _bridge_target(args) if args[1] in _BRIDGE_TARGETS else args


def _bridge_target(args: list[str]) -> list[str]:
    order = _BRIDGE_TARGETS[args[1]]
    values_of = {option.flag: list(option.args[1:]) for option in split_options(args[2:])}
    if not set(values_of) <= set(order):
        return args  # an option that this table does not have: leave the rule as it is written
    for name, value in _PRINTED_DEFAULTS.items():
        if name in order:
            values_of.setdefault(name, [value])
    printed = (name for name in order if name in values_of and values_of[name] != [_OMITTED_DEFAULTS.get(name)])
    return args[:2] + [arg for name in printed for arg in (name, *values_of[name])]


def normalize_part(part: list[str], family: str) -> list[str]:
    """One match or target (`-m mark --mark 1`) in its printed form."""
    flag, name, *options = part
    try:
        if flag == "-m":
            return [flag, name, *_match(name, options, family)]
        return [flag, name, *_target(name, options, family)]
    except (ValueError, IndexError):  # the tools report the error
        return part


def _match(name: str, options: list[str], family: str) -> list[str]:
    if name in ("conntrack", "state"):
        return _replace(options, ("--ctstate", "--state"), _states)
    if name in ("mark", "connmark"):
        return _replace(options, ("--mark",), _mark)
    if name == "statistic":
        return _replace(options, ("--probability",), lambda text: f"{round(float(text) * 2**31) / 2**31:.11f}")
    if name in ("icmp", "icmp6"):
        names = _ICMP6 if name == "icmp6" else _ICMP
        return _replace(options, ("--icmp-type", "--icmpv6-type"), lambda text: names.get(text, text))
    if name in _PORT_PROTOCOLS:
        return _sort_options(options)
    return options


def _target(name: str, options: list[str], family: str) -> list[str]:
    if name == "REJECT" and not options:
        return ["--reject-with", _REJECTS[family]]
    if name != "MARK" or len(options) != 2:
        return options
    mark, _, mask_text = options[1].partition("/")
    value = int(mark, 0)
    mask = int(mask_text, 0) if mask_text else _FULL
    xmark = {
        "--set-mark": (value, value | mask),
        "--set-xmark": (value, mask),
        "--or-mark": (value, value),
        "--and-mark": (0, ~value & _FULL),
        "--xor-mark": (value, 0),
    }.get(options[0])
    return options if xmark is None else ["--set-xmark", f"{xmark[0]:#x}/{xmark[1]:#x}"]


def _states(text: str) -> str:
    return ",".join(sorted(set(text.upper().split(",")), key=_STATES.index))


def _mark(text: str) -> str:
    value, _, mask = text.partition("/")
    bits = int(mask, 0) if mask else _FULL
    return f"{int(value, 0):#x}" if bits == _FULL else f"{int(value, 0):#x}/{bits:#x}"


def _replace(options: list[str], names: tuple[str, ...], shape: object) -> list[str]:
    assert callable(shape)
    return [
        shape(word) if position and options[position - 1] in names else word for position, word in enumerate(options)
    ]


def _sort_options(options: list[str]) -> list[str]:
    in_order = sorted(split_options(options), key=lambda option: _ORDER.index(option.flag))
    return [word for option in in_order for word in option.args]

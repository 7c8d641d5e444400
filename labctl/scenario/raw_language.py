"""The sections of a raw scenario: kernel objects in the syntax of `ip`, `bridge`, `sysctl` and `iptables`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, get_args

from labctl.core.iptables_check import MAX_CHAIN_NAME
from labctl.core.scenario_types import MachineRole
from labctl.scenario import values
from labctl.scenario.document import Reader, Seq, Text, TreeNode, quote_text
from labctl.scenario.field_types import InvalidValue, Json, Key, ListOf, Located, MapOf, Scalar, Section
from labctl.scenario.firewall_field import RULES, ChainField, FirewallField
from labctl.scenario.ipset_field import IpSetsField
from labctl.scenario.nftables_field import NftablesField

# the kinds of links and the options of each, with iproute2's names
LINK_KINDS: dict[str, tuple[str, ...]] = {
    "veth": (),
    "bridge": ("ageing_time", "stp_state", "vlan_filtering", "vlan_default_pvid", "mcast_snooping"),
    "vxlan": (
        *("id", "dev", "local", "remote", "group", "dstport", "ttl"),
        *("learning", "ageing", "proxy", "rsc", "l2miss", "l3miss"),
    ),
    "dummy": (),
    "macvlan": ("dev", "mode"),
    "ipvlan": ("dev", "mode"),
    "vlan": ("dev", "id"),
}
REQUIRED_LINK_OPTIONS = {"vxlan": ("id",), "macvlan": ("dev",), "ipvlan": ("dev",), "vlan": ("dev", "id")}
LINK_MODES = {"macvlan": ("private", "vepa", "bridge", "passthru"), "ipvlan": ("l2", "l3", "l3s")}
_SWITCH = values.BOOLEAN


def _line(text: str) -> str:
    if not text.isprintable() or len(text) > 1000:
        raise InvalidValue(f"{quote_text(text)} is not one printable line of at most 1000 characters")
    return text


def command_line(what: str) -> Scalar:
    """A line in the syntax of a command."""
    return Scalar(what, _line, {"type": "string"})


def _sysctl(text: str) -> str:
    """A sysctl's dotted name. Only sysctls of a network namespace are allowed, and no path that leaves net/."""
    parts = text.replace("/", "\0").replace(".", "/").replace("\0", ".").split("/")
    fine = re.fullmatch("[A-Za-z0-9_./-]{1,120}", text) and all(part.strip(".") for part in parts)
    if not fine:
        raise InvalidValue(f"{quote_text(text)} is not the name of a sysctl", "such as net.ipv4.ip_forward")
    if parts[0] != "net" or len(parts) < 3:
        raise InvalidValue(f"{quote_text(text)} belongs to the whole machine", "a namespace has only net.* sysctls")
    return text


_LINK_KEYS = (
    Key("mac", values.MAC, "its MAC address", "the kernel's choice"),
    Key("mtu", values.integer(68, 65535), "its MTU"),
    Key("txqueuelen", values.integer(0, 2**32 - 1), "the length of its transmit queue, in packets", "the kernel's"),
    Key("master", values.DEVICE, "the bridge that it is a port of"),
    Key("up", _SWITCH, "whether it is up", "true"),
    Key("promisc", _SWITCH, "whether it is in promiscuous mode (accepts frames for other devices)", "false"),
    Key("hairpin", _SWITCH, "whether the bridge may send a frame back out of this port", "false"),
    Key("isolated", _SWITCH, "whether the bridge blocks frames between this port and other isolated ports", "false"),
    Key("autoconf", _SWITCH, "whether IPv6 gives it a link-local address", "on with an IPv6 address, else off"),
)
_END = Section("end", (Key("at", values.POINT, "MACHINE/DEVICE", required=True), *_LINK_KEYS))


@dataclass(frozen=True, slots=True)
class _End:
    """One end of a veth: a point, or a mapping with `at` and settings. Reads as {name: Located}."""

    what = "a point such as r1/eth0, or a mapping with `at`"

    def read(self, node: TreeNode, label: str, reader: Reader) -> dict[str, Located] | None:
        if not isinstance(node, Text):
            found: dict[str, Located] | None = _END.read(node, label, reader)
            return found if found and "at" in found else None
        point = values.POINT.read(node, label, reader)
        return None if point is None else {"at": Located(point, node.position, node.position)}

    def schema(self) -> Json:
        return {"anyOf": [values.POINT.schema(), _END.schema()]}


@dataclass(frozen=True, slots=True)
class _Ends:
    """Both ends of a veth."""

    what = "the two ends, such as [h1/eth0, r1/eth0]"

    def read(self, node: TreeNode, label: str, reader: Reader) -> tuple[Located, ...] | None:
        if not isinstance(node, Seq) or len(node.items) != 2:
            reader.add_problem(node, f"{label}: expected {self.what}")
            return None
        ends: tuple[Located, ...] = ListOf(_End()).read(node, label, reader)
        return ends if len(ends) == 2 else None

    def schema(self) -> Json:
        return {"type": "array", "minItems": 2, "maxItems": 2, "items": _End().schema()}


LINK = Section(
    "link",
    (
        Key("veth", _Ends(), "a pair of virtual Ethernet devices: both ends, MACHINE/DEVICE or {at, mac, ...}"),
        *(Key(kind, values.POINT, f"a {kind}: MACHINE/DEVICE") for kind in LINK_KINDS if kind != "veth"),
        *_LINK_KEYS,
        Key(
            "link_netns",
            values.LABEL,
            "the machine where it is created and then moved from (a vxlan's socket stays there)",
            old=("born",),
        ),
        Key("id", values.integer(0, 2**24 - 1), "vxlan: the VNI; vlan: the tag"),
        Key("dev", values.DEVICE, "vxlan, vlan, macvlan, ipvlan: the lower device"),
        Key("local", values.address(), "vxlan: the local address of the tunnel"),
        Key("remote", values.address(), "vxlan: the remote address for unknown destinations"),
        Key("group", values.address(), "vxlan: the multicast group for unknown destinations; needs dev"),
        Key("dstport", values.integer(1, 65535), "vxlan: the UDP port"),
        Key("ttl", values.integer(0, 255), "vxlan: the TTL of the outer packet"),
        Key("learning", _SWITCH, "vxlan: learn addresses from packets"),
        Key("ageing", values.integer(1, 2**32 - 1), "vxlan: seconds until a learned entry expires"),
        Key("proxy", _SWITCH, "vxlan: answer ARP from the neighbour table"),
        Key("rsc", _SWITCH, "vxlan: route short circuit"),
        Key("l2miss", _SWITCH, "vxlan: report unknown MAC addresses"),
        Key("l3miss", _SWITCH, "vxlan: report unknown IP addresses"),
        Key("mode", values.choice(*LINK_MODES["macvlan"], *LINK_MODES["ipvlan"]), "macvlan, ipvlan: the mode"),
        Key(
            "ageing_time",
            values.integer(0, 2**32 - 1),
            "bridge: until a learned entry expires, in hundredths of a second",
        ),
        Key("stp_state", values.integer(0, 1), "bridge: spanning tree"),
        Key("vlan_filtering", values.integer(0, 1), "bridge: VLAN filtering"),
        Key("vlan_default_pvid", values.integer(0, 4094), "bridge: the VLAN of untagged frames"),
        Key("mcast_snooping", values.integer(0, 1), "bridge: multicast snooping"),
    ),
    exactly_one=tuple(LINK_KINDS),
)

NAMESPACE = Section(
    "namespace",
    (
        Key(
            "role",
            values.choice(*get_args(MachineRole)),
            "its role in the lab; a mesh check takes pods and containers",
            "machine",
        ),
        Key("on", values.LABEL, "the machine that it runs on"),
    ),
)
CHAIN = Section(
    "chain",
    (
        Key(
            "policy",
            values.choice("ACCEPT", "DROP", "RETURN"),
            "the verdict at the end of a built-in chain, or (ebtables) of any chain; RETURN is for ebtables only",
            "ACCEPT",
        ),
        Key("rules", RULES, "the rules, in iptables' syntax"),
    ),
)


@dataclass(frozen=True, slots=True)
class _Namespaces:
    """The namespaces: names, or a mapping from names to settings. Reads as pairs (Located name, Located settings)."""

    what = "a list of names, or a mapping from names to settings"

    def read(self, node: TreeNode, label: str, reader: Reader) -> Any:
        if isinstance(node, Seq):
            names = ListOf(values.LABEL).read(node, label, reader)
            return tuple((name, Located({}, name.at, name.at)) for name in names)
        return MapOf(values.LABEL, NAMESPACE).read(node, label, reader)

    def schema(self) -> Json:
        section = NAMESPACE.schema()
        mapping = MapOf(values.LABEL, NAMESPACE).schema()
        mapping["additionalProperties"] = {**section, "type": ["object", "null"]}
        return {"anyOf": [mapping, {"type": "array", "items": values.LABEL.schema()}]}


def _chain_name(text: str) -> str:
    if not text.isprintable() or not text:
        raise InvalidValue(f"{quote_text(text)} is not a valid chain name")
    return text


def _firewalls(family: str, program: str, *names: str) -> MapOf:
    chains = MapOf(Scalar("a chain", _chain_name, {"maxLength": MAX_CHAIN_NAME}), ChainField(CHAIN))
    return MapOf(values.LABEL, FirewallField(family, MapOf(values.choice(*names), chains), program))


_VALUE = Scalar("a value", _line, {"type": ["string", "integer"]})
_SYSCTLS = MapOf(Scalar("a sysctl", _sysctl, {"pattern": r"^net(\.[A-Za-z0-9_/-]+){2,}$"}), _VALUE)
_IPTABLES = ("filter", "nat", "mangle", "raw", "security")
RAW: tuple[Key, ...] = (
    Key("namespaces", _Namespaces(), "the network namespaces, each with its loopback up", required=True),
    Key("links", ListOf(LINK), "the devices"),
    Key(
        "addresses",
        MapOf(values.POINT, ListOf(values.INTERFACE_ADDRESS, allow_single=True)),
        "addresses of devices; a machine's name stands for its first address",
    ),
    Key(
        "routes",
        MapOf(values.LABEL, ListOf(command_line("a route such as default via 192.0.2.1"), allow_single=True)),
        "routes, in the syntax of `ip route add`",
    ),
    Key(
        "rules",
        MapOf(
            values.LABEL,
            ListOf(command_line("a rule such as from 10.0.0.0/24 lookup 100 pref 1000"), allow_single=True),
        ),
        "policy routing rules, in the syntax of `ip rule add`; each needs a pref",
    ),
    Key(
        "neighbours",
        MapOf(
            values.LABEL,
            ListOf(command_line("a neighbour such as 192.0.2.1 lladdr 02:00:00:00:00:01 dev eth0"), allow_single=True),
        ),
        "ARP and NDP entries, in the syntax of `ip neighbour add`",
    ),
    Key(
        "fdb",
        MapOf(
            values.LABEL,
            ListOf(command_line("an entry such as 02:00:00:00:00:01 dev vx0 dst 192.0.2.1"), allow_single=True),
        ),
        "forwarding entries, in the syntax of `bridge fdb append`",
    ),
    Key("sysctls", MapOf(values.LABEL, _SYSCTLS), "sysctls; a dot inside a device name is written as a slash"),
    Key(
        "ipsets",
        MapOf(values.LABEL, IpSetsField()),
        "IP sets that rules match (`-m set`): machine, set",
    ),
    Key("firewall", _firewalls("ip", "iptables-save", *_IPTABLES), "iptables: machine, table, chain"),
    Key("firewall6", _firewalls("ip6", "ip6tables-save", *_IPTABLES), "ip6tables: machine, table, chain"),
    Key("ebtables", _firewalls("bridge", "ebtables-save", "filter", "nat"), "ebtables: machine, table, chain"),
    Key(
        "nftables",
        MapOf(values.LABEL, ListOf(NftablesField(), allow_single=True)),
        "nftables: machine, and a text in nft's language (also what `nft list ruleset` prints), or tables",
    ),
)

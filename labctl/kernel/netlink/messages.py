"""The netlink messages that create, change and delete each kernel object of a plan."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from labctl.core.features import DEFAULT_LINK_OPTIONS
from labctl.core.resources import IP, Address, Fdb, Link, Neighbour, NextHop, Route, Rule
from labctl.kernel.netlink import encoding
from labctl.kernel.netlink.encoding import ACK, CREATE, EXCL, REPLACE, REQUEST, U32, Mac, encode
from labctl.kernel.netlink.link_options import info_data
from labctl.kernel.netlink.rtnetlink import encode_attribute

CREATE_FLAGS = REQUEST | ACK | CREATE | EXCL
REPLACE_FLAGS = REQUEST | ACK | CREATE | REPLACE
ACK_FLAGS = REQUEST | ACK
APPEND = 0x800

AF_INET, AF_INET6, AF_BRIDGE = 2, 10, 7
IFF_UP, IFF_LOOPBACK, IFF_NOARP, IFF_PROMISC = 0x1, 0x8, 0x80, 0x100
NUD = {
    "incomplete": 0x01, "reachable": 0x02, "stale": 0x04, "delay": 0x08,
    "probe": 0x10, "failed": 0x20, "noarp": 0x40, "permanent": 0x80,
}  # fmt: skip
NTF_SELF, NTF_MASTER, NTF_PROXY = 0x02, 0x04, 0x08
ROUTE_KIND = {"unicast": 1, "local": 2, "broadcast": 3, "anycast": 4, "multicast": 5, "blackhole": 6,
              "unreachable": 7, "prohibit": 8, "throw": 9}  # fmt: skip
RULE_ACTION = {"lookup": 1, "goto": 2, "nop": 3, "blackhole": 6, "unreachable": 7, "prohibit": 8}
SCOPE_GLOBAL, SCOPE_LINK, SCOPE_HOST, SCOPE_NOWHERE = 0, 253, 254, 255
SCOPES = {"global": SCOPE_GLOBAL, "site": 200, "link": SCOPE_LINK, "host": SCOPE_HOST, "nowhere": SCOPE_NOWHERE}
RULE_INVERT = 0x2
PROTO_KERNEL, PROTO_BOOT = 2, 3
ONLINK = 4
IFA_F_NODAD = 0x02
IFAPROT_KERNEL_LL = 3
RTA_GATEWAY, RTA_MULTIPATH, RTA_VIA, RTA_NH_ID = 5, 9, 18, 30
RTA_ENCAP_TYPE, RTA_ENCAP, NESTED = 21, 22, 0x8000
LWTUNNEL_IP, LWTUNNEL_IP_ID, LWTUNNEL_IP_DST = 2, 1, 2
IFLA_AF_SPEC, IFLA_INET_CONF = 26, 1

IndexOf = Callable[[str], int]  # from a device's name, in the namespace of the message, to its index


def family(version: int) -> int:
    """The kernel's address family for IP version 4 or 6."""
    return AF_INET if version == 4 else AF_INET6


def _add_or_delete(
    message: str, kinds: tuple[int, int], add_flags: int, delete: bool, fields: dict[str, Any], attrs: encoding.Attrs
) -> bytearray:
    """The message that adds an object, or the one that deletes it; `kinds` are the types of the two."""
    add_kind, delete_kind = kinds
    return encode(message, delete_kind if delete else add_kind, ACK_FLAGS if delete else add_flags, fields, attrs)


def create_link(
    link: Link, peer: Link | None, index: int, peer_index: int, peer_fd: int | None, index_of: IndexOf, up: bool = False
) -> bytearray:
    """Create a link (for a veth both ends at once, the peer in its own namespace). The links are not up yet, except
    this one if `up`."""
    attrs: list[tuple[str, Any]] = [("IFLA_IFNAME", link.at.dev)]
    if link.mtu is not None and link.kind != "bridge":  # a bridge takes the MTU of its ports, unless it is set later
        attrs.append(("IFLA_MTU", link.mtu))
    if link.mac is not None:
        attrs.append(("IFLA_ADDRESS", Mac(link.mac)))
    if link.txqueuelen is not None:
        attrs.append(("IFLA_TXQLEN", link.txqueuelen))
    if link.master is not None:
        attrs.append(("IFLA_MASTER", U32(index_of(link.master))))
    lower = dict(link.options).get("dev")
    if lower is not None and link.kind != "vxlan":
        attrs.append(("IFLA_LINK", U32(index_of(lower))))
    info: list[tuple[str, Any]] = [("IFLA_INFO_KIND", link.kind)]
    if peer is not None:
        info.append(("IFLA_INFO_DATA", [("VETH_INFO_PEER", _peer(peer, peer_index, peer_fd))]))
    elif data := info_data(link.kind, [pair for pair in link.options if pair not in DEFAULT_LINK_OPTIONS], index_of):
        info.append(("IFLA_INFO_DATA", data))
    attrs.append(("IFLA_LINKINFO", info))
    if link.link_netns not in (None, link.ns) and peer_fd is not None:
        attrs.append(("IFLA_NET_NS_FD", U32(peer_fd)))
    fields: dict[str, Any] = {"index": U32(index)}
    if up:
        fields |= {"flags": IFF_UP, "change": IFF_UP}
    return encode("ifinfmsg", encoding.RTM_NEWLINK, CREATE_FLAGS, fields, attrs)


def _peer(peer: Link, index: int, fd: int | None) -> dict[str, Any]:
    attrs: list[tuple[str, Any]] = [("IFLA_IFNAME", peer.at.dev)]
    if peer.mtu is not None:
        attrs.append(("IFLA_MTU", peer.mtu))
    if peer.mac is not None:
        attrs.append(("IFLA_ADDRESS", Mac(peer.mac)))
    if peer.txqueuelen is not None:
        attrs.append(("IFLA_TXQLEN", peer.txqueuelen))
    if fd is not None:
        attrs.append(("IFLA_NET_NS_FD", U32(fd)))
    return {"index": U32(index), "attrs": attrs}


def delete_link(index: int) -> bytearray:
    """Delete a link; the peer of a veth is deleted with it."""
    return encode("ifinfmsg", encoding.RTM_DELLINK, ACK_FLAGS, {"index": U32(index)}, [])


def autoconf(index: int, on: bool) -> bytearray:
    """IPv6 autoconfiguration of a link: addr_gen_mode eui64 or none. Send it before the link gets its carrier, in a
    separate message: the kernel applies the flags of a message before this attribute."""
    mode = [("AF_INET6", [("IFLA_INET6_ADDR_GEN_MODE", 0 if on else 1)])]
    return encode("ifinfmsg", encoding.RTM_NEWLINK, ACK_FLAGS, {"index": U32(index)}, [("IFLA_AF_SPEC", mode)])


def flags(index: int, *, up: bool, promisc: bool = False, arp: bool | None = None) -> bytearray:
    """Set a link up or down, promiscuous or not, and with or without ARP (`arp=None`: unchanged)."""
    fields = {
        "index": U32(index),
        "flags": (IFF_UP if up else 0) | (IFF_PROMISC if promisc else 0) | (IFF_NOARP if arp is False else 0),
        "change": IFF_UP | IFF_PROMISC | (0 if arp is None else IFF_NOARP),
    }
    return encode("ifinfmsg", encoding.RTM_NEWLINK, ACK_FLAGS, fields, [])


def ipv4_setting(index: int, number: int, value: int) -> bytearray:
    """Set a sysctl below net.ipv4.conf of a device; `number` is its IPV4_DEVCONF_*. pyroute2 knows this attribute only
    as the kernel sends it, not as it takes it."""
    message = encode("ifinfmsg", encoding.RTM_NEWLINK, ACK_FLAGS, {"index": U32(index)}, [])
    setting = encode_attribute(IFLA_INET_CONF, encode_attribute(number, struct.pack("=I", value)))
    message += encode_attribute(IFLA_AF_SPEC, encode_attribute(AF_INET, setting))
    message[:4] = struct.pack("=I", len(message))
    return message


def attribute(index: int, name: str, value: Any) -> bytearray:
    """Set one attribute of a link: IFLA_MTU, IFLA_ADDRESS, IFLA_TXQLEN, IFLA_MASTER (0: no master)."""
    return encode("ifinfmsg", encoding.RTM_NEWLINK, ACK_FLAGS, {"index": U32(index)}, [(name, value)])


def bridge_port(index: int, *, hairpin: bool, isolated: bool) -> bytearray:
    """Set the flags of a bridge port: `hairpin` (it may send a frame back out where it came in) and `isolated` (no
    frames between it and other isolated ports)."""
    values = [("IFLA_BRPORT_MODE", int(hairpin)), ("IFLA_BRPORT_ISOLATED", int(isolated))]
    data = [("IFLA_INFO_SLAVE_KIND", "bridge"), ("IFLA_INFO_SLAVE_DATA", values)]
    return encode("ifinfmsg", encoding.RTM_NEWLINK, ACK_FLAGS, {"index": U32(index)}, [("IFLA_LINKINFO", data)])


def kind_options(link: Link, index: int, index_of: IndexOf) -> bytearray:
    """Set the options of the link's kind on a link that exists already."""
    info = [("IFLA_INFO_KIND", link.kind), ("IFLA_INFO_DATA", info_data(link.kind, link.options, index_of))]
    return encode("ifinfmsg", encoding.RTM_NEWLINK, ACK_FLAGS, {"index": U32(index)}, [("IFLA_LINKINFO", info)])


def address(item: Address, index: int, *, delete: bool = False, local_only: bool = False) -> bytearray:
    """Add or remove an address. IPv6 addresses skip duplicate address detection: a lab's addresses are unique.

    `local_only` removes an IPv4 address by its local address alone. An address with another peer address needs that.
    """
    ip = item.addr.ip
    fields = {
        "family": family(ip.version),
        "prefixlen": item.addr.network.prefixlen,
        "index": U32(index),
        "scope": SCOPE_HOST if ip.is_loopback else SCOPE_LINK if ip.version == 6 and ip.is_link_local else 0,
        "flags": IFA_F_NODAD if ip.version == 6 else 0,
    }
    attrs: list[tuple[str, Any]] = [("IFA_LOCAL", ip), ("IFA_ADDRESS", ip)]
    if ip.version == 6:
        attrs = [("IFA_ADDRESS", ip), ("IFA_FLAGS", IFA_F_NODAD)]
    elif local_only:
        attrs = [("IFA_LOCAL", ip)]
    elif item.addr.network.prefixlen < 31 and not ip.is_loopback:
        attrs.append(("IFA_BROADCAST", item.addr.network.broadcast_address))
    kinds = (encoding.RTM_NEWADDR, encoding.RTM_DELADDR)
    return _add_or_delete("ifaddrmsg", kinds, CREATE_FLAGS, delete, fields, attrs)


def connected_route(item: Address, index: int, *, delete: bool) -> bytearray:
    """Remove or restore the kernel's own route to an address's prefix."""
    network = item.addr.network
    four = network.version == 4
    fields = {
        "family": family(network.version),
        "dst_len": network.prefixlen,
        "table": 254,
        "proto": PROTO_KERNEL,
        "scope": SCOPE_LINK if four else SCOPE_GLOBAL,
        "type": 1,
    }
    attrs: list[tuple[str, Any]] = [("RTA_DST", network.network_address), ("RTA_OIF", U32(index))]
    attrs.append(("RTA_PREFSRC", item.addr.ip) if four else ("RTA_PRIORITY", 256))
    kinds = (encoding.RTM_NEWROUTE, encoding.RTM_DELROUTE)
    return _add_or_delete("rtmsg", kinds, REPLACE_FLAGS, delete, fields, attrs)


def neighbour(item: Neighbour, index: int, *, delete: bool = False) -> bytearray:
    """Add (or replace) or remove a neighbour entry."""
    fields = {
        "family": family(item.ip.version),
        "ifindex": U32(index),
        "state": NUD[item.state] if not item.proxy else NUD["permanent"],
        "flags": NTF_PROXY if item.proxy else 0,
    }
    attrs: list[tuple[str, Any]] = [("NDA_DST", item.ip)]
    if item.mac is not None and not item.proxy:
        attrs.append(("NDA_LLADDR", Mac(item.mac)))
    kinds = (encoding.RTM_NEWNEIGH, encoding.RTM_DELNEIGH)
    return _add_or_delete("ndmsg", kinds, REPLACE_FLAGS, delete, fields, attrs)


def fdb(item: Fdb, index: int, *, via: int | None = None, delete: bool = False) -> bytearray:
    """Add or remove a forwarding entry: static on a bridge port, permanent on a VXLAN device, with the device
    `via` that its packets leave by."""
    tunnel = item.dst is not None
    fields = {
        "family": AF_BRIDGE,
        "ifindex": U32(index),
        "state": NUD["permanent"] if tunnel else NUD["noarp"],
        "flags": NTF_SELF if tunnel else NTF_MASTER,
    }
    attrs: list[tuple[str, Any]] = [("NDA_LLADDR", Mac(item.mac))]
    if tunnel:
        attrs.append(("NDA_DST", item.dst))
        attrs += [("NDA_IFINDEX", U32(via))] if via is not None else []
    # a VXLAN device may have several destinations for the all-zero MAC, so append; other entries (learned) are replaced
    add_flags = REQUEST | ACK | CREATE | (APPEND if tunnel and set(item.mac) <= set("0:") else REPLACE)
    return encode(
        "ndmsg",
        encoding.RTM_DELNEIGH if delete else encoding.RTM_NEWNEIGH,
        ACK_FLAGS if delete else add_flags,
        fields,
        attrs,
    )


def delete_route(item: Route, index: int | None, *, without_nexthop: bool = False) -> bytearray:
    """Remove a route of any protocol and scope. `without_nexthop` gives neither gateway nor device: the kernel requires
    that for a route with several nexthops or with a nexthop object."""
    fields = {
        "family": family(item.dst.version),
        "dst_len": item.dst.prefixlen,
        "tos": item.tos,
        "table": item.table if item.table < 256 else 0,
        "proto": 0,
        "scope": SCOPE_NOWHERE,
        # the kernel takes a blackhole by a nexthop object for a unicast route; 0 matches any type
        "type": ROUTE_KIND.get(item.kind, 0) if item.nhid is None else 0,
    }
    without_nexthop = without_nexthop or bool(item.nexthops) or item.nhid is not None
    attrs: list[tuple[str, Any]] = [] if without_nexthop else _nexthop(item, index)
    if item.dst.prefixlen:
        attrs.insert(0, ("RTA_DST", item.dst.network_address))
    if item.metric:
        attrs.append(("RTA_PRIORITY", item.metric))
    if item.table > 255:
        attrs.append(("RTA_TABLE", item.table))
    message = encode("rtmsg", encoding.RTM_DELROUTE, ACK_FLAGS, fields, attrs)
    return message if item.nhid is None else _with(message, RTA_NH_ID, struct.pack("=I", item.nhid))


def _nexthop(item: Route, index: int | None) -> list[tuple[str, Any]]:
    attrs: list[tuple[str, Any]] = []
    if item.via is not None:
        if item.via.version == item.dst.version:
            attrs.append(("RTA_GATEWAY", item.via))
        else:
            attrs.append(("RTA_VIA", {"family": family(item.via.version), "addr": str(item.via), "attrs": []}))
    if index is not None and not (item.kind not in ("unicast", "local") and item.dst.version == 4):
        attrs.append(("RTA_OIF", U32(index)))
    return attrs


def _scope(item: Route) -> int:
    """The default scope of a route, which follows from its kind and gateway. IPv6 routes have no scope."""
    if item.kind == "local":
        return SCOPE_HOST if item.dst.version == 4 else SCOPE_GLOBAL
    has_gateway = item.via is not None or bool(item.nexthops)
    return SCOPE_LINK if item.dst.version == 4 and not has_gateway and item.kind == "unicast" else SCOPE_GLOBAL


def route(item: Route, index: int | None, index_of: IndexOf | None = None, *, replace: bool = False) -> bytearray:
    """Add or replace a route. `index_of(dev)` finds the devices of its next hops; only a multipath route needs it."""
    fields = {
        "family": family(item.dst.version),
        "dst_len": item.dst.prefixlen,
        "tos": item.tos,
        "table": item.table if item.table < 256 else 0,
        "proto": PROTO_BOOT if item.proto is None else item.proto,
        "scope": SCOPES[item.scope] if item.scope is not None else _scope(item),
        "type": ROUTE_KIND[item.kind],
        "flags": ONLINK if item.onlink else 0,
    }
    attrs = _nexthop(item, index)
    if item.dst.prefixlen:
        attrs.insert(0, ("RTA_DST", item.dst.network_address))
    if item.src is not None:
        attrs.append(("RTA_PREFSRC", item.src))
    if item.metric:
        attrs.append(("RTA_PRIORITY", item.metric))
    if item.table > 255:
        attrs.append(("RTA_TABLE", item.table))
    if item.mtu is not None:
        attrs.append(("RTA_METRICS", [("RTAX_MTU", item.mtu)]))
    message = encode("rtmsg", encoding.RTM_NEWROUTE, REPLACE_FLAGS if replace else CREATE_FLAGS, fields, attrs)
    if item.nexthops:
        message = _with(message, RTA_MULTIPATH, b"".join(_multipath(item, hop, index_of) for hop in item.nexthops))
    return message if item.encap is None else _with_encap(message, *item.encap)


def _with(message: bytearray, kind: int, payload: bytes) -> bytearray:
    """A message with one more attribute, of a type that pyroute2 does not encode."""
    message += encode_attribute(kind, payload)
    message[:4] = struct.pack("=I", len(message))
    return message


def _multipath(item: Route, hop: NextHop, index_of: IndexOf | None) -> bytes:
    """One next hop: a struct rtnexthop, and its gateway (struct rtvia if it is of the other family)."""
    gateway = b""
    if hop.via is not None and hop.via.version == item.dst.version:
        gateway = encode_attribute(RTA_GATEWAY, hop.via.packed)
    elif hop.via is not None:
        gateway = encode_attribute(RTA_VIA, struct.pack("=H", family(hop.via.version)) + hop.via.packed)
    index = index_of(hop.dev) if hop.dev is not None and index_of is not None else 0
    flags = ONLINK if hop.onlink else 0
    return struct.pack("=HBBi", 8 + len(gateway), flags, hop.weight - 1, index) + gateway


def _with_encap(message: bytearray, tunnel_id: int, remote: IP) -> bytearray:
    """A route with an encapsulation (`encap ip id TUNNEL_ID dst REMOTE`), which pyroute2 cannot encode."""
    tunnel = encode_attribute(LWTUNNEL_IP_ID, struct.pack(">Q", tunnel_id))
    tunnel += encode_attribute(LWTUNNEL_IP_DST, remote.packed)
    return _with(_with(message, RTA_ENCAP | NESTED, tunnel), RTA_ENCAP_TYPE, struct.pack("=H", LWTUNNEL_IP))


def rule(item: Rule, *, delete: bool = False) -> bytearray:
    """Add or remove a policy-routing rule."""
    fields: dict[str, Any] = {
        "family": family(item.family),
        "dst_len": item.dst.prefixlen if item.dst is not None else 0,
        "src_len": item.src.prefixlen if item.src is not None else 0,
        "table": item.table if item.kind == "lookup" and item.table < 256 else 0,
        # a goto action requires a target, which a removal does not know; 0 matches any action
        "action": 0 if item.kind == "goto" else RULE_ACTION.get(item.kind, 0),
        "flags": RULE_INVERT if item.invert else 0,
    }
    attrs: list[tuple[str, Any]] = [("FRA_PRIORITY", U32(item.pref))]
    if item.kind == "lookup":
        attrs.append(("FRA_TABLE", item.table))
    for name, net in (("FRA_SRC", item.src), ("FRA_DST", item.dst)):
        if net is not None:
            attrs.append((name, net.network_address))
    for name, dev in (("FRA_IIFNAME", item.iif), ("FRA_OIFNAME", item.oif)):
        if dev is not None:
            attrs.append((name, dev))
    if item.mark is not None:
        attrs += [("FRA_FWMARK", item.mark), ("FRA_FWMASK", item.mask if item.mask is not None else 0xFFFFFFFF)]
    kinds = (encoding.RTM_NEWRULE, encoding.RTM_DELRULE)
    return _add_or_delete("fibmsg", kinds, CREATE_FLAGS, delete, fields, attrs)

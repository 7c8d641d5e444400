"""Ask a namespace for the settings of IPv4 that RTM_GETNETCONF says, for all devices or for one."""

from __future__ import annotations

import struct

from labctl.kernel.netlink import encoding
from labctl.kernel.netlink.messages import AF_INET
from labctl.kernel.netlink.rtnetlink import Channel, attributes

_i32 = struct.Struct("=i")

# numbers of attributes, as in linux/netconf.h
NETCONFA_IFINDEX, NETCONFA_FORWARDING, NETCONFA_RP_FILTER, NETCONFA_PROXY_NEIGH = 1, 2, 3, 5
NETCONF_ALL, NETCONF_DEFAULT = -1, -2  # in place of an index: net.ipv4.conf.all and .default
# the sysctls below net.ipv4.conf.<dev> in the order of IPV4_DEVCONF_* in linux/ip.h, which is part of the kernel's API
IPV4_CONF = (
    "forwarding", "mc_forwarding", "proxy_arp", "accept_redirects", "secure_redirects", "send_redirects",
    "shared_media", "rp_filter", "accept_source_route", "bootp_relay", "log_martians", "tag", "arp_filter",
    "medium_id", "disable_xfrm", "disable_policy", "force_igmp_version", "arp_announce", "arp_ignore",
    "promote_secondaries", "arp_accept", "arp_notify", "accept_local", "src_valid_mark", "proxy_arp_pvlan",
    "route_localnet",
)  # fmt: skip


def ipv4_conf(channel: Channel, index: int) -> dict[str, int]:
    """Some of the sysctls below net.ipv4.conf: of `all` or `default` (NETCONF_ALL, NETCONF_DEFAULT), or of a device.
    Empty if the kernel does not say."""
    body = struct.pack("=B3xHHi", AF_INET, 8, NETCONFA_IFINDEX, index)
    names = {NETCONFA_FORWARDING: "forwarding", NETCONFA_RP_FILTER: "rp_filter", NETCONFA_PROXY_NEIGH: "proxy_arp"}
    for data, start, end in channel.request(encoding.RTM_GETNETCONF, body):
        found = attributes(data, start + 4, end)
        return {name: _i32.unpack_from(data, found[kind][0])[0] for kind, name in names.items() if kind in found}
    return {}

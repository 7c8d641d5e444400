"""Cases of traces in which nobody answers for an address, or a frame has the wrong MAC address: settings of ARP,
proxy ARP and proxy NDP, macvlans, and neighbour entries."""

from __future__ import annotations

from tests.support.trace_case import case

# four macvlans of one device, each in its own container, and a machine on the wire
STACK = """
name: stack
model: raw
namespaces: [host, c1, c2, c3, c4, out]
links:
  - {veth: [{at: host/eth0, mac: "02:00:00:00:03:01"}, out/eth0]}
  - {macvlan: c1/eth0, dev: eth0, mode: bridge, link_netns: host, mac: "02:00:00:00:03:11"}
  - {macvlan: c2/eth0, dev: eth0, mode: bridge, link_netns: host}
  - {macvlan: c3/eth0, dev: eth0, mode: private, link_netns: host}
  - {macvlan: c4/eth0, dev: eth0, mode: vepa, link_netns: host}
addresses:
  host/eth0: [192.0.2.1/24, "2001:db8::1/64"]
  out/eth0: [192.0.2.9/24, "2001:db8::9/64"]
  c1/eth0: [192.0.2.11/24, "2001:db8::11/64"]
  c2/eth0: [192.0.2.12/24, "2001:db8::12/64"]
  c3/eth0: [192.0.2.13/24, "2001:db8::13/64"]
  c4/eth0: [192.0.2.14/24, "2001:db8::14/64"]
routes: {c1: default via 192.0.2.1}
"""

# two hosts and a third one on a bridge; the second one has addresses on lo, too
SILENCE = """
name: silence
model: raw
namespaces: [h1, h2, h3, sw]
links:
  - {bridge: sw/br0}
  - {veth: [h1/eth0, {at: sw/p1, master: br0}]}
  - {veth: [h2/eth0, {at: sw/p2, master: br0}]}
  - {veth: [h2/eth1, h3/eth1]}
  - {veth: [{at: h3/eth0, mac: "02:00:00:00:04:03"}, {at: sw/p3, master: br0}]}
addresses:
  h1/eth0: [192.0.2.1/24, 203.0.113.1/24, "2001:db8::1/64"]
  h2/eth0: [192.0.2.2/24, "2001:db8::2/64"]
  h2/eth1: [198.51.100.2/24]
  h3/eth0: [192.0.2.3/24, "2001:db8::3/64"]
  h2/lo: [192.0.2.100/32, "2001:db8::100/128"]
sysctls:
  h1: {net.ipv4.conf.all.arp_announce: 0, net.ipv4.conf.eth0.arp_announce: 0}
  h2:
    net.ipv4.conf.all.arp_ignore: 0
    net.ipv4.conf.eth0.arp_ignore: 0
    net.ipv4.conf.all.arp_filter: 0
    net.ipv4.conf.eth0.arp_filter: 0
    net.ipv4.conf.all.rp_filter: 0
    net.ipv4.conf.eth0.rp_filter: 0
"""

CALICO = """
name: proxies
model: calico
nodes: {node1: {pods: [a, b]}, node2: {pods: [c]}}
"""

# two machines of one IPv6 prefix on the two sides of a router that can answer for each of them (proxy NDP)
NDP = """
name: ndp
model: raw
namespaces: [m1, m2, nr]
links:
  - {veth: [m1/eth0, nr/v1]}
  - {veth: [m2/eth0, nr/v2]}
addresses:
  m1/eth0: "2001:db8:7::5/64"
  m2/eth0: "2001:db8:7::6/64"
routes: {nr: ["2001:db8:7::5 dev v1", "2001:db8:7::6 dev v2"]}
sysctls:
  nr:
    net.ipv6.conf.all.forwarding: 1
    net.ipv6.conf.v1.forwarding: 1
    net.ipv6.conf.v1.proxy_ndp: 1
    net.ipv6.conf.v2.proxy_ndp: 1
"""

# two machines of one network on two devices of a fabric, which answers for each of them with one MAC address
FABRIC = """
name: onemac
model: raw
namespaces: [m1, m2, fab, out]
links:
  - {veth: [m1/eth0, {at: fab/lan1, mac: "02:00:00:00:06:01"}]}
  - {veth: [m2/eth0, {at: fab/lan2, mac: "02:00:00:00:06:01"}]}
  - {veth: [fab/up, out/eth0]}
addresses:
  m1/eth0: 10.9.0.1/16
  m2/eth0: 10.9.0.2/16
  fab/up: 198.51.100.1/24
  out/eth0: 198.51.100.9/24
routes:
  fab: [10.9.0.1 dev lan1, 10.9.0.2 dev lan2]
  m1: default via 10.9.0.254
sysctls:
  fab: {net.ipv4.ip_forward: 1, net.ipv4.conf.lan1.proxy_arp: 1, net.ipv4.conf.lan2.proxy_arp: 1}
  out: {net.ipv4.ip_forward: 1}
"""

# a host behind a router, with the setting that can switch IPv6 off in the plan
SIX_OFF = """
name: sixoff
model: raw
namespaces: [s1, s2, s3]
links:
  - {veth: [s1/eth0, s2/s1]}
  - {veth: [s2/s3, s3/eth0]}
addresses:
  s1/eth0: [10.1.0.2/24, "2001:db8:1::2/64"]
  s2/s1: [10.1.0.1/24, "2001:db8:1::1/64"]
  s2/s3: [10.2.0.1/24, "2001:db8:2::1/64"]
  s3/eth0: [10.2.0.2/24, "2001:db8:2::2/64"]
routes:
  s1: [default via 10.1.0.1, "default via 2001:db8:1::1"]
  s3: [default via 10.2.0.1, "default via 2001:db8:2::1"]
sysctls:
  s1: {net.ipv6.conf.eth0.disable_ipv6: 0}
  s2: {net.ipv4.ip_forward: 1, net.ipv6.conf.all.forwarding: 1}
  s3: {net.ipv6.conf.eth0.disable_ipv6: 0}
"""

LABS = {"sixoff": SIX_OFF, "onemac": FABRIC, "stack": STACK, "silence": SILENCE, "proxies": CALICO, "ndp": NDP}

BELOW = "is a macvlan of host/eth0: the kernel passes nothing between a macvlan and the device below it"
MACVLAN_CASES = (
    case("macvlan-to-host", "stack", "", "c1 host", "macvlan", f"c1/eth0 {BELOW}", "host has the address 192.0.2.1"),
    case("macvlan-to-host-udp", "stack", "", "c4 host --udp 53", "macvlan", f"c4/eth0 {BELOW}"),
    case("macvlan-from-host", "stack", "", "host c1 --tcp 80", "macvlan", f"c1/eth0 {BELOW}"),
    case("macvlan-from-host-6", "stack", "", "host 2001:db8::13", "macvlan", f"c3/eth0 {BELOW}"),
    case("macvlan-gateway", "stack", "", "c1 198.51.100.1", "macvlan", f"c1/eth0 {BELOW}"),
    case("macvlan-private", "stack", "", "c3 c1", "macvlan", "c3/eth0 (mode private) and c1/eth0 (mode bridge)"),
    case("macvlan-vepa-6", "stack", "", "c4 2001:db8::12", "macvlan", "c4/eth0 (mode vepa) and c2/eth0 (mode bridge)"),
    case(
        "macvlan-known",
        "stack",
        "c2: ip neigh replace 192.0.2.1 lladdr 02:00:00:00:03:01 dev eth0 nud permanent",
        "c2 host --tcp 80",
        "macvlan",
        f"c2/eth0 {BELOW}",
        "the frame is for 02:00:00:00:03:01, host/eth0",
        place="entering out/eth0",
    ),
    case(
        "macvlan-known-from-host",
        "stack",
        "host: ip neigh replace 192.0.2.11 lladdr 02:00:00:00:03:11 dev eth0 nud permanent",
        "host c1",
        "macvlan",
        f"c1/eth0 {BELOW}",
    ),
    case("macvlan-siblings", "stack", "", "c1 c2", None, verdict="answered", routes="c1: 192.0.2.0/24 dev eth0"),
    case("macvlan-wire", "stack", "", "c1 out", None, verdict="answered", routes="c1: 192.0.2.0/24 dev eth0"),
)

FORGET = "h2: ip neigh flush all; h1: ip neigh flush all"  # also in h2: its own question would tell h1 the answer
IGNORE = f"{FORGET}; h2: sysctl -qw net.ipv4.conf."
ASKS_AS = "h1: ip route add 192.0.2.2 dev eth0 src 203.0.113.1"
OFF, SENDER_OFF = "h2: ip link set eth0 arp off", "h1: ip link set eth0 arp off"
ARP_CASES = (
    case(
        "arp-ignore",
        "silence",
        f"{IGNORE}all.arp_ignore=1",
        "h1 192.0.2.100",
        "arp-ignore",
        "h2 has the address 192.0.2.100 at lo, but does not answer for it at eth0: net.ipv4.conf.all.arp_ignore = 1",
    ),
    case(
        "arp-ignore-device",
        "silence",
        f"{IGNORE}eth0.arp_ignore=1",
        "h1 192.0.2.100 --tcp 80",
        "arp-ignore",
        "net.ipv4.conf.eth0.arp_ignore = 1",
    ),
    case("arp-ignore-own", "silence", f"{IGNORE}all.arp_ignore=1", "h1 h2", None, verdict="answered"),
    case(
        "arp-ignore-subnet",
        "silence",
        f"{IGNORE}eth0.arp_ignore=2; {ASKS_AS}; h2: ip route add 203.0.113.0/24 dev eth0",
        "h1 h2 --udp 53",
        "arp-ignore",
        "eth0.arp_ignore = 2, and the sender 203.0.113.1 is not in its subnet",
        "arp_announce = 0, so it asks as 203.0.113.1, although it has 192.0.2.1/24",
    ),
    case(
        "arp-ignore-all",
        "silence",
        f"{IGNORE}all.arp_ignore=8",
        "h1 h2",
        "arp-ignore",
        "all.arp_ignore = 8",
        "it answers for none of its addresses",
    ),
    case(
        "arp-ignore-scope",
        "silence",
        f"{IGNORE}all.arp_ignore=3; h2: ip addr add 192.0.2.77/32 dev lo scope host",
        "h1 192.0.2.77",
        "arp-ignore",
        "all.arp_ignore = 3",
    ),
    case(
        "arp-filter",
        "silence",
        f"{IGNORE}all.arp_filter=1; h2: ip route add 192.0.2.1/32 dev eth1",
        "h1 h2",
        "arp-filter",
        "its route to the sender, 192.0.2.1, does not use eth0 (net.ipv4.conf.all.arp_filter = 1)",
    ),
    case(
        "arp-rp-filter",
        "silence",
        f"{IGNORE}eth0.rp_filter=1; {ASKS_AS}",
        "h1 h2",
        "rp-filter",
        "the reverse-path filter of h2 rejects the ARP request that came in by eth0: there is no route back to its",
    ),
    case(
        "arp-rp-filter-other",
        "silence",
        f"{IGNORE}eth0.rp_filter=1; h2: ip route add 192.0.2.1/32 dev eth1",
        "h1 h2 --tcp 80",
        "rp-filter",
        "the route back to its sender, 192.0.2.1, does not use eth0",
    ),
    case(
        "arp-off-other",
        "silence",
        f"{FORGET}; {OFF}",
        "h1 192.0.2.100",
        "neighbour",
        "h2, which has 192.0.2.100, does not answer: ARP is off at eth0, by which the question came in",
    ),
    case("arp-off-6", "silence", f"{FORGET}; {OFF}", "h1 2001:db8::2", "neighbour", "to its own MAC address"),
    case("arp-off-sender", "silence", SENDER_OFF, "h1 h2", "arp-off", "h1/eth0 does not ask for MAC addresses"),
    case("arp-off-sender-6", "silence", SENDER_OFF, "h1 2001:db8::2 --tcp 80", "arp-off", "h1/eth0 does not ask"),
    case(
        "other-device-6",
        "silence",
        "",
        "h1 2001:db8::100",
        "other-device",
        "h2 has the address 2001:db8::100 at lo, but the question came in by eth0",
    ),
    case(
        "stale-neighbour",
        "silence",
        "h1: ip neigh replace 192.0.2.2 lladdr 02:00:00:00:04:03 dev eth0 nud permanent",
        "h1 h2",
        "stale-neighbour",
        "the neighbour entry of h1/eth0 for 192.0.2.2 has the MAC address 02:00:00:00:04:03, but h2/eth0",
        "02:00:00:00:04:03 is the MAC address of h3/eth0",
    ),
    case(
        "stale-neighbour-6",
        "silence",
        "h1: ip neigh replace 2001:db8::2 lladdr 02:00:00:00:04:99 dev eth0 nud permanent",
        "h1 2001:db8::2 --udp 53",
        "stale-neighbour",
        "the neighbour entry of h1/eth0 for 2001:db8::2 has the MAC address 02:00:00:00:04:99, but h2/eth0",
    ),
)

OWNER_CASES = (
    case(
        "arp-own-source",
        "silence",
        f"{FORGET}; h2: ip addr add 192.0.2.1/32 dev lo",
        "h1 h2",
        "local-source",
        "h2 itself has the source address 192.0.2.1 (at lo), so it rejects the ARP request of h1 for 192.0.2.2",
    ),
    case(
        "proxy-own-source",
        "proxies",
        "a: ip neigh flush all; node1: ip addr add 10.244.0.1/32 dev lo",
        "a c --tcp 80",
        "local-source",
        "node1 itself has the source address 10.244.0.1 (at lo), so it rejects the ARP request of a for 169.254.1.1",
    ),
    case(
        "proxy-stale-gateway",
        "proxies",
        "a: ip neigh replace 169.254.1.1 lladdr 02:00:00:00:04:99 dev eth0 nud permanent",
        "a b",
        "stale-neighbour",
        "the permanent neighbour entry of a/eth0 for 169.254.1.1 has the MAC address 02:00:00:00:04:99, which no",
    ),
    case(
        "stale-neighbour-cable",
        "proxies",
        "node2: ip neigh replace 10.244.0.65 lladdr 02:00:00:00:04:99 dev calidbc51878acf nud permanent",
        "a c --udp 53",
        "stale-neighbour",
        "the neighbour entry of node2/calidbc51878acf for 10.244.0.65 has the MAC address 02:00:00:00:04:99, but c",
    ),
    case(
        "way-round-cable",
        "proxies",
        "node2: ip link set calidbc51878acf down",
        "a c --tcp 80",
        "link-down",
        "node2/calidbc51878acf, which leads to c, is down, so its routes are gone, and node2 has a route that silently",
    ),
    case(
        "proxy-arp-off-alone",
        "proxies",
        "c: ip neigh flush all; node2: sysctl -qw net.ipv4.conf.calidbc51878acf.proxy_arp=0",
        "c a",
        "proxy-arp-off",
        "node2 does not have it, and could answer for it only with proxy ARP, which is off at node2/calidbc51878acf",
    ),
    case("onemac", "onemac", "", "m2 m1", None, verdict="answered"),
    case(
        "onemac-wrong-device",
        "onemac",
        "fab: ip route replace 10.9.0.1 dev up",
        "m2 m1",
        "neighbour",
        "fab/up gets no answer for 10.9.0.1 (ARP): m1 has that address, but m1/eth0 is not connected to fab/up; the",
    ),
    case(
        "onemac-proxy-off",
        "onemac",
        "m2: ip neigh flush all; fab: sysctl -qw net.ipv4.conf.lan2.proxy_arp=0",
        "m2 m1",
        "proxy-arp-off",
        "fab does not have it, and could answer for it only with proxy ARP, which is off at fab/lan2",
    ),
    case(
        "gateway-nobody",
        "road",
        "h1: ip route replace default via 10.1.0.99",
        "h1 h2",
        "neighbour",
        "h1/eth0 gets no answer for 10.1.0.99 (ARP), the gateway of its route default: no machine of the lab has",
    ),
    case(
        "own-mac",
        "silence",
        "h3: ip route add 203.0.113.0/24 dev eth0;"
        " h3: ip neigh replace 203.0.113.77 lladdr 02:00:00:00:04:03 dev eth0 nud permanent",
        "h3 203.0.113.77",
        "no-route",
        "to the MAC address of h3/eth0 itself, so no other machine takes them: the route 203.0.113.0/24 of h3 is the",
    ),
    case(
        "way-round-down",
        "silence",
        "h2: ip route add default via 192.0.2.1; h2: ip link set eth1 down",
        "h2 198.51.100.9",
        "link-down",
        "h2/eth1 is down, so h2 sends packets to 198.51.100.9 by its route default instead of 198.51.100.0/24, and h1",
        "h2/eth1 has 198.51.100.2/24",
    ),
    case(
        "way-round-missing",
        "proxies",
        "node1: ip route del 10.244.0.64/26",
        "a c --udp 53",
        "no-route",
        "node1 has no route to 10.244.0.65 (c) except its default route, although node2 has one back (10.244.0.0/26)",
    ),
    case(
        "rule-about-wrong-device",
        "road",
        "r1: ip route add 10.2.0.2 dev h1; r1: iptables-legacy -A FORWARD -o h1 -j DROP",
        "h1 h2",
        "rule",
        "dropped the request: the route 10.2.0.2 of r1 sends it out by h1, although 10.2.0.2 is in no network of that",
    ),
    case(
        "ipv6-off-sender",
        "sixoff",
        "s1: sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1",
        "s1 2001:db8:2::2",
        "ipv6-off",
        "IPv6 is off at s1/eth0 (disable_ipv6 = 1), so s1 has no route to 2001:db8:2::2",
        "s1: net.ipv6.conf.eth0.disable_ipv6 = 1",
    ),
    case(
        "ipv6-off-target",
        "sixoff",
        "s3: sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1",
        "s1 2001:db8:2::2 --tcp 80",
        "ipv6-off",
        "IPv6 is off at s3/eth0 (disable_ipv6 = 1), so s3 does not have the address 2001:db8:2::2 any more",
    ),
    case(
        "address-lost-router",
        "sixoff",
        "s2: ip addr del 10.2.0.1/24 dev s3",
        "s1 s3",
        "no-address",
        "s2 does not have the address 10.2.0.1 any more, so it has no route to 10.2.0.2",
    ),
    case(
        "address-lost-router-6",
        "sixoff",
        "s2: ip addr del 2001:db8:2::1/64 dev s3",
        "s1 2001:db8:2::2 --udp 53",
        "no-address",
        "s2 does not have the address 2001:db8:2::1 any more, so it has no route to 2001:db8:2::2",
    ),
    case(
        "prefix-too-wide",
        "road",
        "h1: ip addr add 10.1.0.2/8 dev eth0; h1: ip addr del 10.1.0.2/24 dev eth0",
        "h1 h2",
        "neighbour",
        "h2/eth0 is not connected to h1/eth0; h1 takes it for a neighbour because of the prefix of its address",
    ),
)

GATEWAY = "p1: ip neigh flush to 169.254.1.1"
CALICO_GATEWAY = "a: ip neigh flush all; node1: ip route del default"
NO_ROUTE = "node1 has no route to 169.254.1.1, so it does not answer for it"
ENTRIES = (
    "nr: ip -6 neigh add proxy 2001:db8:7::6 dev v1; nr: ip -6 neigh add proxy 2001:db8:7::5 dev v2;"
    " m1: ip -6 neigh flush all; m2: ip -6 neigh flush all"
)
ADDRESS = "nr: ip addr add fe80::1/64 nodad dev"
PROXIES = f"{ADDRESS} v1; {ADDRESS} v2; {ENTRIES}"
SIX = "m1 2001:db8:7::6"
PROXY_CASES = (
    case("proxy-arp-calico", "proxies", CALICO_GATEWAY, "a c", "proxy-arp-route", NO_ROUTE, "proxy_arp = 1"),
    case("proxy-arp-calico-tcp", "proxies", CALICO_GATEWAY, "a b --tcp 80", "proxy-arp-route", NO_ROUTE),
    case(
        "proxy-arp-calico-reply",
        "proxies",
        CALICO_GATEWAY,
        "c a",
        "proxy-arp-route",
        NO_ROUTE,
        place="arrived in a, but the reply never left a",
    ),
    case(
        "proxy-arp-unreachable",
        "flat",
        f"{GATEWAY}; n1: ip route add unreachable 169.254.1.1",
        "p1 p2 --udp 53",
        "proxy-arp-route",
        "n1 has no usable route to 169.254.1.1",
    ),
    case(
        "proxy-arp-back",
        "flat",
        f"{GATEWAY}; n1: ip route add 169.254.1.1 dev azv1",
        "p1 p2",
        "proxy-arp-route",
        "the route of n1 to 169.254.1.1 leads back to azv1",
    ),
    case(
        "proxy-arp-forwarding-off",
        "flat",
        f"{GATEWAY}; n1: sysctl -qw net.ipv4.ip_forward=0",
        "p1 p2",
        "forwarding-off",
        "n1 does not answer for 169.254.1.1: proxy ARP at n1/azv1 needs forwarding, and IPv4 forwarding is off",
        "net.ipv4.conf.azv1.forwarding = 0",
    ),
    case("proxy-ndp", "ndp", PROXIES, SIX, None, verdict="answered"),
    case(
        "proxy-ndp-entry",
        "ndp",
        f"{PROXIES}; nr: ip -6 neigh del proxy 2001:db8:7::6 dev v1",
        f"{SIX} --tcp 80",
        "proxy-entry",
        "nr has no proxy neighbour entry for 2001:db8:7::6 at v1",
    ),
    case(
        "proxy-ndp-off",
        "ndp",
        f"{PROXIES}; nr: sysctl -qw net.ipv6.conf.v1.proxy_ndp=0",
        SIX,
        "proxy-arp-off",
        "only with proxy NDP, which is off at nr/v1",
        "net.ipv6.conf.v1.proxy_ndp = 0",
    ),
    case(
        "proxy-ndp-forwarding-off",
        "ndp",
        f"{PROXIES}; nr: sysctl -qw net.ipv6.conf.v1.forwarding=0",
        f"{SIX} --udp 53",
        "forwarding-off",
        "proxy NDP at nr/v1 needs forwarding, and IPv6 forwarding is off",
    ),
    case(
        "proxy-ndp-no-address",
        "ndp",
        ENTRIES,
        SIX,
        "no-address",
        "nr cannot answer for 2001:db8:7::6 (proxy NDP): it has no IPv6 address",
    ),
)

CASES = (*MACVLAN_CASES, *ARP_CASES, *OWNER_CASES, *PROXY_CASES)

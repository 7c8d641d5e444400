"""The cases of traces: small labs, one thing broken in each case, and what the diagnosis must report."""

from __future__ import annotations

from labctl.tracing.result import TraceResult
from tests.support import bridge_trace_cases, neighbour_trace_cases, trace_nat_cases, tunnel_trace_cases
from tests.support.trace_case import Case, case

__all__ = ["CASES", "LABS", "Case", "case", "routes_of", "rules_of"]

# h1 - r1 - r2 - h2: two routers between two hosts, and a service address that r1 translates
ROAD = """
name: road
model: raw
namespaces: [h1, r1, r2, h2]
links:
  - {veth: [h1/eth0, r1/h1]}
  - {veth: [r1/r2, r2/r1]}
  - {veth: [h2/eth0, r2/h2], mtu: 1500}
addresses:
  h1/eth0: [10.1.0.2/24, "2001:db8:1::2/64"]
  r1/h1: [10.1.0.1/24, "2001:db8:1::1/64"]
  r1/r2: [10.9.0.1/24, "2001:db8:9::1/64"]
  r2/r1: [10.9.0.2/24, "2001:db8:9::2/64"]
  r2/h2: [10.2.0.1/24, "2001:db8:2::1/64"]
  h2/eth0: [10.2.0.2/24, "2001:db8:2::2/64"]
routes:
  h1: [default via 10.1.0.1, "default via 2001:db8:1::1"]
  h2: [default via 10.2.0.1, "default via 2001:db8:2::1"]
  r1: [10.2.0.0/24 via 10.9.0.2, "2001:db8:2::/64 via 2001:db8:9::2"]
  r2: [10.1.0.0/24 via 10.9.0.1, "2001:db8:1::/64 via 2001:db8:9::1"]
sysctls:
  r1: {net.ipv4.ip_forward: 1, net.ipv6.conf.all.forwarding: 1}
  r2: {net.ipv4.ip_forward: 1, net.ipv6.conf.all.forwarding: 1}
  h2: {net.ipv4.icmp_echo_ignore_all: 0}
firewall:
  r1:
    nat:
      PREROUTING:
        - "-d 10.96.0.10/32 -j DNAT --to-destination 10.2.0.2"
        - "-d 10.96.0.77/32 -j DNAT --to-destination 10.2.0.77"
      POSTROUTING: ["-d 203.0.113.0/24 -j MASQUERADE"]
  r2:
    filter:
      FORWARD: ["! -s 10.9.0.0/24 -d 203.0.113.0/24 -j DROP"]
checks:
  - {say: across both routers, ping: h1 -> h2}
"""

# two hosts with a VXLAN over a router, known to each other by static entries only
TUNNEL = """
name: tunnel
model: raw
namespaces: [v1, v2, net]
links:
  - {veth: [v1/eth0, net/v1]}
  - {veth: [v2/eth0, net/v2]}
  - {vxlan: v1/vx0, id: 42, local: 192.0.2.1, dstport: 4789, learning: "off", mac: "02:00:00:00:01:01"}
  - {vxlan: v2/vx0, id: 42, local: 198.51.100.1, dstport: 4789, learning: "off", mac: "02:00:00:00:01:02"}
addresses:
  v1/eth0: [192.0.2.1/24]
  v2/eth0: [198.51.100.1/24]
  net/v1: [192.0.2.254/24]
  net/v2: [198.51.100.254/24]
  v1/vx0: [10.8.0.1/24, "2001:db8:8::1/64"]
  v2/vx0: [10.8.0.2/24, "2001:db8:8::2/64"]
sysctls:
  net: {net.ipv4.ip_forward: 1}
routes:
  v1: [default via 192.0.2.254]
  v2: [default via 198.51.100.254]
neighbours:
  v1: ["10.8.0.2 lladdr 02:00:00:00:01:02 dev vx0", "2001:db8:8::2 lladdr 02:00:00:00:01:02 dev vx0"]
  v2: ["10.8.0.1 lladdr 02:00:00:00:01:01 dev vx0", "2001:db8:8::1 lladdr 02:00:00:00:01:01 dev vx0"]
fdb:
  v1: ["02:00:00:00:01:02 dev vx0 dst 198.51.100.1"]
  v2: ["02:00:00:00:01:01 dev vx0 dst 192.0.2.1"]
checks:
  - {say: through the tunnel, ping: v1 -> 10.8.0.2}
"""

# the tunnel of one of the two made again, with a number and a far end that are set for each packet
_FLOW = (
    "{0}: ip link del vx0; {0}: ip link add vx0 address {1} type vxlan external dstport 4789; {0}: ip link set vx0 up;"
    " {0}: ip addr add {2}/32 dev vx0; {0}: ip neigh add {3} lladdr {4} dev vx0 nud permanent;"
    " {0}: ip route add {3} encap ip id 42 dst {5} dev vx0 src {2}"
)
FLOW_1 = _FLOW.format("v1", "02:00:00:00:01:01", "10.8.0.1", "10.8.0.2", "02:00:00:00:01:02", "198.51.100.1")
FLOW_2 = _FLOW.format("v2", "02:00:00:00:01:02", "10.8.0.2", "10.8.0.1", "02:00:00:00:01:01", "192.0.2.1")

# two hosts on a bridge; the host of the bridge translates a service address to one of them
SWITCH = """
name: switch
model: raw
namespaces: [s1, s2, sw, isp]
links:
  - {bridge: sw/br0}
  - {veth: [s1/eth0, {at: sw/p1, master: br0}]}
  - {veth: [s2/eth0, {at: sw/p2, master: br0}]}
  - {veth: [sw/up, isp/sw]}
addresses:
  s1/eth0: [10.5.0.2/24]
  s2/eth0: [10.5.0.3/24]
  sw/br0: [10.5.0.1/24]
  sw/up: [192.0.2.5/24]
  isp/sw: [192.0.2.1/24]
sysctls:
  sw: {net.ipv4.ip_forward: 1, net.bridge.bridge-nf-call-iptables: 1}
routes:
  s1: [default via 10.5.0.1]
  s2: [default via 10.5.0.1]
  sw: [default via 192.0.2.1]
firewall:
  sw:
    nat:
      PREROUTING:
        - "-d 10.96.0.2/32 -j DNAT --to-destination 10.5.0.2"
        - "-d 10.96.0.3/32 -j DNAT --to-destination 10.5.0.3"
    filter:
      FORWARD: []
  isp:
    raw:
      PREROUTING: ["! -s 192.0.2.5/32 -i sw -j DROP"]
checks:
  - {say: over the bridge, ping: s1 -> s2}
"""
# two pods on a node that has no bridge: it answers for their gateway, and for them, in its own name (proxy ARP)
FLAT = """
name: flat
model: raw
namespaces: [p1, p2, n1, up]
links:
  - {veth: [n1/eth0, up/n1]}
  - {veth: [p1/eth0, n1/azv1]}
  - {veth: [p2/eth0, n1/azv2]}
addresses:
  p1/eth0: [10.7.0.5/32]
  p2/eth0: [10.7.0.6/32]
  n1/eth0: [10.8.0.1/24]
  up/n1: [10.8.0.254/24]
sysctls:
  n1: {net.ipv4.ip_forward: 1, net.ipv4.conf.azv1.proxy_arp: 1, net.ipv4.conf.azv2.proxy_arp: 1}
routes:
  p1: [169.254.1.1 dev eth0, default via 169.254.1.1 dev eth0]
  p2: [169.254.1.1 dev eth0, default via 169.254.1.1 dev eth0]
  n1: [10.7.0.5 dev azv1, 10.7.0.6 dev azv2, default via 10.8.0.254]
checks:
  - {say: through the node, ping: p1 -> p2}
"""

# three hosts on a bridge: packets for one that receives nothing come to another
FLOOD = """
name: flood
model: raw
namespaces: [f1, f2, f3, fw]
links:
  - {bridge: fw/br0}
  - {veth: [f1/eth0, {at: fw/p1, master: br0}]}
  - {veth: [f2/eth0, {at: fw/p2, master: br0}]}
  - {veth: [f3/eth0, {at: fw/p3, master: br0}]}
addresses:
  f1/eth0: [10.6.0.1/24]
  f2/eth0: [10.6.0.2/24]
  f3/eth0: [10.6.0.3/24]
checks:
  - {say: over the bridge, ping: f1 -> f2}
"""

# two hosts on a bridge, and a router on a veth: the bridge forwards what it routes, before and after
BESIDE = """
name: beside
model: raw
namespaces: [b1, b2, b3, far]
links:
  - {bridge: b3/sw}
  - {veth: [b1/eth0, {at: b3/p1, master: sw}]}
  - {veth: [b2/eth0, {at: b3/p2, master: sw}]}
  - {veth: [b3/gw0, {at: b3/gw0-sw, master: sw}]}
  - {veth: [b3/eth0, far/b3]}
addresses:
  b1/eth0: [10.4.0.2/24]
  b2/eth0: [10.4.1.2/24]
  b3/gw0: [10.4.0.1/24, 10.4.1.1/24]
  b3/eth0: [192.0.2.1/24]
  far/b3: [192.0.2.2/24]
sysctls:
  b3: {net.ipv4.ip_forward: 1, net.ipv4.conf.sw.arp_ignore: 1}
routes:
  b1: [default via 10.4.0.1]
  b2: [default via 10.4.1.1]
  far: [10.4.0.0/16 via 192.0.2.1]
checks:
  - {say: through the router, ping: b1 -> b2}
"""

LABS = {
    **bridge_trace_cases.LABS,
    **neighbour_trace_cases.LABS,
    **tunnel_trace_cases.LABS,
    **trace_nat_cases.LABS,
    "beside": BESIDE,
    "flat": FLAT,
    "flood": FLOOD,
    "road": ROAD,
    "tunnel": TUNNEL,
    "switch": SWITCH,
}


SIX = "2001:db8:2::2"
FORWARD = "r2: sysctl -qw net.ipv4.ip_forward=0"
NO_ROUTE, NO_ROUTE6 = "r1: ip route del 10.2.0.0/24", "r1: ip -6 route del 2001:db8:2::/64"
RPF = "r2: ip route replace 10.1.0.0/24 via 10.2.0.2; r2: sysctl -qw net.ipv4.conf.r1.rp_filter=1"
LOOSE = "r1: sysctl -qw net.ipv4.conf.h1.rp_filter=2"  # any way back will do
DROP, REJECT = "iptables-legacy -I FORWARD -d 10.2.0.2 -j DROP", "iptables-legacy -I FORWARD -d 10.2.0.2 -j REJECT"
RESET = "r2: iptables-legacy -I FORWARD -p tcp -d 10.2.0.2 -j REJECT --reject-with tcp-reset"
SMALL = "r2: ip link set h2 mtu 1280; h2: ip link set eth0 mtu 1280"
HOLE = "h2: ip link set eth0 mtu 1280"
MAC = "r2: ip neigh replace 10.2.0.2 lladdr 02:00:00:00:00:09 dev h2 nud permanent"
GATEWAY = "p1: ip neigh flush to 169.254.1.1"  # forget its MAC
MARKED = (
    "r1: iptables-legacy -t mangle -A PREROUTING -i h1 -p icmp -j MARK --set-mark 0x1; "
    "r1: ip rule add pref 100 fwmark 1 lookup 100; r1: ip route add default via 10.9.0.2 table 100"
)
LATE = MARKED.replace("PREROUTING -i h1", "FORWARD")
UNHEEDED = MARKED.partition("; ")[0]
OWN = MARKED.replace("r1: ", "h1: ").replace("PREROUTING -i h1", "OUTPUT").replace("10.9.0.2", "10.1.0.1")
EGRESS = (
    "r1: iptables-legacy -t nat -F POSTROUTING; r1: ip route add 203.0.113.0/24 via 10.9.0.2; "
    "r2: ip route add 203.0.113.0/24 via 10.2.0.2"
)
CHAIN = (
    "r2: iptables-legacy -N MINE; r2: iptables-legacy -A MINE -p icmp -j DROP; r2: iptables-legacy -I FORWARD -j MINE"
)
PLAIN = "h1: default via 10.1.0.1 dev eth0; r1: 10.2.0.0/24 via 10.9.0.2 dev r2; r2: 10.2.0.0/24 dev h2"
LOOP = "r2: ip route add 10.2.0.2 via 10.9.0.1"


def routes_of(story: TraceResult) -> tuple[str, ...]:
    """Every reported route of the request's path, with its namespace."""
    steps = (step for leg in story.legs if leg.name == "request" for step in leg.steps)
    return tuple(f"{step.node}: {note.text}" for step in steps for note in step.notes if note.label == "route")


def rules_of(story: TraceResult) -> tuple[str, ...]:
    """Every reported rule, with its leg and its namespace, without its text."""
    steps = ((leg.name, step) for leg in story.legs for step in leg.steps)
    found = ((name, step.node, note) for name, step in steps for note in step.notes if note.label == "rule")
    return tuple(f"{name} {node} {note.text.partition(':')[0]}" for name, node, note in found)


CASES = (
    case("delivered", "road", "", "h1 h2", None, verdict="answered"),
    case("delivered-6", "road", "", f"h1 {SIX}", None, verdict="answered"),
    case("delivered-tcp", "road", "", "h1 h2 --tcp 80 --listen", None, verdict="answered"),
    case("delivered-udp", "road", "", "h1 h2 --udp 53 --listen", None, verdict="answered"),
    case("delivered-tcp-6", "road", "", f"h1 {SIX} --tcp 80 --listen", None, verdict="answered"),
    case("delivered-udp-6", "road", "", f"h1 {SIX} --udp 53 --listen", None, verdict="answered"),
    case("service", "road", "", "h1 10.96.0.10", None, verdict="answered"),
    case("service-tcp", "road", "", "h1 10.96.0.10 --tcp 80", None, verdict="answered", listen="tcp h2 0.0.0.0 80"),
    case("forwarding-off", "road", FORWARD, "h1 h2", "forwarding-off", "r2 does not have", "ip_forward = 0"),
    case("forwarding-off-tcp", "road", FORWARD, "h1 h2 --tcp 80", "forwarding-off", "r2"),
    case("forwarding-off-udp", "road", FORWARD, "h1 h2 --udp 53", "forwarding-off", "r2"),
    case(
        "forwarding-off-6",
        "road",
        "r2: sysctl -qw net.ipv6.conf.all.forwarding=0",
        f"h1 {SIX}",
        "forwarding-off",
        "IPv6 forwarding is off",
        "net.ipv6.conf.all.forwarding = 0",
    ),
    case("no-route", "road", NO_ROUTE, "h1 h2", "no-route", "r1 has no route to 10.2.0.2", "Network is unreachable"),
    case("no-route-tcp", "road", NO_ROUTE, "h1 h2 --tcp 80", "no-route", "r1 has no route"),
    case("no-route-udp", "road", NO_ROUTE, "h1 h2 --udp 80", "no-route", "r1 has no route"),
    case("no-route-6", "road", NO_ROUTE6, f"h1 {SIX}", "no-route", f"r1 has no route to {SIX}"),
    case(
        "no-route-source",
        "road",
        "h1: ip route del default",
        "h1 h2",
        "no-route",
        "h1 has no route",
        place="never left h1",
    ),
    case(
        "no-route-source-6", "road", "h1: ip -6 route del default", f"h1 {SIX} --tcp 80", "no-route", "h1 has no route"
    ),
    case(
        "by-mark",
        "road",
        MARKED,
        "h1 h2",
        None,
        verdict="answered",
        routes="h1: default via 10.1.0.1 dev eth0; r1: default via 10.9.0.2 dev r2 table 100 (mark 0x1); "
        "r2: 10.2.0.0/24 dev h2",
    ),
    case("mark-late", "road", LATE, "h1 h2", None, verdict="answered", routes=PLAIN),
    case("mark-unheeded", "road", UNHEEDED, "h1 h2", None, verdict="answered", routes=PLAIN),
    case(
        "mark-own",
        "road",
        OWN,
        "h1 h2",
        None,
        verdict="answered",
        routes=PLAIN.replace("dev eth0", "dev eth0 table 100 (mark 0x1)"),
    ),
    case("mark-own-raw", "road", OWN.replace("-t mangle", "-t raw"), "h1 h2", None, verdict="answered", routes=PLAIN),
    case(
        "by-mark-refused",
        "road",
        f"{MARKED}; r1: ip route replace unreachable default table 100",
        "h1 h2",
        "reject-route",
        "r1 has a route that refuses",
        "from 10.1.0.2 iif h1 mark 0x1",
    ),
    case(
        "by-rule-refused",
        "road",
        "r1: ip rule add pref 90 to 10.2.0.0/24 prohibit",
        "h1 h2",
        "reject-route",
        "the routing of r1 refuses",
    ),
    case("blackhole", "road", "r1: ip route add blackhole 10.2.0.2", "h1 h2", "reject-route", "silently discards"),
    case("blackhole-rpf", "road", f"{LOOSE}; r1: ip route add blackhole 10.2.0.2", "h1 h2", "reject-route", "discards"),
    case("unreachable", "road", "r1: ip route add unreachable 10.2.0.2", "h1 h2", "reject-route", "refuses"),
    case("prohibit-6", "road", f"r1: ip -6 route add prohibit {SIX}", f"h1 {SIX}", "reject-route", "prohibits"),
    case(
        "no-route-back",
        "road",
        "h2: ip route del default",
        "h1 h2",
        "no-route-back",
        "h2 has no route back to 10.1.0.2",
    ),
    case(
        "no-route-back-6", "road", "h2: ip -6 route del default", f"h1 {SIX}", "no-route-back", "h2 has no route back"
    ),
    case("no-route-back-tcp", "road", "h2: ip route del default", "h1 h2 --tcp 80 --listen", "no-route-back", "h2"),
    case(
        "reply-no-route",
        "road",
        "r2: ip route del 10.1.0.0/24",
        "h1 h2",
        "no-route",
        "r2 has no route to 10.1.0.2",
        place="reply was last seen entering r2/h2",
    ),
    case(
        "reply-no-route-tcp",
        "road",
        "r2: ip route del 10.1.0.0/24",
        "h1 h2 --tcp 80 --listen",
        "no-route",
        "r2 has no route to 10.1.0.2",
        place="reply",
    ),
    case(
        "reply-no-route-6",
        "road",
        "r2: ip -6 route del 2001:db8:1::/64",
        f"h1 {SIX}",
        "no-route",
        "r2 has no route to 2001:db8:1::2",
        place="reply",
    ),
    case("rp-filter", "road", RPF, "h1 h2", "rp-filter", "does not use r1", "rp_filter = 1"),
    case("rp-filter-tcp", "road", RPF, "h1 h2 --tcp 80", "rp-filter", "does not use r1"),
    case(
        "drop",
        "road",
        f"r2: {DROP}",
        "h1 h2",
        "rule",
        "a rule of FORWARD in r2 dropped",
        "filter/FORWARD rule 1: -d 10.2.0.2/32 -j DROP",
    ),
    case("drop-tcp", "road", f"r2: {DROP}", "h1 h2 --tcp 80", "rule", "dropped", "filter/FORWARD rule 1"),
    case("drop-udp", "road", f"r2: {DROP}", "h1 h2 --udp 53", "rule", "dropped", "filter/FORWARD rule 1"),
    case(
        "drop-6",
        "road",
        f"r2: ip6tables-legacy -I FORWARD -d {SIX} -j DROP",
        f"h1 {SIX}",
        "rule",
        "dropped",
        f"ip6tables filter/FORWARD rule 1: -d {SIX}/128 -j DROP",
    ),
    case(
        "drop-policy",
        "road",
        "r2: iptables-legacy -P FORWARD DROP",
        "h1 h2",
        "rule",
        "the policy of FORWARD in r2",
        "filter/FORWARD policy DROP",
    ),
    case(
        "drop-chain",
        "road",
        CHAIN,
        "h1 h2",
        "rule",
        "a rule of MINE in r2",
        "filter/MINE rule 1: -p icmp -j DROP",
    ),
    case(
        "drop-output",
        "road",
        "h1: iptables-legacy -I OUTPUT -d 10.2.0.2 -j DROP",
        "h1 h2",
        "rule",
        "before it left",
        "filter/OUTPUT rule 1",
        place="never left h1",
    ),
    case(
        "drop-input",
        "road",
        "h2: iptables-legacy -I INPUT -p icmp -j DROP",
        "h1 h2",
        "rule",
        "a rule of INPUT in h2",
        place="entering h2/eth0",
    ),
    case(
        "drop-reply",
        "road",
        "r2: iptables-legacy -I FORWARD -s 10.2.0.2 -j DROP",
        "h1 h2",
        "rule",
        "dropped the reply",
        place="reply was last seen entering r2/h2",
    ),
    case("reject", "road", f"r2: {REJECT}", "h1 h2", "rule", "rejected the request", "port unreachable"),
    case(
        "reject-tcp",
        "road",
        f"r2: {REJECT}",
        "h1 h2 --tcp 80",
        "rule",
        "rejected the request",
        verdict="refused",
        place="entering r2/r1, and an ICMP error (port unreachable) came back",
    ),
    case(
        "reject-reset",
        "road",
        RESET,
        "h1 h2 --tcp 80",
        "rule",
        "rejected the request",
        "tcp-reset",
        verdict="refused",
        place="and a TCP reset came back",
    ),
    case(
        "reject-udp-6",
        "road",
        f"r2: ip6tables-legacy -I FORWARD -p udp -d {SIX} -j REJECT",
        f"h1 {SIX} --udp 53",
        "rule",
        "rejected the request",
        verdict="refused",
    ),
    case(
        "no-masquerade",
        "road",
        EGRESS,
        "h1 203.0.113.9",
        "rule",
        "dropped",
        "the source is still 10.1.0.2",
    ),
    case(
        "no-masquerade-tcp",
        "road",
        EGRESS,
        "h1 203.0.113.9 --tcp 443",
        "rule",
        "dropped",
        "the source is still 10.1.0.2",
    ),
    case(
        "arp",
        "road",
        "",
        "h1 10.2.0.77",
        "neighbour",
        "r2/h2 gets no answer for 10.2.0.77",
        "asked for the MAC address of 10.2.0.77",
    ),
    case("arp-6", "road", "", "h1 2001:db8:2::77", "neighbour", "r2/h2 gets no answer for 2001:db8:2::77"),
    case("arp-tcp", "road", "", "h1 10.2.0.77 --tcp 80", "neighbour", "r2/h2 gets no answer for 10.2.0.77"),
    case("arp-source", "road", "", "h1 10.1.0.77", "neighbour", "h1/eth0 gets no answer", place="never left h1"),
    case(
        "too-big", "road", SMALL, "h1 h2 --size 1400", "too-big", "too big for r2/h2 (MTU 1280)", "fragmentation needed"
    ),
    case("too-big-udp", "road", SMALL, "h1 h2 --udp 53 --size 1400", "too-big", "too big for r2/h2 (MTU 1280)"),
    case(
        "too-big-6", "road", SMALL, f"h1 {SIX} --size 1400", "too-big", "too big for r2/h2 (MTU 1280)", "packet too big"
    ),
    case(
        "too-big-source",
        "road",
        "",
        "h1 h2 --size 2000",
        "too-big",
        "too big for h1/eth0 (MTU 1500)",
        place="never left h1",
    ),
    case("cut", "road", SMALL, "h1 h2 --size 1400 --fragment", None, fact="r2 fragmented it", verdict="answered"),
    case(
        "black-hole",
        "road",
        HOLE,
        "h1 h2 --size 1400",
        "mtu-black-hole",
        "too big for h2/eth0 (MTU 1280)",
        place="leaving r2/h2",
    ),
    case("black-hole-6", "road", HOLE, f"h1 {SIX} --size 1400", "mtu-black-hole", "too big for h2/eth0 (MTU 1280)"),
    case(
        "black-hole-udp", "road", HOLE, "h1 h2 --udp 53 --size 1400", "mtu-black-hole", "too big for h2/eth0 (MTU 1280)"
    ),
    case("loop", "road", LOOP, "h1 h2", "loop", "send the packet to each other", "ttl exceeded"),
    case("loop-tcp", "road", LOOP, "h1 h2 --tcp 80", "loop", "send the packet to each other"),
    case(
        "loop-6",
        "road",
        f"r2: ip -6 route add {SIX} via 2001:db8:9::1",
        f"h1 {SIX}",
        "loop",
        "send the packet to each other",
        "hop limit exceeded",
    ),
    case(
        "closed-port",
        "road",
        "",
        "h1 h2 --tcp 80",
        "closed-port",
        "nothing in h2 listens on tcp port 80",
        verdict="refused",
    ),
    case(
        "closed-port-udp",
        "road",
        "",
        "h1 h2 --udp 53",
        "closed-port",
        "nothing in h2 listens on udp port 53",
        verdict="refused",
    ),
    case("closed-port-6", "road", "", f"h1 {SIX} --tcp 80", "closed-port", "nothing in h2 listens", verdict="refused"),
    case(
        "loopback-only",
        "road",
        "",
        "h1 h2 --tcp 80",
        "loopback-only",
        "only at 127.0.0.1:80",
        verdict="refused",
        listen="tcp h2 127.0.0.1 80",
    ),
    case(
        "loopback-only-udp-6",
        "road",
        "",
        f"h1 {SIX} --udp 53",
        "loopback-only",
        "only at [::1]:53",
        verdict="refused",
        listen="udp h2 ::1 53",
    ),
    case(
        "dead-backend",
        "road",
        "",
        "h1 10.96.0.77 --tcp 80",
        "dead-backend",
        "rewrites 10.96.0.77 to the backend 10.2.0.77",
    ),
    case(
        "backend-refuses",
        "road",
        "",
        "h1 10.96.0.10 --tcp 80",
        "dead-backend",
        "nothing in h2 listens",
        verdict="refused",
    ),
    case("silent-udp", "road", "", "h1 h2 --udp 53", None, verdict="unanswered", listen="udp h2 0.0.0.0 53"),
    case(
        "ignores-pings",
        "road",
        "h2: sysctl -qw net.ipv4.icmp_echo_ignore_all=1",
        "h1 h2",
        "ignores-pings",
        "h2 ignores pings",
    ),
    case(
        "link-down",
        "road",
        f"h2: ip link set eth0 down; {MAC}",
        "h1 h2",
        "link-down",
        "h2/eth0, is down",
    ),
    case(
        "wrong-mac",
        "road",
        MAC,
        "h1 h2",
        "stale-neighbour",
        "the neighbour entry of r2/h2 for 10.2.0.2 has the MAC address 02:00:00:00:00:09, but h2/eth0",
    ),
    case("tunnel", "tunnel", "", "v1 10.8.0.2", None, verdict="answered"),
    case("tunnel-6", "tunnel", "", "v1 2001:db8:8::2", None, verdict="answered"),
    case(
        "vxlan-fdb",
        "tunnel",
        "v1: bridge fdb del 02:00:00:00:01:02 dev vx0",
        "v1 10.8.0.2",
        "vxlan-fdb",
        "does not know which host has 02:00:00:00:01:02",
    ),
    case(
        "vxlan-fdb-of-a-port",
        "tunnel",
        "v1: ip link add br9 up type bridge; v1: ip link set vx0 master br9;"
        " v1: bridge fdb del 02:00:00:00:01:02 dev vx0; v1: bridge fdb add 02:00:00:00:01:02 dev vx0 master static",
        "v1 10.8.0.2",
        "vxlan-fdb",
        "does not know which host has 02:00:00:00:01:02",
    ),
    case("flow", "tunnel", f"{FLOW_1}; {FLOW_2}", "v1 10.8.0.2", None, verdict="answered"),
    case(
        "flow-untold",
        "tunnel",
        f"{FLOW_1}; {FLOW_2}; v1: ip route replace 10.8.0.2 dev vx0 src 10.8.0.1",
        "v1 10.8.0.2",
        "vxlan-untold",
        "the tunnel v1/vx0 got no far end for it",
    ),
    case(
        "flow-underlay",
        "tunnel",
        f"{FLOW_1}; v1: ip route del default",
        "v1 10.8.0.2",
        "vxlan-underlay",
        "v1/vx0 could not send it towards 198.51.100.1",
    ),
    case(
        "flow-down",
        "tunnel",
        f"{FLOW_1}; {FLOW_2}; v2: ip link set vx0 down",
        "v1 10.8.0.2",
        "link-down",
        "v2 received the packet in VXLAN 42, but v2/vx0, which decapsulates it, is down",
    ),
    case(
        "vxlan-fdb-6",
        "tunnel",
        "v1: bridge fdb del 02:00:00:00:01:02 dev vx0",
        "v1 2001:db8:8::2",
        "vxlan-fdb",
        "does not know which host",
    ),
    case(
        "vxlan-fdb-tcp",
        "tunnel",
        "v1: bridge fdb del 02:00:00:00:01:02 dev vx0",
        "v1 10.8.0.2 --tcp 80",
        "vxlan-fdb",
        "does not know which host",
    ),
    case(
        "vxlan-neighbour",
        "tunnel",
        "v1: ip neigh del 10.8.0.2 dev vx0",
        "v1 10.8.0.2",
        "vxlan-neighbour",
        "the tunnel v1/vx0 gets no answer",
    ),
    case(
        "vxlan-reply-fdb",
        "tunnel",
        "v2: bridge fdb del 02:00:00:00:01:01 dev vx0",
        "v1 10.8.0.2",
        "vxlan-fdb",
        "v2/vx0 does not know",
        place="reply",
    ),
    case(
        "vxlan-underlay",
        "tunnel",
        "v1: ip route del default",
        "v1 10.8.0.2",
        "vxlan-underlay",
        "could not send it towards 198.51.100.1",
    ),
    case(
        "vxlan-transit",
        "tunnel",
        "net: sysctl -qw net.ipv4.ip_forward=0",
        "v1 10.8.0.2",
        "forwarding-off",
        "net does not have the address 198.51.100.1",
    ),
    case("proxy-arp", "flat", "", "p1 p2", None, verdict="answered"),
    case(
        "proxy-arp-off",
        "flat",
        f"{GATEWAY}; n1: sysctl -qw net.ipv4.conf.azv1.proxy_arp=0",
        "p1 p2",
        "proxy-arp-off",
        "only with proxy ARP, which is off at n1/azv1",
        "net.ipv4.conf.azv1.proxy_arp = 0",
    ),
    case(
        "proxy-arp-off-tcp",
        "flat",
        f"{GATEWAY}; n1: sysctl -qw net.ipv4.conf.azv1.proxy_arp=0",
        "p1 p2 --tcp 80",
        "proxy-arp-off",
        "only with proxy ARP, which is off at n1/azv1",
    ),
    case(
        "flooded",
        "flood",
        "f1: ping -c1 -W5 10.6.0.2; f2: ip link set eth0 down",
        "f1 f2",
        "link-down",
        "f2/eth0, which cannot receive: f2/eth0 is down",
        "the frame came to f3 instead",
    ),
    case(
        "flooded-port",
        "flood",
        "f1: ping -c1 -W5 10.6.0.2; fw: ip link set p2 down",
        "f1 f2",
        "link-down",
        "f2/eth0, which cannot receive: fw/p2 is down",
    ),
    case(
        "deaf",
        "switch",
        "s1: ping -c1 -W5 10.5.0.3; s2: ip link set eth0 down",
        "s1 s2",
        "link-down",
        "s2/eth0, which cannot receive: s2/eth0 is down",
    ),
    case("same-bridge", "switch", "", "s1 s2", None, verdict="answered", routes="s1: 10.5.0.0/24 dev eth0"),
    case(
        "beside",
        "beside",
        "",
        "b1 far",
        None,
        verdict="answered",
        routes="b1: default via 10.4.0.1 dev eth0; b3: 192.0.2.0/24 dev eth0",
    ),
    case(
        "beside-twice",
        "beside",
        "",
        "b1 b2",
        None,
        verdict="answered",
        routes="b1: default via 10.4.0.1 dev eth0; b3: 10.4.1.0/24 dev gw0",
    ),
    case(
        "beside-forwarding-off",
        "beside",
        "b3: sysctl -qw net.ipv4.ip_forward=0",
        "b1 b2",
        "forwarding-off",
        "b3 does not have the address 10.4.1.2",
        "iif gw0",
        place="entering b3/gw0",
    ),
    case(
        "beside-ignores",
        "beside",
        "b3: sysctl -qw net.ipv4.icmp_echo_ignore_all=1",
        "b1 10.4.0.1",
        "ignores-pings",
        "b3 ignores pings",
    ),
    case(
        "beside-no-route-back",
        "beside",
        "b3: ip route del 10.4.0.0/24 dev gw0",
        "b1 192.0.2.1",
        "no-route-back",
        "b3 has no route back to 10.4.0.2",
    ),
    case("bridge-service", "switch", "", "s1 10.96.0.3", None, verdict="answered"),
    case("hairpin-off", "switch", "", "s1 10.96.0.2", "hairpin-off", "hairpin mode is off", "sw/p1: hairpin off"),
    case("hairpin-off-tcp", "switch", "", "s1 10.96.0.2 --tcp 80", "hairpin-off", "hairpin mode is off"),
    case(
        "bridge-nf-on",
        "switch",
        "sw: iptables-legacy -P FORWARD DROP",
        "s1 s2",
        "rule",
        "the policy of FORWARD in sw dropped",
        "bridge-nf-call-iptables = 1",
    ),
    case(
        "bridge-nf-off",
        "switch",
        "sw: sysctl -qw net.bridge.bridge-nf-call-iptables=0",
        "s1 10.96.0.3",
        "not-untranslated",
        "the reply came from 10.5.0.3",
        "bridge-nf-call-iptables = 0",
    ),
    case(
        "bridge-nf-off-tcp",
        "switch",
        "sw: sysctl -qw net.bridge.bridge-nf-call-iptables=0",
        "s1 10.96.0.3 --tcp 80",
        "not-untranslated",
        "the reply came from 10.5.0.3",
        listen="tcp s2 0.0.0.0 80",
    ),
    case(
        "source-check",
        "switch",
        "",
        "s1 192.0.2.1",
        "rule",
        "a rule of PREROUTING in isp dropped",
        "the source is still 10.5.0.2",
    ),
    case("source-check-tcp", "switch", "", "s1 192.0.2.1 --tcp 80", "rule", "a rule of PREROUTING in isp dropped"),
    case(
        "ebtables",
        "switch",
        "sw: ebtables-nft -A FORWARD -i p1 -j DROP",
        "s1 s2",
        "rule",
        "FORWARD in sw dropped",
        "ebtables filter/FORWARD rule 1",
    ),
    *bridge_trace_cases.CASES,
    *trace_nat_cases.CASES,
    *neighbour_trace_cases.CASES,
    *tunnel_trace_cases.CASES,
)

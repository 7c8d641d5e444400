"""Cases of traces through VXLAN tunnels of which the two ends do not fit, and of packets that go in a circle."""

from __future__ import annotations

from tests.support.trace_case import case

# three hosts with a VXLAN each, on a router; two of them know each other by static entries
ENDS = """
name: ends
model: raw
namespaces: [v1, v2, v3, net]
links:
  - {veth: [v1/eth0, net/v1]}
  - {veth: [v2/eth0, net/v2]}
  - {veth: [v3/eth0, net/v3]}
  - {vxlan: v1/vx0, id: 42, local: 192.0.2.1, dstport: 4789, learning: "off", mac: "02:00:00:00:01:01"}
  - {vxlan: v2/vx0, id: 42, local: 198.51.100.1, dstport: 4789, learning: "off", mac: "02:00:00:00:01:02"}
  - {vxlan: v3/vx0, id: 42, local: 203.0.113.1, dstport: 4789, learning: "off", mac: "02:00:00:00:01:03"}
addresses:
  v1/eth0: [192.0.2.1/24]
  v2/eth0: [198.51.100.1/24]
  v3/eth0: [203.0.113.1/24]
  net/v1: [192.0.2.254/24]
  net/v2: [198.51.100.254/24]
  net/v3: [203.0.113.254/24]
  v1/vx0: [10.8.0.1/24, "2001:db8:8::1/64"]
  v2/vx0: [10.8.0.2/24, "2001:db8:8::2/64"]
  v3/vx0: [10.8.0.3/24, "2001:db8:8::3/64"]
sysctls: {net: {net.ipv4.ip_forward: 1}}
routes:
  v1: [default via 192.0.2.254]
  v2: [default via 198.51.100.254]
  v3: [default via 203.0.113.254]
neighbours:
  v1: ["10.8.0.2 lladdr 02:00:00:00:01:02 dev vx0", "2001:db8:8::2 lladdr 02:00:00:00:01:02 dev vx0"]
  v2: ["10.8.0.1 lladdr 02:00:00:00:01:01 dev vx0", "2001:db8:8::1 lladdr 02:00:00:00:01:01 dev vx0"]
fdb:
  v1: ["02:00:00:00:01:02 dev vx0 dst 198.51.100.1"]
  v2: ["02:00:00:00:01:01 dev vx0 dst 192.0.2.1"]
"""

# two hosts and a third one on a wire, without tunnels: the cases add tunnels that ask each other (ARP)
LEARN = """
name: learn
model: raw
namespaces: [l1, l2, l3, wire]
links:
  - {bridge: wire/br0}
  - {veth: [l1/eth0, {at: wire/l1, master: br0}]}
  - {veth: [l2/eth0, {at: wire/l2, master: br0}]}
  - {veth: [l3/eth0, {at: wire/l3, master: br0}]}
addresses: {l1/eth0: 192.0.2.1/24, l2/eth0: 192.0.2.2/24, l3/eth0: 192.0.2.3/24}
"""

# a node whose tunnel sends the packets for another node to the node itself
SELF = """
name: self
model: raw
namespaces: [node, pod, nat]
links:
  - {veth: [node/eth0, nat/eth0]}
  - {veth: [node/veth1, pod/eth0]}
  - {vxlan: node/flannel.1, id: 1, dev: eth0, local: 192.0.2.15, dstport: 8472, learning: "off",
     mac: "02:00:00:00:00:01"}
addresses:
  nat/eth0: 192.0.2.2/24
  node/eth0: 192.0.2.15/24
  node/veth1: 10.244.0.1/24
  pod/eth0: 10.244.0.2/24
  node/flannel.1: 10.244.0.0/32
routes: {pod: default via 10.244.0.1, node: 10.244.1.0/24 via 10.244.1.0 dev flannel.1 onlink}
neighbours: {node: "10.244.1.0 lladdr 02:00:00:00:00:02 dev flannel.1"}
fdb: {node: "02:00:00:00:00:02 dev flannel.1 dst 192.0.2.15"}
sysctls: {node: {net.ipv4.ip_forward: 1}}
"""

# three routers on a bridge that send some packets around, and one of them has both ends of a cable
RING = """
name: ring
model: raw
namespaces: [q1, q2, q3, hub]
links:
  - {bridge: hub/br0}
  - {veth: [q1/eth0, {at: hub/q1, master: br0}]}
  - {veth: [q2/eth0, {at: hub/q2, master: br0}]}
  - {veth: [q3/eth0, {at: hub/q3, master: br0}]}
  - {veth: [q3/x0, {at: q3/x1, mac: "02:00:00:00:05:01"}]}
addresses:
  q1/eth0: [192.0.2.1/24, "2001:db8::1/64"]
  q2/eth0: [192.0.2.2/24, "2001:db8::2/64"]
  q3/eth0: [192.0.2.3/24, "2001:db8::3/64"]
  q3/x0: [192.0.3.1/24]
routes:
  q1: [198.51.100.0/24 via 192.0.2.2, "2001:db8:5::/48 via 2001:db8::2", 203.0.113.0/24 via 192.0.2.3]
  q2: [198.51.100.0/24 via 192.0.2.3, "2001:db8:5::/48 via 2001:db8::3"]
  q3: [198.51.100.0/24 via 192.0.2.1, "2001:db8:5::/48 via 2001:db8::1", 203.0.113.0/24 via 192.0.3.2]
neighbours: {q3: "192.0.3.2 lladdr 02:00:00:00:05:01 dev x0"}
sysctls:
  q1: {net.ipv4.ip_forward: 1, net.ipv6.conf.all.forwarding: 1, net.ipv4.conf.all.send_redirects: 0}
  q2: {net.ipv4.ip_forward: 1, net.ipv6.conf.all.forwarding: 1, net.ipv4.conf.all.send_redirects: 0}
  q3: {net.ipv4.ip_forward: 1, net.ipv6.conf.all.forwarding: 1, net.ipv4.conf.all.send_redirects: 0}
"""

# containers of two hosts on one overlay network: each host has a bridge in a separate namespace, and the VXLAN of the
# bridge sends and receives in the namespace of the host
OVERLAY = """
name: overlay
model: raw
namespaces: [c1, c2, c3, ov1, ov2, host1, host2]
links:
  - {veth: [host1/eth0, host2/eth0]}
  - {bridge: ov1/br0}
  - {bridge: ov2/br0}
  - {veth: [{at: c1/eth0, mac: "02:00:00:00:07:01"}, {at: ov1/p1, master: br0}]}
  - {veth: [{at: c3/eth0, mac: "02:00:00:00:07:03"}, {at: ov1/p3, master: br0}]}
  - {veth: [{at: c2/eth0, mac: "02:00:00:00:07:02"}, {at: ov2/p2, master: br0}]}
  - {vxlan: ov1/vx0, id: 9, dstport: 4789, master: br0, link_netns: host1, remote: 192.0.2.2}
  - {vxlan: ov2/vx0, id: 9, dstport: 4789, master: br0, link_netns: host2, remote: 192.0.2.1}
addresses:
  host1/eth0: 192.0.2.1/24
  host2/eth0: 192.0.2.2/24
  c1/eth0: 10.0.1.1/24
  c2/eth0: 10.0.1.2/24
  c3/eth0: 10.0.1.3/24
"""
OVERLAY_CASES = (
    case(
        "vxlan-socket",
        "overlay",
        "",
        "c2 c1 --tcp 80 --listen",
        None,
        verdict="answered",
        routes="c2: 10.0.1.0/24 dev eth0; host2: 192.0.2.0/24 dev eth0",
    ),
    case(
        "vxlan-socket-bridge-down",
        "overlay",
        "c2: ip neigh replace 10.0.1.1 lladdr 02:00:00:00:07:01 dev eth0 nud permanent; ov1: ip link set br0 down",
        "c2 c1 --tcp 80",
        "link-down",
        "the bridge ov1/br0 is down, so it does not take what comes in at its port vx0",
    ),
    case(
        "vxlan-socket-fdb-stale",
        "overlay",
        "c2: ip neigh replace 10.0.1.1 lladdr 02:00:00:00:07:01 dev eth0 nud permanent;"
        " ov1: bridge fdb replace 02:00:00:00:07:01 dev p3 master static",
        "c2 c1",
        "fdb-stale",
        "the bridge ov1/br0 has a static forwarding entry for 02:00:00:00:07:01 at ov1/p3, but c1/eth0",
    ),
)

LABS = {"overlay": OVERLAY, "ends": ENDS, "learn": LEARN, "self": SELF, "ring": RING}

FAR, SIX = "v1 10.8.0.2", "v1 2001:db8:8::2"
ENTRY = "v1: bridge fdb replace 02:00:00:00:01:02 dev vx0 self permanent dst"
ANOTHER = (
    "v2: ip link del vx0; v2: ip link add vx0 address 02:00:00:00:01:02 type vxlan {} local 198.51.100.1 nolearning;"
    " v2: ip link set vx0 up; v2: ip addr add 10.8.0.2/24 dev vx0; v2: ip addr add 2001:db8:8::2/64 dev vx0 nodad;"
    " v2: ip neigh add 10.8.0.1 lladdr 02:00:00:00:01:01 dev vx0; v2: ip -6 neigh add 2001:db8:8::1"
    " lladdr 02:00:00:00:01:01 dev vx0; v2: bridge fdb add 02:00:00:00:01:01 dev vx0 dst 192.0.2.1"
)
VNI, PORT = ANOTHER.format("id 43 dstport 4789"), ANOTHER.format("id 42 dstport 4790")
WRONG = "the forwarding entry (fdb) of v1/vx0 sends frames for 02:00:00:00:01:02 (v2/vx0) to"
AT_V2 = "but v2/vx0 is at 198.51.100.1"
LLADDR = "v1: ip neigh replace 10.8.0.2 lladdr 02:00:00:00:01:{} dev vx0 nud permanent"
LLADDR_SAYS = "the neighbour entry of v1/vx0 for 10.8.0.2 has the MAC address 02:00:00:00:01:{}, but v2/vx0"
TUNNEL_CASES = (
    case("vxlan-remote", "ends", f"{ENTRY} 203.0.113.1", FAR, "vxlan-remote", f"{WRONG} 203.0.113.1 (v3), {AT_V2}"),
    case(
        "vxlan-remote-tcp-6", "ends", f"{ENTRY} 203.0.113.1", f"{SIX} --tcp 80", "vxlan-remote", f"{WRONG} 203.0.113.1"
    ),
    case(
        "vxlan-remote-nobody",
        "ends",
        f"{ENTRY} 203.0.113.77",
        f"{FAR} --udp 53",
        "vxlan-remote",
        f"{WRONG} 203.0.113.77, which no machine has, {AT_V2}",
        place="entering net/v1",
    ),
    case(
        "vxlan-remote-near", "ends", f"{ENTRY} 192.0.2.77", FAR, "vxlan-remote", f"{WRONG} 192.0.2.77, which no machine"
    ),
    case(
        "vxlan-remote-itself",
        "ends",
        f"{ENTRY} 192.0.2.1",
        FAR,
        "vxlan-own-remote",
        "to 192.0.2.1, an address of v1 itself",
    ),
    case(
        "vxlan-remote-plain",
        "ends",
        f"v3: ip link del vx0; {ENTRY} 203.0.113.1",
        FAR,
        "vxlan-remote",
        f"{WRONG} 203.0.113.1 (v3), {AT_V2}",
        "port unreachable",
    ),
    case(
        "vxlan-remote-reply",
        "ends",
        "v2: bridge fdb replace 02:00:00:00:01:01 dev vx0 self permanent dst 203.0.113.1",
        FAR,
        "vxlan-remote",
        "v2/vx0 sends frames for 02:00:00:00:01:01 (v1/vx0) to 203.0.113.1 (v3), but v1/vx0 is at 192.0.2.1",
        place="the reply was last seen",
    ),
    case(
        "vxlan-vni",
        "ends",
        VNI,
        FAR,
        "vxlan-vni",
        "the tunnel v1/vx0 has the id (VNI) 42, but its other end, v2/vx0, has 43",
        "v2/vx0: id 43 dstport 4789",
    ),
    case("vxlan-vni-tcp-6", "ends", VNI, f"{SIX} --tcp 80", "vxlan-vni", "v1/vx0 has the id (VNI) 42"),
    case(
        "vxlan-port",
        "ends",
        PORT,
        FAR,
        "vxlan-port",
        "the tunnel v1/vx0 sends to UDP port 4789, but its other end, v2/vx0, listens on port 4790",
        "198.51.100.1 (v2) reported to 192.0.2.1 (v1): port unreachable",
    ),
    case(
        "vxlan-port-unusual",
        "ends",
        PORT,
        "v2 10.8.0.1 --udp 53",
        "vxlan-port",
        "v2/vx0 sends to UDP port 4790, but its other end, v1/vx0, listens on port 4789",
        place="entering v1/eth0",
    ),
    case("vxlan-port-6", "ends", PORT, SIX, "vxlan-port", "v2/vx0, listens on port 4790"),
    case(
        "vxlan-down", "ends", "v2: ip link set vx0 down", FAR, "link-down", "v2/vx0, the other end of the tunnel v1/vx0"
    ),
    case("vxlan-lladdr", "ends", LLADDR.format("99"), FAR, "stale-neighbour", LLADDR_SAYS.format("99")),
    case(
        "vxlan-lladdr-tcp",
        "ends",
        f"{LLADDR.format('99')}; v1: bridge fdb append 00:00:00:00:00:00 dev vx0 self permanent dst 198.51.100.1",
        f"{FAR} --tcp 80",
        "stale-neighbour",
        LLADDR_SAYS.format("99"),
        place="entering v2/vx0",
    ),
    case(
        "vxlan-lladdr-other",
        "ends",
        f"{LLADDR.format('03')}; v1: bridge fdb append 02:00:00:00:01:03 dev vx0 self permanent dst 203.0.113.1",
        f"{FAR} --udp 53",
        "stale-neighbour",
        LLADDR_SAYS.format("03"),
        "02:00:00:00:01:03 is the MAC address of v3/vx0",
    ),
    case(
        "vxlan-transit-6",
        "ends",
        "net: sysctl -qw net.ipv4.ip_forward=0",
        SIX,
        "forwarding-off",
        "net does not have the address 198.51.100.1 and does not forward: IPv4 forwarding is off",
    ),
    case(
        "vxlan-cable-down",
        "ends",
        "net: ip link set v1 down",
        SIX,
        "link-down",
        "the tunnel v1/vx0 leaves by v1/eth0, but v1/eth0 has no carrier: net/v1, its other end, is down",
    ),
    case(
        "vxlan-no-proxy-entry",
        "overlaywire",
        "c1: ip neigh flush all; host1-ov: ip neigh del 10.0.1.4 dev vxlan0",
        "c1 c2",
        "vxlan-neighbour",
        "host1-ov/vxlan0 answers for the machines behind it (proxy), but has no neighbour entry for 10.0.1.4",
    ),
    case(
        "vxlan-proxy-lladdr",
        "overlaywire",
        "c1: ip neigh flush all; host1-ov: ip neigh replace 10.0.1.4 lladdr 02:42:0a:00:01:77 dev vxlan0",
        "c1 c2 --tcp 80",
        "stale-neighbour",
        "the neighbour entry of host1-ov/vxlan0 for 10.0.1.4 has the MAC address 02:42:0a:00:01:77, but c2/eth0",
    ),
)

_LEARNING = (
    "l{0}: ip link add vx0 address 02:00:00:00:06:0{0} type vxlan {1} local 192.0.2.{0}; l{0}: ip link set vx0 up;"
    " l{0}: ip addr add 10.8.0.{0}/24 dev vx0; l{0}: ip addr add 2001:db8:8::{0}/64 dev vx0 nodad; "
)
SECOND = _LEARNING.format(2, "id 42 dstport 4789 remote 192.0.2.1")
OWN = "the setting remote of l1/vx0 sends frames for 02:00:00:00:06:02 (l2/vx0) to"


def _first(options: str) -> str:
    return SECOND + _LEARNING.format(1, options)


LEARN_CASES = (
    case(
        "vxlan-learn", "learn", _first("id 42 dstport 4789 remote 192.0.2.2"), "l1 10.8.0.2", None, verdict="answered"
    ),
    case(
        "vxlan-learn-remote",
        "learn",
        _first("id 42 dstport 4789 remote 192.0.2.3"),
        "l1 10.8.0.2",
        "vxlan-remote",
        f"{OWN} 192.0.2.3 (l3), but l2/vx0 is at 192.0.2.2",
        place="never left l1",
    ),
    case(
        "vxlan-learn-nobody",
        "learn",
        _first("id 42 dstport 4789 remote 192.0.2.77"),
        "l1 10.8.0.2 --tcp 80",
        "vxlan-remote",
        f"{OWN} 192.0.2.77, which no machine has",
    ),
    case(
        "vxlan-learn-vni",
        "learn",
        _first("id 43 dstport 4789 remote 192.0.2.2"),
        "l1 10.8.0.2 --udp 53",
        "vxlan-vni",
        "the tunnel l1/vx0 has the id (VNI) 43, but its other end, l2/vx0, has 42",
    ),
    case(
        "vxlan-learn-port-6",
        "learn",
        _first("id 42 dstport 4790 remote 192.0.2.2"),
        "l1 2001:db8:8::2",
        "vxlan-port",
        "the tunnel l1/vx0 sends to UDP port 4790, but its other end, l2/vx0, listens on port 4789",
    ),
)

INSIDE = (
    "a loop inside node: the forwarding entry (fdb) of node/flannel.1 sends frames for 02:00:00:00:00:02 to 192.0.2.15"
)
LOOP_CASES = (
    case(
        "loop-tunnel",
        "self",
        "",
        "pod 10.244.1.9",
        "loop",
        f"{INSIDE}, an address of node itself",
        "node/flannel.1: 02:00:00:00:00:02 dst 192.0.2.15",
        routes="pod: default via 10.244.0.1 dev eth0; node: 10.244.1.0/24 via 10.244.1.0 dev flannel.1",
    ),
    case("loop-tunnel-tcp", "self", "", "pod 10.244.1.9 --tcp 80", "loop", INSIDE),
    case("loop-tunnel-udp", "self", "", "pod 10.244.1.9 --udp 53", "loop", INSIDE),
    case(
        "loop-tunnel-own", "self", "", "node 10.244.1.9", "vxlan-own-remote", "to 192.0.2.15, an address of node itself"
    ),
    case(
        "loop-ring",
        "ring",
        "",
        "q1 198.51.100.1",
        "loop",
        "q1, q2 and q3 send the packet around, until it comes back to q1, which has its source address",
    ),
    case(
        "loop-ring-6",
        "ring",
        "",
        "q1 2001:db8:5::1 --udp 53",
        "loop",
        "q2, q3 and q1 send the packet around until its TTL expires",
    ),
    case(
        "loop-cable",
        "ring",
        "",
        "q1 203.0.113.9 --tcp 80",
        "loop",
        "a loop inside q3: what leaves by x0 comes in by x1, and its route leads to x0 again",
    ),
    case(
        "loop-two-own",
        "ring",
        "q2: ip route replace 198.51.100.0/24 via 192.0.2.1",
        "q1 198.51.100.1 --tcp 80",
        "loop",
        "q1 and q2 send the packet to each other, until it comes back to q1",
    ),
)

CARRIED = "dropped the tunnel packet with the"
GOOD = _first("id 42 dstport 4789 remote 192.0.2.2")
RULE_CASES = (
    case(
        "vxlan-rule-question",
        "learn",
        f"{GOOD}; l2: iptables-legacy -A INPUT -p udp -m udp --dport 4789 -j DROP",
        "l1 10.8.0.2",
        "rule",
        f"a rule of INPUT in l2 {CARRIED} ARP request of l1 for 10.8.0.2",
        "l2: filter/INPUT rule 1: -p udp -m udp --dport 4789 -j DROP",
    ),
    case(
        "vxlan-rule-not-sent",
        "learn",
        f"{GOOD}; l1: iptables-legacy -t mangle -A POSTROUTING -p udp -j DROP",
        "l1 10.8.0.2 --tcp 80",
        "rule",
        f"a rule of POSTROUTING in l1 {CARRIED} ARP request of l1",
    ),
    case(
        "vxlan-rule-answer",
        "learn",
        f"{GOOD}; l1: iptables-legacy -t raw -A PREROUTING -s 192.0.2.2 -j DROP",
        "l1 10.8.0.2 --udp 53",
        "rule",
        f"a rule of PREROUTING in l1 {CARRIED} ARP reply of 10.8.0.2 to l1",
    ),
    case(
        "vxlan-rule-other",
        "learn",
        f"{GOOD}; l2: iptables-legacy -A INPUT -p udp --dport 4790 -j DROP; l2: iptables-legacy -P FORWARD DROP; "
        "l2: iptables-legacy -t mangle -A OUTPUT -p udp -j DROP",
        "l1 10.8.0.2",
        "rule",
        f"a rule of OUTPUT in l2 {CARRIED} ARP reply",
    ),
    case(
        "vxlan-rule-question-6",
        "learn",
        f"{GOOD}; l2: iptables-legacy -A INPUT -s 192.0.2.1 -j DROP",
        "l1 2001:db8:8::2",
        "rule",
        f"a rule of INPUT in l2 {CARRIED} neighbour solicitation of l1 for 2001:db8:8::2",
    ),
)

CASES = (*OVERLAY_CASES, *TUNNEL_CASES, *LEARN_CASES, *RULE_CASES, *LOOP_CASES)

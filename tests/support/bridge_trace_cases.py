"""Cases of losses at bridges: ebtables, neighbour discovery through a bridge's firewall, ports with a small MTU."""

from __future__ import annotations

from tests.support.trace_case import case

# a switch that drops ARP requests, and answers them itself, and drops all IPv4 packets that it forwards
ARP_PROXY = """
name: arpproxy
model: raw
namespaces: [e1, e2, e3]
links:
  - {bridge: e3/br0}
  - {veth: [e1/eth0, {at: e3/p1, master: br0}]}
  - {veth: [{at: e2/eth0, mac: "02:00:00:00:00:02"}, {at: e3/p2, master: br0}]}
addresses:
  e1/eth0: [192.0.2.1/24]
  e2/eth0: [192.0.2.2/24]
ebtables:
  e3:
    nat:
      PREROUTING:
        - "-p ARP --arp-op Request --arp-ip-dst 192.0.2.2 -j arpreply --arpreply-mac 02:00:00:00:00:02
          --arpreply-target CONTINUE"
    filter:
      FORWARD: ["-p ARP -j DROP", "-p IPv4 -j DROP"]
"""

# nodes with two ENIs each: the VPC accepts from an ENI only its own addresses
VPC = """
name: vpc
model: eks-vpc-cni
enis: 2
ips_per_eni: 2
nodes: {node1: {pods: {a: , b: {host_ports: ["8080:80"]}}}, node2: {pods: [c]}}
"""
EXTERNAL_SNAT = VPC.replace("name: vpc", "name: natvpc") + "external_snat: true\nnode_port_support: false\n"

# two machines on a bridge of which bridged IPv6 frames pass ip6tables, with the policy DROP
SOLICIT = """
name: solicit
model: raw
namespaces: [t1, t2, t3]
links:
  - {bridge: t3/br0}
  - {veth: [t1/eth0, {at: t3/p1, master: br0}]}
  - {veth: [t2/eth0, {at: t3/p2, master: br0}]}
addresses:
  t1/eth0: [192.0.2.1/24, "2001:db8::1/64"]
  t2/eth0: [192.0.2.2/24, "2001:db8::2/64"]
sysctls: {t3: {net.bridge.bridge-nf-call-ip6tables: 1}}
firewall6: {t3: {filter: {FORWARD: {policy: DROP, rules: []}}}}
"""

# two machines on a cable: one accepts echo requests and nothing else
DIRECT = """
name: direct
model: raw
namespaces: [d1, d2]
links: [{veth: [d1/eth0, d2/eth0]}]
addresses: {d1/eth0: "2001:db8::1/64", d2/eth0: "2001:db8::2/64"}
firewall6:
  d2: {filter: {INPUT: {policy: DROP, rules: ["-p ipv6-icmp -m icmp6 --icmpv6-type 128 -j ACCEPT"]}}}
"""

# a switch of which one port has a small MTU, and a third machine
SMALL_PORT = """
name: smallport
model: raw
namespaces: [g1, g2, g3, gsw]
links:
  - {bridge: gsw/br0}
  - {veth: [g1/eth0, {at: gsw/p1, master: br0}]}
  - {veth: [{at: g2/eth0, mac: "02:00:00:00:00:22"}, {at: gsw/p2, master: br0, mtu: 1400}]}
  - {veth: [g3/eth0, {at: gsw/p3, master: br0}]}
addresses:
  g1/eth0: [192.0.2.1/24, "2001:db8::1/64"]
  g2/eth0: [192.0.2.2/24, "2001:db8::2/64"]
  g3/eth0: [192.0.2.3/24, "2001:db8::3/64"]
"""
OVERLAY = """
name: overlaywire
model: docker-overlay
hosts: {host1: {containers: [c1]}, host2: {containers: [c2]}}
"""
FLANNEL = """
name: flannelwire
model: flannel
nodes: {node1: {pods: [a]}, node2: {pods: [c]}}
"""

LABS = {
    "smallport": SMALL_PORT,
    "overlaywire": OVERLAY,
    "flannelwire": FLANNEL,
    "solicit": SOLICIT,
    "direct": DIRECT,
    "arpproxy": ARP_PROXY,
    "vpc": VPC,
    "natvpc": EXTERNAL_SNAT,
}

# an entry is forgotten on both sides, so that the next probe begins with a question about the MAC address
FORGET = "e1: ip neigh flush dev eth0"
COLD = "t1: ip neigh flush dev eth0; t2: ip neigh flush dev eth0"
FORGET_VPC = "node1: ip neigh flush dev eth0; node1: ip neigh flush dev eth1; fabric: ip neigh flush dev br0"
ARP_CHAIN = (
    "e3: ebtables-nft -F FORWARD; e3: ebtables-nft -N ARPS; e3: ebtables-nft -A ARPS -j DROP;"
    " e3: ebtables-nft -A FORWARD -p ARP -j ARPS; e3: ebtables-nft -A FORWARD -i p1 -o p2"
    " -p IPv4 --ip-src 192.0.2.0/24 --ip-proto tcp --ip-dport 80 -j DROP"
)

CASES = (
    case(
        "ebtables-not-arp",
        "arpproxy",
        FORGET,
        "e1 e2 --tcp 80",
        "rule",
        "a rule of FORWARD in e3 dropped the request",
        "ebtables filter/FORWARD rule 2: -p IPv4 -j DROP",
    ),
    case(
        "ebtables-not-arp-icmp",
        "arpproxy",
        FORGET,
        "e1 e2",
        "rule",
        "a rule of FORWARD in e3 dropped the request",
        "ebtables filter/FORWARD rule 2: -p IPv4 -j DROP",
    ),
    case(
        "ebtables-not-arp-chain",
        "arpproxy",
        f"{FORGET}; {ARP_CHAIN}",
        "e1 e2 --tcp 80",
        "rule",
        "a rule of FORWARD in e3 dropped the request",
        "ebtables filter/FORWARD rule 2",
    ),
    case(
        "ebtables-promiscuous",
        "arpproxy",
        f"{FORGET}; e3: ip link set br0 promisc on",
        "e1 e2",
        "rule",
        "a rule of FORWARD in e3 dropped the request",
        "ebtables filter/FORWARD rule 2: -p IPv4 -j DROP",
        place="entering e3/p1",
    ),
    case(
        "ebtables-vpc",
        "vpc",
        f"node1: ip rule del from 10.0.0.7 lookup 2 pref 1536; {FORGET_VPC}",
        "b vm",
        "rule",
        "a rule of SRC-node1-eth0 in fabric dropped the request",
        "ebtables filter/SRC-node1-eth0 rule 3: -p IPv4 -j DROP",
    ),
    case(
        "ebtables-vpc-reply",
        "natvpc",
        FORGET_VPC,
        "vm node1 --tcp 8080",
        "rule",
        "a rule of SRC-node1-eth1 in fabric dropped the reply",
        "ebtables filter/SRC-node1-eth1 rule 3: -p IPv4 -j DROP",
    ),
    case(
        "solicitation-forward",
        "solicit",
        COLD,
        "t1 2001:db8::2",
        "rule",
        "the policy of FORWARD in t3 dropped the neighbour solicitation of t1 for 2001:db8::2",
        "net.bridge.bridge-nf-call-ip6tables = 1",
        place="never left t1",
    ),
    case(
        "solicitation-forward-tcp",
        "solicit",
        COLD,
        "t1 2001:db8::2 --tcp 80",
        "rule",
        "the policy of FORWARD in t3 dropped the neighbour solicitation of t1",
        "ip6tables filter/FORWARD policy DROP",
    ),
    case(
        "solicitation-forward-rule",
        "solicit",
        f"{COLD}; t3: ip6tables-legacy -P FORWARD ACCEPT; t3: ip6tables-legacy -A FORWARD -s 2001:db8::1 -j DROP",
        "t1 2001:db8::2",
        "rule",
        "a rule of FORWARD in t3 dropped the neighbour solicitation of t1",
        "ip6tables filter/FORWARD rule 1: -s 2001:db8::1/128 -j DROP",
    ),
    case(
        "advertisement-forward",
        "solicit",
        f"{COLD}; t3: ip6tables-legacy -P FORWARD ACCEPT; t3: ip6tables-legacy -A FORWARD -s 2001:db8::2 -j DROP",
        "t1 2001:db8::2",
        "rule",
        "a rule of FORWARD in t3 dropped the neighbour advertisement of 2001:db8::2 to t1",
        "the answer was last seen entering t3/p2",
    ),
    case(
        "advertisement-output",
        "solicit",
        f"{COLD}; t3: ip6tables-legacy -P FORWARD ACCEPT;"
        " t2: ip6tables-legacy -A OUTPUT -p ipv6-icmp --icmpv6-type 136 -j DROP",
        "t1 2001:db8::2",
        "rule",
        "a rule of OUTPUT in t2 dropped the neighbour advertisement",
    ),
    case(
        "advertisement-input",
        "solicit",
        f"{COLD}; t3: ip6tables-legacy -P FORWARD ACCEPT;"
        " t1: ip6tables-legacy -A INPUT -p ipv6-icmp --icmpv6-type 136 -j DROP",
        "t1 2001:db8::2",
        "rule",
        "a rule of INPUT in t1 dropped the neighbour advertisement",
    ),
    case(
        "solicitation-input",
        "direct",
        "",
        "d1 2001:db8::2",
        "rule",
        "the policy of INPUT in d2 dropped the neighbour solicitation of d1 for 2001:db8::2",
        "ip6tables filter/INPUT policy DROP",
    ),
    case(
        "solicitation-input-tcp",
        "direct",
        "d1: ip neigh flush dev eth0",
        "d1 2001:db8::2 --tcp 80",
        "rule",
        "the policy of INPUT in d2 dropped the neighbour solicitation of d1 for 2001:db8::2",
    ),
    case(
        "arp-ebtables",
        "solicit",
        f"{COLD}; t3: ebtables-nft -A FORWARD -p ARP -j DROP",
        "t1 192.0.2.2",
        "rule",
        "probably a rule of FORWARD in t3 dropped the ARP request of t1 for 192.0.2.2",
        "the request was last seen entering t3/p1",
    ),
    case(
        "solicitation-of-a-router",
        "road",
        "h2: ip6tables-legacy -P INPUT DROP; r2: ip neigh flush dev h2",
        "h1 2001:db8:2::2",
        "rule",
        "the policy of INPUT in h2 dropped the neighbour solicitation of r2 for 2001:db8:2::2",
        place="entering r2/r1",
    ),
    case(
        "bridge-port-mtu",
        "smallport",
        "",
        "g1 g2 --size 1472",
        "mtu-black-hole",
        "the packet of 1500 bytes is too big for the bridge port gsw/p2 (MTU 1400)",
        "gsw/p2: mtu 1400",
        place="entering gsw/p1",
    ),
    case("bridge-port-mtu-fits", "smallport", "", "g1 g2 --size 1372", None, verdict="answered"),
    case(
        "bridge-port-mtu-6",
        "smallport",
        "",
        "g1 2001:db8::2 --size 1400",
        "mtu-black-hole",
        "the packet of 1448 bytes is too big for the bridge port gsw/p2 (MTU 1400)",
    ),
    case(
        "bridge-port-mtu-udp",
        "smallport",
        "",
        "g1 g2 --udp 53 --size 1472",
        "mtu-black-hole",
        "too big for the bridge port gsw/p2 (MTU 1400)",
    ),
    case(
        "bridge-port-mtu-no-netfilter",
        "smallport",
        "gsw: sysctl -qw net.bridge.bridge-nf-call-iptables=0",
        "g1 g2 --size 1472",
        "mtu-black-hole",
        "too big for the bridge port gsw/p2 (MTU 1400)",
    ),
    case(
        "bridge-port-mtu-flooded",
        "smallport",
        "g1: ip neigh replace 192.0.2.2 lladdr 02:00:00:00:00:22 dev eth0 nud permanent; gsw: bridge link set dev p2"
        " learning off; gsw: ip link set p2 type bridge_slave fdb_flush",
        "g1 g2 --size 1472",
        "mtu-black-hole",
        "too big for the bridge port gsw/p2 (MTU 1400)",
    ),
    case(
        "overlay-wire-mtu",
        "overlaywire",
        "fabric: ip link set host2 mtu 1450",
        "c1 c2 --size 1422",
        "mtu-black-hole",
        "the packet of 1500 bytes is too big for the bridge port fabric/host2 (MTU 1450)",
        place="entering fabric/host1",
    ),
    case(
        "overlay-tunnel-mtu",
        "overlaywire",
        "host1-ov: ip link set vxlan0 mtu 1300",
        "c1 c2 --size 1372",
        "mtu-black-hole",
        "too big for the bridge port host1-ov/vxlan0 (MTU 1300)",
    ),
    case(
        "flannel-wire-mtu",
        "flannelwire",
        "fabric: ip link set node2 mtu 1450",
        "a c --size 1422",
        "mtu-black-hole",
        "too big for the bridge port fabric/node2 (MTU 1450)",
    ),
    case(
        "ebtables-policy",
        "arpproxy",
        f"{FORGET}; e3: ebtables-nft -F FORWARD; e3: ebtables-nft -A FORWARD -p ARP -j ACCEPT;"
        " e3: ebtables-nft -P FORWARD DROP",
        "e1 e2 --tcp 80",
        "rule",
        "the policy of FORWARD in e3 dropped the request",
        "ebtables filter/FORWARD policy DROP",
    ),
    case(
        "ebtables-policy-solicitation",
        "solicit",
        f"{COLD}; t3: ip6tables-legacy -P FORWARD ACCEPT; t3: ebtables-nft -P FORWARD DROP",
        "t1 2001:db8::2",
        "rule",
        "probably the policy of FORWARD in t3 dropped the neighbour solicitation of t1 for 2001:db8::2",
        "the request was last seen entering t3/p1",
    ),
)

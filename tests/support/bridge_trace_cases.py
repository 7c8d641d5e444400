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

LABS = {"arpproxy": ARP_PROXY, "vpc": VPC, "natvpc": EXTERNAL_SNAT}

# an entry is forgotten on both sides, so that the next probe begins with a question about the MAC address
FORGET = "e1: ip neigh flush dev eth0"
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
)

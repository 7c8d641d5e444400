"""For each kind of kernel object: change one manually. `status` names it, its check fails, `up` repairs exactly this
object, and the check passes again."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from labctl.checks import runner
from labctl.core.scenario_types import Check
from labctl.kernel.firewall import backend
from labctl.kernel.host import paths
from labctl.lab import lifecycle
from labctl.render.resources import change_lines
from tests.support import kernels
from tests.support.plugins import reason_without

pytestmark = pytest.mark.firewall

RAW = """
name: rawlab
model: raw
namespaces: [h1, h2, r]
links:
  - {veth: [h1/eth0, r/eth1]}
  - {veth: [h2/eth0, r/eth2]}
  - {vxlan: h1/vx0, id: 42, local: 192.0.2.1, dstport: 4789, learning: "off", mac: "02:00:00:00:01:01"}
  - {vxlan: h2/vx0, id: 42, local: 198.51.100.1, dstport: 4789, learning: "off", mac: "02:00:00:00:01:02"}
addresses:
  h1/eth0: [192.0.2.1/24, "2001:db8:1::1/64"]
  h2/eth0: [198.51.100.1/24, "2001:db8:2::1/64"]
  r/eth1: [192.0.2.254/24, "2001:db8:1::fe/64"]
  r/eth2: [198.51.100.254/24, "2001:db8:2::fe/64"]
  h1/vx0: [10.9.0.1/24]
  h2/vx0: [10.9.0.2/24]
sysctls:
  r: {net.ipv4.ip_forward: 1, net.ipv6.conf.all.forwarding: 1}
neighbours:
  h1: ["10.9.0.2 lladdr 02:00:00:00:01:02 dev vx0"]
  h2: ["10.9.0.1 lladdr 02:00:00:00:01:01 dev vx0"]
fdb:
  h1: ["02:00:00:00:01:02 dev vx0 dst 198.51.100.1"]
  h2: ["02:00:00:00:01:01 dev vx0 dst 192.0.2.1"]
routes:
  h1: ["default via 2001:db8:1::fe"]
  h2: ["default via 198.51.100.254", "default via 2001:db8:2::fe"]
  r: ["unreachable 203.0.113.0/24"]
rules:
  h1: ["pref 100 from 192.0.2.1 lookup 100", "pref 101 to 198.51.100.0/24 lookup 100"]
firewall6:
  r: {filter: {FORWARD: {policy: DROP, rules: ["-p ipv6-icmp -j ACCEPT"]}}}
checks:
  - {say: across the router, ping: h1 -> h2}
  - {say: across the router by IPv6, ping: "h1 -> 2001:db8:2::1"}
  - {say: nobody is reached beyond, ping: "h2 -> 203.0.113.9", expect: fail}
  - {say: through the tunnel, ping: h1 -> 10.9.0.2, see: {at: r/eth2, encap: vxlan}}
"""
RAW = RAW.replace(
    'h1: ["default via 2001:db8:1::fe"]', 'h1: ["default via 2001:db8:1::fe", "default via 192.0.2.254 table 100"]'
)


@dataclass(frozen=True)
class Mutation:
    """One thing a person breaks: where, with which command; what status says; which check fails."""

    what: str
    lab: str
    where: str
    command: str
    says: str
    check: str
    touches: frozenset[str]  # the namespaces in which `up` may change something


def broken(what: str, lab: str, where: str, command: str, says: str, check: str, also: str = "") -> Mutation:
    return Mutation(what, lab, where, command, says, check, frozenset({where, *also.split()}))


# Rows without a check are those that no packet shows: frames of this size pass any of these MTUs, neighbours are
# told of a new MAC, hairpin, promisc and the ebtables rule matter to packets that only kube-proxy makes, a pod
# knows its gateway's MAC without proxy ARP until the entry is lost, and goes the same way with its subnet's route
# back; a node asks for a pod's MAC that it forgot, and a container remembers the one that a tunnel told it; behind
# Docker's raw DROP stands the FORWARD policy. An empty chain or an idle bridge does nothing, nor does a check of
# senders who are honest; a route leads the same way in any scope, a pod remembers its gateway's MAC,
# and new kernels find netd's own table by the way back. Cilium's routes to peers are not what acts for its
# programs; of two that answer for a gateway, either will do. FORWARD's policy accepts what FLANNEL-FWD does.
K, A, D, R = "kubenet", "azure-cni-transparent", "docker-bridge", "rawlab"
P, Q, H = "docker-publish", "docker-icc", "kubenet-hostport"
B, V, W = "azure-cni-bridge", "azure-cni-overlay", "docker-overlay"
C = "cni"
E, G, N, S = "eks-vpc-cni", "gke-vpc-native", "gke-intranode", "gke-routes-based"
L, M, X, Y = "cilium", "cilium-native", "antrea", "antrea-hybrid"
Z = "flannel"
T = "azure-cni-transparent-vlan"  # with veths for its VLANs, on any kernel
F, VTEP = "calico", "66:a4:6f:e0:c4:da"  # node3's VXLAN device
BESIDES = {K: (Check("nobody has 10.0.9.9", "ping", "c", "10.0.9.9", expect="fail"),)}  # to the scenario's own checks
POD = "every pod reaches every pod"
MUTATIONS = [
    broken("a namespace gone", K, "", "ip netns del labctl.kubenet.a", "missing namespace a", POD, "a node1"),
    broken("a veth gone", K, "a", "ip link del eth0", "missing link eth0", POD, "node1"),
    broken("a veth renamed", K, "a", "ip link set eth0 down name eth9", "missing link eth0", POD, "node1"),
    broken("a link down", K, "node1", "ip link set cbr0 down", "changed link cbr0: up was down, should be up", POD),
    broken("an MTU", K, "node1", "ip link set cbr0 mtu 1400", "mtu was 1400, should be 1500", ""),
    broken("a MAC", K, "node1", "ip link set cbr0 address 02:00:00:00:00:99", "address was 02:00:00:00:00:99", ""),
    broken("a master", K, "node1", "{port} nomaster", "master was none, should be cbr0", POD),
    broken("an extra link", K, "node1", "ip link add extra0 type bridge", "extra link extra0", ""),
    broken("hairpin", K, "node1", "{bport} hairpin on", "hairpin was on, should be off", ""),
    broken("promisc", K, "node1", "ip link set cbr0 promisc off", "promisc was off, should be on", ""),
    broken("an address gone", K, "c", "ip addr flush dev eth0", "missing address 10.244.1.2/24 dev eth0", POD),
    broken("an address extra", K, "c", "ip addr add 10.0.9.9/32 dev eth0", "extra address 10.0.9.9/32", "nobody has"),
    broken("a route gone", K, "fabric", "ip route flush table 100", "missing route 10.244.1.0/24 via 10.224.0.5", POD),
    broken(
        "a route extra", K, "node2", "ip route add blackhole 10.244.0.0/24", "extra route blackhole 10.244.0.0/24", POD
    ),
    broken(
        "a route changed", K, "a", "ip route replace default via 10.244.0.99", "changed route default: via was", POD
    ),
    broken("a rule gone", K, "fabric", "ip rule flush", "missing rule pref 100", POD),
    broken("a sysctl", K, "node1", "sysctl -qw net.ipv4.ip_forward=0", "net.ipv4.ip_forward: value was 0", POD),
    broken(
        "MASQUERADE gone",
        K,
        "node1",
        "iptables-legacy -t nat -F IP-MASQ-AGENT",
        "missing iptables -t nat -A IP-MASQ",
        "internet",
    ),
    broken(
        "a rule that drops",
        K,
        "node2",
        "iptables-legacy -I FORWARD -j DROP",
        "extra iptables -t filter -A FORWARD",
        POD,
    ),
    broken("a policy", K, "node2", "iptables-legacy -P FORWARD DROP", "-P FORWARD: policy was DROP", POD),
    broken("ebtables", K, "node1", "ebtables-nft -F AKS-DEDUP-PROMISC", "missing ebtables -t filter -A AKS-DEDUP", ""),
    broken("a chain of its own", K, "a", "iptables-legacy -N MINE", "extra iptables -t filter -N MINE", ""),
    broken("proxy ARP", A, "node1", "{proxy_arp}", "proxy_arp: value was 0", ""),
    broken("a pod's /32", A, "node1", "ip route del 10.224.0.5", "missing route", POD),
    broken(
        "the pod's subnet back",
        A,
        "a",
        "ip route add 10.224.0.0/16 dev eth0 proto kernel scope link src {a}",
        "the route to its subnet should not be there",
        "",
    ),
    broken(
        "pods' MACs leak", B, "node1", "ebtables-nft -t nat -F POSTROUTING", "missing ebtables -t nat -A POSTROU", POD
    ),
    broken(
        "a node routes what it should bridge",
        B,
        "node2",
        "ebtables-nft -t nat -F PREROUTING",
        "missing ebtables -t nat -A PREROUTING",
        "different nodes",
    ),
    broken("the NIC off its bridge", B, "node1", "ip link set eth0 nomaster", "eth0: master was none", POD),
    broken("a pod's hairpin", B, "node1", "{azv} hairpin off", "hairpin was off, should be on", ""),
    broken("a pod's MAC forgotten", B, "node1", "ip neigh del 10.224.0.5 dev azure0", "missing neighbour", ""),
    broken(
        "bridged packets past iptables",
        B,
        "node1",
        "sysctl -qw net.bridge.bridge-nf-call-iptables=0",
        "bridge-nf-call-iptables: value was 0",
        "outside",
    ),
    broken("the cluster's routes", V, "fabric", "ip route flush table 100", "missing route 10.244.1.0/24", POD),
    broken("a NIC out of the domain", V, "fabric", "ip rule del iif node1", "missing rule pref 100", POD),
    broken(
        "the domain open to all", V, "fabric", "ip rule add pref 50 lookup 100", "extra rule pref 50", "cannot reach"
    ),
    broken("a plugin's route", C, "a", "ip route del default", "missing route default via 10.244.0.1", "CHECK of"),
    broken("a plugin's address", C, "c", "ip addr flush dev eth0", "missing address 10.244.1.2/24", "CHECK of"),
    broken(
        "a plugin's rule",
        C,
        "node1",
        "iptables-legacy -t nat -D PREROUTING 1",
        "missing iptables -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT",
        "client's address",
    ),
    broken("a plugin's setting", C, "node1", "sysctl -qw net.ipv4.conf.cni0.route_localnet=0", "route_localnet", ""),
    broken("a plugin's bridge", C, "node2", "ip link del cni0", "missing link cni0", "CHECK of"),
    broken("something beside", C, "node2", "ip route add 10.9.0.0/16 dev cni0", "extra route 10.9.0.0/16", ""),
    broken("a pod's device", C, "b", "ip link del eth0", "missing attachment eth0 to node1", "CHECK of", "node1"),
    broken("a pod's namespace", C, "", "ip netns del labctl.cni.a", "missing attachment eth0", "CHECK of", "a node1"),
    broken(
        "a tenant's mark",
        T,
        "node1-vlan7",
        "iptables-legacy -t mangle -F PREROUTING",
        "missing iptables -t mangle -A PREROUTING",
        "to the fabric and",
    ),
    broken(
        "the rule for the mark", T, "node1-vlan7", "ip rule del fwmark 333", "missing rule pref 32765", "to the fabric"
    ),
    broken(
        "a filter of return paths",
        T,
        "node1-vlan7",
        "sysctl -qw net.ipv4.conf.eth0_7.rp_filter=1",
        "rp_filter: value was 1, should be 0",
        "to the fabric and",
    ),
    broken(
        "a pod unknown to the fabric",
        T,
        "fabric",
        "ip neigh del 10.100.0.5 dev node1-vlan7",
        "missing neighbour 10.100.0.5",
        "to the fabric and",
    ),
    broken(
        "a way between tenants",
        T,
        "fabric",
        "ip route add 10.100.1.4/32 dev node1-vlan8 table 1007",
        "extra route 10.100.1.4 dev node1-vlan8 table 1007",
        "another tenant",
    ),
    broken(
        "a way from the node",
        T,
        "fabric",
        "ip rule add pref 50 iif node1 lookup 1007",
        "extra rule pref 50",
        "a node cannot",
    ),
    broken(
        "the wireserver's guard",
        T,
        "node1-vlan7",
        "iptables-legacy -F FORWARD",
        "missing iptables -t filter -A FORWARD",
        "wireserver",
    ),
    broken("a pod's gateway", T, "a", "ip neigh del 169.254.2.1 dev eth0", "missing neighbour 169.254.2.1", ""),
    broken("a pod's way to its ENI", E, "node1", "ip rule del pref 1536", "missing rule pref 1536 from 10.0.0.7", POD),
    broken("an ENI's table", E, "node1", "ip route flush table 2", "missing route default via 10.0.0.1 dev eth1", POD),
    broken("a way to a pod", E, "node1", "ip rule del to 10.0.0.5", "missing rule pref 512", "only the node"),
    broken("the rule for the mark", E, "node1", "ip rule del pref 1024", "missing rule pref 1024", "through a port"),
    broken(
        "the mark on what came in",
        E,
        "node1",
        "iptables-legacy -t mangle -D PREROUTING 1",
        "missing iptables -t mangle -A PREROUTING -i eth0",
        "through a port",
    ),
    broken(
        "the mark on what goes out",
        E,
        "node1",
        "iptables-legacy -t nat -F AWS-CONNMARK-CHAIN-0",
        "missing iptables -t nat -A AWS-CONNMARK-CHAIN-0",
        "to the internet",
    ),
    broken(
        "SNAT", E, "node1", "iptables-legacy -t nat -F AWS-SNAT-CHAIN-0", "-A AWS-SNAT-CHAIN-0 ! -o vlan+", "internet"
    ),
    broken(
        "a filter of return paths on eth0",
        E,
        "node1",
        "sysctl -qw net.ipv4.conf.eth0.rp_filter=1",
        "rp_filter: value was 1, should be 2",
        "to the internet",
    ),
    broken(
        "a gateway that nobody has", E, "b", "ip neigh del 169.254.1.1 dev eth0", "missing neighbour 169.254.1.1", POD
    ),
    broken(
        "an address that the VPC forgot",
        E,
        "fabric",
        "ip neigh del 10.0.0.7 dev br0",
        "missing neighbour 10.0.0.7 dev br0",
        "in the VPC sees",
    ),
    broken("a check that drops all", E, "fabric", "ebtables-nft -D SRC-node1-eth1 2", "--ip-src 10.0.0.7", POD),
    broken(
        "questions for neighbours go round",
        E,
        "fabric",
        "ebtables-nft -D FORWARD -p ARP -j DROP",
        "missing ebtables -t filter -A FORWARD -p ARP -j DROP",
        "answers ARP",
    ),
    broken("no check at all", E, "fabric", "ebtables-nft -F SRC-node1-eth0", "missing ebtables -t filter -A SRC", ""),
    broken("an alias range", G, "fabric", "ip route del 10.4.1.0/24", "missing route 10.4.1.0/24 via 10.128.0.3", POD),
    broken("a pod's cable", G, "node1", "ip route del 10.4.0.3", "missing route 10.4.0.3 dev vethe9d71f5e", POD),
    broken(
        "the scope of a pod's route",
        G,
        "node1",
        "ip route replace 10.4.0.3 dev vethe9d71f5e scope link",
        "changed route 10.4.0.3: scope was none, should be host",
        "",
    ),
    broken(
        "the gateway's address on a cable",
        G,
        "node1",
        "ip addr del 10.4.0.1/32 dev vethe9d71f5e",
        "missing address 10.4.0.1/32 dev vethe9d71f5e",
        "",
    ),
    broken(
        "what a node may send", G, "fabric", "iptables-legacy -t raw -D PREROUTING 6", "-s 10.4.0.0/24 -i node1", POD
    ),
    broken(
        "ip-masq-agent",
        G,
        "node1",
        "iptables-legacy -t nat -F IP-MASQ-AGENT",
        "missing iptables -t nat -A IP-MASQ-AGENT",
        "outside",
    ),
    broken(
        "the trip through the VPC",
        N,
        "node1",
        "ip rule del pref 76",
        "missing rule pref 76 not from all iif eth0 lookup 1",
        "goes to the VPC",
    ),
    broken(
        "a rule without its not",
        N,
        "node1",
        "{but}",
        "missing rule pref 76 not from all iif eth0",
        "goes to the VPC",
    ),
    broken(
        "return paths of the trip",
        N,
        "node1",
        "sysctl -qw net.ipv4.conf.eth0.rp_filter=1",
        "rp_filter: value was 1, should be 2",
        "",
    ),
    broken("a custom route", S, "fabric", "ip route flush table 100", "missing route 10.4.1.0/24 via 10.128.0.3", POD),
    broken(
        "a peer that is told",
        S,
        "fabric",
        "ip rule add pref 99 iif peer lookup 100",
        "extra rule pref 99",
        "cannot reach a pod",
    ),
    broken(
        "a node's blackhole", F, "node1", "ip route del blackhole 10.244.0.0/26", "missing route blackhole", "unused"
    ),
    broken("a block's route", F, "node1", "ip route del 10.244.0.64/26", "missing route 10.244.0.64/26 via", POD),
    broken(
        "a node that VXLAN does not find",
        F,
        "node1",
        f"bridge fdb del {VTEP} dev vxlan.calico dst 192.168.1.3 self",
        f"missing fdb entry {VTEP} dev vxlan.calico",
        "across the router it travels",
    ),
    broken(
        "a tunnel's neighbour",
        F,
        "node1",
        "ip neigh del 10.244.0.128 dev vxlan.calico",
        "missing neighbour 10.244.0.128 dev vxlan.calico",
        "across the router it travels",
    ),
    broken(
        "a host that may send VXLAN",
        F,
        "node3",
        "ipset del cali40all-vxlan-net 192.168.0.1",
        "changed ipset cali40all-vxlan-net: members was 192.168.0.2",
        "across the router it travels",
    ),
    broken(
        "a profile that allows",
        F,
        "node1",
        "iptables-legacy -F cali-pro-kns.default",
        "missing iptables -t filter -A cali-pro-kns.default",
        POD,
    ),
    broken(
        "natOutgoing",
        F,
        "node1",
        "iptables-legacy -t nat -F cali-nat-outgoing",
        "missing iptables -t nat -A cali-nat-outgoing",
        "address of the pod's node",
    ),
    broken("who answers for a pod's gateway", F, "", "{gateway}", "proxy_arp: value was 0, should be 1", POD, "node1"),
    broken(
        "what a pod is known by",
        L,
        "node1",
        "ip rule del from 10.0.0.1",
        "missing rule pref 200 from 10.0.0.1/32 lookup 112345",
        "the identity of pod a",
    ),
    broken(
        "another identity",
        L,
        "node1",
        "ip route replace 10.0.1.0/24 encap ip id 7 dst 192.168.0.2 via 10.0.1.254 dev cilium_vxlan onlink table 112345"
        " mtu 1450",
        "changed route 10.0.1.0/24 table 112345: encap was id 7 dst 192.168.0.2, should be id 12345",
        "the identity of pod a",
    ),
    broken(
        "a peer's tunnel mistaken",
        L,
        "node1",
        "ip neigh replace 10.0.1.254 lladdr 02:00:00:00:00:66 dev cilium_vxlan nud permanent",
        "changed neighbour 10.0.1.254 dev cilium_vxlan: address was 02:00:00:00:00:66",
        "b has another identity",
    ),
    broken(
        "no local addresses", L, "node1", "ip rule del pref 100", "missing rule pref 100 from all lookup local", POD
    ),
    broken("the kernel's first rule", L, "node1", "ip rule add pref 0 lookup local", "extra rule pref 0 from all", ""),
    broken(
        "a route in the kernel's name",
        L,
        "node1",
        "ip route del 10.0.1.0/24 dev cilium_host",
        "missing route 10.0.1.0/24 via 10.0.0.254 dev cilium_host proto kernel",
        "",
    ),
    broken(
        "masquerading",
        L,
        "node1",
        "iptables-legacy -t nat -F CILIUM_POST_nat",
        "missing iptables -t nat -A CILIUM_POST_nat -s 10.0.0.0/24",
        "another node sees",
    ),
    broken(
        "a node out of the set",
        M,
        "node1",
        "ipset del cilium_node_set_v4 192.168.0.2",
        "changed ipset cilium_node_set_v4",
        "an IP set of nodes",
    ),
    broken("a way to a peer", M, "node1", "ip route del 10.0.1.0/24", "missing route 10.0.1.0/24 via 192.168.0.2", POD),
    broken(
        "a tunnel that ends nowhere",
        X,
        "node1",
        "bridge fdb del 02:91:50:d0:bb:df dev antrea-tun0 dst 192.168.0.2 self",
        "missing fdb entry 02:91:50:d0:bb:df dev antrea-tun0 dst 192.168.0.2",
        "between nodes",
    ),
    broken(
        "a way through the switch", X, "node1", "ip route del 10.10.1.0/24", "missing route 10.10.1.0/24 via 10.10", POD
    ),
    broken(
        "Antrea's masquerading",
        X,
        "node1",
        "iptables-legacy -t nat -F ANTREA-POSTROUTING",
        "missing iptables -t nat -A ANTREA-POSTROUTING -s 10.10.0.0/24",
        "internet",
    ),
    broken("a switch that answers", X, "node1", "ip link set br-int arp on", "br-int: arp was on, should be off", ""),
    broken(
        "pods out of the set",
        Y,
        "node1",
        "ipset del ANTREA-POD-IP 10.10.1.0/24",
        "changed ipset ANTREA-POD-IP",
        "to a node on the same",
    ),
    broken(
        "a peer's node",
        Z,
        "node1",
        "bridge fdb del 02:07:c2:80:9a:74 dev flannel.1 dst 192.168.0.2 self",
        "missing fdb entry 02:07:c2:80:9a:74 dev flannel.1",
        "travels in VXLAN",
    ),
    broken(
        "a peer's flannel.1",
        Z,
        "node1",
        "ip neigh replace 10.244.2.0 lladdr 02:00:00:00:00:66 dev flannel.1 nud permanent",
        "changed neighbour 10.244.2.0 dev flannel.1: address was 02:00:00:00:00:66",
        "travels in VXLAN",
    ),
    broken("a peer's range", Z, "node1", "ip route del 10.244.2.0/24", "missing route 10.244.2.0/24 via", POD),
    broken(
        "flannel.1's address", Z, "node1", "ip addr flush dev flannel.1", "missing address 10.244.1.0/32", "flannel.1"
    ),
    broken(
        "who keeps a pod's asker",
        Z,
        "node1",
        "iptables-legacy -t nat -F FLANNEL-POSTRTG",
        "missing iptables -t nat -A FLANNEL-POSTRTG",
        "another node sees the address",
    ),
    broken("all pods may be forwarded", Z, "node1", "iptables-legacy -F FLANNEL-FWD", "-A FLANNEL-FWD -s", ""),
    broken("Docker's raw DROP", D, "host1", "iptables-legacy -t raw -F", "missing iptables -t raw -A PREROUTING", ""),
    broken(
        "a published port", P, "host1", "iptables-legacy -t nat -F DOCKER", "missing iptables -t nat -A DOCKER", "udp"
    ),
    broken(
        "a port's guard",
        P,
        "host1",
        "iptables-legacy -t raw -F",
        "missing iptables -t raw -A PREROUTING",
        "host's address only",
    ),
    broken(
        "route_localnet",
        P,
        "host1",
        "sysctl -qw net.ipv4.conf.bridge1.route_localnet=0",
        "route_localnet: value was 0, should be 1",
        "the host reaches",
    ),
    broken(
        "a node's port",
        H,
        "node1",
        "iptables-legacy -t nat -F CNI-HOSTPORT-DNAT",
        "missing iptables -t nat -A CNI-HOSTPORT-DNAT",
        "address of vm",
    ),
    broken(
        "the kubelet's mark",
        H,
        "node1",
        "iptables-legacy -t nat -F KUBE-MARK-MASQ",
        "missing iptables -t nat -A KUBE-MARK-MASQ -j MARK",
        "same range",
    ),
    broken(
        "loopback addresses on cbr0",
        H,
        "node1",
        "sysctl -qw net.ipv4.conf.cbr0.route_localnet=0",
        "route_localnet: value was 0, should be 1",
        "at 127.0.0.1",
    ),
    broken("a port's hairpin", P, "host1", "{wport} hairpin off", "hairpin was off, should be on", "reaches itself"),
    broken(
        "frames past iptables",
        Q,
        "host1",
        "sysctl -qw net.bridge.bridge-nf-call-iptables=0",
        "bridge-nf-call-iptables: value was 0, should be 1",
        "on its bridge",
    ),
    broken(
        "a peer's entry gone",
        W,
        "host1-ov",
        "bridge fdb del 02:42:0a:00:01:05 dev vxlan0 dst 192.168.50.12 self",
        "missing fdb entry 02:42:0a:00:01:05 dev vxlan0",
        "travels in VXLAN",
    ),
    broken(
        "a peer's MAC gone",
        W,
        "host1-ov",
        "ip neigh del 10.0.1.5 dev vxlan0",
        "missing neighbour 10.0.1.5 dev vxlan0",
        "",
    ),
    broken("a tunnel down", W, "host2-ov", "ip link set vxlan0 down", "link vxlan0: up was down", "travels in VXLAN"),
    broken("a tunnel's MTU", W, "host1-ov", "ip link set vxlan0 mtu 1400", "mtu was 1400, should be 1450", "50 bytes"),
    broken("the overlay's bridge", W, "host1-ov", "ip link set veth0 nomaster", "veth0: master was none", "one host"),
    broken(
        "a gateway bridge",
        W,
        "host1",
        "ip addr flush dev docker_gwbridge",
        "missing address 172.18",
        "pass docker_gwbridge",
    ),
    broken(
        "a gateway's MASQUERADE",
        W,
        "host1",
        "iptables-legacy -t nat -F POSTROUTING",
        "missing iptables -t nat -A POSTROUTING -s 172.18.0.0/16",
        "pass docker_gwbridge",
    ),
    broken(
        "a neighbour gone", R, "h1", "ip neigh del 10.9.0.2 dev vx0", "missing neighbour 10.9.0.2 dev vx0", "tunnel"
    ),
    broken(
        "a neighbour wrong",
        R,
        "h1",
        "ip neigh replace 10.9.0.2 lladdr 02:00:00:00:00:66 dev vx0 nud permanent",
        "changed neighbour 10.9.0.2 dev vx0: address was 02:00:00:00:00:66",
        "tunnel",
    ),
    broken("an fdb entry gone", R, "h1", "bridge fdb del 02:00:00:00:01:02 dev vx0", "missing fdb entry", "tunnel"),
    broken("a VXLAN's VNI", R, "h2", "{revni}", "id 43", "tunnel", "h2"),
    broken("a rule of routing", R, "h1", "ip rule del pref 101", "missing rule pref 101", "across the router"),
    broken("an IPv6 address", R, "h2", "ip -6 addr flush dev eth0", "missing address 2001:db8:2::1/64", "IPv6"),
    broken("an IPv6 route", R, "h1", "ip -6 route del default", "missing route default via 2001:db8:1::fe", "IPv6"),
    broken("IPv6 forwarding", R, "r", "sysctl -qw net.ipv6.conf.all.forwarding=0", "forwarding: value was 0", "IPv6"),
    broken(
        "an ip6tables rule", R, "r", "ip6tables-legacy -F FORWARD", "missing ip6tables -t filter -A FORWARD", "IPv6"
    ),
    broken(
        "an unreachable route",
        R,
        "r",
        "ip route del 203.0.113.0/24",
        "missing route unreachable 203.0.113.0/24",
        "beyond",
    ),
]


@pytest.fixture(scope="module")
def labs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, lifecycle.Definition]]:
    """All labs of the table, up."""
    file = tmp_path_factory.mktemp("raw") / "rawlab.yaml"
    file.write_text(RAW)
    names = [K, A, D, P, Q, B, V, W, H, E, G, N, S, F, L, M, X, Y, Z]
    names += [C] if reason_without() is None else []
    definitions = {name: lifecycle.define(name) for name in names} | {R: lifecycle.define(str(file))}
    definitions[T] = kernels.define(T, (), ("vlan",))
    for definition in definitions.values():
        lifecycle.up(definition)
    yield definitions
    for name in paths.labs():
        lifecycle.down(name)


def inside(name: str, node: str, command: str) -> str:
    words = command.split() if not node else ["ip", "netns", "exec", paths.netns_name(name, node), *command.split()]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def verdict(name: str, word: str, patience: float | None) -> tuple[str, list[str]]:
    """What the checks with that word say within `patience` seconds each (None: as they ask), and why."""
    compiled = lifecycle.load_compiled_lab(name)
    hasty = tuple(
        replace(check, within=patience or check.within) for check in (*compiled.checks, *BESIDES.get(name, ()))
    )
    report = runner.run(replace(compiled, checks=hasty), word)
    return report.verdict, [text for outcome in report.outcomes for text in outcome.evidence]


def prepared(mutation: Mutation) -> str:
    """The command, with what only the running lab knows filled in."""
    command = mutation.command
    if "{port}" in command or "{bport}" in command:
        port = next(line for line in inside(K, "node1", "ip -o link show master cbr0").splitlines())
        dev = port.split(": ")[1].split("@")[0]
        return command.format(port=f"ip link set {dev}", bport=f"bridge link set dev {dev}")
    if "{wport}" in command:
        port = inside(P, "host1", "ip -o link show master bridge1").split(": ")[1]
        return command.format(wport=f"bridge link set dev {port.split('@')[0]}")
    if "{proxy_arp}" in command:
        dev = inside(A, "node1", "ip -o route get 10.224.0.5").split(" dev ")[1].split()[0]
        return f"sysctl -qw net.ipv4.conf.{dev}.proxy_arp=0"
    if "{azv}" in command:
        dev = next(word for word in inside(B, "node1", "bridge link show").split() if word.startswith("azv"))
        return command.format(azv=f"bridge link set dev {dev.split('@')[0]}")
    if "{a}" in command:
        return command.format(a=inside(A, "a", "ip -4 -o addr show eth0").split()[3].split("/")[0])
    if "{gateway}" in command:
        node, pod = (f"ip netns exec {paths.netns_name(F, name)}" for name in ("node1", "a"))
        (paths.state_dir() / "gateway.sh").write_text(
            f"{node} sysctl -qw net.ipv4.conf.caliacd53aa4120.proxy_arp=0; {pod} ip neigh flush dev eth0"
        )
        return f"sh {paths.state_dir() / 'gateway.sh'}"
    if "{but}" in command:
        (paths.state_dir() / "but.sh").write_text("ip rule del pref 76; ip rule add pref 76 iif eth0 lookup 1")
        return f"sh {paths.state_dir() / 'but.sh'}"
    if "{revni}" in command:
        script = "ip link del vx0; ip link add vx0 address 02:00:00:00:01:02 type vxlan id 43 dstport 4789 local "
        (paths.state_dir() / "revni.sh").write_text(
            script + "198.51.100.1 nolearning; ip addr add 10.9.0.2/24 dev vx0; ip link set vx0 up"
        )
        return f"sh {paths.state_dir() / 'revni.sh'}"
    return command


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.what)
def test_what_is_broken_is_named_caught_and_mended(mutation: Mutation, labs: dict[str, lifecycle.Definition]) -> None:
    name = mutation.lab
    if name not in labs:
        pytest.skip(str(reason_without()))
    compiled = lifecycle.load_compiled_lab(name)
    assert lifecycle.status(name, compiled) == ()
    inodes = {node: os.stat(paths.netns_path(name, node)).st_ino for node in paths.labs()[name]}

    inside(name, mutation.where, prepared(mutation).replace("tables-legacy", f"tables-{backend.backend_of(name)}"))
    changes = lifecycle.status(name, compiled)
    told = [line for change in changes for line in change_lines(change)]
    assert any(mutation.says in line for line in told), told
    if mutation.check:
        told_by_packets, why = verdict(name, mutation.check, 0.8)
        assert told_by_packets == ("inconclusive" if mutation.check == "beyond" else "fail"), why

    mended = lifecycle.up(labs[name])
    assert {change.subject.key for change in mended.changes} >= {change.subject.key for change in changes}
    assert {change.subject.ns for change in mended.changes} <= mutation.touches
    assert lifecycle.status(name, compiled) == ()
    after = {node: os.stat(paths.netns_path(name, node)).st_ino for node in paths.labs()[name]}
    assert {node for node in inodes if inodes[node] != after[node]} <= ({"a"} if not mutation.where else set())
    if mutation.check:
        told_by_packets, why = verdict(name, mutation.check, None)
        deadline = time.monotonic() + 15
        while told_by_packets == "inconclusive" and time.monotonic() < deadline:
            # the kernel still resolves the neighbour of the probe before, and starts again after that failed
            told_by_packets, why = verdict(name, mutation.check, None)
        assert told_by_packets == "pass", why


def test_every_kind_of_object_is_broken_once() -> None:
    said = " ".join(mutation.says for mutation in MUTATIONS)
    nouns = ("namespace", "link", "address", "route", "rule", "ip_forward", "iptables", "neighbour", "fdb entry")
    assert [noun for noun in nouns if noun not in said] == []

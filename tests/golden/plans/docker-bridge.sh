#!/bin/sh
# docker-bridge, model docker-bridge: containers share a bridge, and machines outside see only the address of their host
# The equivalent of `labctl up docker-bridge`. Run it as root; `labctl down docker-bridge` removes the lab.
set -e
in_node() { node=$1; shift; ip netns exec "labctl.docker-bridge.$node" "$@"; }  # a command inside a machine of the lab

# ---- the machines: a network namespace for each
ip netns add labctl.docker-bridge.internet
ip netns add labctl.docker-bridge.host1
ip netns add labctl.docker-bridge.c1
ip netns add labctl.docker-bridge.c2

# ---- links: each veth pair once, with both ends
# host1: the host with 192.168.50.11, 172.17.0.1
in_node host1 ip link add eth0 type veth peer name eth0 netns labctl.docker-bridge.internet
in_node host1 ip link set eth0 addrgenmode none
in_node host1 ip link set eth0 mtu 1500 address 02:0c:05:4c:1e:1b up
# internet: the internet with 203.0.113.1, 192.168.50.1
in_node internet ip link set eth0 addrgenmode none
in_node internet ip link set eth0 mtu 1500 address 02:7f:86:8a:1c:2b up
in_node internet ip link set lo up
# host1
in_node host1 ip link set lo up
in_node host1 ip link add docker0 type bridge
in_node host1 ip link set docker0 addrgenmode none
in_node host1 ip link set docker0 mtu 1500 address 02:16:bc:33:74:57 txqueuelen 0 up
# c1: the container with 172.17.0.2, on host1
in_node c1 ip link set lo up
# c2: the container with 172.17.0.3, on host1
in_node c2 ip link set lo up
# host1
in_node host1 ip link add veth2f22765 type veth peer name eth0 netns labctl.docker-bridge.c1
in_node host1 ip link set veth2f22765 addrgenmode none
in_node host1 ip link set veth2f22765 mtu 1500 txqueuelen 0 master docker0 up
# c1
in_node c1 ip link set eth0 addrgenmode none
in_node c1 ip link set eth0 mtu 1500 address 02:2f:22:76:5d:04 txqueuelen 0 up
# host1
in_node host1 ip link add veth6b1f533 type veth peer name eth0 netns labctl.docker-bridge.c2
in_node host1 ip link set veth6b1f533 addrgenmode none
in_node host1 ip link set veth6b1f533 mtu 1500 txqueuelen 0 master docker0 up
# c2
in_node c2 ip link set eth0 addrgenmode none
in_node c2 ip link set eth0 mtu 1500 address 02:6b:1f:53:30:3a txqueuelen 0 up

# ---- settings
# internet
in_node internet sysctl -qw net.ipv4.ip_forward=0
in_node internet sysctl -qw net.ipv4.conf.all.rp_filter=0
in_node internet sysctl -qw net.ipv4.conf.all.send_redirects=0
in_node internet sysctl -qw net.ipv4.conf.default.rp_filter=0
in_node internet sysctl -qw net.ipv4.conf.default.send_redirects=0
in_node internet sysctl -qw net.ipv4.conf.eth0.rp_filter=0
in_node internet sysctl -qw net.ipv4.conf.eth0.send_redirects=0
# host1
in_node host1 sysctl -qw net.ipv4.ip_forward=1
in_node host1 sysctl -qw net.ipv4.conf.all.rp_filter=2
in_node host1 sysctl -qw net.ipv4.conf.all.send_redirects=0
in_node host1 sysctl -qw net.ipv4.conf.default.rp_filter=2
in_node host1 sysctl -qw net.ipv4.conf.default.send_redirects=0
in_node host1 sysctl -qw net.bridge.bridge-nf-call-iptables=0
# c1
in_node c1 sysctl -qw net.ipv4.ip_forward=0
in_node c1 sysctl -qw net.ipv4.ip_unprivileged_port_start=0
in_node c1 sysctl -qw 'net.ipv4.ping_group_range=0 2147483647'
# c2
in_node c2 sysctl -qw net.ipv4.ip_forward=0
in_node c2 sysctl -qw net.ipv4.ip_unprivileged_port_start=0
in_node c2 sysctl -qw 'net.ipv4.ping_group_range=0 2147483647'

# ---- addresses
# internet
in_node internet ip addr add 192.168.50.1/24 dev eth0
in_node internet ip addr add 203.0.113.1/32 dev lo
# host1
in_node host1 ip addr add 192.168.50.11/24 dev eth0
in_node host1 ip addr add 172.17.0.1/16 dev docker0
# c1
in_node c1 ip addr add 172.17.0.2/16 dev eth0
# c2
in_node c2 ip addr add 172.17.0.3/16 dev eth0

# ---- routes and the rules that select routing tables
# internet
in_node internet ip route add 172.17.0.0/16 via 192.168.50.11 dev eth0 src 203.0.113.1
# host1
in_node host1 ip route add default via 192.168.50.1 dev eth0
# c1
in_node c1 ip route add default via 172.17.0.1 dev eth0
# c2
in_node c2 ip route add default via 172.17.0.1 dev eth0

# ---- the firewall: chains first, then their rules
# host1
in_node host1 iptables-legacy -t nat -N DOCKER
in_node host1 iptables-legacy -t filter -P FORWARD DROP
in_node host1 iptables-legacy -t filter -N DOCKER
in_node host1 iptables-legacy -t filter -N DOCKER-BRIDGE
in_node host1 iptables-legacy -t filter -N DOCKER-CT
in_node host1 iptables-legacy -t filter -N DOCKER-FORWARD
in_node host1 iptables-legacy -t filter -N DOCKER-ISOLATION-STAGE-1
in_node host1 iptables-legacy -t filter -N DOCKER-ISOLATION-STAGE-2
in_node host1 iptables-legacy -t filter -N DOCKER-USER
in_node host1 ip6tables-legacy -t nat -N DOCKER
in_node host1 ip6tables-legacy -t filter -P FORWARD ACCEPT
in_node host1 ip6tables-legacy -t filter -N DOCKER
in_node host1 ip6tables-legacy -t filter -N DOCKER-BRIDGE
in_node host1 ip6tables-legacy -t filter -N DOCKER-CT
in_node host1 ip6tables-legacy -t filter -N DOCKER-FORWARD
in_node host1 ip6tables-legacy -t filter -N DOCKER-ISOLATION-STAGE-1
in_node host1 ip6tables-legacy -t filter -N DOCKER-ISOLATION-STAGE-2
in_node host1 ip6tables-legacy -t filter -N DOCKER-USER
in_node host1 iptables-legacy -t raw -A PREROUTING -d 172.17.0.2/32 ! -i docker0 -j DROP
in_node host1 iptables-legacy -t raw -A PREROUTING -d 172.17.0.3/32 ! -i docker0 -j DROP
in_node host1 iptables-legacy -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
in_node host1 iptables-legacy -t nat -A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
in_node host1 iptables-legacy -t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
in_node host1 iptables-legacy -t nat -A DOCKER -i docker0 -j RETURN
in_node host1 iptables-legacy -t filter -A FORWARD -j DOCKER-USER
in_node host1 iptables-legacy -t filter -A FORWARD -j DOCKER-FORWARD
in_node host1 iptables-legacy -t filter -A DOCKER ! -i docker0 -o docker0 -j DROP
in_node host1 iptables-legacy -t filter -A DOCKER-BRIDGE -o docker0 -j DOCKER
in_node host1 iptables-legacy -t filter -A DOCKER-CT -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
in_node host1 iptables-legacy -t filter -A DOCKER-FORWARD -j DOCKER-CT
in_node host1 iptables-legacy -t filter -A DOCKER-FORWARD -j DOCKER-ISOLATION-STAGE-1
in_node host1 iptables-legacy -t filter -A DOCKER-FORWARD -j DOCKER-BRIDGE
in_node host1 iptables-legacy -t filter -A DOCKER-FORWARD -i docker0 -j ACCEPT
in_node host1 iptables-legacy -t filter -A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
in_node host1 iptables-legacy -t filter -A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
in_node host1 ip6tables-legacy -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
in_node host1 ip6tables-legacy -t nat -A OUTPUT ! -d ::1/128 -m addrtype --dst-type LOCAL -j DOCKER
in_node host1 ip6tables-legacy -t filter -A FORWARD -j DOCKER-USER
in_node host1 ip6tables-legacy -t filter -A FORWARD -j DOCKER-FORWARD
in_node host1 ip6tables-legacy -t filter -A DOCKER-FORWARD -j DOCKER-CT
in_node host1 ip6tables-legacy -t filter -A DOCKER-FORWARD -j DOCKER-ISOLATION-STAGE-1
in_node host1 ip6tables-legacy -t filter -A DOCKER-FORWARD -j DOCKER-BRIDGE

"""Cases of traces about the ends of a path: which machine got the packet, which port it was for, and why a machine that
should have an address does not answer for it."""

from __future__ import annotations

from tests.support.trace_cases import Case, case

# three hosts on a bridge; two of them have the same address
TWINS = """
name: twins
model: raw
namespaces: [sw, t1, t2, t3]
links:
  - {bridge: sw/br0}
  - {veth: [{at: sw/p1, master: br0}, t1/eth0]}
  - {veth: [{at: sw/p2, master: br0}, t2/eth0]}
  - {veth: [{at: sw/p3, master: br0}, t3/eth0]}
addresses:
  t1/eth0: [192.0.2.1/24, "2001:db8::1/64"]
  t2/eth0: [192.0.2.2/24, "2001:db8::2/64"]
  t3/eth0: [192.0.2.3/24]
"""

# two Docker hosts with the same container subnet
DOCKERS = """
name: dockers
model: docker-bridge
hosts:
  host1: {containers: [web, db]}
  host2: {containers: [client]}
"""

# two hosts on one cable; the second redirects port 80 to another port
REDIRECT = """
name: redirect
model: raw
namespaces: [left, right]
links:
  - {veth: [left/eth0, right/eth0]}
addresses:
  left/eth0: [192.0.2.1/24]
  right/eth0: [192.0.2.2/24, 192.0.2.3/24]
sysctls:
  left: {net.ipv4.conf.eth0.route_localnet: 0}
  right: {net.ipv4.conf.eth0.route_localnet: 0}
firewall:
  right:
    nat:
      PREROUTING:
        - -p tcp --dport 80 -j REDIRECT --to-ports 8080
        - -p udp --dport 80 -j REDIRECT --to-ports 8080
"""

# a node with pods on a bridge, and a pod on another node
PODS = """
name: pods
model: kubenet
nodes:
  node1: {pods: [a]}
  node2: {pods: [c]}
"""

# three machines on one bridge
LAN = """
name: lan
model: raw
namespaces: [s1, s2, s3, sw]
links:
  - {bridge: sw/br0, mac: "02:00:00:00:00:10"}
  - {veth: [{at: s1/eth0, mac: "02:00:00:00:00:11"}, {at: sw/p1, master: br0}]}
  - {veth: [{at: s2/eth0, mac: "02:00:00:00:00:12"}, {at: sw/p2, master: br0}]}
  - {veth: [{at: s3/eth0, mac: "02:00:00:00:00:13"}, {at: sw/p3, master: br0}]}
addresses:
  s1/eth0: [192.0.2.1/24]
  s2/eth0: [192.0.2.2/24]
  s3/eth0: [192.0.2.3/24]
"""

LABS = {"twins": TWINS, "dockers": DOCKERS, "redirect": REDIRECT, "pods": PODS, "lan": LAN}

TWIN = "t3: ip addr add 192.0.2.2/24 dev eth0"
MOVED = f"t2: ip addr del 192.0.2.2/24 dev eth0; {TWIN}"
LOOPBACK = (
    "right: iptables-legacy -t nat -F PREROUTING; "
    "right: iptables-legacy -t nat -A PREROUTING -p tcp --dport 80 -j DNAT --to-destination 127.0.0.1:8080"
)
LOCALNET = f"{LOOPBACK}; right: sysctl -qw net.ipv4.conf.eth0.route_localnet=1"
MARTIAN = (
    "left: sysctl -qw net.ipv4.conf.eth0.route_localnet=1; left: ip route del local 127.0.0.0/8 dev lo table local; "
    "left: ip route del local 127.0.0.1 dev lo table local; left: ip route add 127.0.0.1/32 via 192.0.2.2 src 192.0.2.1"
)
NOTHING = "nothing in right listens on tcp port 8080"
TCP, UDP = "left right --tcp 80", "left right --udp 80"
VETH = "veth84a51684"  # the end of c's cable at node2

# another machine has the target's address
MACHINE_CASES = (
    case(
        "wrong-machine",
        "twins",
        TWIN,
        "t1 t2",
        "wrong-machine",
        "t3 has the address 192.0.2.2, too",
        "t3/eth0 has",
        place="the request went to t3, which answered",
    ),
    case(
        "wrong-machine-refuses",
        "twins",
        TWIN,
        "t1 t2 --tcp 80",
        "wrong-machine",
        "t3 has the address",
        place="t3, which refused it",
    ),
    case(
        "wrong-machine-moved",
        "twins",
        MOVED,
        "t1 t2 --udp 53",
        "wrong-machine",
        "t2 does not have it any more",
        "192.0.2.2 (t3) reported to 192.0.2.1 (t1)",
    ),
    case("right-machine-by-address", "twins", MOVED, "t1 192.0.2.2", None, verdict="answered"),
    case(
        "wrong-machine-itself",
        "dockers",
        "",
        "client web",
        "wrong-machine",
        "client has the address 172.17.0.2",
        "web/eth0 has 172.17.0.2/16",
        place="never arrived in web",
    ),
    case(
        "other-network",
        "dockers",
        "",
        "client db",
        "neighbour",
        "db/eth0 is not connected to client/eth0",
        "172.17.0.2 (client) reported to 172.17.0.2 (client)",
    ),
)

# the port after a translation
PORT_CASES = (
    case("redirect-closed", "redirect", "", TCP, "dead-backend", NOTHING, verdict="refused"),
    case("redirect-closed-udp", "redirect", "", UDP, "dead-backend", NOTHING.replace("tcp", "udp"), verdict="refused"),
    case(
        "redirect-first-port",
        "redirect",
        "",
        TCP,
        "dead-backend",
        NOTHING,
        verdict="refused",
        listen="tcp right 0.0.0.0 80",
    ),
    case(
        "redirect-loopback",
        "redirect",
        "",
        TCP,
        "loopback-only",
        "port 8080 only at 127.0.0.1:8080",
        verdict="refused",
        listen="tcp right 127.0.0.1 8080",
    ),
    case(
        "redirect-other",
        "redirect",
        "",
        "left 192.0.2.3 --tcp 80",
        "other-address",
        "not at 192.0.2.2",
        verdict="refused",
        listen="tcp right 192.0.2.3 8080",
    ),
    case("redirect-open", "redirect", "", TCP, None, verdict="answered", listen="tcp right 0.0.0.0 8080"),
    case(
        "redirect-silent-udp",
        "redirect",
        "",
        UDP,
        None,
        verdict="unanswered",
        listen="udp right 0.0.0.0 8080",
        place="where a socket received it",
    ),
    case("localnet-closed", "redirect", LOCALNET, TCP, "dead-backend", NOTHING, verdict="refused"),
    case(
        "localnet-first-port",
        "redirect",
        LOCALNET,
        TCP,
        "dead-backend",
        NOTHING,
        verdict="refused",
        listen="tcp right 0.0.0.0 80",
    ),
    case(
        "localnet-other",
        "redirect",
        LOCALNET,
        TCP,
        "other-address",
        "only at 192.0.2.2:8080, not at 127.0.0.1",
        verdict="refused",
        listen="tcp right 192.0.2.2 8080",
    ),
    case("localnet-open", "redirect", LOCALNET, TCP, None, verdict="answered", listen="tcp right 127.0.0.1 8080"),
)

# addresses that may not come in; the last case removes addresses that `up` does not bring back
MARTIAN_CASES = (
    case(
        "martian-translated",
        "redirect",
        LOOPBACK,
        TCP,
        "martian",
        "right rewrites 192.0.2.2 to 127.0.0.1",
        "nat/PREROUTING rule 1",
    ),
    case(
        "martian",
        "redirect",
        MARTIAN,
        "left 127.0.0.1 --udp 81",
        "martian",
        "right refuses packets to 127.0.0.1",
        "eth0.route_localnet = 0",
    ),
)

# a machine that does not answer for its address
OWNER_CASES = (
    case("address-lost", "pods", "c: ip addr flush dev eth0", "a c", "no-address", "c does not have the address"),
    case("address-lost-6", "twins", "t2: ip addr flush dev eth0", "t1 2001:db8::2", "no-address", "t2 does not have"),
    case("device-lost", "pods", f"node2: ip link del {VETH}", "a c", "no-address", "no device except lo"),
    case("target-down", "pods", "c: ip link set eth0 down", "a c", "link-down", "c/eth0, which has the address"),
    case("target-down-6", "twins", "t2: ip link set eth0 down", "t1 2001:db8::2", "link-down", "t2/eth0 is down"),
    case("port-down", "pods", f"node2: ip link set {VETH} down", "a c", "link-down", f"node2/{VETH}, the other end"),
    case(
        "no-port", "pods", f"node2: ip link set {VETH} nomaster", "a c", "port-detached", "is not a port of the bridge"
    ),
    case(
        "bridge-gone",
        "pods",
        "a: ip neigh flush dev eth0; node1: ip link del cbr0; node1: ip link add br9 type bridge;"
        " node1: ip link set br9 up; node1: ip addr add 192.0.2.1/24 dev br9",
        "a c",
        "port-detached",
        "is not a port of a bridge, and no bridge of node1 has the address 10.244.0.1",
    ),
    case(
        "bridge-gone-known",
        "pods",
        "a: ping -c 1 -W 1 10.244.1.2; node1: ip link del cbr0; node1: ip link add br9 type bridge",
        "a c",
        "port-detached",
        "has no address and no route, and is not a port of any bridge",
    ),
    case("arp-off", "pods", "c: ip link set eth0 arp off", "a c", "neighbour", "ARP is off there"),
)

# a network of cables and bridges that is broken: the question for a MAC address does not arrive
ASK_AGAIN = "s1: ip neigh flush dev eth0; s2: ip neigh flush dev eth0"
KNOWN = "s1: ip neigh replace 192.0.2.2 lladdr 02:00:00:00:00:12 dev eth0 nud permanent"
SEGMENT_CASES = (
    case(
        "bridge-down-asked",
        "lan",
        f"sw: ip link set br0 down; {ASK_AGAIN}",
        "s1 s2",
        "link-down",
        "the bridge sw/br0 is down, so the question of s1 for 192.0.2.2 cannot pass",
    ),
    case(
        "isolated-asked",
        "lan",
        f"sw: bridge link set dev p1 isolated on; sw: bridge link set dev p2 isolated on; {ASK_AGAIN}",
        "s1 s2",
        "isolated",
        "both ports, sw/p1 and sw/p2, are isolated",
    ),
    case(
        "isolated-known",
        "lan",
        f"sw: bridge link set dev p1 isolated on; sw: bridge link set dev p2 isolated on; {KNOWN}",
        "s1 s2",
        "isolated",
        "both ports, sw/p1 and sw/p2, are isolated: the bridge br0 does not forward between them",
    ),
    case(
        "detached-asked",
        "lan",
        f"sw: ip link set p1 nomaster; {ASK_AGAIN}",
        "s1 s2",
        "port-detached",
        "sw/p1, the other end of the cable of s1/eth0, is not a port of the bridge sw/br0",
    ),
    case(
        "duplicate-mac",
        "lan",
        f"s2: ip link set eth0 address 02:00:00:00:00:11; {ASK_AGAIN}",
        "s1 s2",
        "duplicate-mac",
        "s1/eth0 and s2/eth0 have the same MAC address 02:00:00:00:00:11",
    ),
    case(
        "stale-fdb",
        "lan",
        f"sw: bridge fdb replace 02:00:00:00:00:12 dev p3 master static; {KNOWN}",
        "s1 s2",
        "fdb-stale",
        "at sw/p3, but s2/eth0, which has that MAC address, is behind sw/p2",
    ),
    case(
        "own-device-down",
        "pods",
        "a: ip link set eth0 down",
        "a c",
        "link-down",
        "a/eth0 is down, so its routes are gone",
    ),
    case(
        "own-device-down-6",
        "twins",
        "t1: ip link set eth0 down",
        "t1 2001:db8::2",
        "link-down",
        "t1 has no route to 2001:db8::2: t1/eth0 is down",
    ),
    case(
        "forwarding-off-here",
        "pods",
        "node1: sysctl -qw net.ipv4.conf.cbr0.forwarding=0",
        "a c",
        "forwarding-off",
        "IPv4 forwarding is off for what comes in by cbr0",
    ),
)

# a reply that is not tracked where the request was translated
NOTRACK = (
    "r1: iptables-legacy -t nat -A POSTROUTING -d 10.2.0.0/24 -j MASQUERADE; "
    "r1: iptables-legacy -t raw -A PREROUTING -s 10.2.0.2 -j CT --notrack"
)
NOT_TRACKED = "r1 does not translate the reply to 10.9.0.1 back to 10.1.0.2: a rule of raw/PREROUTING excludes it"
TRACKING_CASES = (
    case("notrack-reply", "road", NOTRACK, "h1 h2", "not-untranslated", NOT_TRACKED, "raw/PREROUTING rule 1"),
    case("notrack-reply-tcp", "road", NOTRACK, "h1 h2 --tcp 80 --listen", "not-untranslated", NOT_TRACKED),
)

# a router's message that a packet is too big, which ends in a firewall: there, or on the way
UNTOLD = "r2: ip link set h2 mtu 1300; r2: iptables-legacy -A OUTPUT -p icmp --icmp-type fragmentation-needed -j DROP"
UNTOLD_BEYOND = "r2: ip link set h2 mtu 1300; r1: iptables-legacy -A FORWARD -p icmp --icmp-type 3/4 -j DROP"
MTU_CASES = (
    case(
        "too-big-untold",
        "road",
        UNTOLD,
        "h1 h2 --size 1400",
        "mtu-black-hole",
        "a rule of OUTPUT in r2 dropped the ICMP error for the sender",
        "filter/OUTPUT rule 1",
    ),
    case(
        "too-big-untold-beyond",
        "road",
        UNTOLD_BEYOND,
        "h1 h2 --udp 53 --size 1400",
        "mtu-black-hole",
        "too big for r2/h2 (MTU 1300), and it may not be fragmented (DF); a rule of FORWARD in r1 dropped the ICMP",
    ),
)

CASES: tuple[Case, ...] = (
    *SEGMENT_CASES,
    *MTU_CASES,
    *MACHINE_CASES,
    *PORT_CASES,
    *MARTIAN_CASES,
    *OWNER_CASES,
    *TRACKING_CASES,
)

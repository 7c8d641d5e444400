"""Cases of traces about translation: hairpin mode, packets that stay on lo, the rules of request and reply, and replies
that are lost because nothing translated the source."""

from __future__ import annotations

from tests.support.trace_case import Case, case

# a container that asks Docker's embedded DNS server; the machine beside it has loopback addresses of its own
EMBEDDED = """
name: embedded
model: raw
namespaces: [c1, host]
links:
  - {veth: [c1/eth0, host/veth1]}
addresses:
  c1/eth0: [172.18.0.2/16, "2001:db8::2/64"]
  host/veth1: [172.18.0.1/16, "2001:db8::1/64"]
routes:
  c1: [default via 172.18.0.1]
firewall:
  c1:
    nat:
      OUTPUT:
        - -d 127.0.0.11/32 -p udp -m udp --dport 53 -j DNAT --to-destination 127.0.0.11:41753
        - -d 127.0.0.11/32 -p tcp -m tcp --dport 53 -j DNAT --to-destination 127.0.0.11:41754
        - -d 10.96.0.10/32 -j DNAT --to-destination 127.0.0.1
      POSTROUTING:
        - -s 127.0.0.11/32 -p udp -m udp --sport 41753 -j SNAT --to-source :53
        - -d 127.0.0.14/32 -j SNAT --to-source 127.0.0.99
"""

# a container that publishes a UDP and a TCP port
PUBLISHED = """
name: published
model: docker-bridge
hosts:
  host1: {containers: {c1: {}, web: {publish: ["53:53/udp", "8080:80"], listen: [53/udp, 80]}}}
"""

# a pod that reaches itself by the address of a service
HAIRPIN = """
name: hairpin
model: raw
namespaces: {node: {role: node}, pod: {role: pod}}
links:
  - bridge: node/cni0
  - veth: [{at: node/veth1, master: cni0}, {at: pod/eth0, mac: "02:00:00:00:00:02"}]
addresses:
  node/cni0: [10.1.0.1/24, "2001:db8::1/64"]
  pod/eth0: [10.1.0.2/24, "2001:db8::2/64"]
routes:
  pod: [default via 10.1.0.1, "default via 2001:db8::1"]
sysctls:
  node:
    net.ipv4.ip_forward: 1
    net.ipv6.conf.all.forwarding: 1
    net.bridge.bridge-nf-call-iptables: 1
    net.bridge.bridge-nf-call-ip6tables: 1
firewall:
  node:
    nat:
      PREROUTING: [-d 10.96.0.10/32 -j DNAT --to-destination 10.1.0.2]
      POSTROUTING: [-s 10.1.0.2/32 -d 10.1.0.2/32 -j MASQUERADE]
"""

ROUTES_BASED = "name: routesbased\nmodel: gke-routes-based\nnodes: {node1: {pods: [a]}, node2: {pods: [c]}}\n"

# two Docker hosts: the first container of each has the same address
HOSTS = """
name: hosts
model: docker-bridge
hosts:
  host1: {containers: [c0, c1]}
  host2: {containers: [c2]}
"""

CLUSTER = "name: cluster\nmodel: kubenet\nnodes: {node1: {pods: [a]}, node2: {pods: [c]}}\n"
OUTGOING = "name: outgoing\nmodel: calico\nnodes: {node1: {pods: [a]}, node2: {pods: [c]}}\n"
AWS = "name: aws\nmodel: eks-vpc-cni\nnodes: {node1: {pods: [a, b]}}\n"

LABS = {
    "embedded": EMBEDDED,
    "published": PUBLISHED,
    "hairpin": HAIRPIN,
    "routesbased": ROUTES_BASED,
    "hosts": HOSTS,
    "cluster": CLUSTER,
    "outgoing": OUTGOING,
    "aws": AWS,
}

DNAT_DNS = "request c1 nat/OUTPUT rule 1"
PUBLISHED_UDP = (
    "request host1 nat/DOCKER rule 2; request host1 filter/DOCKER rule 2; reply host1 filter/DOCKER-FORWARD rule 4"
)
KNOWN = "node: ip neigh replace 10.1.0.2 lladdr 02:00:00:00:00:02 dev cni0 nud permanent; node: ping -c1 -W5 10.1.0.2"
KNOWN_6 = (
    "node: ip6tables-legacy -t nat -A PREROUTING -d 2001:db8:96::10 -j DNAT --to-destination 2001:db8::2; "
    "node: ip neigh replace 2001:db8::2 lladdr 02:00:00:00:00:02 dev cni0 nud permanent; node: ping -c1 -W5 2001:db8::2"
)
SAME_PORT = "the port that it came in by, node/veth1, but hairpin mode is off on that port"
PEER_HAS_NO_ROUTE = (
    "fabric has no route to 10.4.0.2 (a) in table main for what comes in by peer (its route is in table 100; only what"
    " comes in by node1, node2 and vm uses it), and node1 kept the source 10.4.0.2 (nat/IP-MASQ-AGENT rule 2)"
)
NO_MASQUERADE = "host1: iptables-legacy -t nat -D POSTROUTING 1"
ACCEPTED = "host1: iptables-legacy -t nat -I POSTROUTING -o eth0 -j ACCEPT"
NO_RULE = "no rule of nat/POSTROUTING translates it"

LO_CASES = (
    case("lo-dns", "embedded", "", "c1 127.0.0.11 --udp 53", None, verdict="answered",
         fact="answered as 127.0.0.11:41753", listen="echo c1 127.0.0.11 41753", rules=DNAT_DNS),
    case("lo-dns-tcp", "embedded", "", "c1 127.0.0.11 --tcp 53", None, verdict="answered",
         listen="tcp c1 127.0.0.11 41754", rules="request c1 nat/OUTPUT rule 2"),
    case("lo-dns-closed", "embedded", "", "c1 127.0.0.11 --udp 53", "dead-backend",
         "c1 rewrites 127.0.0.11:53 to 127.0.0.11:41753 (DNAT), and nothing in c1 listens on udp port 41753",
         "127.0.0.11 (itself) reported to 127.0.0.1 (itself)", verdict="refused"),
    case("lo-echo", "embedded", "", "c1 127.0.0.1 --udp 53", None, verdict="answered",
         listen="echo c1 127.0.0.1 53"),
    case("lo-echo-6", "embedded", "", "c1 ::1 --udp 53", None, verdict="answered", listen="echo c1 ::1 53"),
    case("lo-echo-own-address", "embedded", "", "c1 c1 --udp 53", None, verdict="answered",
         listen="echo c1 172.18.0.2 53"),
    case("lo-echo-source", "embedded", "", "c1 127.0.0.14 --udp 53", None, verdict="answered",
         listen="echo c1 127.0.0.14 53", rules="request c1 nat/POSTROUTING rule 2"),
    case("lo-service", "embedded", "", "c1 10.96.0.10", None, verdict="answered",
         rules="request c1 nat/OUTPUT rule 3"),
    case("lo-drop-reply", "embedded", "c1: iptables-legacy -A INPUT -s 127.0.0.14 -j DROP", "c1 127.0.0.14 --udp 53",
         "rule", "a rule of INPUT in c1 dropped the reply", "filter/INPUT rule 1", place="the reply was last seen",
         listen="echo c1 127.0.0.14 53"),
)  # fmt: skip

LEG_CASES = (
    case("published-udp", "published", "", "internet host1 --udp 53", None, verdict="answered", rules=PUBLISHED_UDP),
    case("published-tcp", "published", "", "internet host1 --tcp 8080", None, verdict="answered",
         rules="request host1 nat/DOCKER rule 3; request host1 filter/DOCKER rule 1; "
         "reply host1 filter/DOCKER-FORWARD rule 4"),
    case("published-proxy", "published", "", "c1 host1 --udp 53", None, verdict="answered"),
    case("published-proxy-lo", "published", "", "host1 127.0.0.1 --udp 53", None, verdict="answered"),
)  # fmt: skip

HAIRPIN_CASES = (
    case("hairpin-known", "hairpin", KNOWN, "pod 10.96.0.10", "hairpin-off", SAME_PORT, "node/veth1: hairpin off",
         place="entering node/veth1"),
    case("hairpin-known-tcp", "hairpin", KNOWN, "pod 10.96.0.10 --tcp 80", "hairpin-off", SAME_PORT,
         place="entering node/veth1"),
    case("hairpin-known-udp", "hairpin", KNOWN, "pod 10.96.0.10 --udp 80", "hairpin-off", SAME_PORT,
         place="entering node/veth1"),
    case("hairpin-known-6", "hairpin", KNOWN_6, "pod 2001:db8:96::10 --tcp 80", "hairpin-off", SAME_PORT,
         place="entering node/veth1"),
    case("hairpin-asked", "hairpin", "node: ip neigh flush to 10.1.0.2 dev cni0", "pod 10.96.0.10 --tcp 80",
         "hairpin-off", SAME_PORT),
    case("hairpin-not-forwarding", "hairpin", "node: sysctl -qw net.ipv4.ip_forward=0", "pod 10.96.0.10",
         "forwarding-off", "IPv4 forwarding is off"),
)  # fmt: skip

SOURCE_CASES = (
    case("kept-routes-based", "routesbased", "", "a peer", "no-route", PEER_HAS_NO_ROUTE,
         "nat/IP-MASQ-AGENT rule 2: -d 10.0.0.0/8 -j RETURN"),
    case("kept-routes-based-tcp", "routesbased", "", "a peer --tcp 80", "no-route", PEER_HAS_NO_ROUTE),
    case("kept-routes-based-udp", "routesbased", "", "a peer --udp 53", "no-route", PEER_HAS_NO_ROUTE,
         "10.200.0.2 (peer) reported to 10.4.0.2 (a): port unreachable", place="the error was last seen"),
    case("kept-no-masquerade", "hosts", NO_MASQUERADE, "c1 internet", "no-route-back",
         "internet has no route back to 172.17.0.3 (c1) in table main, and host1 kept the source 172.17.0.3: "
         + NO_RULE),
    case("kept-accepted", "hosts", ACCEPTED, "c1 internet --tcp 80", "no-route-back",
         "host1 kept the source 172.17.0.3 (nat/POSTROUTING rule 1)", "-o eth0 -j ACCEPT, so that the packet never"),
    case("kept-elsewhere", "hosts", NO_MASQUERADE, "c0 host2", "reply-elsewhere",
         "the reply to 172.17.0.2 (c0) went to c2, which has that address, too, and host1 kept the source 172.17.0.2"),
    case("kept-nobody", "hosts", NO_MASQUERADE, "c1 host2", "neighbour",
         "c1/eth0 is not connected to host2/docker0, and host1 kept the source 172.17.0.3"),
    case("kept-everything", "cluster", "node1: iptables-legacy -t nat -I IP-MASQ-AGENT -j RETURN", "a internet",
         "no-route", "and node1 kept the source 10.244.0.2 (nat/IP-MASQ-AGENT rule 1)", "MASQUERADE in rule 3"),
    case("kept-no-translation", "cluster", "node1: iptables-legacy -t nat -D IP-MASQ-AGENT 2", "a internet",
         "no-route", f"and node1 kept the source 10.244.0.2: {NO_RULE}"),
    case("kept-untracked", "cluster", "node1: iptables-legacy -t raw -A PREROUTING -s 10.244.0.2 -j CT --notrack",
         "a vm", "no-route", "and node1 kept the source 10.244.0.2 (raw/PREROUTING rule 1: not tracked)",
         "no rule of the table nat sees it"),
    case("kept-dropped", "hosts", f"{NO_MASQUERADE}; internet: ip route add 172.17.0.0/16 via 192.168.50.11",
         "c1 internet", "rule", "a rule of PREROUTING in host1 dropped the reply, and host1 kept the source 172.17.0.3",
         "raw/PREROUTING rule 2: -d 172.17.0.3/32 ! -i docker0 -j DROP"),
    case("kept-outgoing", "outgoing", "node1: iptables-legacy -t nat -F cali-nat-outgoing", "a vm", "no-route",
         f"kept the source 10.244.0.1: {NO_RULE}"),
    case("kept-aws", "aws", "node1: iptables-legacy -t nat -I AWS-SNAT-CHAIN-0 -d 203.0.113.0/24 -j RETURN",
         "a internet", "rule", "a rule of FORWARD in fabric dropped the request, and node1 kept the source 10.0.0.",
         "nat/AWS-SNAT-CHAIN-0 rule 1"),
)  # fmt: skip

UNUSED = "node1: iptables-legacy -t nat -I POSTROUTING -s 10.244.0.0/16 -j SNAT --to-source 10.224.0.250"
REWRITTEN_CASES = (
    case("rewritten-source-check", "aws",
         "node1: iptables-legacy -t nat -I POSTROUTING -d 203.0.113.0/24 -j SNAT --to-source 10.0.0.250", "a internet",
         "rule", "to 10.0.0.250 (nat/POSTROUTING rule 1)", "-d 203.0.113.0/24 -j SNAT --to-source 10.0.0.250"),
    case("rewritten-no-route", "cluster", UNUSED, "a internet --tcp 80", "no-route",
         "fabric has no route to 10.224.0.250 in table main for what comes in by pip, and node1 rewrote the source"
         " 10.244.0.2 to 10.224.0.250 (nat/POSTROUTING rule 1)"),
    case("rewritten-neighbour", "hosts",
         "host1: iptables-legacy -t nat -I POSTROUTING -j SNAT --to-source 192.168.50.250", "c1 host2", "neighbour",
         "no machine of the lab has that address, and host1 rewrote the source 172.17.0.3 to 192.168.50.250"),
    case("rewritten-no-neighbour-router", "outgoing",
         "node1: iptables-legacy -t nat -I POSTROUTING -j SNAT --to-source 192.168.0.250", "a node2 --udp 53",
         "neighbour", "address, and node1 rewrote the source 10.244.0.1 to 192.168.0.250 (nat/POSTROUTING rule 1)"),
    case("rewritten-elsewhere", "hosts",
         "host1: iptables-legacy -t nat -I POSTROUTING -j SNAT --to-source 192.168.50.12", "c1 internet --tcp 80",
         "reply-elsewhere", "went to host2, which has that address, and host1 rewrote the source 172.17.0.3"),
    case("rewritten-elsewhere-udp", "hosts",
         "host1: iptables-legacy -t nat -I POSTROUTING -j SNAT --to-source 192.168.50.12", "c1 internet",
         "reply-elsewhere", "went to host2, which has that address, and host1 rewrote the source 172.17.0.3"),
)  # fmt: skip

STATEFUL = (
    "node1: iptables-legacy -I FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT; "
    "node1: iptables-legacy -A FORWARD -d 10.244.0.2 -j DROP; "
)
NOT_TRACKED = "because node1 does not track the request (raw/PREROUTING rule 1: notrack)"
UNTRACKED_CASES = (
    case("untracked-invalid", "outgoing",
         "node1: iptables-legacy -t raw -I PREROUTING -s 10.244.0.1 -j CT --notrack", "a node2", "rule",
         f"in node1 dropped the reply, {NOT_TRACKED}", "the request is not tracked: raw/PREROUTING rule 1: -s 10.244."),
    case("untracked-established", "cluster",
         f"{STATEFUL}node1: iptables-legacy -t raw -A PREROUTING -s 10.244.0.2 -j CT --notrack", "a c --tcp 80", "rule",
         f"a rule of FORWARD in node1 dropped the reply, {NOT_TRACKED}"),
    case("untracked-reply", "cluster",
         f"{STATEFUL}node1: iptables-legacy -t raw -A PREROUTING -d 10.244.0.2 -j CT --notrack", "a c", "rule",
         "dropped the reply, because node1 does not track the reply (raw/PREROUTING rule 1: notrack)"),
)  # fmt: skip

DESTINATION_CASES = (
    case("dead-destination-no-route", "routesbased",
         "node1: iptables-legacy -t nat -I PREROUTING -p tcp --dport 8080 -j DNAT --to-destination 10.128.0.250",
         "peer node1 --tcp 8080", "no-route",
         "and node1 rewrote the destination 10.128.0.2 to 10.128.0.250, which no machine of the lab has"
         " (nat/PREROUTING rule 1)"),
    case("translated-twice-dead", "cluster",
         "fabric: iptables-legacy -t nat -A PREROUTING -d 203.0.113.50 -p tcp -j DNAT --to-destination 10.224.0.4; "
         "node1: iptables-legacy -t nat -I PREROUTING -p tcp --dport 80 -j DNAT --to-destination 10.244.0.250",
         "internet 203.0.113.50 --tcp 80", "dead-backend",
         "node1 rewrites 10.224.0.4 to the backend 10.244.0.250 (DNAT), which does not answer"),
    case("translated-twice-closed", "cluster",
         "fabric: iptables-legacy -t nat -A PREROUTING -d 203.0.113.50 -p tcp -j DNAT --to-destination 10.224.0.4; "
         "node1: iptables-legacy -t nat -I PREROUTING -p tcp --dport 80 -j DNAT --to-destination 10.244.0.2:81",
         "internet 203.0.113.50 --tcp 80", "dead-backend",
         "node1 rewrites 10.224.0.4:80 to 10.244.0.2:81 (DNAT), and nothing in a listens on tcp port 81",
         verdict="refused"),
)  # fmt: skip

CASES: tuple[Case, ...] = (
    *DESTINATION_CASES,
    *UNTRACKED_CASES,
    *REWRITTEN_CASES,
    *LO_CASES,
    *LEG_CASES,
    *HAIRPIN_CASES,
    *SOURCE_CASES,
)

"""Cases of traces from a chosen source port: conntrack has its connection already, and the nat rules are others now."""

from __future__ import annotations

from tests.support.trace_cases import case

# a client, a router with a service address, and two servers
SERVICE = """
name: service
model: raw
namespaces: [a, r, b1, b2]
links:
  - {veth: [a/eth0, r/a]}
  - {veth: [b1/eth0, r/b1]}
  - {veth: [b2/eth0, r/b2]}
addresses:
  a/eth0: [10.1.0.2/24, "2001:db8:1::2/64"]
  r/a: [10.1.0.1/24, "2001:db8:1::1/64"]
  r/b1: [10.2.1.1/24, "2001:db8:21::1/64"]
  r/b2: [10.2.2.1/24, "2001:db8:22::1/64"]
  b1/eth0: [10.2.1.2/24, "2001:db8:21::2/64"]
  b2/eth0: [10.2.2.2/24, "2001:db8:22::2/64"]
routes:
  a: [default via 10.1.0.1, "default via 2001:db8:1::1"]
  b1: [default via 10.2.1.1, "default via 2001:db8:21::1"]
  b2: [default via 10.2.2.1, "default via 2001:db8:22::1"]
sysctls:  # the first packet of a case and the probe both cause an ICMP error
  r: {net.ipv4.ip_forward: 1, net.ipv6.conf.all.forwarding: 1, net.ipv4.icmp_ratelimit: 0, net.ipv6.icmp.ratelimit: 0}
  b1: {net.ipv4.icmp_ratelimit: 0, net.ipv6.icmp.ratelimit: 0}
  b2: {net.ipv4.icmp_ratelimit: 0, net.ipv6.icmp.ratelimit: 0}
firewall:
  r:
    nat:
      PREROUTING:
        - -d 10.96.0.10/32 -p udp --dport 53 -j DNAT --to-destination 10.2.1.2:5353
        - -d 10.96.0.77/32 -j DNAT --to-destination 10.2.1.77
"""

LABS = {"service": SERVICE}


def sends(node: str, sport: int, target: str, port: int, kind: str = "udp") -> str:
    """The command that sends the first packet of a connection, and does not wait for an answer."""
    family, style = 10 if ":" in target else 2, {"tcp": 1, "udp": 2}[kind]
    code = f's=__import__("socket").socket({family},{style});s.bind(("",{sport}));s.setblocking(0);'
    code += f's.connect_ex(("{target}",{port}))' + (';s.send(b"x")' if kind == "udp" else "")
    return f"{node}: python3 -c {code}"


OTHER_BACKEND = (
    "r: iptables-legacy -t nat -R PREROUTING 1 -d 10.96.0.10 -p udp --dport 53 -j DNAT --to-destination 10.2.2.2:5353"
)
OTHER_SERVICE = "r: iptables-legacy -t nat -R PREROUTING 2 -d 10.96.0.77 -j DNAT --to-destination 10.2.1.2"
LOCAL = "-m addrtype --dst-type LOCAL -j DNAT --to-destination 10.2.2.2:80"

CASES = (
    case(
        "old-backend",
        "service",
        f"{sends('a', 4000, '10.96.0.10', 53)}; {OTHER_BACKEND}",
        "a 10.96.0.10 --udp 53 --sport 4000",
        "stale-conntrack",
        "r rewrites the destination 10.96.0.10:53 to 10.2.1.2:5353, because conntrack still has an earlier connection",
        "-j DNAT --to-destination 10.2.2.2:5353",
        verdict="refused",
    ),
    case(
        "old-backend-answers",
        "service",
        f"{sends('a', 4001, '10.96.0.10', 53)}; {OTHER_BACKEND}",
        "a 10.96.0.10 --udp 53 --sport 4001 --listen b1:5353",
        None,
        fact="the NAT rules would now choose 10.2.2.2:5353",
        verdict="answered",
    ),
    case(
        "same-backend",
        "service",
        sends("a", 4002, "10.96.0.10", 53),
        "a 10.96.0.10 --udp 53 --sport 4002 --listen b1:5353",
        None,
        verdict="answered",
    ),
    case(
        "old-backend-dead",
        "service",
        f"{sends('a', 4003, '10.96.0.77', 80)}; {OTHER_SERVICE}",
        "a 10.96.0.77 --udp 80 --sport 4003",
        "stale-conntrack",
        "the NAT rules would now choose 10.2.1.2",
        "10.2.1.77",
    ),
    case(
        "old-backend-dead-tcp",
        "service",
        f"{sends('a', 4004, '10.96.0.77', 80, 'tcp')}; {OTHER_SERVICE}",
        "a 10.96.0.77 --tcp 80 --sport 4004",
        "stale-conntrack",
        "the NAT rules would now choose 10.2.1.2",
        "[SYN_SENT], there before the probe",
    ),
    case(
        "before-the-dnat",
        "service",
        f"{sends('a', 4005, '10.1.0.1', 8080)}; r: iptables-legacy -t nat -A PREROUTING -p udp --dport 8080 {LOCAL}",
        "a 10.1.0.1 --udp 8080 --sport 4005",
        "stale-conntrack",
        "r keeps the destination 10.1.0.1:8080",
        "--dst-type LOCAL",
        verdict="refused",
    ),
    case(
        "before-the-masquerade",
        "service",
        f"{sends('a', 4006, '10.2.1.2', 99)}; r: iptables-legacy -t nat -A POSTROUTING -o b1 -j MASQUERADE; "
        "b1: ip route del default",
        "a b1 --udp 99 --sport 4006 --listen",
        "stale-conntrack",
        "r keeps the source 10.1.0.2",
        "no route back to 10.1.0.2",
    ),
    case(
        "after-the-dnat",
        "service",
        f"{sends('a', 4007, '10.96.0.10', 53)}; r: iptables-legacy -t nat -D PREROUTING 1",
        "a 10.96.0.10 --udp 53 --sport 4007",
        "stale-conntrack",
        "the NAT rules would now keep the destination",
        "no rule of the nat table translates the destination now",
        verdict="refused",
    ),
    case(
        "old-backend-own",
        "service",
        "a: iptables-legacy -t nat -A OUTPUT -d 10.96.0.99 -p udp -j DNAT --to-destination 10.2.1.2; "
        f"{sends('a', 4008, '10.96.0.99', 53)}; "
        "a: iptables-legacy -t nat -R OUTPUT 1 -d 10.96.0.99 -p udp -j DNAT --to-destination 10.2.2.2",
        "a 10.96.0.99 --udp 53 --sport 4008",
        "stale-conntrack",
        "a rewrites the destination 10.96.0.99:53 to 10.2.1.2:53",
        verdict="refused",
    ),
    case(
        "old-backend-6",
        "service",
        "r: ip6tables-legacy -t nat -A PREROUTING -p udp --dport 53 -j DNAT --to-destination [2001:db8:21::2]:5353; "
        f"{sends('a', 4009, '2001:db8:1::1', 53)}; "
        "r: ip6tables-legacy -t nat -R PREROUTING 1 -p udp --dport 53 -j DNAT --to-destination [2001:db8:22::2]:5353",
        "a 2001:db8:1::1 --udp 53 --sport 4009",
        "stale-conntrack",
        "r rewrites the destination [2001:db8:1::1]:53 to [2001:db8:21::2]:5353",
        verdict="refused",
    ),
    case(
        "answer-of-another",
        "service",
        f"{sends('b2', 7000, '10.1.0.2', 4010)}; "
        "r: iptables-legacy -t nat -A PREROUTING -s 10.1.0.2 -p udp --dport 7000 -j DNAT --to-destination 10.2.1.2:80",
        "a b2 --udp 7000 --sport 4010",
        "stale-conntrack",
        "because conntrack takes it for an answer of an earlier connection",
        verdict="refused",
    ),
    case(
        "old-backend-forwarding-off",
        "service",
        f"{sends('a', 4011, '10.96.0.10', 53)}; {OTHER_BACKEND}; r: sysctl -qw net.ipv4.ip_forward=0",
        "a 10.96.0.10 --udp 53 --sport 4011",
        "forwarding-off",
    ),
)

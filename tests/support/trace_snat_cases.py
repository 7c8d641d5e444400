"""Cases of traces through a rule that translates the source to one of a few ports: all in use, or one left."""

from __future__ import annotations

from tests.support.trace_case import case

# a client, a gateway that gives connections four ports, and a server
GATEWAY = """
name: fourports
model: raw
namespaces: [a, gw, w]
links:
  - {veth: [a/eth0, gw/a]}
  - {veth: [gw/up, w/eth0]}
addresses:
  a/eth0: [10.1.0.2/24, "2001:db8:1::2/64"]
  gw/a: [10.1.0.1/24, "2001:db8:1::1/64"]
  gw/up: [192.0.2.1/24, "2001:db8:2::1/64"]
  w/eth0: [192.0.2.2/24, "2001:db8:2::2/64"]
routes:
  a: [default via 10.1.0.1, "default via 2001:db8:1::1"]
sysctls:  # each datagram to a closed port causes an ICMP error
  gw: {net.ipv4.ip_forward: 1, net.ipv6.conf.all.forwarding: 1}
  w: {net.ipv4.icmp_ratelimit: 0, net.ipv6.icmp.ratelimit: 0}
firewall:
  gw:
    nat:
      POSTROUTING:
        - -s 10.1.0.2/32 -o up -p udp -j SNAT --to-source 192.0.2.1:1024-1027
        - -s 10.1.0.2/32 -o up -p tcp -j MASQUERADE --to-ports 2000-2003
firewall6:
  gw:
    nat:
      POSTROUTING:
        - "-o up -p udp -j SNAT --to-source [2001:db8:2::1]:3000-3003"
"""

LABS = {"fourports": GATEWAY}


def opened(target: str, port: int, count: int, kind: str = "udp") -> str:
    """The command that opens this many connections, and does not wait for answers."""
    family, style = 10 if ":" in target else 2, {"tcp": 1, "udp": 2}[kind]
    code = f'm=__import__("socket");c=[m.socket({family},{style})for(_)in(range({count}))];'
    code += f'[(s.setblocking(0),s.connect_ex(("{target}",{port})))for(s)in(c)]'
    code += ';[s.send(b"x")for(s)in(c)]' if kind == "udp" else ""
    return f"a: python3 -c {code}"


CASES = (
    case(
        "snat-ports",
        "fourports",
        opened("192.0.2.2", 53, 4),
        "a w --udp 53 --listen",
        "snat-port-exhaustion",
        "gw has no source port left for it: all 4 ports of 192.0.2.1:1024-1027 are in use by udp connections to"
        " 192.0.2.2:53",
        "4 of the 4 ports of 192.0.2.1:1024-1027 are in use",
    ),
    case(
        "snat-ports-6",
        "fourports",
        opened("2001:db8:2::2", 53, 4),
        "a 2001:db8:2::2 --udp 53 --listen",
        "snat-port-exhaustion",
        "all 4 ports of [2001:db8:2::1]:3000-3003",
        "nat/POSTROUTING rule 1",
    ),
    case(
        "masquerade-ports",
        "fourports",
        opened("192.0.2.9", 80, 4, "tcp"),
        "a 192.0.2.9 --tcp 80",
        "snat-port-exhaustion",
        "all 4 ports of 2000-2003 are in use by tcp connections to 192.0.2.9:80",
        "4 of the 4 ports of 2000-2003 are in use",
    ),
    case("snat-ports-left", "fourports", opened("192.0.2.2", 55, 3), "a w --udp 55 --listen", None, verdict="answered"),
    case(
        "snat-ports-elsewhere",
        "fourports",
        opened("192.0.2.2", 53, 4),
        "a w --udp 54 --listen",
        None,
        verdict="answered",
    ),
)

"""Firewall rules in every form that labctl reads and writes."""

from __future__ import annotations

from labctl.core.diff import Change
from labctl.core.iptables import rule
from labctl.core.resources import Chain

SPELLINGS = [
    ("-A POSTROUTING ! -o docker0 -s 172.17.0.0/16 -j MASQUERADE", "-s 172.17.0.0/16 ! -o docker0 -j MASQUERADE"),
    ("--source 10.0.0.1 --jump ACCEPT", "-s 10.0.0.1/32 -j ACCEPT"),
    ("-s 10.0.3.7/255.255.255.0 -j ACCEPT", "-s 10.0.3.0/24 -j ACCEPT"),
    ("-s 0.0.0.0/0 ! -d 0.0.0.0/0 -j ACCEPT", "! -d 0.0.0.0/0 -j ACCEPT"),
    ("-p all -j ACCEPT", "-j ACCEPT"),
    ("-i + -o eth+ -j ACCEPT", "-o eth+ -j ACCEPT"),
    ("-p 89 -j ACCEPT", "-p ospf -j ACCEPT"),
    ("-p TCP --dport 80 -j ACCEPT", "-p tcp -m tcp --dport 80 -j ACCEPT"),
    ("-p tcp --dport 80 --sport 5 -j ACCEPT", "-p tcp -m tcp --sport 5 --dport 80 -j ACCEPT"),
    ("-p tcp ! --dport 80 ! --sport 5", "-p tcp -m tcp ! --sport 5 ! --dport 80"),
    ("-m comment --comment '-x y' -p 6 --dport 80", '-p tcp -m comment --comment "-x y" -m tcp --dport 80'),
    ("-m tcp -p tcp -m comment --comment a --destination-port 80", "-p tcp -m tcp --dport 80 -m comment --comment a"),
    ("-p tcp --syn -j DROP", "-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j DROP"),
    ("-p icmp --icmp-type echo-request", "-p icmp -m icmp --icmp-type 8"),
    ("-m conntrack --ctstate ESTABLISHED,RELATED", "-m conntrack --ctstate RELATED,ESTABLISHED"),
    ("-m conntrack --ctstate UNTRACKED,ESTABLISHED,INVALID", "-m conntrack --ctstate INVALID,ESTABLISHED,UNTRACKED"),
    ("-m state --state established,RELATED", "-m state --state RELATED,ESTABLISHED"),
    ("-j MARK --set-mark 1", "-j MARK --set-xmark 0x1/0xffffffff"),
    ("-j MARK --set-mark 0x1/0xff", "-j MARK --set-xmark 0x1/0xff"),
    ("-j MARK --or-mark 0x4000", "-j MARK --set-xmark 0x4000/0x4000"),
    ("-j MARK --and-mark 1", "-j MARK --set-xmark 0x0/0xfffffffe"),
    ("-j MARK --xor-mark 1", "-j MARK --set-xmark 0x1/0x0"),
    ("-m mark --mark 16384/0x4000 -j RETURN", "-m mark --mark 0x4000/0x4000 -j RETURN"),
    ("-m mark ! --mark 1", "-m mark ! --mark 0x1"),
    ("-m statistic --mode random --probability 0.5", "-m statistic --mode random --probability 0.50000000000"),
    ("-j REJECT", "-j REJECT --reject-with icmp-port-unreachable"),
    ("-m addrtype ! --dst-type LOCAL", "-m addrtype ! --dst-type LOCAL"),
    ("-j DOCKER -m addrtype --dst-type LOCAL", "-m addrtype --dst-type LOCAL -j DOCKER"),
    ("! -f -i eth0 -g X", "-i eth0 ! -f -g X"),
]

# every form that the models and the reference systems' sources use, in a separate chain
NAT = [
    "-s 172.17.0.0/16 ! -o docker0 -j MASQUERADE",
    "-j MASQUERADE --random-fully",
    "! -i docker0 -p tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80",
    "-d 10.0.0.1 -p udp --dport 53 -j DNAT --to-destination 10.0.0.2-10.0.0.9",
    "-s 10.244.0.0/16 -j SNAT --to-source 10.0.0.4-10.0.0.9",
    "-p tcp -m tcp --tcp-flags SYN,RST SYN -j REDIRECT --to-ports 81",
    "-m addrtype --dst-type LOCAL -j MINE",
    "! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -g MINE",
    "-m addrtype ! --dst-type LOCAL -m comment --comment 'kubenet: SNAT \"out\" it''s a\\b' -j RETURN",
    "-m statistic --mode random --probability 0.33333333349 -j MINE",
    "! -s 10.0.0.0/8 ! -d 192.168.0.0/16 ! -p tcp -j RETURN",
    "! -d 0.0.0.0/0 -j RETURN",
]
FILTER = [
    "-m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
    "-m conntrack ! --ctstate NEW -j DROP",
    "-i docker0 ! -o docker0 -j MINE",
    "-i veth+ -o br-0123456789ab -j ACCEPT",
    "-m mark --mark 0x4000/0x4000 -j ACCEPT",
    "-m mark ! --mark 1",
    "-p udp -m multiport --dports 53,5353 -j REJECT",
    "-p tcp -m multiport ! --sports 1000:2000 -j REJECT --reject-with tcp-reset",
    "-p tcp ! --dport 1000:2000 --sport 5 -j RETURN",
    "-p icmp --icmp-type echo-request -j DROP",
    "-p icmp -j ACCEPT",
    "-m comment --comment plain",
    '-m comment --comment "it\'s"',
    "-p 4 -j ACCEPT",
    "! -p 253",
    "-m comment --comment '-j looks --like \"a\" rule'",
    "-d 224.0.0.0/4 -j DROP",
]
MANGLE = ["-j MARK --set-mark 1", "-j MARK --or-mark 0x4000", "-m mark --mark 0 -j MARK --set-xmark 0x8/0xff"]
# forms that python-iptables is not trusted to write
TOOLS_ONLY = [
    ("filter", "-m state --state RELATED,ESTABLISHED -j ACCEPT"),
    ("filter", "-m limit --limit 5/min -j LOG --log-prefix 'hello you '"),
    ("filter", "-i eth0 ! -f -j ACCEPT"),
    ("filter", "-m physdev --physdev-is-bridged -j ACCEPT"),
    ("mangle", "-j CONNMARK --save-mark"),
    ("mangle", "-j TTL --ttl-set 3"),
]


def chains_of(table: str, texts: list[str], ns: str = "n") -> tuple[Chain, ...]:
    rules = tuple(rule(text) for text in texts)
    return (Chain(ns, table, "FORMS", rules), Chain(ns, table, "MINE"))


def creations(wanted: tuple[Chain, ...]) -> list[Change]:
    return [Change(chain, None) for chain in wanted]

"""Firewall rules that Hypothesis draws from the whole list of matches and targets, and what becomes of them.

A drawn rule is nearly valid: its options have values of the right types, but its table, chain, protocol and
combination of options may not fit. So `validate` refuses some. What it accepts has to be accepted by the tools and read
back without drift; what it refuses, the tools should refuse.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from dataclasses import dataclass, replace

from hypothesis import strategies as st

from labctl.core.diff import Change, diff
from labctl.core.features import required_features
from labctl.core.iptables import BUILTIN, Backend, accounting_objects, rules
from labctl.core.iptables_check import check_rule, hooks_by_chain
from labctl.core.iptables_extensions import Extension, ExtensionOption, matches, targets
from labctl.core.iptables_special import RuleContext
from labctl.core.resources import Chain, IpSet
from labctl.errors import LabError
from labctl.kernel.firewall import chains, commands
from labctl.kernel.firewall.kernel_spelling import kernel_spelling
from labctl.kernel.namespaces.thread import CLONE_NEWNET, NetnsThread, unshare
from labctl.kernel.netlink import ipset, nfacct
from tests.support import kernels

OWN = "MINE"  # a chain that every table has, and that no rule reaches
SETS = {"ip": IpSet("n", "four", members=("192.0.2.0/24",)), "ip6": IpSet("n", "six", family="inet6")}
TOOLS = {"ip": "iptables", "ip6": "ip6tables", "bridge": "ebtables"}
PLURAL = ("-s", "-d")


def word_lists(text: str) -> dict[str, tuple[str, ...]]:
    """A text with a key and its words in each line."""
    return {key: tuple(words) for key, *words in (line.split() for line in text.split("\n") if line)}


# words for options whose type says only that there is one word
WORDS = word_lists("""
--ahspi 500 500:600
--algo bm kmp
--ctdir ORIGINAL REPLY
--connbytes-dir original both
--connbytes-mode packets bytes avgpkt
--dir in out
--ctstatus ASSURED EXPECTED,CONFIRMED NONE
--pol ipsec none
--mode random nth tunnel
--src-type LOCAL BROADCAST,MULTICAST
--dst-type LOCAL UNICAST
--dscp-class EF CS1
--set-dscp-class AF11 BE
--icmp-type echo-request 8 3/1 any
--icmpv6-type echo-request 128 1/3
--match-set src dst,src
--add-set src
--del-set dst
--map-set src
--pkt-type unicast broadcast
--log-level 4 debug
--hashlimit-mode srcip dstip,dstport
--hashlimit-burst 7
--reject-with icmp-port-unreachable tcp-reset icmp6-port-unreachable icmp-admin-prohibited
--uid-owner 1000 0-99
--gid-owner 1000
--realm 5 0x10/0xff
--tos 0x10 8/0xff
--set-tos 0x10/0xff 8
--and-tos 0xf
--or-tos 0x1
--xor-tos 3
--set-class 1:10 ffff:0
--zone 1 mark
--zone-orig 2
--zone-reply 3
--ctevents new,destroy
--expevents new
--datestart 2026-01-01T00:00:00
--datestop 2027-01-01T00:00:00
--timestart 08:00
--timestop 17:30:00
--monthdays 1,15
--weekdays Mon,Tue 6,7
--header hop
--chunk-types any INIT
--vdir ORIGINAL
--vmethod MASQ
--strip-options mss,sack 5
--type accept drop
--helper ftp
--genre Linux
--mh-type 1 5:6
--dccp-types REQUEST,DATA
--hmark-tuple src,dst
--hmark-src-prefix 24
--hmark-dst-prefix 24
--path /
--label 7
--rt-0-addrs fd00::1
--dst-opts 1:2
--hbh-opts 5:4
--rateest-interval 250ms
--rateest-ewmalog 500ms
--ip-tos 0x10
--ip-icmp-type echo-request 8
--ip-igmp-type 0x11
--ip6-tclass 0x10
--ip6-icmp-type echo-request
--arp-op Request 2
--arp-htype 1
--arp-ptype 0x800
--among-dst 02:00:00:00:00:01,02:00:00:00:00:02
--among-src 02:00:00:00:00:01=10.0.0.1
--802_3-sap 0x42
--802_3-type 0x0800
--stp-type config 1
--stp-flags topology-change
--vlan-encap 0x0800
--pkttype-type host broadcast
--arpreply-target ACCEPT DROP
--dnat-target ACCEPT CONTINUE
--snat-target ACCEPT
--mark-target ACCEPT CONTINUE
--redirect-target ACCEPT
""")
VALUES = word_lists("""
word some
optional 5
u2 1
osf 1
ipsec esp ah 108
decimal 60
u3 5
u12 7
arp-op Request 2
u6 5 0x2e
u8 1 0x10 255
prefix 24 8
u16 7 65535
u32 1 0xff 70000
u64 1000 5000000000
burst 7
shift 3
queues 0:3
mark 1 0x4000/0x4000 16/0xff 4294967295
port 80 0 http
ports 80 1000:2000 :80 1024: http domain:http
port-list 53 80,443 1000:2000,22 http,https
nat-ports 8080 1000-2000
range 5 10:20
rate 5/second 10/minute 3/hour 7/day 9 5/sec
mac 02:00:00:00:00:01 02:AB:cd:00:00:01
bridge-mac 02:00:00:00:00:01 Broadcast 02:00:00:00:00:01/ff:ff:00:00:00:00
protocol tcp 17 esp
device eth0 veth+ a-name.with_15
states NEW ESTABLISHED,RELATED invalid
tcp-flags SYN SYN,ACK ALL NONE FIN,SYN,RST,ACK
fraction 0.5 0.33333333349 1 0.1
""")
TEXT_TYPES = ("comment", "log-prefix", "nflog-prefix", "text")
ADDRESSES = word_lists("""
ip 10.0.0.1 10.0.0.0/8 10.1.2.3/24 10.0.0.0/255.0.0.255 192.168/16 0.0.0.0/0 10.0.0.1,10.0.0.2
ip6 fd00::1 fd00::/8 ::/0 fd00::/ffff::ff 2001:DB8::1/128 fd00::1,fd00::2
bridge 02:00:00:00:00:01 Unicast 02:0:0:0:0:1/ff:ff:ff:00:00:00
""")
DEPENDENT = ("rateest", "cluster", "SECMARK")  # what they accept depends on other rules, or on the machine
NOTHING = re.compile(r"'?!'? -[sd] (0\.0\.0\.0|::)/0")
TEXTS = (
    *("plain", "two words", "-V", "--modprobe=/bin/false -h", "COMMIT", '"quoted"', "it's", "a\\b", "# no comment"),
    *("*nat", "é", "-j DROP", "[1:2] -A INPUT", "%s $HOME `id`", ":INPUT", "!"),
)
U32, BYTECODE = "6 & 0xFF = 1", "1,6 0 0 0"


@dataclass(frozen=True, slots=True)
class DrawnRule:
    """A rule with its place."""

    family: str
    table: str
    chain: str
    text: str

    def __str__(self) -> str:
        return f"{TOOLS[self.family]} -t {self.table} -A {self.chain} {self.text}"


@dataclass(frozen=True, slots=True)
class Attempt:
    """What became of a rule: why it was refused ("" if not), why the tool refused it, and the drift after it."""

    refusal: str = ""
    tool_refusal: str = ""
    drift: str = ""
    respelled: bool = False


def firewall_rules(families: tuple[str, ...] = ("ip", "ip6")) -> st.SearchStrategy[DrawnRule]:
    """Rules of these families, in all their tables and chains."""

    @st.composite
    def draw_rule(draw: st.DrawFn) -> DrawnRule:
        family = draw(st.sampled_from(families))
        table = draw(st.sampled_from([name for one, name in BUILTIN if one == family]))
        chain = draw(st.sampled_from([*BUILTIN[(family, table)], OWN]))
        words: list[str] = draw(_head(family, chain))
        protocol = words[words.index("-p") + 1] if "-p" in words else ""
        for extension in draw(
            st.lists(st.sampled_from(_fitting(matches(family), table, chain, protocol)), max_size=2, unique_by=id)
        ):
            words += [] if family == "bridge" else ["-m", extension.name]
            words += draw(_options(extension, family))
        target = draw(st.sampled_from([None, OWN, *_fitting(targets(family), table, chain, protocol)]))
        if target == OWN:
            words += [draw(st.sampled_from(("-j", "-g"))) if family != "bridge" else "-j", OWN] if chain != OWN else []
        elif target is not None:
            words += ["-j", target.name, *draw(_options(target, family))]
        return DrawnRule(family, table, chain, shlex.join(words) if "'" not in "".join(words) else _join(words))

    return draw_rule()


def attempt(drawn: DrawnRule, backend: Backend) -> Attempt:
    """Try a rule: `validate`'s check, and if it accepts the rule, write and read it in a temporary namespace; else ask
    the tool itself whether it accepts the rule."""
    hooks = hooks_by_chain(
        {name: () for name in (*BUILTIN[(drawn.family, drawn.table)], OWN)}, drawn.family, drawn.table
    )
    if drawn.text.endswith((f"-j {OWN}", f"-g {OWN}")):
        hooks[OWN] = frozenset({drawn.chain})
    known = frozenset({*hooks})
    sets = frozenset(one.name for one in SETS.values())
    try:
        made = rules(drawn.text, drawn.family)
        for one in made:
            check_rule(one, RuleContext(drawn.family, drawn.table, drawn.chain, hooks[drawn.chain], known, sets))
    except ValueError as error:
        with NetnsThread() as inside:
            return Attempt(refusal=str(error), tool_refusal=inside.run(None, _ask_tool, drawn, backend))
    policy = "ACCEPT" if drawn.chain != OWN or drawn.family == "bridge" else None
    wanted = [Chain("n", drawn.table, drawn.chain, made, policy, drawn.family)]
    if drawn.chain != OWN:
        wanted.append(Chain("n", drawn.table, OWN, family=drawn.family))
    with NetnsThread() as inside:
        try:
            found = inside.run(None, _write_and_read, tuple(wanted), backend)
        except LabError as error:
            return Attempt(tool_refusal=error.message)
    with NetnsThread() as inside:
        typed = inside.run(None, _type_and_read, drawn, found, backend)
    if changes := diff(typed, found):
        return Attempt(drift=f"the tool makes another rule of the text: {changes}")
    if not diff(tuple(wanted), found):
        return Attempt()
    spelled = kernel_spelling(wanted, SETS.values(), backend)
    changes = diff(tuple(spelled.get(one.key, one) for one in wanted), found)
    return Attempt(drift="; ".join(map(repr, changes)), respelled=True)


def impossible(drawn: DrawnRule, backend: Backend) -> str:
    """Why this machine cannot have a rule that is valid elsewhere; "" if it can.

    Its kernel lacks a match or target, its list of services lacks a name, or an object that the rule names does not
    exist; nf_tables refuses what matches nothing."""
    if backend == "nft" and NOTHING.search(drawn.text):
        return "nf_tables refuses a rule that matches nothing"
    if "--timeout some" in drawn.text or "--helper ftp" in drawn.text:
        return "there is no such timeout policy, or no such helper"
    names = re.search("domain|http", drawn.text)
    if names and not re.search("(?<!! )-p (tcp|6) ", drawn.text):
        return "not every list of services has these names for other protocols than TCP"
    try:
        made = rules(drawn.text, drawn.family)
    except ValueError:
        return ""
    return kernels.missing_text(tuple(required_features([Chain("n", drawn.table, OWN, made, family=drawn.family)])))


def _head(family: str, chain: str) -> st.SearchStrategy[list[str]]:
    protocols = ("tcp", "udp", "icmp" if family == "ip" else "ipv6-icmp", "6", "sctp", "all", "ah", "dccp")
    values: dict[str, tuple[str, ...]] = {
        "-s": ADDRESSES[family],
        "-d": ADDRESSES[family],
        "-i": ("eth0", "veth+", "lo", "+"),
        "-o": ("eth0", "veth+", "abcdefghijklmno"),
        "-p": ("IPv4", "ARP", "0x86dd") if family == "bridge" else protocols,
    }
    no_devices = {"OUTPUT": ("-i",), "POSTROUTING": ("-i",), "INPUT": ("-o",), "PREROUTING": ("-o",)}.get(chain, ())

    @st.composite
    def draw_head(draw: st.DrawFn) -> list[str]:
        words: list[str] = []
        for flag, known in values.items():
            if flag not in no_devices and draw(st.integers(0, 2 if flag != "-p" else 1)):
                value = draw(st.sampled_from(known))
                plain = "," in value or (flag == "-p" and value == "all")
                words += [*(["!"] if not plain and not draw(st.integers(0, 3)) else []), flag, value]
        return words

    return draw_head()


def _fitting(known: dict[str, Extension], table: str, chain: str, protocol: str) -> list[Extension]:
    """The extensions that fit the place of a rule, and some that do not."""
    number = {"6": "tcp", "17": "udp"}.get(protocol, protocol)
    fits = [
        one
        for one in known.values()
        if one.name not in DEPENDENT
        and (not one.tables or table in one.tables)
        and (not one.hooks or chain in one.hooks or chain == OWN)
        and (not one.protocols or number in one.protocols)
    ]
    return [*fits, *fits, *fits, *(one for one in list(known.values())[::7] if one.name not in DEPENDENT)]


def _options(extension: Extension, family: str) -> st.SearchStrategy[list[str]]:
    @st.composite
    def draw_options(draw: st.DrawFn) -> list[str]:
        flags = list(extension.options)
        chosen = [draw(st.sampled_from(group)) for group in extension.needs if group != ("*",)]
        chosen += draw(st.lists(st.sampled_from(flags), min_size=int(not chosen), max_size=2)) if flags else []
        words: list[str] = []
        for flag in dict.fromkeys(chosen):
            option = extension.options[flag]
            negated = option.negatable and not draw(st.integers(0, 3))
            words += [*(["!"] if negated else []), flag, *draw(_values(option, family))]
        return words

    return draw_options()


def _values(option: ExtensionOption, family: str) -> st.SearchStrategy[list[str]]:
    known: dict[str, tuple[str, ...]] = {
        **VALUES,
        "ipset": (SETS["ip6" if family == "ip6" else "ip"].name,),
        "address": ("fd00::1",) if family == "ip6" else ("10.0.0.1",),
        "addresses": ("fd00::1-fd00::9",) if family == "ip6" else ("10.0.0.1-10.0.0.9", "10.0.0.1"),
        "net": ("fd00::/64",) if family == "ip6" else ("10.0.0.0/24", "10.0.0.1"),
        "net6": ("fd00::/64", "fd00::1"),
        "nat": ("[fd00::1]:80", "fd00::1") if family == "ip6" else ("10.0.0.1", "10.0.0.1-10.0.0.9:80-90", ":8080"),
    }
    special = {"--u32": (U32,), "--bytecode": (BYTECODE,), "--hex-string": ("|41 42|", "abc")}
    lists = []
    for kind in option.types:
        words = TEXTS if kind in TEXT_TYPES else known[kind]
        if kind in ("word", "text"):
            words = special.get(option.flag) or WORDS.get(option.flag) or words
        lists.append(st.sampled_from(words))
    return st.tuples(*lists).map(list)


def _join(words: list[str]) -> str:
    return " ".join(shlex.quote(word) for word in words)


def _prepare(drawn_table: str, family: str, backend: Backend, own: bool) -> None:
    unshare(CLONE_NEWNET)
    ipset.write("n", [Change(one, None) for one in SETS.values()])
    if own:
        chains.write("n", [Change(Chain("n", drawn_table, OWN, family=family), None)], None, backend)


def _write_and_read(wanted: tuple[Chain, ...], backend: Backend) -> tuple[Chain, ...]:
    _prepare(wanted[0].table, wanted[0].family, backend, False)
    chains.write("n", [Change(one, None) for one in wanted], None, backend)
    return chains.read_chains("n", wanted, backend)


def _type_and_read(drawn: DrawnRule, found: tuple[Chain, ...], backend: Backend) -> tuple[Chain, ...]:
    """The chains after the tool itself added the rule as it is written."""
    objects = accounting_objects(rules(drawn.text, drawn.family))
    if _ask_tool(drawn, backend, objects):  # such as a ! after --nflog-prefix of ebtables, which labctl puts first
        return found
    return tuple(
        one if one.name != OWN or drawn.family == "bridge" else replace(one, policy=None)
        for one in chains.read_chains("n", found, backend)
    )


def _ask_tool(drawn: DrawnRule, backend: Backend, objects: tuple[str, ...] = ()) -> str:
    """Why the tool refuses a rule, "" if it does not. `objects` are those of nfacct that the rule names."""
    _prepare(drawn.table, drawn.family, backend, True)
    if objects:
        nfacct.create("n", objects)
    tool = commands.find(f"{TOOLS[drawn.family]}-{'nft' if drawn.family == 'bridge' else backend}")
    command = [tool, "-t", drawn.table, "-A", drawn.chain, *shlex.split(drawn.text)]
    done = subprocess.run(command, capture_output=True, text=True, env={"XTABLES_LOCKFILE": "/dev/null"}, check=False)
    return (done.stderr.strip() or "refused") if done.returncode else ""

"""Firewall rules of raw scenarios: none can change what a tool does; what no kernel takes is refused in its place."""

from __future__ import annotations

import time
from collections.abc import Iterable
from itertools import product

import pytest

from labctl.core.iptables import rule, rules
from labctl.core.iptables_check import find_loop, hooks_by_chain
from labctl.core.iptables_extensions import (
    InvalidRule,
    all_flags,
    flags_like_main_options,
    matches,
    stray_word,
    targets,
)
from labctl.core.resources import Chain, IpSet
from labctl.errors import Problem, ScenarioError
from labctl.scenario.definition import parse_and_compile

# words that iptables or ebtables, or getopt_long(3) for them, takes for a command or an option of the tool
HOSTILE = (
    """
-V|-h|-v|-n|-x|-4|-6|-w|-W 5|-t nat|-tnat|-Z|-S|-L|-C INPUT|-N X|-M /bin/x|-M/bin/x|-X|-Xfoo|-F|-P INPUT DROP|-I INPUT
-IINPUT|-AINPUT|-D INPUT 1|-E a b|-hV|-Vh|-vV|-nvL|--|-|--modprobe=/bin/x|--modprobe /bin/x|--modp=/bin/x|--mod /bin/x
--flush|--flu|--version|--vers|--help|--he|--verbose|--app INPUT|--policy INPUT DROP|--table nat|--tab=nat
--line-numbers|--line|--wait|--wait=5|--wait-interval 5|--zero|--new-chain X|--rename-chain a b|--list|--list-rules
--check INPUT|--delete INPUT|--ipv4|--ipv6|--exact|--numeric|--replace INPUT 1|--insert INPUT|--se|--pol ACCEPT|--new
--set|--atomic-file /tmp/x|--atomic-save|--atomic-commit|--atomic-init|--init-table|--concurrent|--bpf-object /x
-m bpf --object-pinned /sys/fs/bpf/x|-j LED --led-trigger-id x|-j IDLETIMER --timeout 5
""".strip()
    .replace("\n", "|")
    .split("|")
)
BEFORE = ("-p tcp --dport 23 -j DROP ", "")
COUNTED = "firewall6:\n  a: |\n    *filter\n    :INPUT ACCEPT [0:0]\n    [7:9] -A INPUT {rule}\n    COMMIT\n"
PLACES = {
    "list": "firewall:\n  a:\n    filter:\n      INPUT:\n        - >-\n          {rule}\n",
    "plain": "firewall: {{a: {{filter: {{INPUT: [\n{rule}\n]}}}}}}\n",
    "dump": "firewall:\n  a: |\n    *filter\n    :INPUT ACCEPT [0:0]\n    -A INPUT {rule}\n    COMMIT\n",
    "dump with counters": COUNTED,
    "IPv6": "firewall6: {{a: {{filter: {{INPUT: [\n{rule}\n]}}}}}}\n",
}
# what iptables takes, and how it is printed
FORMS = [
    ("-s 10.0.0.0/255.0.0.255 -j DROP", "-s 10.0.0.0/255.0.0.255 -j DROP"),
    ("-s 10.9.9.9/255.0.0.255 -j DROP", "-s 10.0.0.9/255.0.0.255 -j DROP"),
    ("-s 10/8 -d 192.168/16", "-s 10.0.0.0/8 -d 192.168.0.0/16"),
    ("[10:600] -A INPUT -p udp -j DROP", "-p udp -j DROP"),
    ("-c 10 600 -p udp -j DROP", "-p udp -j DROP"),
    ("-p udp -c 10,600 -j DROP", "-p udp -j DROP"),
    ("--set-counters 1 2 -j DROP", "-j DROP"),
    ("--protocol=tcp --dport=80 -j ACCEPT", "-p tcp -m tcp --dport 80 -j ACCEPT"),
    ("-p tcp --dport 80 -j DNAT --to 10.0.0.1:80", "-p tcp -m tcp --dport 80 -j DNAT --to-destination 10.0.0.1:80"),
    ("-p tcp -j REDIRECT --to-port 81", "-p tcp -j REDIRECT --to-ports 81"),
    ("-m recent --name x -m state --state NEW --set", "-m recent --name x --set -m state --state NEW"),
    ("-p tcp -j DROP --dport 1:2", "-p tcp -m tcp --dport 1:2 -j DROP"),
    ("! --source 10.0.0.1 -j DROP", "! -s 10.0.0.1/32 -j DROP"),
    ("--proto tcp -m policy --dir in --pol ipsec --proto esp", "-p tcp -m policy --dir in --pol ipsec --proto esp"),
]
# a rule, its table and chain, and what validate says about it
REFUSED = [
    ("filter", "INPUT", "-p tcp --dport 99999 -j DROP", "'99999' is not a port"),
    ("filter", "INPUT", "-p tcp --dport 20:10 -j DROP", "ends before it begins"),
    ("filter", "INPUT", "-p tcp -m multiport --dports 1,2,70000", "is not a port"),
    ("filter", "INPUT", "-p udp -m multiport --dports 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16", "too many ports"),
    ("filter", "INPUT", "-i a-name-that-is-long -j DROP", "longer than the 15 characters"),
    ("filter", "FORWARD", "-m physdev --physdev-in a-name-that-is-long", "longer than the 15 characters"),
    ("filter", "INPUT", "-j C9", "no chain C9 in filter"),
    ("filter", "INPUT", "-g ACCEPT", "there is no chain ACCEPT"),
    ("filter", "INPUT", "-j OUTPUT", "OUTPUT is a built-in chain"),
    ("filter", "INPUT", "-j MASQUERADE", "not possible in the table filter"),
    ("filter", "INPUT", "-j DNAT --to-destination 10.0.0.1", "not possible in the table filter"),
    ("nat", "POSTROUTING", "-j DNAT --to-destination 10.0.0.1", "-j DNAT is not possible in POSTROUTING"),
    ("nat", "PREROUTING", "-j MASQUERADE", "-j MASQUERADE is not possible in PREROUTING"),
    ("nat", "PREROUTING", "-j DROP", "-j DROP is not possible in the table nat"),
    ("nat", "PREROUTING", "-j DNAT", "-j DNAT needs --to-destination"),
    ("nat", "PREROUTING", "-j DNAT --to-destination 10.0.0.1:80", "needs a protocol with ports"),
    ("nat", "PREROUTING", "-p tcp -j DNAT --to-destination web:80", "is not an IPv4 address"),
    ("mangle", "PREROUTING", "-j REJECT", "it belongs to filter"),
    ("filter", "OUTPUT", "-i eth0", "-i is not possible in OUTPUT"),
    ("filter", "INPUT", "-o eth0", "-o is not possible in INPUT"),
    ("filter", "INPUT", "-m owner --uid-owner 0", "-m owner is not possible in INPUT"),
    ("filter", "INPUT", "-s www.example.com -j DROP", "is a host name"),
    ("filter", "INPUT", "-s 10.0.0.1,10.0.0.999", "is not an IPv4 address"),
    ("filter", "INPUT", "! -s 10.0.0.1,10.0.0.2", "! is not possible with the several addresses"),
    ("filter", "INPUT", "! -s 10.0.0.1 -d 10.0.0.1,10.0.0.2", "! is not possible in a rule with several"),
    ("filter", "INPUT", "-s ! 10.0.0.0/8", "write ! -s 10.0.0.0/8"),
    ("filter", "INPUT", "-p tcp --dport ! 80", "write ! before the flag"),
    ("filter", "INPUT", "-p tcpp", "did you mean tcp?"),
    ("filter", "INPUT", "-p 300", "is not a protocol (0 to 255)"),
    ("filter", "INPUT", "-m tcp --dport 80", "-m tcp needs -p tcp"),
    ("filter", "INPUT", "--dport 80 -j DROP", "belongs to no match"),
    ("filter", "INPUT", "-m icmp6 --icmpv6-type 1", "-m icmp6 is for IPv6 only"),
    ("filter", "INPUT", "-m commnet --comment x", "did you mean comment?"),
    ("filter", "INPUT", "-m comment", "-m comment needs --comment"),
    ("filter", "INPUT", "-m conntrack --ctsate NEW", "did you mean --ctstate?"),
    ("filter", "INPUT", "-m conntrack --ctstate NEW,OLD", "has 'OLD'"),
    ("filter", "INPUT", "-m mark --mark 0x100000000", "is too large"),
    ("filter", "INPUT", "-m set --match-set nosuch src", "there is no set 'nosuch'"),
    ("filter", "INPUT", "-m limit ! --limit 5/s", "--limit cannot have a !"),
    ("filter", "INPUT", "-j REJECT --reject-with tcp-reset", "tcp-reset needs -p tcp"),
    ("filter", "INPUT", "-j REJECT --reject-with nothing", "is not a type of ip REJECT"),
    ("filter", "INPUT", "-j ACCEPT -j DROP", "a rule has one target"),
    ("filter", "INPUT", "-A OUTPUT -j DROP", "this rule is for the chain OUTPUT"),
    ("filter", "INPUT", "-c 5 -j DROP", "needs the numbers of packets and bytes"),
    ("filter", "INPUT", f"-m comment --comment {'x' * 256}", "is 256 bytes long, 255 are possible"),
    ("filter", "ACCEPT", "-j DROP", "ACCEPT is a target"),
    ("filter", "a" * 29, "-j DROP", "longer than 28 characters"),
    *(("filter", f'"{name}"', "-j DROP", "is not a valid chain name") for name in ("a;b", "$(id)", "a b", "-a", "a|b")),
]


def problems(text: str) -> tuple[Problem, ...]:
    with pytest.raises(ScenarioError) as caught:
        parse_and_compile(f"model: raw\nnamespaces: [a]\n{text}", "x.yaml")
    return caught.value.problems


def chains(text: str) -> dict[str, Chain]:
    plan = parse_and_compile(f"model: raw\nnamespaces: [a]\n{text}", "x.yaml")[1].plan
    return {item.name: item for item in plan if isinstance(item, Chain)}


def in_chain(table: str, chain: str, texts: Iterable[str]) -> str:
    rows = "".join(f"        - '{text}'\n" for text in texts)
    return f"firewall:\n  a:\n    {table}:\n      {chain}:\n{rows}"


@pytest.mark.parametrize("words", HOSTILE)
def test_no_word_of_a_rule_reaches_a_tool_as_its_own_option(words: str) -> None:
    for place, before in product(PLACES.values(), BEFORE):
        text = place.format(rule=f"{before}{words}")
        lines = f"model: raw\nnamespaces: [a]\n{text}".split("\n")
        for problem in problems(text):
            assert problem.hint
            assert 1 <= problem.column <= len(lines[problem.line - 1])


@pytest.mark.parametrize(
    "words", ["--atomic-file /tmp/x", "-V", "--among-src-file /etc/x", "-L", "--Ln", "--init-table"]
)
def test_no_word_of_a_bridge_rule_reaches_ebtables(words: str) -> None:
    for text in (f"-p ARP -j DROP {words}", f"{words} -j DROP"):
        (problem,) = problems(f"ebtables: {{a: {{filter: {{FORWARD: ['{text}']}}}}}}\n")
        assert problem.hint
        assert problem.line == 3


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("-j NOSUCH", "no chain NOSUCH in filter"),
        ("-p IPv4 --ip-dst example.com", "is a host name"),
        ("--ip-dst 10.0.0.1", "--ip-dst needs -p IPv4"),
        ("-p IPv4 --ip-proto tcp --ip-dport 99999", "is not a port"),
        ("-p IPv4 --ip-dport 80", "--ip-dport needs --ip-proto tcp"),
        ("-p IVp4", "did you mean ipv4?"),
        ("-s 02:00:00:00:01", "is not a MAC address"),
        ("-i a-much-too-long-name", "longer than the 15 characters"),
        ("-j snat --to-src 02:00:00:00:00:01", "it belongs to nat"),
        ("-p ARP -m comment --comment x", "-m is an option"),
        ("-p 802_1Q --vlan-id 5000", "is too large"),
        ("--log-prefix !", "a lone !"),
    ],
)
def test_bridge_rules_that_no_kernel_takes_are_refused(text: str, what: str) -> None:
    (problem,) = problems(f"ebtables: {{a: {{filter: {{FORWARD: ['{text}']}}}}}}\n")
    assert what in f"{problem.what} {problem.hint}"
    assert problem.line == 3


@pytest.mark.parametrize(
    "text",
    ["-V", "--modprobe=/bin/x", "COMMIT", "-j DROP", "*nat", "# no comment", "-A INPUT", 'a \\"b\\" c', "--table", "é"],
)
def test_a_comment_may_say_anything_on_its_line(text: str) -> None:
    line = f'-p tcp -m comment --comment "{text}" -j DROP'
    listed = chains(f"firewall:\n  a:\n    filter:\n      INPUT:\n        - |-\n          {line}\n")
    dumped = chains(f"firewall:\n  a: |\n    *filter\n    :INPUT ACCEPT [0:0]\n    -A INPUT {line}\n    COMMIT\n")
    wanted = text.replace("\\", "")
    assert (
        listed["INPUT"].rules
        == dumped["INPUT"].rules
        == (rule(["-p", "tcp", "-m", "comment", "--comment", wanted, "-j", "DROP"]),)
    )


@pytest.mark.parametrize("text", ['"a\\nCOMMIT\\n*nat"', '"a\\rb"', '"a\\0b"', '"a\\x1bb"', '"a\\u2028b"'])
def test_a_rule_is_one_line(text: str) -> None:
    quoted = text[1:-1]
    (problem,) = problems(f'firewall: {{a: {{filter: {{INPUT: ["-m comment --comment {quoted} -j DROP"]}}}}}}\n')
    assert "cannot contain the character" in problem.what


def test_the_place_of_a_word_is_its_own() -> None:
    (listed,) = problems("firewall:\n  a:\n    filter:\n      INPUT:\n        - -p tcp --dport 99999 -j DROP\n")
    assert (listed.line, listed.column) == (7, 26)
    (quoted,) = problems("firewall: {a: {filter: {INPUT: ['-p tcp -V']}}}\n")
    assert (quoted.line, quoted.column) == (3, 41)
    (dumped,) = problems(
        "firewall:\n  a: |\n    *filter\n    :INPUT ACCEPT [0:0]\n\n    -A INPUT -j NOSUCH\n    COMMIT\n"
    )
    assert (dumped.line, dumped.column) == (8, 17)


@pytest.mark.parametrize(("text", "printed"), FORMS)
def test_the_forms_that_iptables_takes(text: str, printed: str) -> None:
    assert [str(one) for one in rules(text)] == [printed]


def test_several_addresses_are_several_rules_in_the_order_of_iptables() -> None:
    found = [str(one) for one in rules("-s 10.0.0.1,10.0.0.2,10.0.0.1 -d 1.1.1.1,2.2.2.2 -j DROP")]
    pairs = [("10.0.0.1", "1.1.1.1"), ("10.0.0.1", "2.2.2.2"), ("10.0.0.2", "1.1.1.1"), ("10.0.0.2", "2.2.2.2")]
    assert found == [f"-s {source}/32 -d {destination}/32 -j DROP" for source, destination in pairs]
    with pytest.raises(ValueError, match="several rules"):
        rule("-s 10.0.0.1,10.0.0.2")


@pytest.mark.parametrize(("table", "chain", "text", "what"), REFUSED)
def test_what_no_kernel_takes_is_refused_in_its_place(table: str, chain: str, text: str, what: str) -> None:
    found = problems(in_chain(table, chain, [text]))
    assert what in f"{found[0].what} {found[0].hint}"
    assert found[0].line in (6, 7)


def test_a_chain_is_verified_for_every_way_into_it() -> None:
    text = "firewall: {a: {nat: {PREROUTING: [-j A], OUTPUT: [-j B], A: [-g B], B: [%s]}}}\n"
    assert chains(text % "-j DNAT --to-destination 10.0.0.1")["B"].rules
    (problem,) = problems(text % "-j MASQUERADE")
    assert problem.what.endswith("not possible in OUTPUT, from where B is reached")
    (problem,) = problems("firewall: {a: {filter: {A: [-j B], B: [-j C], C: [-j DROP, -j B]}}}\n")
    assert problem.what == "filter: the chains jump in a circle (B -> C -> B)"


def test_loops_and_hooks_of_chains() -> None:
    jumps = {"INPUT": ["A", "A", "DROP"], "A": ["B", "C"], "B": ["C"], "C": [], "FORWARD": ["C"]}
    assert find_loop(jumps) == ()
    assert hooks_by_chain(jumps, "ip", "filter")["C"] == {"INPUT", "FORWARD"}
    assert find_loop({**jumps, "C": ["A"]}) == ("A", "C")
    assert find_loop({f"C{number}": [f"C{number + 1}"] for number in range(5000)}) == ()


def test_an_option_of_ebtables_without_a_value_can_be_negated() -> None:
    (found,) = chains("ebtables: {a: {filter: {FORWARD: ['-p ARP ! --arp-gratuitous -j DROP']}}}\n").values()
    assert [str(one) for one in found.rules] == ["-p ARP ! --arp-gratuitous -j DROP"]


def test_ebtables_chains_have_a_policy_each() -> None:
    found = chains("ebtables: {a: {filter: {FORWARD: [-j X], X: {policy: RETURN}, Y: {policy: DROP}, Z: []}}}\n")
    assert [found[name].policy for name in ("FORWARD", "X", "Y", "Z")] == ["ACCEPT", "RETURN", "DROP", "ACCEPT"]
    (problem,) = problems("ebtables: {a: {filter: {FORWARD: {policy: RETURN}}}}\n")
    assert "its policy is ACCEPT or DROP" in problem.what
    (problem,) = problems("firewall: {a: {filter: {X: {policy: RETURN}}}}\n")
    assert "is not a built-in chain and has no policy" in problem.what


def test_ip_sets_in_both_forms() -> None:
    written = (
        "ipsets: {a: {four: [10.0.0.0/8, 192.0.2.1/32, 10.1.0.0/16 nomatch],"
        " six: {type: hash:ip, family: inet6, members: [fd00::1]},"
        " ports: {type: 'hash:ip,port', members: ['10.0.0.1,53', '10.0.0.1,udp:53']}}}\n"
    )
    saved = "create four hash:net family inet hashsize 1024 maxelem 9\nadd four 192.0.2.1\nadd four 10.0.0.0/8\n"
    saved += "create six hash:ip family inet6\nadd six fd00::1\n"
    saved += (
        "create ports hash:ip,port\nadd ports 10.0.0.1,53\nadd ports 10.0.0.1,udp:53\nadd four 10.1.0.0/16 nomatch\n"
    )
    pasted = "ipsets:\n  a: |\n" + "".join(f"    {line}\n" for line in saved.splitlines())
    found = [
        [
            item
            for item in parse_and_compile(f"model: raw\nnamespaces: [a]\n{text}", "x")[1].plan
            if isinstance(item, IpSet)
        ]
        for text in (written, pasted)
    ]
    four = IpSet("a", "four", "hash:net", ("10.0.0.0/8", "10.1.0.0/16 nomatch", "192.0.2.1"))
    ports = IpSet("a", "ports", "hash:ip,port", ("10.0.0.1,tcp:53", "10.0.0.1,udp:53"))
    assert found[0] == found[1] == [four, IpSet("a", "six", "hash:ip", ("fd00::1",), "inet6"), ports]


@pytest.mark.parametrize(
    ("text", "what", "line"),
    [
        ("create x hash:mac", "sets of the type 'hash:mac' are not supported", 5),
        ("create x hash:ip,port\n    add x 10.0.0.1", "'10.0.0.1' is not an IPv4 address with a port", 6),
        ("create x hash:ip,port\n    add x 10.0.0.1,icmp:8", "'10.0.0.1,icmp:8' is not an IPv4 address with a port", 6),
        ("create x hash:ip,port\n    add x fd00::1,tcp:80", "'fd00::1,tcp:80' is not an IPv4 address with a port", 6),
        ("create x hash:net\n    add x 10.0.0.0/8 timeout 5", "a member with options ('timeout 5')", 6),
        ("create x hash:ip timeout 60", "the option 'timeout' of a set is not supported", 5),
        ("create x hash:ip\n    add y 10.0.0.1", "there is no set 'y'", 6),
        ("create x hash:ip\n    add x 10.0.0.0/8", "hash:ip has addresses only", 6),
        ("create x hash:net\n    add x 0.0.0.0/0", "hash:net cannot have 0.0.0.0/0", 6),
        ("create x hash:net\n    add x fd00::/8", "is not an IPv4 network", 6),
        ("flush x", "is not a line of ipset save", 5),
    ],
)
def test_an_ip_set_that_labctl_does_not_build_is_named_in_its_place(text: str, what: str, line: int) -> None:
    (problem,) = problems(f"ipsets:\n  a: |\n    {text}\n")
    assert what in problem.what
    assert problem.line == line


@pytest.mark.parametrize(
    ("text", "what", "line"),
    [
        ("*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -j DROP", "the table filter has no COMMIT", 5),
        ("-A INPUT -j DROP", "is outside of a table", 5),
        ("*filter\n-A MINE -j DROP\nCOMMIT", "the chain MINE is not declared", 6),
        ("*filter\n:INPUT MAYBE\nCOMMIT", "'MAYBE' is not a policy", 6),
        ("*filter\n-N MINE\nCOMMIT", "is not a line of iptables-save", 6),
        ("*filter\n-P INPUT DROP\nCOMMIT", "is not a line of iptables-save", 6),
        ("*filters\nCOMMIT", "there is no table 'filters'", 5),
        ("*filter\nCOMMIT\n*filter\nCOMMIT", "the table filter is there twice", 7),
        ("# Generated by ip6tables-save v1.8.9\n*filter\nCOMMIT", "this is the text of ip6tables-save", 5),
        ("table ip filter {\n}", "is outside of a table", 5),
        ('*filter\n-A INPUT -m comment --comment "open -j DROP\nCOMMIT', "a quote is not closed", 6),
        ("*filter\n:A - [0:0]\n:A - [0:0]\nCOMMIT", "the chain A is declared twice", 7),
        ("# nothing", "this text has no table", 4),
    ],
)
def test_a_text_that_is_no_dump_is_refused_in_its_place(text: str, what: str, line: int) -> None:
    found = problems("firewall:\n  a: |\n" + "".join(f"    {row}\n" for row in text.split("\n")))
    assert what in found[0].what
    assert found[0].line == line
    assert found[0].hint or "twice" in what


def test_a_dump_in_a_folded_text_says_how_lines_are_kept() -> None:
    found = problems("firewall:\n  a: >\n    *filter\n    -A INPUT -j DROP\n    COMMIT\n")
    assert [(problem.what, problem.line) for problem in found] == [
        ("firewall: a: the lines of this text are joined", 4)
    ]


def test_all_options_are_those_of_all_extensions() -> None:
    extensions = [one for family in ("ip", "ip6", "bridge") for one in targets(family).values()]
    extensions += [one for family in ("ip", "ip6", "bridge") for one in matches(family).values()]
    assert all_flags() == {flag for one in extensions for flag in one.options}


def test_every_option_is_what_it_looks_like_only_beside_its_extension() -> None:
    assert {"--set", "--pol", "--proto", "--new"} <= flags_like_main_options() < all_flags()
    for args in (("-m", "recent", "--set"), ("-m", "policy", "--pol", "none"), ("-m", "comment", "--comment", "-V")):
        assert stray_word(args, "ip") is None
        assert stray_word(args[2:], "ip") is None or args[2] != "--comment"
    for args in (("-p", "tcp", "--pol", "x"), ("-j", "DROP", "-V"), ("-j", "DROP", "--modprobe=x"), ("-j", "a\nb")):
        assert stray_word(args, "ip") == args[-1] or stray_word(args, "ip") == "--pol"
    for text, what in (("-p tcp --pol x", "belongs to no match"), ("-m mark --pol x", "short for --policy")):
        with pytest.raises(InvalidRule, match=what):
            rule(text)


def test_a_hundred_times_the_rules_take_a_hundred_times_as_long() -> None:
    texts = [
        f"-s 10.{n >> 8}.{n & 255}.0/24 -i eth{n % 9} -p tcp -m tcp --dport {n} -j C{n % 50}" for n in range(16_000)
    ]
    own = [f"C{number}" for number in range(50)]
    dump = "".join(f"    :{name} - [0:0]\n" for name in own) + "".join(f"    -A INPUT {text}\n" for text in texts)
    both = [
        f"firewall:\n  a:\n    filter:\n{''.join(f'      {name}: []' + chr(10) for name in own)}      INPUT:\n"
        + "".join(f"        - {text}\n" for text in texts),
        f"firewall:\n  a: |\n    *filter\n    :INPUT ACCEPT [0:0]\n{dump}    COMMIT\n",
    ]
    for text in both:
        began = time.process_time()
        assert len(chains(text)["INPUT"].rules) == 16_000
        assert time.process_time() - began < 5  # 1 s; a quadratic reader takes minutes

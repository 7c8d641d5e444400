"""What single matches and targets demand of a rule, beyond the list of their options. Each function is one extension.

Source: the check functions of the kernel's modules (net/netfilter/xt_*.c, Linux 6.18) and of iptables' extensions
(1.8.9).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from labctl.core.iptables import FirewallRule
from labctl.core.iptables_extensions import InvalidRule, matches
from labctl.core.iptables_parts import RuleOption, RulePart
from labctl.core.names import did_you_mean

_REPEATABLE = ("among", "log", "mark", "pkttype")  # matches of ebtables that do not look at that
_PORT_NUMBERS = ("tcp", "udp", "sctp", "dccp", "udplite", "6", "17", "132", "33", "136")
_ICMP_NUMBERS = ("icmp", "ipv6-icmp", "1", "58")
_PORT_PROTOCOLS = ("tcp", "udp", "sctp", "dccp", "icmp")  # of libxt_NAT, also with a !
_REJECT_TYPES = {
    "ip": "icmp-net-unreachable net-unreach icmp-host-unreachable host-unreach icmp-proto-unreachable proto-unreach "
    "icmp-port-unreachable port-unreach icmp-net-prohibited net-prohib icmp-host-prohibited host-prohib tcp-reset "
    "tcp-rst icmp-admin-prohibited admin-prohib",
    "ip6": "icmp6-no-route no-route icmp6-adm-prohibited adm-prohibited icmp6-addr-unreachable addr-unreach "
    "icmp6-port-unreachable tcp-reset icmp6-policy-fail policy-fail icmp6-reject-route reject-route",
}
_ADDRESS_TYPES = (
    *("UNSPEC", "UNICAST", "LOCAL", "BROADCAST", "ANYCAST", "MULTICAST", "BLACKHOLE", "UNREACHABLE", "PROHIBIT"),
    *("THROW", "NAT", "XRESOLVE"),
)
_NOT_IN_IPV6 = ("BROADCAST", "PROHIBIT", "THROW", "NAT", "XRESOLVE")
# the built-in chains in which a packet has no incoming, or no outgoing device yet
_NO_INPUT_DEVICE, _NO_OUTPUT_DEVICE = ("OUTPUT", "POSTROUTING"), ("PREROUTING", "INPUT")
_DEVICE_LIMITS = {"--limit-iface-in": _NO_INPUT_DEVICE, "--limit-iface-out": _NO_OUTPUT_DEVICE}
_GROUP_LIMITS = {"--src-group": _NO_INPUT_DEVICE, "--dst-group": _NO_OUTPUT_DEVICE}
_BRIDGE_PORT_LIMITS = {"--physdev-out": ("OUTPUT",), "--physdev-is-out": ("OUTPUT",)}
_MODE_OPTIONS = {"random": ("--probability",), "nth": ("--every", "--packet")}
_POLICY_ELEMENT = ("--reqid", "--spi", "--tunnel-src", "--tunnel-dst", "--proto", "--mode")


@dataclass(frozen=True, slots=True)
class RuleContext:
    """Where a rule stands. `hooks` are the built-in chains from which its chain is reached, `chains` the names of all
    chains of its table, `ipsets` the names of the sets that it may match (None: any)."""

    family: str
    table: str
    chain: str
    hooks: frozenset[str]
    chains: frozenset[str]
    ipsets: frozenset[str] | None = None


def check_special(part: RulePart, rule: FirewallRule, context: RuleContext) -> None:
    """Raise InvalidRule if a match or target is not possible with the rest of its rule."""
    check = _CHECKS.get(part.name)
    if check is not None and context.family != "bridge":
        check(part, rule, context)


def check_bridge(part: RulePart, rule: FirewallRule) -> None:
    """Raise InvalidRule if options of ebtables' matches are not possible in a rule, or not together."""
    protocol, values = rule.option("-p"), _values(part)
    flags = [option.flag for option in part.options]
    for extension in matches("bridge").values():
        flag = next((flag for flag in values if flag in extension.options), "")
        if flag and extension.protocols and not is_protocol(protocol, extension.protocols):
            raise InvalidRule(f"{flag} needs -p {' or -p '.join(extension.protocols)}", flag)
        twice = next((flag for flag in extension.options if flags.count(flag) > 1), "")
        if twice and extension.name not in _REPEATABLE:
            raise InvalidRule(f"{twice} is given twice in one rule", twice)
    if "--nflog" in values and len([flag for flag in values if flag.startswith("--nflog")]) > 1:
        raise InvalidRule("--nflog is not possible with options of nflog, which include it", "--nflog")
    if lone := next((option for option in part.options if option.values[-1:] == ("!",)), None):
        raise InvalidRule(f"{lone.flag} has a lone ! as its value", lone.flag)
    for version in ("ip", "ip6"):
        layer4 = next((one for one in part.options if one.flag == f"--{version}-proto"), None)
        wanted: dict[str, tuple[str, ...]] = {
            f"--{version}-icmp-type": _ICMP_NUMBERS,
            f"--{version}-igmp-type": ("igmp", "2"),
        }
        wanted |= {f"--{version}-{end}": _PORT_NUMBERS for end in ("sport", "dport")}
        for flag, known in wanted.items():
            if flag in values and not is_protocol(layer4, known):
                raise InvalidRule(f"{flag} needs --{version}-proto {known[0]}", flag)


def is_protocol(protocol: RuleOption | None, wanted: Sequence[str]) -> bool:
    """Whether a rule is for one of these protocols only."""
    return protocol is not None and not protocol.negated and bool(set(protocol.values) & set(wanted))


def _values(part: RulePart) -> dict[str, str]:
    return {option.flag: option.values[0] if option.values else "" for option in part.options}


def _check_hooks(values: dict[str, str], limits: Mapping[str, tuple[str, ...]], context: RuleContext) -> None:
    """Raise InvalidRule for an option in a built-in chain that it is not possible in."""
    for flag, hooks in limits.items():
        if flag in values and (here := sorted(context.hooks & set(hooks))):
            raise InvalidRule(f"{flag} is not possible in {here[0]}", flag)


def _reject(part: RulePart, rule: FirewallRule, context: RuleContext) -> None:
    kind = _values(part).get("--reject-with", "")
    known = _REJECT_TYPES[context.family].split()
    if kind and kind not in known:
        hint = did_you_mean(kind, known) or f"one of {', '.join(word for word in known if '-' in word)[:120]}"
        raise InvalidRule(f"--reject-with: {kind!r} is not a type of {context.family} REJECT", kind, hint)
    if kind in ("tcp-reset", "tcp-rst") and not is_protocol(rule.option("-p"), ("tcp",)):
        raise InvalidRule(f"--reject-with {kind} needs -p tcp", kind)


def _nat(part: RulePart, rule: FirewallRule, context: RuleContext) -> None:
    values = _values(part)
    target = values.get("--to-destination") or values.get("--to-source") or ""
    has_port = "]:" in target or (":" in target and context.family == "ip")
    protocol = rule.option("-p")
    fits = protocol is not None and protocol.values[0] in _PORT_PROTOCOLS
    if (values.get("--to-ports") or has_port) and not fits:
        raise InvalidRule(f"{part.flag} {part.name} with a port needs a protocol with ports", part.name, "add -p tcp")


def _tcpmss(part: RulePart, rule: FirewallRule, context: RuleContext) -> None:
    flags = rule.option("--tcp-flags")
    if flags is None or flags.negated or "SYN" not in flags.values[-1].upper():
        raise InvalidRule("-j TCPMSS is for SYN packets only", part.name, "add --tcp-flags SYN,RST SYN")
    wrong = sorted(context.hooks & {"PREROUTING", "INPUT"})
    if "--clamp-mss-to-pmtu" in _values(part) and wrong:
        hint = "it is possible in FORWARD, OUTPUT, POSTROUTING"
        raise InvalidRule(f"--clamp-mss-to-pmtu is not possible in {wrong[0]}", "--clamp-mss-to-pmtu", hint)


def _addrtype(part: RulePart, rule: FirewallRule, context: RuleContext) -> None:
    values = _values(part)
    for flag in ("--src-type", "--dst-type"):
        for word in values.get(flag, "").split(",") if flag in values else ():
            if word.upper() not in _ADDRESS_TYPES:
                raise InvalidRule(
                    f"{flag}: {word!r} is not a type of addresses", word, did_you_mean(word, _ADDRESS_TYPES)
                )
            if context.family == "ip6" and word.upper() in _NOT_IN_IPV6:
                raise InvalidRule(f"{flag}: IPv6 has no type {word}", word)
    _check_hooks(values, _DEVICE_LIMITS, context)
    if set(_DEVICE_LIMITS) <= set(values):
        raise InvalidRule("--limit-iface-in and --limit-iface-out cannot be used together", "--limit-iface-out")


def _ecn(part: RulePart, rule: FirewallRule, context: RuleContext) -> None:
    flag = next((flag for flag in _values(part) if flag.startswith("--ecn-tcp")), "")
    if flag and not is_protocol(rule.option("-p"), ("tcp",)):
        raise InvalidRule(f"{flag} needs -p tcp", flag)


def _statistic(part: RulePart, rule: FirewallRule, context: RuleContext) -> None:
    values = _values(part)
    mode = values.get("--mode", "")
    if mode not in _MODE_OPTIONS:
        raise InvalidRule(f"--mode: {mode!r} is neither random nor nth", mode)
    for flag in _MODE_OPTIONS[mode]:
        if flag not in values:
            raise InvalidRule(f"--mode {mode} needs {flag}", mode)
    for flag in _MODE_OPTIONS["nth" if mode == "random" else "random"]:
        if flag in values:
            raise InvalidRule(f"{flag} is not possible with --mode {mode}", flag)


def _devgroup(part: RulePart, rule: FirewallRule, context: RuleContext) -> None:
    _check_hooks(_values(part), _GROUP_LIMITS, context)


def _physdev(part: RulePart, rule: FirewallRule, context: RuleContext) -> None:
    bridged = next((option for option in part.options if option.flag == "--physdev-is-bridged"), None)
    if bridged is None or bridged.negated:
        _check_hooks(_values(part), _BRIDGE_PORT_LIMITS, context)


def _rt(part: RulePart, rule: FirewallRule, context: RuleContext) -> None:
    values = _values(part)
    if "--rt-0-addrs" in values and values.get("--rt-type") != "0":
        raise InvalidRule("--rt-0-addrs needs --rt-type 0", "--rt-0-addrs")


def _recent(part: RulePart, rule: FirewallRule, context: RuleContext) -> None:
    values = _values(part)
    for flag in ("--seconds", "--hitcount", "--rttl", "--reap"):
        if flag in values and not {"--rcheck", "--update"} & set(values):
            raise InvalidRule(f"{flag} needs --rcheck or --update", flag)


def _policy(part: RulePart, rule: FirewallRule, context: RuleContext) -> None:
    values = _values(part)
    if "--strict" in values and not set(_POLICY_ELEMENT) & set(values):
        raise InvalidRule(f"--strict needs one of {', '.join(_POLICY_ELEMENT)}", "--strict")
    wrong = {"in": ("OUTPUT", "POSTROUTING"), "out": ("PREROUTING", "INPUT")}.get(values.get("--dir", ""), ())
    if context.hooks & set(wrong):
        raise InvalidRule(
            f"--dir {values['--dir']} is not possible in {sorted(context.hooks & set(wrong))[0]}", "--dir"
        )
    tunnel = next((flag for flag in ("--tunnel-src", "--tunnel-dst") if flag in values), "")
    if tunnel and values.get("--mode") != "tunnel":
        raise InvalidRule(f"{tunnel} needs --mode tunnel", tunnel)


def _drop(part: RulePart, rule: FirewallRule, context: RuleContext) -> None:
    if context.table == "nat":
        raise InvalidRule("-j DROP is not possible in the table nat", part.name, "drop packets in the table filter")


def _map_set(part: RulePart, rule: FirewallRule, context: RuleContext) -> None:
    values = _values(part)
    if "--map-set" in values and not {"--map-mark", "--map-prio", "--map-queue"} & set(values):
        raise InvalidRule("--map-set needs --map-mark, --map-prio or --map-queue", "--map-set")
    if "--map-set" in values and context.table != "mangle":
        raise InvalidRule(
            f"--map-set is not possible in the table {context.table}", "--map-set", "it belongs to mangle"
        )
    _check_hooks(values, {"--map-prio": _NO_OUTPUT_DEVICE, "--map-queue": _NO_OUTPUT_DEVICE}, context)


def _time(part: RulePart, rule: FirewallRule, context: RuleContext) -> None:
    values = _values(part)
    if "--contiguous" in values and values.get("--timestop", "24") >= values.get("--timestart", ""):
        raise InvalidRule("--contiguous needs a --timestop before --timestart", "--contiguous")


_CHECKS: dict[str, Callable[[RulePart, FirewallRule, RuleContext], None]] = {
    "DROP": _drop,
    "REJECT": _reject,
    "SET": _map_set,
    "time": _time,
    **dict.fromkeys(("DNAT", "SNAT", "MASQUERADE", "REDIRECT"), _nat),
    "TCPMSS": _tcpmss,
    "addrtype": _addrtype,
    "ecn": _ecn,
    "statistic": _statistic,
    "policy": _policy,
    "devgroup": _devgroup,
    "physdev": _physdev,
    "recent": _recent,
    "rt": _rt,
}

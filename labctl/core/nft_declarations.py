"""What the objects of nft are, in the order and words of `nft list ruleset`; and what a kernel refuses of them. Pure.

Follows Linux 6.18 (net/netfilter/nf_tables_api.c, nft_chain_filter.c, nft_chain_nat.c, nft_chain_route.c) and nftables
1.1.3 (src/rule.c: the order in which an object's lines are printed, the names of priorities).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from labctl.core.names import did_you_mean
from labctl.core.nft_ruleset import BRIDGE_PRIORITIES, PRIORITIES, WITH_ELEMENTS

_IP_HOOKS = ("prerouting", "input", "forward", "output", "postrouting")
HOOKS = {
    "ip": _IP_HOOKS, "ip6": _IP_HOOKS, "inet": (*_IP_HOOKS, "ingress"), "bridge": _IP_HOOKS, "arp": ("input", "output"),
    "netdev": ("ingress", "egress"),
}  # fmt: skip
_NAT_HOOKS = ("prerouting", "input", "output", "postrouting")
TYPES = ("filter", "nat", "route")
_ROUTED = ("ip", "ip6", "inet")  # the families that have chains of the types nat and route
_AFTER_CONNTRACK = -200  # a chain of the type nat runs after the priority of connection tracking
_REACH = 10  # how far from a priority with a name nft still names it: `filter + 10`
# the order in which nft prints the lines of a set or map
_SET_ORDER = ("type", "typeof", "policy", "size", "flags", "counter", "auto-merge", "timeout", "gc-interval", "comment")
_SET_FLAGS = ("constant", "dynamic", "interval", "timeout")
_SET_OPTIONS = (*_SET_ORDER, "elements", "quota", "limit", "ct", "last")
_BASE = re.compile(
    r"type (?P<type>\S+) hook (?P<hook>\S+)(?P<on>(?: devices?(?: =)? (?:\{[^}]*\}|\S+))?) priority (?P<priority>.+?)"
)
_PRIORITY = re.compile(r"(?P<name>[a-z]+)? ?(?P<sign>[+-])? ?(?P<number>\d+)?")
Problem = tuple[str, str]  # what is wrong, and a hint


def header_lines(kind: str, table: str, lines: Sequence[str]) -> list[str]:
    """The lines that say what an object is, in nft's order and words: a chain's policy with its hook, a set's flags in
    their order, a priority with its name."""
    if kind == "chain":
        return _chain_header(table, lines)
    if kind not in WITH_ELEMENTS:
        return list(lines)
    order = {word: number for number, word in enumerate(_SET_ORDER)}
    found = [_flags(line) if line.startswith("flags ") else line for line in lines]
    return sorted(found, key=lambda line: order.get(line.split(" ", 1)[0], order["flags"] + 0.5))


def _chain_header(table: str, lines: Sequence[str]) -> list[str]:
    comment = [line for line in lines if line.startswith("comment ")]
    found = next((match for line in lines if (match := _BASE.fullmatch(line))), None)
    if found is None:
        return comment
    policy = next((line for line in lines if line.startswith("policy ")), "policy accept")
    return [f"{base_line(table, found[0])}; {policy};", *comment]


def base_line(table: str, line: str) -> str:
    """The line `type ... hook ... priority ...` of a chain in nft's spelling; another line as it is."""
    found = _BASE.fullmatch(line)
    if found is None:
        return line
    family, hook = table.partition(" ")[0], found["hook"]
    priority = _priority(found["priority"], family, hook)
    on = re.sub(r'(devices?(?: =)?) ("?)([\w.@:-]+)\2$', r'\1 "\3"', found["on"])
    return f"type {found['type']} hook {hook}{on} priority {priority}"


def _flags(line: str) -> str:
    names = [name.strip() for name in line.removeprefix("flags ").split(",")]
    return f"flags {','.join(sorted(names, key=lambda name: (*_SET_FLAGS, name).index(name)))}"


def priority_number(text: str, family: str, hook: str) -> int | None:
    """A priority as a number: `-90`, `filter`, `dstnat - 10`; None for other texts."""
    found = _PRIORITY.fullmatch(text.strip())
    if found is None or not (found["name"] or found["number"]):
        return None
    if found["name"] and bool(found["sign"]) != bool(found["number"]):
        return None
    names = _names(family, hook)
    if found["name"] and found["name"] not in names:
        return None
    return names.get(found["name"], 0) + int(f"{found['sign'] or ''}{found['number'] or 0}")


def _priority(text: str, family: str, hook: str) -> str:
    """A priority as nft prints it: with a name, if one is near. A name that is written stays, since which hooks have
    `dstnat` depends on nft's version."""
    number = priority_number(text, family, hook)
    if number is None or text[:1].isalpha():
        return re.sub(r" ?([+-]) ?", r" \1 ", text)
    for name, value in _names(family, hook).items():
        if abs(number - value) <= _REACH and (name, hook) != ("dstnat", "output"):
            away = number - value
            return name if not away else f"{name} {'+' if away > 0 else '-'} {abs(away)}"
    return str(number)


def _names(family: str, hook: str) -> dict[str, int]:
    """The priorities that have a name at a hook."""
    if family == "bridge":
        only = {"dstnat": "prerouting", "out": "output", "srcnat": "postrouting"}
        return {name: value for name, value in BRIDGE_PRIORITIES.items() if only.get(name, hook) == hook}
    if family in ("arp", "netdev") or hook == "ingress":
        return {"filter": 0}
    hooks = {"dstnat": ("prerouting", "output"), "srcnat": ("postrouting",)}  # `dstnat` at output: after nft 1.0.6
    return {name: value for name, value in PRIORITIES.items() if hook in hooks.get(name, (hook,))}


def chain_problem(table: str, line: str) -> Problem | None:
    """Why no kernel has a chain with this line, `type ... hook ... priority ...`."""
    family = table.partition(" ")[0]
    found = _BASE.fullmatch(line)
    if found is None:
        return f"{line!r} does not say where the chain is called", "such as type filter hook input priority 0"
    kind, hook = found["type"], found["hook"]
    if kind not in TYPES:
        return f"a chain cannot be of the type {kind!r}", did_you_mean(kind, TYPES) or f"one of {', '.join(TYPES)}"
    hooks = HOOKS[family]
    if hook not in hooks:
        where = [name for name, those in HOOKS.items() if hook in those]
        hint = did_you_mean(hook, hooks) or (f"tables of the family {' and '.join(where)} have it" if where else "")
        return f"the family {family} has no hook {hook!r}", hint or f"it has {', '.join(hooks)}"
    if kind != "filter" and family not in _ROUTED:
        return f"a table of the family {family} has no chains of the type {kind}", f"in {', '.join(_ROUTED)}"
    if kind == "nat" and hook not in _NAT_HOOKS:
        return f"a chain of the type nat cannot be at the hook {hook}", f"one of {', '.join(_NAT_HOOKS)}"
    if kind == "route" and hook != "output":
        return "a chain of the type route is at the hook output", ""
    return _device_problem(family, hook, found["on"]) or _priority_problem(family, kind, hook, found["priority"])


def _device_problem(family: str, hook: str, on: str) -> Problem | None:
    needs = family == "netdev" or hook == "ingress"
    if needs and not on:
        return f"a chain at the hook {hook} of {family} needs a device", f"such as hook {hook} device eth0"
    if on and not needs:
        return f"a chain at the hook {hook} has no device", "only those of netdev and at ingress have one"
    return None


def _priority_problem(family: str, kind: str, hook: str, text: str) -> Problem | None:
    names = _names(family, hook)
    number = priority_number(text, family, hook)
    if number is None:
        word = re.split(r"[ +-]", text.strip())[0]
        hint = did_you_mean(word, names) or f"a number, or one of {', '.join(names)}, perhaps with + 10 or - 10"
        return f"{text!r} is not a priority at the hook {hook} of {family}", hint
    if kind == "nat" and number <= _AFTER_CONNTRACK:
        hint = "connection tracking is at -200, and address translation needs it"
        return f"a chain of the type nat has a priority above -200, and this is {number}", hint
    return None


def policy_problem(line: str) -> Problem | None:
    """Why no chain has this policy, `policy ...`."""
    policy = line.removeprefix("policy ").strip()
    if policy in ("accept", "drop"):
        return None
    return f"{policy!r} is not a policy", did_you_mean(policy, ("accept", "drop")) or "accept or drop"


def set_problems(kind: str, lines: Iterable[str]) -> Iterator[Problem]:
    """Why no kernel has a set or map with these lines."""
    lines = list(lines)
    words = [line.split(" ", 1)[0] for line in lines]
    if "type" not in words and "typeof" not in words:
        sample = "ipv4_addr" if kind == "set" else "ipv4_addr : verdict"
        yield f"this {kind} has no type", f"such as type {sample}"
    for line, word in zip(lines, words, strict=True):
        if word not in _SET_OPTIONS:
            yield f"{word!r} cannot stand in a {kind}", did_you_mean(word, _SET_OPTIONS)
        if word in ("type", "typeof"):
            has_value = " : " in f"{line.replace(':', ' : ') if ':' in line else line}"
            if kind == "map" and not has_value:
                yield "a map has a type with both sides", "such as ipv4_addr : verdict"
            if kind == "set" and has_value:
                yield "a set has no values", "write map in place of set"
        if word == "flags":
            for name in line.removeprefix("flags ").split(","):
                if name.strip() not in _SET_FLAGS:
                    hint = did_you_mean(name.strip(), _SET_FLAGS) or f"one of {', '.join(_SET_FLAGS)}"
                    yield f"a {kind} has no flag {name.strip()!r}", hint

"""Whether a firewall rule can be valid where it stands, as far as the rule and the chains around it say.

`check_rule` refuses what iptables or the kernel would refuse on every machine: an option that a match does not have, a
port above 65535, MASQUERADE in the table filter, a jump to a chain that does not exist. What depends on the machine
(the extensions of its kernel, the names of its services) is left to the tools.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from labctl.core.iptables import BUILTIN, FirewallRule
from labctl.core.iptables_extensions import (
    Extension,
    InvalidRule,
    bridge_match_options,
    match,
    refusal_reason,
    targets,
)
from labctl.core.iptables_parts import RuleOption, RulePart
from labctl.core.iptables_special import RuleContext, check_bridge, check_special, is_protocol
from labctl.core.iptables_values import bridge_problem, device_problem, protocol_problem, value_problem
from labctl.core.names import did_you_mean

_CHAIN_NAME = re.compile(r"[A-Za-z0-9_.:+/=@%~][A-Za-z0-9_.:+/=@%~-]*")
MAX_CHAIN_NAME = 28  # XT_FUNCTION_MAXNAMELEN without its NUL; iptables-nft and iptables-legacy agree
_DEVICE_FLAGS = ("-i", "-o", "--logical-in", "--logical-out")
_NO_INPUT_DEVICE = ("OUTPUT", "POSTROUTING")
_NO_OUTPUT_DEVICE = ("INPUT", "PREROUTING")


def check_rule(rule: FirewallRule, context: RuleContext) -> None:
    """Raise InvalidRule if a rule cannot be valid in its place."""
    for option in rule.head:
        _check_head(option, context)
    protocol = rule.option("-p") if "-p" in rule.args else None
    for part in rule.parts:
        if part.flag in ("-j", "-g"):
            _check_target(part, rule, protocol, context)
            continue
        if context.family == "bridge":
            extension = bridge_match_options()
            check_bridge(part, rule)
        else:
            extension = match(part.name, context.family)
            _check_place(f"-m {part.name}", part.name, extension, protocol, context)
        _check_options(part, extension, context)
        check_special(part, rule, context)


def check_chain_name(name: str, family: str) -> None:
    """Raise InvalidRule if a chain cannot have this name."""
    if len(name.encode()) > MAX_CHAIN_NAME:
        raise InvalidRule(f"the chain name {name!r} is longer than {MAX_CHAIN_NAME} characters", name)
    if not _CHAIN_NAME.fullmatch(name):
        raise InvalidRule(f"{name!r} is not a valid chain name", name, "letters, digits and - _ . : + / = @ % ~")
    if name in targets(family):
        raise InvalidRule(f"{name} is a target, and no chain can have its name", name)


def hooks_by_chain(jumps: Mapping[str, Iterable[str]], family: str, table: str) -> dict[str, frozenset[str]]:
    """The built-in chains from which each chain of a table is reached. `jumps` are the targets of each chain's
    rules."""
    reached: dict[str, set[str]] = {name: set() for name in jumps}
    for hook in BUILTIN.get((family, table), ()):
        waiting = [hook]
        while waiting:
            name = waiting.pop()
            if hook not in reached.setdefault(name, set()):
                reached[name].add(hook)
                waiting += [target for target in jumps.get(name, ()) if target in jumps]
    return {name: frozenset(hooks) for name, hooks in reached.items()}


def find_loop(jumps: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The chains of a circle of jumps, each before the one that it jumps to; empty if there is none. The kernel refuses
    a table with one."""
    done: set[str] = set()
    for start in jumps:
        path: list[str] = []
        waiting: list[tuple[str, int]] = [(start, 0)]
        while waiting:
            name, depth = waiting.pop()
            for left in path[depth:]:
                done.add(left)
            del path[depth:]
            if name in path:
                return tuple(path[path.index(name) :])
            if name in done:
                continue
            path.append(name)
            waiting += [(target, depth + 1) for target in jumps[name] if target in jumps]
        done.update(path)
    return ()


def _check_head(option: RuleOption, context: RuleContext) -> None:
    flag, value = option.flag, option.values[0] if option.values else ""
    if flag in _DEVICE_FLAGS:
        if why := device_problem(value):
            raise InvalidRule(f"{flag}: {value!r} {why}", value)
        wrong = _NO_INPUT_DEVICE if flag in ("-i", "--logical-in") else _NO_OUTPUT_DEVICE
        if context.chain in wrong:
            raise InvalidRule(f"{flag} is not possible in {context.chain}", flag)
        if context.family == "bridge" and option.negated and value == "+":
            raise InvalidRule(f"a rule with {flag} ! + matches nothing", value)
    elif context.family == "bridge":
        if why := bridge_problem(flag, value):
            raise InvalidRule(f"{flag}: {value!r} {why}", value)
    elif flag == "-p":
        if why := protocol_problem(value):
            raise InvalidRule(f"-p: {value!r} {why}", value)
        if option.negated and value.lower() in ("all", "0"):
            raise InvalidRule("a rule with ! -p all matches nothing", value)


def _check_target(part: RulePart, rule: FirewallRule, protocol: RuleOption | None, context: RuleContext) -> None:
    name, builtin = part.name, BUILTIN[(context.family, context.table)]
    if name in builtin:
        raise InvalidRule(f"{name} is a built-in chain, and no rule can jump to it", name)
    if name in context.chains:
        _check_options(part, Extension(name), context)
        return
    if part.flag == "-g":
        hint = did_you_mean(name, context.chains) or f"add the chain {name}, or use -j for a target"
        raise InvalidRule(f"-g {name}: there is no chain {name} in the table {context.table}", name, hint)
    extension = targets(context.family).get(name)
    if extension is None:
        if why := refusal_reason(name):
            raise InvalidRule(f"-j {name} is refused: {why}", name)
        other = name in targets("ip") or name in targets("ip6")
        if other and context.family != "bridge":
            raise InvalidRule(f"-j {name} is for {'IPv6' if context.family == 'ip' else 'IPv4'} only", name)
        hint = did_you_mean(name, (*context.chains - set(builtin), *targets(context.family)))
        hint = hint or f"add the chain {name} to the table {context.table}"
        raise InvalidRule(f"-j {name}: there is no such target, and no chain {name} in {context.table}", name, hint)
    _check_place(f"-j {name}", name, extension, protocol, context)
    _check_options(part, extension, context)
    check_special(part, rule, context)


def _check_place(what: str, word: str, extension: Extension, protocol: RuleOption | None, context: RuleContext) -> None:
    """The table, the hooks and the protocol that a match or target needs."""
    if extension.tables and context.table not in extension.tables:
        tables = " and ".join(extension.tables)
        raise InvalidRule(f"{what} is not possible in the table {context.table}", word, f"it belongs to {tables}")
    wrong = sorted(context.hooks - set(extension.hooks)) if extension.hooks else []
    if wrong:
        through = "" if context.chain in wrong else f", from where {context.chain} is reached"
        hint = f"it is possible in {', '.join(extension.hooks)}"
        raise InvalidRule(f"{what} is not possible in {wrong[0]}{through}", word, hint)
    if extension.protocols and not is_protocol(protocol, extension.protocols):
        raise InvalidRule(f"{what} needs -p {' or -p '.join(extension.protocols)}", word)


def _check_options(part: RulePart, extension: Extension, context: RuleContext) -> None:
    label = f"{part.flag} {part.name}".strip() or "ebtables"
    seen: set[str] = set()
    for option in part.options:
        flag = option.flag
        known = extension.options.get(flag)
        if known is None:
            word = option.args[0]
            raise InvalidRule(f"{label}: {word!r} is where an option was expected", word)
        if option.negated and not known.negatable:
            raise InvalidRule(f"{label}: {flag} cannot have a !", flag)
        values = option.values
        optional = known.types == ("optional",)
        if len(values) != len(known.types) and not (optional and not values):
            needs = f"needs {len(known.types)} value{'s' if len(known.types) != 1 else ''}"
            raise InvalidRule(f"{label}: {flag} {needs if known.types else 'has no value'}", flag)
        for kind, value in zip(known.types, values, strict=False):
            if why := value_problem(kind, value, context.family):
                raise InvalidRule(f"{flag}: {value[:60]!r} {why}", value)
            if kind == "ipset" and context.ipsets is not None and value not in context.ipsets:
                hint = did_you_mean(value, context.ipsets) or "add it under ipsets:"
                raise InvalidRule(f"{flag}: there is no set {value!r}", value, hint)
        seen.add(flag)
    _check_combination(label, part.name, seen, extension)


def _check_combination(label: str, word: str, seen: set[str], extension: Extension) -> None:
    for group in extension.needs:
        if not (seen if group == ("*",) else seen & set(group)):
            wanted = list(extension.options) if group == ("*",) else group
            one = "one of " if len(wanted) > 1 else ""
            raise InvalidRule(f"{label} needs {one}{', '.join(wanted[:4])}", word)
    for group in extension.exclusive:
        if len(both := [flag for flag in group if flag in seen]) > 1:
            raise InvalidRule(f"{label}: {both[0]} and {both[1]} cannot be used together", both[1])
    for flag, needed in extension.requires:
        if flag in seen and needed not in seen:
            raise InvalidRule(f"{label}: {flag} needs {needed}", flag)

"""From a rule's words to the bytes that libiptc appends, with python-iptables' rules, matches and targets.

`build` accepts only forms for which a test shows the same result as with iptables-restore.
"""

from __future__ import annotations

from typing import Any

from labctl.core.iptables_forms import IP_PROTOCOLS
from labctl.kernel.firewall.iptc_words import UnsupportedRule

MATCHES = frozenset({"addrtype", "comment", "conntrack", "icmp", "mark", "multiport", "statistic", "tcp", "udp"})
TARGETS = frozenset({"DNAT", "MARK", "MASQUERADE", "REDIRECT", "REJECT", "SNAT"})
VERDICTS = frozenset({"ACCEPT", "DROP", "RETURN"})
_HEAD = {"-s": "src", "-d": "dst", "-i": "in_interface", "-o": "out_interface", "-p": "protocol"}
_INTERFACE = {"-i": "iniface", "-o": "outiface"}  # fields of struct ipt_ip
_TEXT = ("--comment", "--log-prefix")  # their values may look like anything


def build(iptc: Any, table: Any, args: tuple[str, ...]) -> Any:
    """The entry for one rule. Raises UnsupportedRule for a form that is not known to give the right result, and
    python-iptables' exceptions for invalid values."""
    rule = iptc.Rule()
    part: Any = None
    position = 0
    while position < len(args):
        negated = args[position] == "!"
        at = position + negated
        if at >= len(args):
            raise UnsupportedRule("a ! at the end")
        flag = args[at]
        if flag in _HEAD and part is None:
            value = _value(flag, args, at)
            setattr(rule, _HEAD[flag], ("!" if negated else "") + value)
            if flag in _INTERFACE and value.endswith("+"):  # store it as iptables does, with the "+"
                setattr(rule.entry.ip, _INTERFACE[flag], value.encode())
            position = at + 2
        elif flag in ("-m", "-j", "-g"):
            _finish(part)
            part = _add_extension(iptc, table, rule, flag, _value(flag, args, at))
            position = at + 2
        else:
            position = _option(part, args, at, negated)
    _finish(part)
    if rule.target is None:
        rule.create_target("")
    return rule.rule


def _value(flag: str, words: tuple[str, ...], at: int) -> str:
    if at + 1 >= len(words) or words[at + 1].startswith("!"):
        raise UnsupportedRule(f"{flag} without a value")
    value = words[at + 1]
    if flag == "-p" and not value.isdigit():
        return str(IP_PROTOCOLS[value])
    return value


def _add_extension(iptc: Any, table: Any, rule: Any, flag: str, name: str) -> Any:
    """Add a match or a target to the rule, without options yet. Raises UnsupportedRule."""
    if flag == "-m":
        if name not in MATCHES:
            raise UnsupportedRule(f"match {name}")
        part = rule.create_match(name)
    elif name in TARGETS or name in VERDICTS or table.is_chain(name):
        part = rule.create_target(name, goto=flag == "-g")
    else:
        raise UnsupportedRule(f"target {name}")
    if getattr(part._module, "udata_size", 0):
        raise UnsupportedRule(f"{name} keeps data that python-iptables frees too early")
    return part


def _option(extension: Any, words: tuple[str, ...], at: int, negated: bool) -> int:
    """Parse one option of a match or target with its values; returns the position after them.

    Raises UnsupportedRule.
    """
    flag = words[at]
    if extension is None or not flag.startswith("--"):
        raise UnsupportedRule(flag)
    end = at + 1
    if flag in _TEXT:
        end += 1
    else:
        while end < len(words) and words[end] != "!" and not words[end].startswith("-"):
            end += 1
    values = list(words[at + 1 : end])
    if "!" in values or (extension.name not in MATCHES and not values and flag not in ("--random", "--random-fully")):
        raise UnsupportedRule(flag)
    extension.parse(flag[2:], (["!", *values] if negated else values))
    return end


def _finish(extension: Any) -> None:
    """Let the extension check its options as a whole.

    It is done at once, while the module still points to this part. python-iptables would do it at the end, after it has
    printed and parsed every part again.
    """
    if extension is not None:
        extension._final_check()

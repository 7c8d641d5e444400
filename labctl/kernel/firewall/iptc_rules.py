"""From a rule's parts to the bytes that libiptc appends, with python-iptables' rules, matches and targets.

`build` accepts only forms for which a test shows the same result as with iptables-restore.
"""

from __future__ import annotations

from typing import Any

from labctl.core.iptables import FirewallRule
from labctl.core.iptables_forms import IP_PROTOCOLS
from labctl.core.iptables_parts import RuleOption, RulePart
from labctl.kernel.firewall.iptc_words import UnsupportedRule

MATCHES = frozenset({"addrtype", "comment", "conntrack", "icmp", "mark", "multiport", "statistic", "tcp", "udp"})
TARGETS = frozenset({"DNAT", "MARK", "MASQUERADE", "REDIRECT", "REJECT", "SNAT"})
VERDICTS = frozenset({"ACCEPT", "DROP", "RETURN"})
_HEAD = {"-s": "src", "-d": "dst", "-i": "in_interface", "-o": "out_interface", "-p": "protocol"}
_INTERFACE = {"-i": "iniface", "-o": "outiface"}  # fields of struct ipt_ip


def build(iptc: Any, table: Any, rule: FirewallRule) -> Any:
    """The entry for one rule. Raises UnsupportedRule for a form that is not known to give the right result, and
    python-iptables' exceptions for invalid values."""
    entry = iptc.Rule()
    for option in rule.head:
        _set_head(entry, option)
    for part in rule.parts:
        extension = _add_extension(iptc, table, entry, part)
        for option in part.options:
            _set_option(extension, option)
        # Check the options as a whole at once, while the module still points to this part. python-iptables would do
        # it at the end, after it has printed and parsed every part again.
        extension._final_check()
    if entry.target is None:
        entry.create_target("")
    return entry.rule


def _set_head(entry: Any, option: RuleOption) -> None:
    """Set the source, destination, an interface or the protocol. Raises UnsupportedRule."""
    flag = option.flag
    if flag not in _HEAD or len(option.values) != 1 or "!" in option.args[1:] or option.values[0].startswith("!"):
        raise UnsupportedRule(" ".join(option.args))
    value = option.values[0]
    if flag == "-p" and not value.isdigit():
        value = str(IP_PROTOCOLS[value])
    setattr(entry, _HEAD[flag], ("!" if option.negated else "") + value)
    if flag in _INTERFACE and value.endswith("+"):  # store it as iptables does, with the "+"
        setattr(entry.entry.ip, _INTERFACE[flag], value.encode())


def _add_extension(iptc: Any, table: Any, entry: Any, part: RulePart) -> Any:
    """Add a match or a target to the entry, without options yet. Raises UnsupportedRule."""
    name = part.name
    if part.flag == "-m" and name in MATCHES:
        extension = entry.create_match(name)
    elif part.flag in ("-j", "-g") and (name in TARGETS or name in VERDICTS or table.is_chain(name)):
        extension = entry.create_target(name, goto=part.flag == "-g")
    else:
        raise UnsupportedRule(" ".join(part.args[:2]))
    if getattr(extension._module, "udata_size", 0):
        raise UnsupportedRule(f"{name} keeps data that python-iptables frees too early")
    return extension


def _set_option(extension: Any, option: RuleOption) -> None:
    """Parse one option of a match or target. Raises UnsupportedRule."""
    flag, values = option.flag, list(option.values)
    bare_target_option = extension.name not in MATCHES and not values and flag not in ("--random", "--random-fully")
    if not flag.startswith("--") or "!" in option.args[1:] or bare_target_option:
        raise UnsupportedRule(" ".join(option.args))
    extension.parse(flag[2:], ["!", *values] if option.negated else values)

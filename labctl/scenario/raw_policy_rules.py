"""Which policy-routing rules of a raw scenario the kernel takes for one.

Follows Linux 6.18: rule_exists in net/core/fib_rules.c and fib4_rule_compare in net/ipv4/fib_rules.c. A new rule
without `from` or `to` counts as equal to an older one with any.
"""

from __future__ import annotations

from typing import Any

from labctl.core.kernel_defaults import replaces_local_rule
from labctl.core.resources import Rule
from labctl.scenario.document import Position, Reader


class PolicyRules:
    """Checks rules one by one against the earlier ones."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self._ranges: dict[Any, dict[tuple[str, Any], Position]] = {}  # of rules with equal other fields
        self._local: dict[tuple[str, int], Position] = {}

    def check(self, rule: Rule, at: Position) -> None:
        """Record a problem if the kernel takes this rule for an earlier one, or an earlier one for this."""
        if replaces_local_rule(rule) and (first := self._local.setdefault((rule.ns, rule.family), at)) is not at:
            what = "rules: every packet looks up the local table already"
            self.reader.add_problem(at, f"{what} (line {first.line})", "one such rule replaces the kernel's first rule")
            return
        fields = (rule.ns, rule.family, rule.pref, rule.kind, rule.table, rule.iif, rule.oif, rule.mark, rule.mask)
        found = self._ranges.setdefault(fields, {})
        src, dst = rule.src, rule.dst
        # a wider rule before this one has one of these pairs; this one is wider than those that share a value with it
        wider: list[tuple[str, Any]] = [
            ("pair", (src, dst)),
            ("pair", (None, None)),
            ("pair", (src, None)),
            ("pair", (None, dst)),
        ]
        if src is None or dst is None:
            wider.append(("any", None) if src is dst else ("src", src) if dst is None else ("dst", dst))
        first_at = next((found[key] for key in wider if key in found), None)
        if first_at is not None:
            what = f"rules: the kernel takes this rule for the one in line {first_at.line}"
            self.reader.add_problem(at, what, "one of them covers the other: remove it, or give it another pref")
        for key in (("pair", (src, dst)), ("src", src), ("dst", dst), ("any", None)):
            found.setdefault(key, at)

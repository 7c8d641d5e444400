"""Make chains and IP sets of a raw scenario's firewall sections. Every rule is verified in its place.

A rule is refused here, with its line and column, if no kernel could have it: it has a word that does not belong to a
rule, jumps to a chain that does not exist, or needs another table or hook (`labctl.core.iptables_check`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from labctl.core.iptables import BUILTIN, FirewallRule, rules
from labctl.core.iptables_check import check_chain_name, check_rule, find_loop, hooks_by_chain
from labctl.core.iptables_extensions import InvalidRule
from labctl.core.iptables_parser import split_append
from labctl.core.iptables_special import RuleContext
from labctl.core.resources import Chain
from labctl.core.why import RuleByRule
from labctl.scenario.document import Reader
from labctl.scenario.field_types import Located
from labctl.scenario.firewall_field import RuleText
from labctl.scenario.raw_symbols import stated

FAMILIES = {"firewall": "ip", "firewall6": "ip6", "ebtables": "bridge"}
_PROGRAMS = {"ip": "iptables-save", "ip6": "ip6tables-save", "bridge": "ebtables-save"}
_ParsedRule = tuple[FirewallRule, RuleText]


class TableParser:
    """Makes the chains of one table of one machine."""

    def __init__(
        self,
        ns: str,
        family: str,
        table: str,
        ipsets: frozenset[str],
        reader: Reader,
        present: Sequence[Chain] = (),
    ) -> None:
        self.ns, self.family, self.table, self.ipsets, self.reader = ns, family, table, ipsets, reader
        self.present = present

    def chains(self, rows: Sequence[tuple[Located, Located]], *, added: bool = False) -> Iterator[Chain]:
        """The chains, in order: pairs of a name and {policy, rules}. Problems are recorded. If they are `added` to
        those that are present, a built-in chain without a policy keeps the one it has."""
        parsed = {name.value: self._parse_rules(name.value, body.value) for name, body in rows}
        jumps = {chain.name: [one.target or "" for one in chain.rules] for chain in self.present}
        for name, pairs in parsed.items():
            jumps[name] = [*jumps.get(name, ()), *(one.target or "" for one, _ in pairs)]
        self._check_loop(rows, jumps)
        hooks = hooks_by_chain(jumps, self.family, self.table)
        for name, body in rows:
            if not self._check_name(name):
                continue
            context = RuleContext(self.family, self.table, name.value, hooks[name.value], frozenset(jumps), self.ipsets)
            for one, text in parsed[name.value]:
                self._check_rule(one, text, context)
            kept = tuple(one for one, _ in parsed[name.value])
            policy = None if added and "policy" not in body.value else self._policy(name, body.value)
            whys = RuleByRule(kept, tuple(stated(text.node.position) for _, text in parsed[name.value]))
            yield Chain(
                self.ns, self.table, name.value, kept, policy, self.family, why=stated(name.at), rule_whys=(whys,)
            )

    def _parse_rules(self, chain: str, body: dict[str, Located]) -> list[_ParsedRule]:
        found: list[_ParsedRule] = []
        for row in body["rules"].value if "rules" in body else ():
            text: RuleText = row.value
            try:
                words = list(text.words) if not isinstance(text.words, str) else text.words
                parsed = rules(words, self.family)
                named = self._appended_to(text)
                if named not in (None, chain):
                    raise InvalidRule(f"this rule is for the chain {named}", named or "", f"move it to {named}")
                found += ((one, text) for one in parsed)
            except ValueError as error:
                self._refuse(chain, text, error)
        return found

    @staticmethod
    def _appended_to(text: RuleText) -> str | None:
        words = text.words.split(maxsplit=4) if isinstance(text.words, str) else list(text.words[:4])
        return split_append(words)[0] if words else None

    def _check_name(self, name: Located) -> bool:
        if name.value in BUILTIN[(self.family, self.table)]:
            return True
        try:
            check_chain_name(name.value, self.family)
        except InvalidRule as error:
            self.reader.add_problem(name.at, f"{self.table}: {error}", error.hint)
            return False
        return True

    def _check_rule(self, one: FirewallRule, text: RuleText, context: RuleContext) -> None:
        try:
            check_rule(one, context)
        except ValueError as error:
            self._refuse(context.chain, text, error)

    def _check_loop(self, rows: Sequence[tuple[Located, Located]], jumps: dict[str, list[str]]) -> None:
        if loop := find_loop(jumps):
            at = next((name.at for name, _ in rows if name.value in loop), rows[0][0].at)
            way = " -> ".join((*loop, loop[0]))
            self.reader.add_problem(at, f"{self.table}: the chains jump in a circle ({way})", "the kernel refuses this")

    def _policy(self, name: Located, body: dict[str, Any]) -> str | None:
        builtin = name.value in BUILTIN[(self.family, self.table)]
        policy = body.get("policy")
        if policy is None:
            return "ACCEPT" if builtin or self.family == "bridge" else None
        if not builtin and self.family != "bridge":
            hint = f"built-in chains of {self.table}: {', '.join(BUILTIN[(self.family, self.table)])}"
            self.reader.add_problem(policy.key, f"{name.value} is not a built-in chain and has no policy", hint)
        elif policy.value == "RETURN" and (builtin or self.family != "bridge"):
            self.reader.add_problem(policy.at, f"{name.value} is a built-in chain: its policy is ACCEPT or DROP")
        return str(policy.value)

    def _refuse(self, chain: str, text: RuleText, error: ValueError) -> None:
        word, hint = (error.word, error.hint) if isinstance(error, InvalidRule) else ("", "")
        self.reader.add_problem(
            text.position(word),
            f"{chain}: {str(error)[:160]}",
            hint or f"write a rule as {_PROGRAMS[self.family]} does",
        )

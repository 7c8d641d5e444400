"""The text of iptables-save and ebtables-save, parsed into chains, and chains printed for iptables-restore. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING

from labctl.core.iptables import BUILTIN, FirewallRule, join_words, rule, split_words
from labctl.core.iptables_forms import IP_PROTOCOLS, protocol
from labctl.core.iptables_parts import protocol_position
from labctl.core.resources import Chain

if TYPE_CHECKING:
    from labctl.core.diff import Change

Counter = tuple[int, int]  # packets, bytes
CACHED_RULES = 1 << 17  # texts and rules that are kept: the nodes of a cluster mostly have the same ones

_PLAIN_PROTOCOLS = (["tcp"], ["udp"])  # every release prints these alike
_NOT_OURS = re.compile(r"# Table `(\S+)' (?:is incompatible|contains incompatible)")
_RULE = re.compile(r"(?:\[(\d+):(\d+)\] )?-A (\S+) ?(.*)")


@dataclass(frozen=True, slots=True)
class ChainCounters:
    """A chain as it stands, with what passed it: one counter per rule, and the policy's own."""

    chain: Chain
    rule_counters: tuple[Counter, ...]
    policy_counter: Counter = (0, 0)


def counter_increases(
    before: Iterable[ChainCounters], after: Iterable[ChainCounters]
) -> Iterator[tuple[Chain, int, int]]:
    """The rules and policies that counted packets between two readings of a firewall: the chain, the number of the rule
    (from 1; 0 is the policy), and the increase. Chains that changed in between are left out."""
    first = {one.chain.key: one for one in before}
    for now in after:
        was = first.get(now.chain.key)
        if was is None or was.chain != now.chain:
            continue
        pairs = zip(was.rule_counters, now.rule_counters, strict=True)
        for number, ((old, _), (new, _)) in (*enumerate(pairs, 1), (0, (was.policy_counter, now.policy_counter))):
            if new > old:
                yield now.chain, number, new - old


@dataclass(frozen=True, slots=True)
class TableEdit:
    """All that is to change in one table: chains to stand as given, chains to go."""

    family: str
    table: str
    chains_to_write: tuple[Chain, ...]
    chains_to_delete: tuple[Chain, ...]

    @property
    def rule_count(self) -> int:
        """How many rules are to be written."""
        return sum(len(chain.rules) for chain in self.chains_to_write)


def edits_by_table(changes: Iterable[Change]) -> tuple[TableEdit, ...]:
    """The changes of chains of one namespace, by family and table; other changes are passed over."""
    tables: dict[tuple[str, str], tuple[list[Chain], list[Chain]]] = {}
    for change in changes:
        chain = change.subject
        if isinstance(chain, Chain):
            put, drop = tables.setdefault((chain.family, chain.table), ([], []))
            (drop if change.want is None else put).append(chain)
    return tuple(TableEdit(*key, tuple(put), tuple(drop)) for key, (put, drop) in tables.items())


def is_builtin(chain: Chain) -> bool:
    """Whether the kernel itself has this chain; others are a user's own."""
    return chain.name in BUILTIN.get((chain.family, chain.table), ())


def parse_save(ns: str, family: str, text: str) -> Iterator[ChainCounters]:
    """The chains in what `iptables-save -c` or `ebtables-save -c` printed, in its order."""
    table = ""
    policies: dict[str, tuple[str | None, Counter]] = {}
    rules: dict[str, list[tuple[FirewallRule, Counter]]] = {}
    for line in text.splitlines():
        if line.startswith("*"):
            yield from _chains(ns, family, table, policies, rules)
            table, policies, rules = line[1:].strip(), {}, {}
        elif line.startswith(":"):
            name, policy, *counts = line[1:].split()
            policies[name] = (None if policy == "-" else policy, _counter(*counts[:1]))
        elif found := _RULE.match(line):
            packets, size, name, words = found.groups()
            rules.setdefault(name, []).append((saved_rule(words, family), (int(packets or 0), int(size or 0))))
    yield from _chains(ns, family, table, policies, rules)


def parse_chains(
    ns: str, family: str, text: str, expected: Mapping[str, ExpectedTable] | None = None
) -> Iterator[Chain]:
    """The chains in what `iptables-save` or `ebtables-save` printed without counters of rules, in its order. The same
    as `parse_save`, several times faster: a cluster with a thousand Services has ten thousands of rules. A table that
    is printed as expected is not parsed; then its chains are the expected objects."""
    for part in f"\n{text}".split("\n*")[1:]:
        table = part[: part.find("\n")].strip()
        wanted = expected.get(table) if expected else None
        policies = wanted.policies_in(part) if wanted is not None else None
        if wanted is not None and policies is not None:
            yield from wanted.with_policies(ns, policies)
            continue
        first_rule = part.find("\n-A ")
        head, rest = (part, "") if first_rule < 0 else (part[:first_rule], part[first_rule + 1 :])
        rules = _saved_rules(rest.partition("\nCOMMIT")[0], family)
        for name, policy in _policies(head):  # of ebtables, a user's chain has a policy, too
            yield Chain(ns, table, name, rules.get(name, ()), policy, family)


def _policies(head: str) -> list[tuple[str, str | None]]:
    """The chains with their policies, in the lines of a table before its rules."""
    found = [line[1:].split(" ", 2) for line in head.split("\n") if line[:1] == ":"]
    return [(name, None if policy == "-" else policy) for name, policy, *_ in found]


class ExpectedTable:
    """What iptables-save should print of a table, if it has these chains. It prints the built-in chains first, with
    counters; then all others, sorted."""

    def __init__(self, chains: Iterable[Chain]) -> None:
        every = tuple(chains)
        first = every[0]
        self._table, self._family = first.table, first.family
        builtin = BUILTIN.get((first.family, first.table), ())
        self._builtin = {one.name: one for one in every if one.name in builtin}
        self._own = sorted((one for one in every if one.name not in builtin), key=attrgetter("name"))
        self._own_head = "".join([f":{one.name} - [0:0]\n" for one in self._own])
        texts_of: dict[int, list[str]] = {}  # many chains can have the same rules
        blocks: list[str] = []
        for one in (*(self._builtin[name] for name in builtin if name in self._builtin), *self._own):
            if one.rules:
                texts = texts_of.get(id(one.rules))
                if texts is None:
                    texts = texts_of[id(one.rules)] = [str(rule_of_chain) for rule_of_chain in one.rules]
                blocks.append(f"-A {one.name} " + f"\n-A {one.name} ".join(texts) + "\n")
        self._rules = "".join(blocks)

    def policies_in(self, part: str) -> list[tuple[str, str | None]] | None:
        """The built-in chains with their policies, in the part of the output about this table; None if other chains or
        rules are printed than expected. A built-in chain that is not expected has no rules."""
        first_own = part.find(" - [0:0]\n")
        own = part.rfind("\n:", 0, first_own) if first_own >= 0 else part.find("\n-A " if self._rules else "\nCOMMIT")
        position = own + 1
        for text in (self._own_head, self._rules, "COMMIT"):
            if not part.startswith(text, position):
                return None
            position += len(text)
        return _policies(part[: own + 1])

    def with_policies(self, ns: str, policies: Iterable[tuple[str, str | None]]) -> Iterator[Chain]:
        """The chains, the built-in ones with these policies."""
        for name, policy in policies:
            chain = self._builtin.get(name) or Chain(ns, self._table, name, (), None, self._family)
            yield chain if chain.policy == policy else replace(chain, policy=policy)
        yield from self._own


def expected_tables(chains: Iterable[Chain]) -> dict[str, ExpectedTable]:
    """What iptables-save should print, for chains of one namespace and family, by table."""
    by_table: dict[str, list[Chain]] = {}
    for one in chains:
        by_table.setdefault(one.table, []).append(one)
    return {table: ExpectedTable(found) for table, found in by_table.items()}


@lru_cache(maxsize=4)
def _saved_rules(text: str, family: str) -> dict[str, tuple[FirewallRule, ...]]:
    """The rules of a table by chain. Kept for the next node, which often has exactly the same ones."""
    rules: dict[str, list[FirewallRule]] = {}
    for line in text.split("\n"):
        if line[:3] == "-A ":
            _, name, *words = line.split(" ", 2)
            found = rules.get(name)
            if found is None:
                found = rules[name] = []
            found.append(saved_rule(words[0] if words else "", family))
    return {name: tuple(found) for name, found in rules.items()}


def incompatible_tables(text: str) -> tuple[str, ...]:
    """The tables of which `iptables-nft-save` says that they hold more than iptables wrote, such as chains of nft."""
    return tuple(found[1] for line in text.splitlines() if (found := _NOT_OURS.match(line)))


def incompatible_line(table: str) -> str:
    """The line by which `incompatible_tables` knows a table."""
    return f"# Table `{table}' is incompatible, use 'nft' tool.\n"


@lru_cache(maxsize=CACHED_RULES)
def saved_rule(text: str, family: str) -> FirewallRule:
    """One printed rule, in the one form for what different releases of the tools print in several. The same text gives
    the same object, so that equal chains are compared at once.

    IPv4 differs in protocols alone (`4`, `ipencap`), and is spared the rest, as tables may be long. IPv6
    differs in addresses too, ebtables in where it puts the !.
    """
    words = split_words(text)
    if family == "ip":
        if "-p" not in words or words[words.index("-p") + 1 :][:1] in _PLAIN_PROTOCOLS:
            return FirewallRule(tuple(words))
        if (position := protocol_position(words)) is not None:
            words[position] = protocol(words[position]) or "0"
        return FirewallRule(tuple(words))
    try:
        return rule(words, family)
    except ValueError:  # a mask with holes: legal, and unlike anything a plan says
        return FirewallRule(tuple(words))


def _chains(
    ns: str,
    family: str,
    table: str,
    policies: dict[str, tuple[str | None, Counter]],
    rules: dict[str, list[tuple[FirewallRule, Counter]]],
) -> Iterator[ChainCounters]:
    for name, (policy, count) in policies.items():  # of ebtables, a user's chain has a policy, too
        found = rules.get(name, ())
        chain = Chain(ns, table, name, tuple(one for one, _ in found), policy, family)
        yield ChainCounters(chain, tuple(counter for _, counter in found), count)


def _counter(text: str = "[0:0]") -> Counter:
    packets, _, size = text.strip("[]").partition(":")
    return int(packets), int(size)


@dataclass(frozen=True, slots=True)
class RestoreScript:
    """Input for a restore program, and the edits that it makes."""

    text: str
    edits: tuple[TableEdit, ...] = ()

    @property
    def lines(self) -> tuple[str, ...]:
        """The lines of the text."""
        return tuple(self.text.removesuffix("\n").split("\n"))

    def subject_of_line(self, number: int) -> tuple[Chain, FirewallRule | None] | None:
        """What line `number` (from 1) is about; None for a line that frames the others."""
        for edit in self.edits:
            for _, subject, rules in _line_groups(edit, RuleTexts()):
                count = len(rules) or 1
                if number <= count:
                    return None if subject is None or number < 1 else (subject, rules[number - 1] if rules else None)
                number -= count
        return None


class RuleTexts:
    """The texts of rules for restore programs. Many chains, and the nodes of a cluster, can have the same rules: their
    texts are made once."""

    def __init__(self) -> None:
        self._found: dict[tuple[int, bool], tuple[tuple[FirewallRule, ...], list[str]]] = {}

    def of(self, rules: tuple[FirewallRule, ...], family: str) -> list[str]:
        """The texts of the rules of a chain."""
        key = id(rules), family == "bridge"
        found = self._found.get(key)
        if found is None:
            text_of = str if family == "bridge" else _rule_text
            found = self._found[key] = rules, [text_of(one) for one in rules]  # the rules keep their id
        return found[1]


def restore_script(table_edits: Sequence[TableEdit], texts: RuleTexts | None = None) -> RestoreScript:
    """The input for `iptables-restore --noflush` (or ebtables') that makes these edits and no others. `texts` are those
    of other scripts, with the same rules.

    Within a table everything is emptied first, then filled, then what is to go is deleted, so that a
    chain can go in the same stroke as the rules that jump to it.
    """
    texts = RuleTexts() if texts is None else texts
    lines = [lines for edit in table_edits for lines, *_ in _line_groups(edit, texts)]
    return RestoreScript("\n".join((*lines, "")), tuple(table_edits))


def _line_groups(edit: TableEdit, texts: RuleTexts) -> Iterator[tuple[str, Chain | None, tuple[FirewallRule, ...]]]:
    """The lines for one table in groups: one line about a chain, or a line for each of these rules of a chain."""
    builtin = BUILTIN.get((edit.family, edit.table), ())
    bridge = edit.family == "bridge"
    counters = "" if bridge else " [0:0]"
    yield f"*{edit.table}", None, ()
    for one in edit.chains_to_write:  # a built-in chain gets its policy, another is made; of ebtables, both have one
        policy = (one.policy or "ACCEPT") if bridge or one.name in builtin else "-"
        yield f":{one.name} {policy}{counters}", one, ()
    for one in edit.chains_to_write:
        if one.name in builtin:
            yield f"-F {one.name}", one, ()
    for one in edit.chains_to_delete:
        if one.name in builtin:
            yield f":{one.name} ACCEPT{counters}", one, ()
        yield f"-F {one.name}", one, ()
    for one in edit.chains_to_write:
        if one.rules:
            yield f"-A {one.name} " + f"\n-A {one.name} ".join(texts.of(one.rules, edit.family)), one, one.rules
    for one in edit.chains_to_delete:
        if one.name not in builtin:
            yield f"-X {one.name}", one, ()
    yield "COMMIT", None, ()


def _rule_text(one: FirewallRule) -> str:
    """A rule for a restore program, with its protocol as a number, since a machine's own list of names may be older
    than ours."""
    words = one.args
    position = protocol_position(words)
    if position is not None:
        number = str(IP_PROTOCOLS.get(words[position], words[position]))
        words = (*words[:position], number, *words[position + 1 :])
    return join_words(words)

"""The explanation of one object: why it is there, what makes it, what breaks without it, the command that makes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from labctl.core.iptables import BUILTIN, CHAIN_TOOLS, FirewallRule
from labctl.core.resources import Attachment, Chain, Netns, NftObject, Plan, Resource
from labctl.core.scenario_types import Lab
from labctl.core.why import Component, Source, Why, reason_of, reason_of_rule
from labctl.explanation import builtin_chains
from labctl.explanation.breakage import Breakage, Breakages
from labctl.explanation.placeholders import Placeholders
from labctl.render.commands import commands, with_backend
from labctl.render.resources import RESOURCE_NOUNS, nft_entry, resource_line

_TABLE = Component("the Linux kernel (nf_tables)", Source("nft(8)", "", "1.0")).why(
    "It keeps the chains, sets and maps of one program together. Names in other tables mean other objects."
)


@dataclass(frozen=True, slots=True)
class Subject:
    """What is explained: an object of a plan, or one rule of a chain, in nft's words if the chain is one of nft."""

    item: Resource
    rule: FirewallRule | str | None = None

    @property
    def machine(self) -> str:
        """The machine of the object."""
        return self.item.ns

    @property
    def noun(self) -> str:
        """What it is: `route`, `link`, `firewall rule`."""
        if isinstance(self.item, NftObject) and self.item.kind != "chain" and self.rule is not None:
            return "element"
        return "firewall rule" if self.rule is not None else RESOURCE_NOUNS[type(self.item)]

    @property
    def text(self) -> str:
        """The object in one line, as `plan` and `status` print it."""
        if isinstance(self.rule, str) and isinstance(self.item, NftObject):
            return nft_entry(self.item, self.rule)
        if self.rule is None or not isinstance(self.item, Chain):
            return resource_line(self.item)
        return f"{CHAIN_TOOLS[self.item.family]} -t {self.item.table} -A {self.item.name} {self.rule}"


@dataclass(frozen=True, slots=True)
class Reasoned:
    """A subject with its sentence, the component that makes it, and the source; empty if nobody says why."""

    subject: Subject
    sentence: str
    component: str = ""
    source: Source | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """All that is known of one object. `commands` make it in the machine `runs_in`; None is that of labctl."""

    reasoned: Reasoned
    breakages: tuple[Breakage, ...]
    commands: tuple[str, ...]
    runs_in: str | None


class Explainer:
    """Explains the objects of one lab."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._placeholders, self._breakages = Placeholders(lab), Breakages(lab)

    def why(self, subject: Subject) -> Reasoned:
        """The sentence of an object, or of one rule."""
        found = find_reason(subject)
        if found is None:
            return Reasoned(subject, self._without_reason(subject))
        sentence = self._placeholders.fill(found, subject.item, subject.rule)
        return Reasoned(subject, sentence, found.component, found.source)

    def explain(self, subject: Subject, netns_name: Callable[[str], str] = str) -> Explanation:
        """All that is known of an object. The faults of the lab are computed at the first call."""
        item, rule = subject.item, subject.rule
        broken: tuple[Breakage, ...]
        if isinstance(rule, FirewallRule) and isinstance(item, Chain):
            broken = self._breakages.of_rule(item, rule)
            made = commands(replace(item, rules=(rule,)))[-1:]
        elif isinstance(rule, str) and isinstance(item, NftObject):
            broken = self._breakages.of_rule(item, rule)
            made = commands(replace(item, entries=(rule,)))[-1:]
        else:
            broken = self._breakages.of(item)
            made = commands(_without_rules(item), netns_name=netns_name)
        backend = self.lab.firewall or "legacy"
        runs_in = None if isinstance(item, Netns) else item.node if isinstance(item, Attachment) else item.ns
        return Explanation(self.why(subject), broken, tuple(with_backend(one, backend) for one in made), runs_in)

    def _without_reason(self, subject: Subject) -> str:
        return f"The model {self.lab.model} makes it, and does not say why."


def find_reason(subject: Subject) -> Why | None:
    """The reason that the model gives, or what a chain of the kernel or a table of nft is for."""
    item = subject.item
    if subject.rule is not None:
        return reason_of_rule(item, subject.rule) if isinstance(item, (Chain, NftObject)) else None
    found = reason_of(item)
    if found is None and isinstance(item, NftObject) and item.kind == "table":
        return _TABLE
    if found is None and isinstance(item, Chain) and item.name in BUILTIN.get((item.family, item.table), ()):
        return builtin_chains.reason(item)
    return found


def subjects(plan: Plan) -> Iterator[Subject]:
    """Everything in a plan that can be explained: each object, and each rule after its chain."""
    for item in plan:
        yield Subject(item)
        if isinstance(item, Chain):
            yield from (Subject(item, rule) for rule in item.rules)
        elif isinstance(item, NftObject):
            yield from (Subject(item, entry) for entry in item.entries if _is_explained(item, entry))


def _is_explained(item: NftObject, entry: str) -> bool:
    """Whether an entry is explained on its own: each rule of a chain, and an element if its set has reasons for it."""
    return item.kind == "chain" or reason_of_rule(item, entry) is not None


def _without_rules(item: Resource) -> Resource:
    """The object itself: a chain's rules are explained one by one."""
    if isinstance(item, NftObject):
        return replace(item, entries=tuple(one for one in item.entries if not _is_explained(item, one)))
    return replace(item, rules=()) if isinstance(item, Chain) else item


def by_machine(found: Iterable[Subject]) -> dict[str, list[Subject]]:
    """Subjects grouped by machine, in the order of the plan."""
    groups: dict[str, list[Subject]] = {}
    for one in found:
        groups.setdefault(one.machine, []).append(one)
    return groups

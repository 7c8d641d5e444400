"""Why an object of a plan exists: a sentence, the component that makes it on a real machine, and the source. Pure data.

A model writes these beside the code that yields the object:

    BRIDGE = Component("the CNI plugin bridge", Source("containernetworking/plugins", "plugins/main/bridge", "1.1.1"))
    CABLE = BRIDGE.why("It connects {peer_ns} to the bridge {master}: without it, no packet leaves the pod.")
    yield from explained(CABLE, primitives.veth_pair(...))

A sentence is a template. Its placeholders are filled from the object when somebody asks (`labctl.explanation`), so that
a plan of a thousand nodes shares one sentence and costs nothing.

The rules of a chain are explained by the chain: `Chain.rule_whys` are functions from a rule to its reason. So reasons
stay right when chains are merged or edited, and rules that were read from the kernel have them too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

if TYPE_CHECKING:
    from labctl.core.iptables import FirewallRule

T = TypeVar("T")
_HAS_NO_WHY = object()


@dataclass(frozen=True, slots=True)
class Source:
    """Where a fact comes from: a project, or a document; its file or place inside; its version. `line` is for a
    scenario file."""

    project: str
    file: str = ""
    version: str = ""
    line: int | None = None

    def __str__(self) -> str:
        name = f"{self.project} {self.version}".rstrip()
        file = self.file if self.line is None else f"{self.file}:{self.line}".lstrip(":")
        return ", ".join(part for part in (name, file) if part)


@dataclass(frozen=True, slots=True)
class Why:
    """Why an object is there: a sentence with placeholders, what makes it on a real machine, and the source of that."""

    sentence: str
    component: str
    source: Source


@dataclass(frozen=True, slots=True)
class Component:
    """What makes objects on a real machine: a program (kubelet), the kernel, a cloud. Its sentences name its source."""

    name: str
    source: Source

    def why(self, sentence: str, file: str | None = None) -> Why:
        """A sentence of this component; `file` is the place in its source, if it is another one."""
        source = self.source if file is None else Source(self.source.project, file, self.source.version)
        return Why(" ".join(sentence.split()), self.name, source)


class NamedChain(Protocol):
    """A chain, as far as reasons need it (`labctl.core.resources.Chain`)."""

    @property
    def table(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def rule_whys(self) -> tuple[RuleReasons, ...]: ...


Reason: TypeAlias = Why | Callable[[Any], Why | None]  # a reason, or a function from the object to it
Reasons: TypeAlias = Reason | Mapping[type, Reason]
RuleReasons: TypeAlias = Callable[[Any, Any], Why | None]  # from a chain and one of its rules

KERNEL = Component("the Linux kernel", Source("Linux", "Documentation/networking/ip-sysctl.rst", "6.18"))
LABCTL = Component("labctl", Source("labctl"))


@dataclass(frozen=True, slots=True)
class RuleByRule:
    """The reasons of single rules, in the same order."""

    rules: tuple[Any, ...]  # of iptables, or the lines of an object of nft
    whys: tuple[Why | None, ...]

    def __call__(self, chain: NamedChain, rule: FirewallRule | str) -> Why | None:
        return next((why for one, why in zip(self.rules, self.whys, strict=True) if one == rule and why), None)


class RuleShapes:
    """Reasons by the shape of a rule, for programs that write chains: (chain, rule, reason) with two regular
    expressions. The first that fits is the reason. The expression of a chain fits its whole name with its table
    (`nat/DOCKER`), that of a rule any part of its words. An empty rule stands for the chain itself."""

    def __init__(self, *shapes: tuple[str, str, Why]) -> None:
        self._shapes = shapes
        self.reasons: tuple[RuleReasons, ...] = (self,)  # for every chain the same tuple

    @cached_property
    def _expressions(self) -> tuple[tuple[re.Pattern[str], re.Pattern[str] | None, Why], ...]:
        """The shapes with compiled expressions: only who asks for a reason needs them."""
        return tuple((re.compile(name), re.compile(words) if words else None, why) for name, words, why in self._shapes)

    def __call__(self, chain: NamedChain, rule: FirewallRule | str) -> Why | None:
        place, text = f"{chain.table}/{chain.name}", str(rule)
        shapes = self._of_place.get(place)
        if shapes is None:
            every = self._expressions
            shapes = [(words, why) for name, words, why in every if words is not None and name.fullmatch(place)]
            self._of_place[place] = shapes
        return next((why for words, why in shapes if words.search(text)), None)

    @cached_property
    def _of_place(self) -> dict[str, list[tuple[re.Pattern[str], Why]]]:
        """The shapes of the rules of each chain that was asked for: a chain has many rules, and few shapes fit it."""
        return {}

    def of_chain(self, chain: NamedChain) -> Why | None:
        """The reason of the chain."""
        place = f"{chain.table}/{chain.name}"
        return next((why for name, words, why in self._expressions if words is None and name.fullmatch(place)), None)


def explained(reasons: Reasons, items: Iterable[T]) -> Iterator[T]:
    """The items, each with this reason unless it has one. `reasons` may be a mapping from types of objects.

    The rules of a chain get the reason of the chain. Everything that has no reason (a machine) passes as it is. The
    items must be new: the reason is not a part of their value, and is set in place, because a copy costs more than all
    else that a model does with an object.
    """
    by_type = reasons if isinstance(reasons, Mapping) else None
    for item in items:
        if getattr(item, "why", _HAS_NO_WHY) is None:
            reason = reasons if by_type is None else by_type.get(type(item))
            if reason is not None:
                object.__setattr__(item, "why", reason)
                if not getattr(item, "rule_whys", True) and isinstance(reason, Why):
                    rules = getattr(item, "rules", getattr(item, "entries", ()))
                    same = RuleByRule(rules, (reason,) * len(rules))
                    object.__setattr__(item, "rule_whys", (same,))
        yield item


def reason_of(item: Any) -> Why | None:
    """The reason of an object, if its model gives one."""
    reason: Reason | None = item.why
    return reason(item) if callable(reason) else reason


def reason_of_rule(chain: NamedChain, rule: FirewallRule | str) -> Why | None:
    """The reason of one rule of a chain, if its model gives one."""
    return next((why for ask in chain.rule_whys if (why := ask(chain, rule)) is not None), None)

"""How closely a model follows the real system, part by part: faithful, approximation, needs a kernel feature, skipped.

A model states this as data, in a tuple called `PARTS`:

    PARTS = (
        faithful("azure0 with eth0's address and routes, the ebtables rules in their order"),
        approximation("the load balancer", "is one SNAT rule without port blocks"),
        needs("vlan", "the tenants' VLAN sub-interfaces of eth0", instead="a separate veth for each tenant"),
        skipped("the embedded DNS, IPv6"),
    )

`list`, `show` and the model's page print it. If the kernel lacks a `feature` that a lab needs, `up` reports that
before it builds anything, and it builds the substitute only with `--approximate`. `PARTS` is a literal tuple of calls
with plain texts (or `*shared.PARTS`, those of a file that models share), so that it can be read without importing the
model. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from labctl.core.sentence import Sentence, sentence

if TYPE_CHECKING:
    import ast

Grade: TypeAlias = Literal["faithful", "approximation", "needs", "skipped"]
GRADES: tuple[Grade, ...] = get_args(Grade)


@dataclass(frozen=True, slots=True)
class Fidelity:
    """One part of a model and its grade. `aspect` is the part; `reason` is what differs, and why.

    `feature` is the kernel feature that a part needs, by the name that `labctl doctor` uses for it (mostly a
    link kind: `vlan`, `ipip`). `substitute` is what `--approximate` builds if the kernel lacks it; "" if there is no
    substitute.
    """

    grade: Grade
    aspect: str
    reason: str = ""
    feature: str = ""
    substitute: str = ""


def faithful(aspect: str) -> Fidelity:
    """A part with the same kernel objects as the real system."""
    return Fidelity("faithful", aspect)


def approximation(aspect: str, reason: str) -> Fidelity:
    """A part that is close to the real system: `reason` says what differs and why."""
    return Fidelity("approximation", aspect, reason)


def needs(feature: str, aspect: str, reason: str = "", *, instead: str = "") -> Fidelity:
    """A faithful part that needs a kernel feature which not every kernel has."""
    return Fidelity("needs", aspect, reason, feature, instead)


def skipped(aspect: str, reason: str = "") -> Fidelity:
    """A part of the real system that the model leaves out."""
    return Fidelity("skipped", aspect, reason)


def summary(parts: Iterable[Fidelity]) -> str:
    """The summary of a whole model: `faithful`, `approximate (3)`, `approximate (3), needs vlan`."""
    parts = tuple(parts)
    number = sum(part.grade == "approximation" for part in parts)
    features = ", ".join(dict.fromkeys(part.feature for part in parts if part.grade == "needs"))
    phrases = [f"approximate ({number})" if number else "", f"needs {features}" if features else ""]
    return ", ".join(text for text in phrases if text) or ("faithful" if parts else "")


def deviations(parts: Iterable[Fidelity]) -> tuple[str, ...]:
    """The differences from the real system, one phrase for each part that is approximate or left out."""
    prefix = {"approximation": "", "skipped": "without "}
    return tuple(f"{prefix[part.grade]}{part.aspect}" for part in parts if part.grade in prefix)


def substitutes(parts: Iterable[Fidelity]) -> dict[str, Fidelity]:
    """The parts that have a substitute for a kernel without their feature, by that feature."""
    return {part.feature: part for part in parts if part.grade == "needs" and part.substitute}


def substitute_text(part: Fidelity) -> Sentence:
    """The sentence for a part that was built as its substitute, because the kernel lacks its feature."""
    return sentence(
        "approximate, because the kernel lacks {feature}: {aspect}; instead: {substitute}",
        feature=part.feature,
        aspect=part.aspect,
        substitute=part.substitute,
    )


def sort_by_grade(parts: Iterable[Fidelity]) -> tuple[Fidelity, ...]:
    """The same parts, by grade."""
    return tuple(sorted(parts, key=lambda part: GRADES.index(part.grade)))


def read_parts(
    source: str, read_shared: Callable[[str], tuple[Fidelity, ...]] = lambda module: ()
) -> tuple[Fidelity, ...]:
    """The `PARTS` in the source text of a model, without running it, which is fast.

    `read_shared` returns the parts of a file that models share, by the file's name without `.py`. Raises ValueError if
    there are no PARTS, or if they are not only calls with plain texts.
    """
    import ast

    lines = source.splitlines()
    try:
        first = next(number for number, line in enumerate(lines) if line.startswith("PARTS ="))
        last = lines.index(")", first) if lines[first].endswith("(") else first
        (statement,) = ast.parse("\n".join(lines[first : last + 1])).body
        assert isinstance(statement, ast.Assign)
        assert isinstance(statement.value, ast.Tuple)
        return tuple(part for entry in statement.value.elts for part in _entry(entry, source, read_shared))
    except (AssertionError, KeyError, StopIteration, SyntaxError, TypeError, ValueError) as error:
        raise ValueError("PARTS is a tuple of faithful(...), approximation(...), needs(...), skipped(...)") from error


_CONSTRUCTORS: dict[str, Callable[..., Fidelity]] = {
    "faithful": faithful,
    "approximation": approximation,
    "needs": needs,
    "skipped": skipped,
}


def _entry(entry: ast.expr, source: str, read_shared: Callable[[str], tuple[Fidelity, ...]]) -> Iterator[Fidelity]:
    import ast

    if isinstance(entry, ast.Starred):
        name = re.fullmatch(r"(\w+)\.PARTS", ast.unparse(entry.value))
        assert name
        imports = re.findall(r"^from labctl\.models\.lib import (?:\(([^)]*)\)|(.+))$", source, re.MULTILINE)
        names = re.search(rf"(?:\b(\w+) as )?\b{name[1]}\b", ", ".join(map("".join, imports)))
        assert names
        yield from read_shared(names[1] or name[1])
        return
    assert isinstance(entry, ast.Call)
    assert isinstance(entry.func, ast.Name)
    constructor = _CONSTRUCTORS[entry.func.id]
    keywords = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in entry.keywords}
    yield constructor(*map(ast.literal_eval, entry.args), **keywords)

"""The output of `explain`: one object in full, many objects as a list, a whole lab as an overview.


Nearby objects with one sentence share it. Everything folds in the width of a terminal.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

from labctl.core.resources import Netns
from labctl.core.scenario_types import Lab
from labctl.core.text import count
from labctl.explanation.breakage import Breakage
from labctl.explanation.explanation import Explainer, Explanation, Reasoned, Subject, by_machine, subjects
from labctl.report.table_section import TableSection
from labctl.report.terminal import Terminal

LABEL = 12  # columns of `made by`, `without`, with the blanks around
NO_FAULT = "no fault of the catalogue removes or changes it (labctl break --list)"


def print_explanations(found: Iterable[Explanation], terminal: Terminal) -> None:
    """Each object in full: why, made by, source, what breaks, the commands."""
    for number, one in enumerate(found):
        if number:
            terminal.line()
        subject = one.reasoned.subject
        terminal.lines([terminal.paint(f"{subject.machine}: {subject.text}", "bold")], fold=4)
        before = ""
        for label, text, is_command in _rows(one):
            shown = "" if label == before else label
            before = label
            terminal.lines([f"  {shown:<{LABEL - 2}}{text}"], fold=None if is_command else LABEL)


def _rows(one: Explanation) -> Iterator[tuple[str, str, bool]]:
    """The rows below an object: label, text, and whether the text is a command, which is not broken into lines."""
    reasoned = one.reasoned
    yield "why", reasoned.sentence, False
    if reasoned.component:
        yield "made by", reasoned.component, False
        yield "source", str(reasoned.source), False
    if not one.breakages:
        yield "without", NO_FAULT, False
    for broken in one.breakages:
        if broken.removes:
            yield "without", f"{broken.summary} {broken.effect}", False
            yield "without", f"labctl break {broken.kind} {shlex.quote(broken.on)}", True
        else:
            yield "if wrong", f"{broken.summary} ({broken.kind})", False
    if one.commands:
        yield from (("command", command, True) for command in one.commands)
    else:
        yield "command", "none: the kernel has it in every namespace", False
    if one.runs_in is not None:
        yield "runs in", one.runs_in, False


def print_list(found: Sequence[Reasoned], terminal: Terminal) -> None:
    """Many objects: each machine, then its objects, each group with one sentence."""
    groups: dict[str, list[Reasoned]] = {}
    for one in found:
        groups.setdefault(one.subject.machine, []).append(one)
    for number, (machine, rows) in enumerate(groups.items()):
        if number:
            terminal.line()
        terminal.line(terminal.paint(machine, "bold"))
        for these in _with_one_sentence(rows):
            terminal.lines([f"  {row.subject.text}" for row in these], fold=10)
            maker = f" [{these[0].component}]" if these[0].component else ""
            terminal.lines([terminal.paint(f"      {these[0].sentence}{maker}", "dim")], fold=6)


def _with_one_sentence(rows: Iterable[Reasoned]) -> Iterator[list[Reasoned]]:
    """Objects of one kind that have the same sentence; the rules of a chain only if they are neighbours."""
    for noun, of_kind in groupby(rows, key=lambda row: "rules" if row.subject.rule else row.subject.noun):
        if noun in ("rules", "chain", "nft object"):
            yield from (list(same) for _, same in groupby(of_kind, key=lambda row: (row.sentence, row.component)))
            continue
        groups: dict[tuple[str, str], list[Reasoned]] = {}
        for row in of_kind:
            groups.setdefault((row.sentence, row.component), []).append(row)
        yield from groups.values()


def print_overview(lab: Lab, explainer: Explainer, follows: str, terminal: Terminal) -> None:
    """A lab: what it follows, its machines, and what makes its objects."""
    title = f"lab {lab.name}, model {lab.model}" + (f": {lab.say}" if lab.say else "")
    terminal.lines([terminal.paint(title, "bold")], fold=4)
    if follows:
        terminal.lines([f"It follows {follows}."], fold=4)
    terminal.line()
    grouped = by_machine(subjects(lab.plan))
    rows = []
    for machine, found in grouped.items():
        netns = next((one for one in found if isinstance(one.item, Netns)), None)
        sentence = explainer.why(netns).sentence if netns is not None else ""
        rows.append((machine, str(len(found)), sentence))
    terminal.section(TableSection("", ("machine", "objects", "what it is"), tuple(rows)))
    terminal.line()
    terminal.section(_components(explainer, subjects(lab.plan)))
    first = next((one.name for one in lab.machines if one.role in ("node", "host")), next(iter(grouped), ""))
    terminal.line()
    terminal.lines([f"next: labctl explain {lab.name} {first}", f"      labctl explain {lab.name} {first} route"])


def _components(explainer: Explainer, found: Iterable[Subject]) -> TableSection:
    counts: Counter[str] = Counter()
    kinds: dict[str, Counter[str]] = {}
    for one in found:
        maker = explainer.why(one).component or "the model says nothing"
        counts[maker] += 1
        kinds.setdefault(maker, Counter())[one.noun] += 1
    rows = tuple(
        (maker, str(number), ", ".join(count(times, noun) for noun, times in kinds[maker].most_common()))
        for maker, number in counts.most_common()
    )
    return TableSection("", ("made by", "objects", "of which"), rows)


def explanation_json(found: Iterable[Explanation]) -> list[dict[str, Any]]:
    """The explanations as JSON data."""
    return [
        {
            "machine": one.reasoned.subject.machine,
            "kind": one.reasoned.subject.noun,
            "object": one.reasoned.subject.text,
            "why": one.reasoned.sentence,
            "component": one.reasoned.component or None,
            "source": _source_json(one.reasoned),
            "without": [_breakage_json(broken) for broken in one.breakages],
            "commands": list(one.commands),
            "in": one.runs_in,
        }
        for one in found
    ]


def _source_json(reasoned: Reasoned) -> dict[str, Any] | None:
    source = reasoned.source
    if source is None:
        return None
    return {"project": source.project, "file": source.file, "version": source.version, "line": source.line}


def _breakage_json(broken: Breakage) -> dict[str, Any]:
    return {
        "fault": broken.kind,
        "on": broken.on,
        "summary": broken.summary,
        "effect": broken.effect,
        "removes": broken.removes,
    }

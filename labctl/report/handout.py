"""A handout: one or two sheets of paper on a scenario, an exercise or a lesson, as one HTML page. Pure.

The page of an exercise or a lesson has nothing that answers its questions: no sentence of a check, no hidden fault, and
no route if one can be missing. `answers` adds all of these, for teachers.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from html import escape
from typing import TYPE_CHECKING

from labctl.core.resources import Address, Link, Route
from labctl.core.sentence import sentence, sentence_n
from labctl.drawing.from_lab import MAX_NODES, draw, route_line
from labctl.drawing.geometry import Layout
from labctl.drawing.layout import lay_out
from labctl.drawing.model import Box, Drawing
from labctl.drawing.svg import layout_lines
from labctl.report import handout_layout as paper
from labctl.report import handout_questions as questions
from labctl.report.handout_layout import Block
from labctl.report.handout_style import STYLE
from labctl.translation.language import ORIGINAL, current_language, gettext

if TYPE_CHECKING:
    from labctl.core.exercise_types import Exercise
    from labctl.core.scenario_types import Lab, Machine

ROLES = {
    "host": sentence("host"), "node": sentence("node"), "pod": sentence("pod"), "container": sentence("container"),
    "vm": sentence("virtual machine"), "fabric": sentence("fabric"), "internet": sentence("internet"),
    "namespace": sentence("namespace"), "machine": sentence("machine"),
}  # fmt: skip
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
ROWS_OF_NODES = (1500.0, 1100.0, 800.0, 560.0)  # pixels; of each the layout is tried
DRAWING_HEIGHTS = (165.0, 150.0, 135.0, 120.0, 105.0, 90.0)  # millimetres
LARGEST_PIXEL = 0.265  # millimetres; texts have 11 pixels, and 8.3 points then
SMALLEST_PIXEL = 0.16  # 5 points
SINGLE_SHEET_PIXEL = 0.2  # a drawing is not made smaller than this for the sake of one sheet
MAX_DEVICES = 10  # of one machine
MAX_SHEETS = 2
MAX_SHEETS_WITH_ANSWERS = 4


@dataclass(frozen=True, slots=True)
class Subject:
    """What a handout is on: `word` is what the user typed for it. `language` is that of the texts of its exercise or
    lesson, if it has them in that language."""

    word: str
    lab: Lab
    answers: bool = False
    language: str = ORIGINAL

    @property
    def command(self) -> str:
        """The word in a command line."""
        return shlex.quote(self.word)


def page_lines(subject: Subject) -> list[str]:
    """The page, in the language in use."""
    return _Sheets(subject).lines()


class _Sheets:
    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.lab = subject.lab
        exercise, lesson = self.lab.exercise, self.lab.lesson
        self.exercise = None if exercise is None else exercise.in_language(subject.language)
        self.lesson = None if lesson is None else lesson.in_language(subject.language)

    def lines(self) -> list[str]:
        pages = self._fitted()
        title = gettext(sentence("{title}: handout", title=self._title()))
        return [
            "<!doctype html>",
            f'<html lang="{self._language()}"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            f"<title>{escape(title)}</title>",
            f"<style>{STYLE}</style></head><body><main>",
            *(line for number, page in enumerate(pages, 1) for line in self._sheet(page, number, len(pages))),
            "</main></body></html>",
        ]

    def _language(self) -> str:
        """That of the longest texts of the page."""
        found = self.lab.exercise or self.lab.lesson
        has_texts = found is not None and self.subject.language in dict(found.texts)
        return self.subject.language if has_texts else current_language()

    def _sheet(self, blocks: list[Block], number: int, of: int) -> Iterator[str]:
        name = gettext(sentence("page {number} of {count}", number=number, count=of))
        yield f'<div class="sheet" role="group" aria-label="{escape(name)}">'
        for one in blocks:
            yield from one.lines
        if number == of:
            title = escape(gettext("Notes"))
            yield f'<section class="notes"><h2>{title}</h2><div></div></section>'
        footer = escape(f"{self.subject.word} · {number}/{of}")
        yield f'<p class="foot" aria-hidden="true">{footer}</p></div>'

    # ---- how much fits -----------------------------------------------------------------------------------

    def _fitted(self) -> list[list[Block]]:
        """The blocks on sheets, the drawing as large as they allow. What is too long is shortened."""
        rest = list(self._rest())
        layouts = self._layouts()
        head = list(self._head())
        most = MAX_SHEETS_WITH_ANSWERS if self.subject.answers else MAX_SHEETS
        figures = {height: self._figure(layouts, height) for height in DRAWING_HEIGHTS}
        for pixel, figure in figures.values():
            pages = paper.sheets([*head, figure], rest, 1)
            if pages is not None and pixel >= SINGLE_SHEET_PIXEL:
                return pages
        while True:
            for _, figure in figures.values():
                pages = paper.sheets([*head, figure], rest, most)
                if pages is not None:
                    return pages
            shorter = paper.shortened(rest)
            if shorter is None:  # a text of a file can be longer than two sheets
                return [[*head, figures[DRAWING_HEIGHTS[-1]][1]], rest]
            rest = shorter

    # ---- the first sheet ---------------------------------------------------------------------------------

    def _title(self) -> str:
        found = self.exercise or self.lesson
        return found.title if found is not None else self.lab.name

    def _head(self) -> Iterator[Block]:
        subject, exercise = self.subject, self.exercise
        facts = [gettext(sentence("scenario {name}", name=self.lab.name))]
        found = exercise or self.lesson
        if exercise is not None:
            facts = [gettext(sentence("exercise {name}", name=self.lab.name))]
            facts += [gettext(sentence("level {level}", level=exercise.level))]
            facts += [gettext(sentence_n("{number} point", "{number} points", exercise.points))]
        elif self.lesson is not None:
            facts = [gettext(sentence("lesson {name}", name=self.lab.name))]
        facts += [found.topic] if found is not None and found.topic else []
        facts += [gettext(sentence("model {model}", model=self.lab.model))]
        facts += [gettext("with answers")] if subject.answers else []
        person = "" if found is None or subject.answers else f'<p class="person">{escape(gettext("Name"))}</p>'
        lines = (
            f"<header><div><h1>{escape(self._title())}</h1>",
            f'<p class="facts">{escape(" · ".join(facts))}</p></div>{person}</header>',
        )
        yield Block(lines, 11.0 + paper.LINE + paper.GAP)
        text = found.text if found is not None else gettext(self.lab.say)
        yield paper.paragraphs(text)

    def _layouts(self) -> list[Layout]:
        """Layouts of the lab without its routes, which are in a table. Of many nodes only two are drawn, if texts
        are too small else."""
        drawing = _bare(draw(self.lab))
        nodes = [box.name for box in drawing.boxes if box.boxes]
        found = _layouts(drawing)
        if len(nodes) > MAX_NODES and _best(found, DRAWING_HEIGHTS[0])[0] < SMALLEST_PIXEL:
            return _layouts(_bare(draw(self.lab, focus=nodes[:2])))
        return found

    def _figure(self, layouts: list[Layout], most: float) -> tuple[float, Block]:
        """The drawing at most so high, and the millimetres of its pixels."""
        pixel, layout = _best(layouts, most)
        lines = [f'<figure><div style="width:{layout.width * pixel:.1f}mm" lang="en">', *layout_lines(layout), "</div>"]
        height = layout.height * pixel + paper.GAP
        if _is_shortened(layout.drawing):
            command = self._command(f"labctl graph {self.subject.command} --all", "sudo labctl graph --all")
            text = sentence("The drawing is shortened; `{command}` draws all.", command=command)
            lines.append(f"<figcaption>{paper.inline(gettext(text))}</figcaption>")
            height += paper.LINE
        return pixel, Block((*lines, "</figure>"), height)

    # ---- what follows ------------------------------------------------------------------------------------

    def _rest(self) -> Iterator[Block]:
        yield self._machines()
        if self.lab.virtual_addresses:
            yield self._services()
        if self.subject.answers or not self.lab.faults:
            yield from self._routes()
        if self.exercise is not None:
            yield questions.tasks(self.exercise, self.lab.name, answers=self.subject.answers)
        if self.lesson is not None:
            yield from questions.lesson_questions(self.lesson, answers=self.subject.answers)
            yield from questions.lesson_commands(self.lesson, self.lab.name, self._more_steps)
        if (self.exercise is None and self.lesson is None) or self.subject.answers:
            yield from self._checks()
        if self.exercise is not None and self.subject.answers:
            yield from self._for_teachers(self.exercise)
        yield paper.commands(gettext("To begin"), list(self._commands()))

    def _more(self, number: int) -> str:
        command = self._command(f"labctl plan {self.subject.command}", "sudo labctl show")
        return gettext(sentence("and {number} more: `{command}` has all", number=number, command=command))

    def _more_steps(self, number: int) -> str:
        return gettext(sentence_n("and {number} more step", "and {number} more steps", number))

    def _command(self, of_scenario: str, in_lab: str) -> str:
        """The command that shows more: of a lesson or exercise, it needs the lab that runs."""
        return of_scenario if self.exercise is None and self.lesson is None else in_lab

    def _machines(self) -> Block:
        addresses: dict[str, dict[str, list[str]]] = {}
        for item in self.lab.plan:
            if isinstance(item, Link) and item.kind != "loopback":
                addresses.setdefault(item.ns, {}).setdefault(item.at.dev, [])
        for item in self.lab.plan:
            if isinstance(item, Address) and not item.addr.is_loopback:
                addresses.setdefault(item.ns, {}).setdefault(item.at.dev, []).append(str(item.addr))
        machines = sorted(self.lab.machines, key=lambda one: one.on is not None)
        rows = [(one.name, self._kind(one), _devices(one, addresses.get(one.name, {}))) for one in machines]
        heads = (gettext("machine"), gettext("kind"), gettext("devices and addresses"))
        return paper.table(gettext("Machines and addresses"), heads, rows, (16, 24, 60), self._more)

    def _kind(self, machine: Machine) -> str:
        role = gettext(ROLES[machine.role])
        if machine.netns_of:
            return gettext(sentence("{role}, in the namespace of {machine}", role=role, machine=machine.netns_of))
        return role if machine.on is None else gettext(sentence("{role} on {machine}", role=role, machine=machine.on))

    def _services(self) -> Block:
        rows = []
        for one in self.lab.virtual_addresses:
            behind = ", ".join((*one.machines, *map(str, one.elsewhere))) or gettext("no machine")
            name = one.names[0] if one.names else gettext("no name")
            rows.append((name, one.kind, ", ".join(map(str, one.ips)), ", ".join(one.ports), behind))
        heads = ("Service", gettext("kind"), gettext("addresses"), gettext("ports"), gettext("machines behind it"))
        return paper.table(gettext("Services"), heads, rows, (16, 14, 24, 22, 24), self._more)

    def _routes(self) -> Iterator[Block]:
        """The routes of machines that forward, first those through other machines; of others, if there are none."""
        leaves = {one.name for one in self.lab.machines if one.role in ("pod", "container")}
        routes = [one for one in self.lab.plan if isinstance(one, Route)]
        chosen = [one for one in routes if one.ns not in leaves] or routes
        chosen.sort(key=lambda one: one.via is None and not one.nexthops and one.dst.num_addresses == 1)
        if chosen:
            heads = (gettext("machine"), gettext("route"))
            rows = [(one.ns, route_line(one)) for one in chosen]
            yield paper.table(gettext("Routes"), heads, rows, (16, 84), self._more)

    def _checks(self) -> Iterator[Block]:
        says = [gettext(check.say) for check in self.lab.checks]
        if says:
            yield paper.bullets(gettext("What is true here"), says, self._more_checks)

    def _more_checks(self, number: int) -> str:
        return gettext(sentence("and {number} more: `labctl check` shows all", number=number))

    def _for_teachers(self, exercise: Exercise) -> Iterator[Block]:
        faults = [f"{one.kind} {one.on}".rstrip() for one in self.lab.faults]
        if faults:
            yield paper.bullets(gettext("Hidden faults"), faults, self._more)
        if exercise.hints:
            yield paper.bullets(gettext("Hints"), [one.say for one in exercise.hints], self._more)
        if exercise.explain:
            block = paper.paragraphs(exercise.explain)
            yield paper.section(gettext("What the exercise shows"), block.lines, block.height)

    def _commands(self) -> Iterator[tuple[str, str]]:
        name = self.subject.command
        shell = self._shell_machine()
        if self.exercise is not None:
            yield f"sudo labctl exercise start {name}", gettext("build the lab, and show the tasks")
            yield f"sudo labctl shell {shell}", gettext("work in a machine: ip, iptables, ping, tcpdump")
            yield "sudo labctl exercise check", gettext("judge what is done; `check 1 ANSWER` for a question")
            yield "sudo labctl exercise hint", gettext("the next hint; it costs a point")
            yield "sudo labctl exercise next", gettext("remove this lab, and start the next exercise")
            return
        if self.lesson is not None:
            yield f"sudo labctl learn {name}", gettext("begin the lesson, or go on where you were")
            yield f"sudo labctl shell {shell}", gettext("work in a machine: ip, iptables, ping, tcpdump")
            if self.lesson.exercise:
                yield f"sudo labctl exercise start {self.lesson.exercise}", gettext("the exercise that follows")
            yield "sudo labctl down", gettext("remove the lab")
            return
        yield f"sudo labctl up {name} --check", gettext("build the lab, and check what is true here")
        probe = next((one for one in self.lab.checks if one.probe == "ping" and not one.expects_no_answer), None)
        if probe is not None:
            yield f"sudo labctl trace {probe.source} {probe.target}", gettext("follow one packet, hop by hop")
        yield f"sudo labctl shell {shell}", gettext("work in a machine: ip, iptables, ping, tcpdump")
        yield f"labctl explain {name} {shell}", gettext("why each object of a machine is there")
        yield "sudo labctl down", gettext("remove the lab")

    def _shell_machine(self) -> str:
        order = ("node", "host", "machine", "namespace", "container", "pod")
        machines = sorted(
            (one for one in self.lab.machines if one.netns_of is None),
            key=lambda one: order.index(one.role) if one.role in order else len(order),
        )
        return machines[0].name if machines else "MACHINE"


def _devices(machine: Machine, known: dict[str, list[str]]) -> str:
    """The devices of a machine, those with addresses first; then addresses that the machine has without a device."""
    shown = {one.partition("/")[0] for found in known.values() for one in found}
    words = [" ".join((device, *found)) for device, found in known.items() if found]
    words += [device for device, found in known.items() if not found]
    words += [str(ip) for ip in machine.addresses if str(ip) not in shown]
    names = ", ".join(words[:MAX_DEVICES])
    more = len(words) - MAX_DEVICES
    return gettext(sentence("{names} and {number} more", names=names, number=more)) if more > 0 else names


def _layouts(drawing: Drawing) -> list[Layout]:
    return [lay_out(drawing, is_part=True, wide=one) for one in ROWS_OF_NODES]


def _best(layouts: list[Layout], height: float) -> tuple[float, Layout]:
    """The layout with the largest texts in this height, and the millimetres of its pixels."""
    sizes = [(min(paper.WIDTH / one.width, height / one.height, LARGEST_PIXEL), one) for one in layouts]
    return max(sizes, key=lambda pair: pair[0])


def _bare(drawing: Drawing) -> Drawing:
    """The drawing without what tables have, and without sentences on the options of another verb."""
    return replace(drawing, boxes=tuple(map(_without_routes, drawing.boxes)), services=(), omissions=())


def _is_shortened(drawing: Drawing) -> bool:
    """Whether machines or far ends of tunnels are drawn as their number."""
    return any(box.role == "summary" or any(one.more_remotes for one in box.devices) for box in drawing.walk())


def _without_routes(box: Box) -> Box:
    return replace(box, routes=(), more_routes=0, boxes=tuple(map(_without_routes, box.boxes)))

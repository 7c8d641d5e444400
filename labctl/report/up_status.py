"""The text output of `up` and `status`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from labctl.core.diff import Change, by_place
from labctl.core.fidelity import GRADES, otherwise
from labctl.core.resources import Chain, Netns
from labctl.report.node_view import Section
from labctl.report.plain_text import count, duration

if TYPE_CHECKING:
    from labctl.core.results import Result
    from labctl.core.scenario_types import Lab, Machine
    from labctl.report.terminal import Terminal


MANY = 40  # rows of the machine table at most
DID = {"missing": "added", "extra": "removed", "changed": "changed"}
WOULD = {"missing": "add", "extra": "remove", "changed": "change"}
COLOURS = {"missing": "red", "extra": "yellow", "changed": "yellow"}


def say_up(result: Result, terminal: Terminal, *, others: bool, hints: bool) -> None:
    """Print the summary of `up`: what was done, the machines, and commands to try next.

    `others` means that more than one lab runs, so that commands must name the lab.
    """
    if result.replaced:
        terminal.line(f"the old lab {result.lab.name} {'would be' if result.dry else 'is'} removed")
    terminal.line(headline(result))
    if result.dry or (not result.created and result.changes):
        terminal.lines(listed(result.changes, terminal, WOULD if result.dry else DID), fold=11)
    terminal.lines(approximation_lines(result.lab), fold=4)
    if result.dry or not result.lab.machines:
        return
    terminal.line()
    terminal.section(machines(result.lab))
    if hints:
        terminal.line()
        terminal.line("try next")
        terminal.lines(f"  {line}" for line in suggestions(result.lab, others))


def approximation_lines(lab: Lab) -> list[str]:
    """The substitutes of a lab: a line for each part that was built differently because the kernel lacks a feature, and
    one line if the rules are not in the legacy tables."""
    nft = ["firewall: rules are written with iptables-nft"] if lab.firewall == "nft" else []
    return [*map(otherwise, lab.approximations), *nft]


def grade_lines(lab: Lab) -> list[str]:
    """Where a lab's model differs from the real system, in a line for each grade; and the features it needs."""
    said = {grade: [part for part in lab.parts if part.grade == grade] for grade in GRADES}
    needs = [f"{part.feature}, for {part.what}" for part in said["needs"] if part.feature not in lab.substituted]
    told = {
        "approximate": [part.what for part in said["approximation"]],
        "left out": [part.what for part in said["skipped"]],
        "needs of the kernel": needs,
    }
    return [f"{word}: {'; '.join(items)}" for word, items in told.items() if items]


def headline(result: Result) -> str:
    """One sentence: what `up` did, or would do."""
    name, number = result.lab.name, len(result.changes)
    if result.dry:
        return f"{name}: {count(number, 'change')} would be made" if number else f"{name} is as defined: nothing to do"
    if not number:
        return f"{name} is up and as defined: nothing to do ({duration(result.seconds)})"
    if not result.created:
        return f"{name} is repaired: {count(number, 'change')} in {duration(result.seconds)}"
    spaces = sum(isinstance(change.want, Netns) for change in result.changes)
    made = f"{count(spaces, 'namespace')}, {count(number, 'object')}"
    return f"{name} is up: {made} in {duration(result.seconds)}"


def machines(lab: Lab) -> Section:
    """The table of the lab's machines and their addresses."""
    rows: list[tuple[str, ...]] = [
        (machine.name, machine.role, machine.on or "", " ".join(str(ip) for ip in machine.addresses))
        for machine in lab.machines[:MANY]
    ]
    if len(lab.machines) > MANY:
        rows.append(("...", f"{len(lab.machines) - MANY} more", "", ""))
    return Section("", ("name", "role", "on", "addresses"), tuple(rows))


def suggestions(lab: Lab, others: bool) -> list[str]:
    """Commands to try next, with names from the lab."""
    labctl = ("sudo " if os.environ.get("SUDO_USER") else "") + "labctl"
    option = f" -l {lab.name}" if others else ""
    hosts = [one.name for one in lab.machines if one.role in ("node", "host")] or [one.name for one in lab.machines]
    commands = [f"{labctl} shell{option} {hosts[0]}"]
    pings = [one for one in lab.checks if one.probe == "ping" and lab.machine(one.target)]
    pings.sort(key=lambda one: not _far(lab.machine(one.source), lab.machine(one.target)))
    if pings:
        commands.append(f"{labctl} exec{option} {pings[0].source} -- ping -c 3 {pings[0].target}")
    return [*commands, f"{labctl} check{option}", f"{labctl} down {lab.name}"]


def _far(source: Machine | None, target: Machine | None) -> bool:
    """Whether two pods are on different nodes: the most interesting pair to try."""
    return source is not None and target is not None and None not in (source.on, target.on) and source.on != target.on


def say_status(name: str, lab: Lab, changes: tuple[Change, ...], terminal: Terminal) -> None:
    """Print the result of `status`: no drift, or every drifted object by namespace; and the substitutes."""
    if changes:
        terminal.line(f"{name} has drifted: {count(len(changes), 'difference')}")
        terminal.lines(listed(changes, terminal), fold=11)
    else:
        terminal.line(f"{name}: no drift, {count(len(lab.plan), 'object')} as defined")
    terminal.lines(approximation_lines(lab), fold=4)


def listed(changes: tuple[Change, ...], terminal: Terminal, verbs: Mapping[str, str] | None = None) -> Iterator[str]:
    """Changes by namespace, in the syntax of ip and iptables. `verbs` replaces missing, extra and changed."""
    from labctl.render.resources import change_lines

    for place, some in by_place(changes).items():
        yield terminal.paint(place, "bold")
        for kind, _, rest in (text.partition(" ") for change in some for text in change_lines(change)):
            word = (verbs or {}).get(kind, kind)
            yield f"  {terminal.paint(f'{word:<7}', COLOURS[kind])}  {rest}"


def by_hand(result: Result, place: Callable[[str], str], state: str) -> Iterator[str]:
    """The equivalent commands. `place` returns the name of a node's namespace.

    A change without a single command (a removal, a changed value) becomes a comment that describes the difference.
    """
    from labctl.render.commands import commands, script, variant
    from labctl.render.resources import change_lines
    from labctl.report.shell_script import commented

    def typed(ns: str | None, command: str) -> str:
        return command if ns is None else f"ip netns exec {place(ns)} {variant(command, result.lab.firewall)}"

    for change in result.changes:
        want = change.want
        if change.kind == "changed" and isinstance(want, Chain):
            tool, _, rest = commands(want)[0].partition(" -t ")
            yield typed(want.ns, f"{tool} -t {rest.split()[0]} -F {want.name}")
            yield from (typed(want.ns, line) for line in commands(want) if " -N " not in line)
        elif change.kind != "missing":
            yield from (f"# {change.subject.ns}: {line}" for line in change_lines(change))
    missing = (one.want for one in result.changes if one.want and one.have is None)
    made = script(missing, place, state, result.lab.firewall)
    yield from commented(made, result.lab.machines, typed)

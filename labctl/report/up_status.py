"""The text output of `up` and `status`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from labctl.core.diff import Change, ChangeKind, by_namespace
from labctl.core.fidelity import GRADES, substitute_text
from labctl.core.iptables import FirewallRule
from labctl.core.resources import Chain, Netns, NftObject
from labctl.core.sentence import Sentence, sentence, sentence_n
from labctl.core.text import duration
from labctl.report.table_section import TableSection
from labctl.report.text_layout import pad
from labctl.translation.language import gettext

if TYPE_CHECKING:
    from labctl.core.lab_results import UpResult
    from labctl.core.scenario_types import Lab, Machine, VirtualAddress
    from labctl.explanation.planned_reasons import PlannedReasons
    from labctl.report.terminal import Terminal


MAX_PODS = 4  # names of pods in a line
MAX_MACHINE_ROWS = 40  # rows of the machine table at most
DONE_VERBS: Mapping[ChangeKind, Sentence] = {
    "missing": sentence("added"), "extra": sentence("removed"), "changed": sentence("changed"),
}  # fmt: skip
DRY_RUN_VERBS: Mapping[ChangeKind, Sentence] = {
    "missing": sentence("add"), "extra": sentence("remove"), "changed": sentence("change"),
}  # fmt: skip
COLOURS: Mapping[ChangeKind, str] = {"missing": "red", "extra": "yellow", "changed": "yellow"}


def print_up(result: UpResult, command: str | None, terminal: Terminal) -> None:
    """Print the summary of `up`: what was done, the machines, and commands to try next.

    `command` is what a user types before a verb, such as `sudo labctl`; None for no commands.
    """
    if result.replaced:
        text = sentence("the old lab {lab} is removed", lab=result.lab.name)
        if result.dry:
            text = sentence("the old lab {lab} would be removed", lab=result.lab.name)
        terminal.lines([gettext(text)], fold=4)
    terminal.lines([gettext(headline(result))], fold=4)
    if result.dry or (not result.created and result.changes):
        terminal.lines(grouped_changes(result.changes, terminal, DRY_RUN_VERBS if result.dry else DONE_VERBS), fold=11)
    terminal.lines(approximation_lines(result.lab), fold=4)
    if result.dry or not result.lab.machines:
        return
    terminal.line()
    terminal.section(machine_table(result.lab))
    if result.lab.virtual_addresses:
        terminal.line()
        terminal.section(service_table(result.lab))
    if command is not None:
        print_suggestions(result.lab, command, terminal)


def print_suggestions(lab: Lab, command: str, terminal: Terminal) -> None:
    """Print commands to try next. `command` is what a user types before a verb."""
    terminal.line()
    terminal.line(gettext(sentence("try next")))
    terminal.commands(f"  {line}" for line in suggestions(lab, command))


def approximation_lines(lab: Lab) -> list[str]:
    """The substitutes of a lab: a line for each part that was built differently because the kernel lacks a feature, and
    one line if the rules are not in the legacy tables."""
    nft = [sentence("firewall: rules are written with iptables-nft")] if lab.firewall == "nft" else []
    return [gettext(text) for text in (*map(substitute_text, lab.approximations), *nft)]


def address_use_table(lab: Lab) -> TableSection:
    """How many addresses of each range the lab takes, and for what."""
    rows = [
        (
            one.option,
            str(one.network),
            str(one.usable),
            ", ".join(f"{addresses} {who}" for who, addresses in one.taken if addresses) or "none",
            str(one.left),
        )
        for one in lab.address_use
    ]
    return TableSection("addresses", ("option", "range", "usable", "taken", "left"), tuple(rows))


def fidelity_lines(lab: Lab) -> list[str]:
    """Where a lab's model differs from the real system, in a line for each grade; and the features it needs."""
    by_grade = {grade: [part for part in lab.parts if part.grade == grade] for grade in GRADES}
    needs = [
        f"{part.feature}, for {part.aspect}"
        for part in by_grade["needs"]
        if part.feature not in lab.substitute_features
    ]
    items_by_label = {
        "approximate": [part.aspect for part in by_grade["approximation"]],
        "left out": [part.aspect for part in by_grade["skipped"]],
        "needs of the kernel": needs,
    }
    return [f"{label}: {'; '.join(items)}" for label, items in items_by_label.items() if items]


def headline(result: UpResult) -> Sentence:
    """One sentence: what `up` did, or would do."""
    name, number = result.lab.name, len(result.changes)
    took = duration(result.seconds)
    if result.dry and not number:
        return sentence("{lab} is as defined: nothing to do", lab=name)
    if not number:
        return sentence("{lab} is up and as defined: nothing to do ({time})", lab=name, time=took)
    if result.dry or not result.created:
        changes = sentence_n("{number} change", "{number} changes", line_count(result.changes))
        if result.dry:
            return sentence("{lab}: {changes} would be made", lab=name, changes=changes)
        if result.updated:
            return sentence("{lab} is updated: {changes} in {time}", lab=name, changes=changes, time=took)
        return sentence("{lab} is repaired: {changes} in {time}", lab=name, changes=changes, time=took)
    namespaces = sum(isinstance(change.want, Netns) for change in result.changes)
    return sentence(
        "{lab} is up: {namespaces}, {objects} in {time}",
        lab=name,
        namespaces=sentence_n("{number} namespace", "{number} namespaces", namespaces),
        objects=sentence_n("{number} object", "{number} objects", number),
        time=took,
    )


def machine_table(lab: Lab) -> TableSection:
    """The table of the lab's machines and their addresses."""
    rows: list[tuple[str, ...]] = [
        (machine.name, machine.role, machine.on or "", " ".join(str(ip) for ip in machine.addresses))
        for machine in lab.machines[:MAX_MACHINE_ROWS]
    ]
    if len(lab.machines) > MAX_MACHINE_ROWS:
        rows.append(("...", _more(len(lab.machines) - MAX_MACHINE_ROWS), "", ""))
    columns = (sentence("name"), sentence("role"), sentence("on"), sentence("addresses"))
    return TableSection("", tuple(map(gettext, columns)), tuple(rows))


def _more(number: int) -> str:
    return gettext(sentence("{number} more", number=number))


def service_table(lab: Lab) -> TableSection:
    """The table of the lab's Services: their addresses and ports, and the pods behind them."""
    shown = lab.virtual_addresses[:MAX_MACHINE_ROWS]
    rows: list[tuple[str, ...]] = [
        (one.names[0], one.kind, " ".join(map(str, one.ips)), " ".join(one.ports), _pods(one)) for one in shown
    ]
    if len(lab.virtual_addresses) > len(shown):
        rows.append(("...", _more(len(lab.virtual_addresses) - len(shown)), "", "", ""))
    columns = (
        sentence("service"), sentence("type"), sentence("addresses"), sentence("ports"), sentence("endpoints"),
    )  # fmt: skip
    return TableSection("", tuple(map(gettext, columns)), tuple(rows))


def _pods(one: VirtualAddress) -> str:
    """A few names of pods, then addresses of other endpoints, and how many more there are; `none` for none."""
    names = (*one.machines, *map(str, one.elsewhere))
    more = f" +{len(names) - MAX_PODS}" if len(names) > MAX_PODS else ""
    return " ".join(names[:MAX_PODS]) + more if names else gettext(sentence("none"))


def suggestions(lab: Lab, labctl: str) -> list[str]:
    """Commands to try next, with names from the lab. `labctl` is what a user types before a verb."""
    hosts = [one.name for one in lab.machines if one.role in ("node", "host")] or [one.name for one in lab.machines]
    commands = [f"{labctl} graph", f"{labctl} explain {hosts[0]}", f"{labctl} shell {hosts[0]}"]
    pings = [one for one in lab.checks if one.probe == "ping" and lab.machine(one.target)]
    pings.sort(key=lambda one: not _on_different_nodes(lab.machine(one.source), lab.machine(one.target)))
    if pings:
        source, target = pings[0].source, pings[0].target
        commands += [f"{labctl} exec {source} -- ping -c 3 {target}", f"{labctl} trace {source} {target}"]
    return [*commands, f"{labctl} check", f"{labctl} view", f"{labctl.partition(' -l ')[0]} down {lab.name}"]


def _on_different_nodes(source: Machine | None, target: Machine | None) -> bool:
    """Whether two pods are on different nodes: the most interesting pair to try."""
    return source is not None and target is not None and None not in (source.on, target.on) and source.on != target.on


def print_status(
    name: str, lab: Lab, changes: tuple[Change, ...], terminal: Terminal, reasons: PlannedReasons | None = None
) -> None:
    """Print the result of `status`: no drift, or every drifted object by namespace; and the substitutes. With
    `reasons`, each object has its reason."""
    if changes:
        differences = sentence_n("{number} difference", "{number} differences", line_count(changes))
        text = sentence("{lab} has drifted: {differences}", lab=name, differences=differences)
        terminal.lines([gettext(text)], fold=4)
        terminal.lines(grouped_changes(changes, terminal, reasons=reasons), fold=11)
    else:
        objects = sentence_n("{number} object", "{number} objects", len(lab.plan))
        text = sentence("{lab}: no drift, {objects} as defined", lab=name, objects=objects)
        terminal.lines([gettext(text)], fold=4)
    terminal.lines(approximation_lines(lab), fold=4)


def line_count(changes: Iterable[Change]) -> int:
    """The lines of these changes in `grouped_changes`: a chain has one for each of its rules that differ."""
    from labctl.render.resources import change_lines

    return sum(1 for change in changes for _ in change_lines(change))


def grouped_changes(
    changes: tuple[Change, ...],
    terminal: Terminal,
    verbs: Mapping[ChangeKind, Sentence] | None = None,
    *,
    present: bool = False,
    reasons: PlannedReasons | None = None,
) -> Iterator[str]:
    """Changes by namespace, in the syntax of ip and iptables. `verbs` replaces missing, extra and changed; with
    `present`, a changed value "is" as it was found, else it "was". With `reasons`, the reason of an object is below."""
    from labctl.render.resources import CHANGE_WORDS, change_parts

    found = "is" if present else "was"
    for ns, group in by_namespace(changes).items():
        yield terminal.paint(ns, "bold")
        for change in group:
            whys = () if reasons is None else tuple(change_reasons(change, reasons))
            for number, (kind, text) in enumerate(change_parts(change, found)):
                verb = gettext((verbs or CHANGE_WORDS)[kind])
                yield f"  {terminal.paint(pad(verb, 7), COLOURS[kind])}  {gettext(text)}"
                if whys and whys[number] and whys[number] not in whys[:number]:
                    yield terminal.paint(f"           {gettext(whys[number])}", "dim")


def change_reasons(change: Change, reasons: PlannedReasons) -> Iterator[str]:
    """The reason for each line of a change: that of the object, or of the rule in the line."""
    from labctl.render.resources import change_lines

    item = change.subject
    for text in change_lines(change):
        if isinstance(item, NftObject):
            rule = text.partition(f"nft rule {item.table} {item.name} ")[2]
            yield reasons.of_rule(item, rule) if rule else reasons.of(item)
        elif not isinstance(item, Chain):
            yield reasons.of(item)
        elif rule := text.partition(f" -A {item.name} ")[2]:
            yield reasons.of_rule(item, FirewallRule.from_text(rule))
        else:
            yield reasons.of_chain(item)


def equivalent_commands(result: UpResult, netns_name: Callable[[str], str], state: str) -> Iterator[str]:
    """The equivalent commands. `netns_name` returns the name of a node's namespace.

    A change without a single command (a removal, a changed value) becomes a comment that describes the difference.
    """
    from labctl.render.commands import commands, element_commands, script, with_backend
    from labctl.render.resources import change_lines
    from labctl.report.shell_script import with_headings

    def in_namespace(ns: str | None, command: str) -> str:
        return command if ns is None else f"ip netns exec {netns_name(ns)} {with_backend(command, result.lab.firewall)}"

    for change in result.changes:
        want, have = change.want, change.have
        if change.kind == "changed" and isinstance(want, Chain):
            tool, _, rest = commands(want)[0].partition(" -t ")
            yield in_namespace(want.ns, f"{tool} -t {rest.split()[0]} -F {want.name}")
            yield from (in_namespace(want.ns, line) for line in commands(want) if " -N " not in line)
        elif isinstance(want, NftObject) and isinstance(have, NftObject) and (made := element_commands(want, have)):
            yield from (in_namespace(want.ns, line) for line in made)
        elif change.kind != "missing":
            yield from (f"# {change.subject.ns}: {line}" for line in change_lines(change))
    missing = (one.want for one in result.changes if one.want and one.have is None)
    additions = script(missing, netns_name, state, result.lab.firewall)
    yield from with_headings(additions, result.lab.machines, in_namespace)

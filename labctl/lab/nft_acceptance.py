"""Whether nft accepts the rules that a scenario file states, asked before anything is built.

`labctl.core.nft_script` knows the blocks and names of nft's language, and not what is inside a rule. So nft itself
reads the rules, in a namespace that is thrown away, and what it refuses is reported at its place in the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from labctl.core.iptables import BUILTIN
from labctl.core.resources import Chain, NftObject
from labctl.core.scenario_types import Lab
from labctl.core.why import reason_of, reason_of_rule
from labctl.errors import LabError, Problem, ScenarioError
from labctl.scenario.definition import Definition

if TYPE_CHECKING:
    from labctl.core.nft_refusals import NftRefusal

_TOOLS = {"ip": "iptables", "ip6": "ip6tables"}
_SECTIONS = {"ip": "firewall", "ip6": "firewall6"}
MAX_LINES = 5000  # rules and elements of a machine that are tried before the build; more are judged by the build itself


def require_accepted(definition: Definition, lab: Lab) -> None:
    """Raise ScenarioError with all that nft refuses of what the file states. Other errors are those of
    `labctl.kernel.firewall.nft_check.find_refusals`."""
    problems = (*taken_tables(definition, lab), *find_problems(definition, lab))
    if problems:
        raise ScenarioError(problems)


def taken_tables(definition: Definition, lab: Lab) -> Iterator[Problem]:
    """The tables of nft that have the name of one that iptables-nft or ebtables keeps the lab's rules in. With the nft
    back end, every command `iptables` in the lab makes such tables; ebtables has no other back end."""
    bridges = {
        (item.ns, f"bridge {item.table}") for item in lab.plan if isinstance(item, Chain) and item.family == "bridge"
    }
    for item in lab.plan:
        if not isinstance(item, NftObject) or item.kind != "table":
            continue
        family, _, name = item.table.partition(" ")
        if (item.ns, item.table) in bridges:
            what = f"the table {item.table} of {item.ns} is that of ebtables, which the lab has rules of, too"
            hint = "give the table another name"
        elif lab.firewall == "nft" and family in _TOOLS and (family, name) in BUILTIN:
            program = _TOOLS[family]
            what = f"with --firewall nft, the table {item.table} of {item.ns} is that of {program}-nft"
            hint = f"give it another name, write its rules under {_SECTIONS[family]}:, or use --firewall legacy"
        else:
            continue
        rows = definition.text.split("\n")
        line = _line_of(item) or 1
        row = rows[line - 1] if line <= len(rows) else ""
        yield Problem(definition.file, line, max(1, row.find("table") + 1), f"nftables: {what}", hint)


def problems_if_possible(definition: Definition, lab: Lab) -> tuple[Problem, ...]:
    """What nft refuses, if this user may ask it: root, or inside of `labctl run`. Otherwise nothing."""
    try:
        return find_problems(definition, lab)
    except (LabError, OSError):
        return ()


def find_problems(definition: Definition, lab: Lab) -> tuple[Problem, ...]:
    """What nft refuses of the tables that the file states, with the places."""
    stated: dict[str, list[NftObject]] = {}
    for item in lab.plan:
        if isinstance(item, NftObject):
            stated.setdefault(item.ns, []).append(item)
    found: list[Problem] = []
    for objects in stated.values():
        if any(_line_of(item) for item in objects) and sum(len(item.entries) for item in objects) <= MAX_LINES:
            from labctl.kernel.firewall.nft_check import find_refusals

            found += (_problem(definition, one, objects) for one in find_refusals(objects))
    return tuple(sorted(set(found)))


def _line_of(item: NftObject, entry: str = "") -> int:
    """The line of the file that states an object or one of its entries; 0 for what a model makes."""
    why = (reason_of_rule(item, entry) if entry else None) or reason_of(item)
    return 0 if why is None else why.source.line or 0


def _problem(definition: Definition, refusal: NftRefusal, objects: Iterable[NftObject]) -> Problem:
    item = refusal.item or next(one for one in objects if _line_of(one))
    line = _line_of(item, refusal.line) or _line_of(item) or 1
    rows = definition.text.split("\n")
    row = rows[line - 1] if line <= len(rows) else ""
    column = row.find(refusal.word) + 1 if refusal.word else 0
    column = column or len(row) - len(row.lstrip()) + 1
    said = f"nft refuses {refusal.line!r}: {refusal.reason}" if refusal.line else f"nft: {refusal.reason}"
    return Problem(definition.file, line, column, f"nftables: {said}", "nft(8) describes its language")

"""What the objects of a text name in each other, verified: chains that rules jump to, sets, counters. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from labctl.core.iptables_check import find_loop
from labctl.core.nft_declarations import chain_problem, policy_problem, set_problems
from labctl.core.nft_ruleset import KINDS, WITH_ELEMENTS
from labctl.core.nft_state import Line, Ruleset, ScriptObject, missing

_QUOTED_OR_JUMP = re.compile(r'"[^"]*"|\b(jump|goto) (?!map\b)([A-Za-z_][\w./-]*)')
_SET_NAME = re.compile(r'"[^"]*"|@([A-Za-z_][\w./-]*)(?! ?,)')  # `@th,16,16` is a part of the packet
_DEVICES = re.compile(
    r'(?<!\w)"[^"]*"|\b(?:iif (?:[!=]= )?|oif (?:[!=]= )?|devices? (?:= )?)(?:vmap |map )?(\{[^}]*\}|"[^"]*"|[\w.@:-]+)'
)
_NAMED = re.compile(
    r'\b(counter|quota|limit|synproxy) name "?([A-Za-z_][\w./-]*)"?|\bct (helper|timeout|expectation) set "([^"]+)"'
)


def verify(ruleset: Ruleset) -> None:
    """Add a mistake for everything that no kernel has: a base chain at a hook that its family does not have, a set
    without a type, a name that does not exist, chains that jump in a circle."""
    for item in ruleset.objects.values():
        if item.kind == "chain":
            _verify_chain(item, ruleset)
        elif item.kind in WITH_ELEMENTS:
            for what, hint in set_problems(item.kind, [line.text for line in item.header]):
                word = re.match(r"'([^']+)' cannot", what)
                at = next((line.at for line in item.header if word and line.text.startswith(word[1])), item.at)
                ruleset.refuse(at, what, hint)
        for line in item.entries:
            _verify_names(item, line, ruleset)
    _verify_loops(ruleset)


def _verify_chain(item: ScriptObject, ruleset: Ruleset) -> None:
    base = next((line for line in item.header if line.text.startswith("type ")), None)
    for line in item.header:
        problem = None
        if line is base:
            problem = chain_problem(item.table, line.text)
        elif line.text.startswith("policy "):
            problem = policy_problem(line.text)
            if base is None:
                problem = (
                    f"{item.name} is called by no hook, so it has no policy",
                    "such as type filter hook input priority 0",
                )
        if problem is not None:
            ruleset.refuse(line.at, *problem)


def _verify_names(item: ScriptObject, line: Line, ruleset: Ruleset) -> None:
    for kind, name in references(line.text):
        kinds = WITH_ELEMENTS + (("flowtable",) if item.kind == "chain" else ()) if kind == "set" else (kind,)
        found = [ruleset.objects[key] for one in kinds if (key := (item.table, one, name)) in ruleset.objects]
        if not found:
            kind = "flowtable" if f"flow add @{name}" in line.text or f"flow offload @{name}" in line.text else kind
            ruleset.refuse(line.at, *missing(ruleset.objects, item.table, kind, name), name)
        elif kind == "chain" and any(one.text.startswith("type ") for one in found[0].header):
            what = f"{name} is a chain that a hook calls, and no rule can jump to it"
            ruleset.refuse(line.at, what, "move its rules to a chain without type and hook", name)


def references(text: str) -> Iterator[tuple[str, str]]:
    """The kind and name of each object that a rule or an element names."""
    for found in _QUOTED_OR_JUMP.finditer(text):
        if found[1]:
            yield "chain", found[2]
    for found in _SET_NAME.finditer(text):
        if found[1]:
            yield "set", found[1]
    for found in _NAMED.finditer(text):
        kind = found[1] or f"ct {found[3]}"
        if kind in KINDS:
            yield kind, found[2] or found[4]


def device_names(text: str) -> Iterator[str]:
    """The devices that a line names by `iif`, `oif` or `device`.

    The kernel keeps their numbers, so they must exist when the line is written; `iifname` and `oifname` compare names.
    """
    for found in _DEVICES.finditer(text):
        for name in (found[1] or "").strip("{} ").split(","):
            word = name.partition(" : ")[0].strip().strip('"')
            if word and not word.isdigit() and word[0] != "@":
                yield word


def _verify_loops(ruleset: Ruleset) -> None:
    """Chains that jump in a circle, also by the verdicts of a map."""
    for table in dict.fromkeys(item.table for item in ruleset.objects.values()):
        here = {item.name: item for item in ruleset.objects.values() if (item.table, item.kind) == (table, "chain")}
        of_maps = {
            item.name: [name for line in item.entries for kind, name in references(line.text) if kind == "chain"]
            for item in ruleset.objects.values()
            if (item.table, item.kind) == (table, "map")
        }
        jumps: dict[str, list[str]] = {}
        for name, chain in here.items():
            jumps[name] = []
            for line in chain.entries:
                for kind, target in references(line.text):
                    jumps[name] += [target] if kind == "chain" else of_maps.get(target, ()) if kind == "set" else ()
        known = {name: [one for one in targets if one in here] for name, targets in jumps.items()}
        if loop := find_loop(known):
            way = " -> ".join((*loop, loop[0]))
            ruleset.refuse(here[loop[0]].at, f"the chains jump in a circle ({way})", "the kernel refuses this")

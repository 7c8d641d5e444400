"""The rules of a plan and of an iptables-save text, by table and chain, to compare the two."""

from __future__ import annotations

from labctl.core.iptables import BUILTIN
from labctl.core.nft_ruleset import parse_ruleset
from labctl.core.resources import Chain, NftObject
from labctl.core.scenario_types import Lab
from labctl.render.resources import resource_values
from labctl.scenario.definition import parse_and_compile

Tables = dict[str, dict[str, list[str]]]


def parse_tables(text: str) -> Tables:
    """The same of an iptables-save text; lines may be indented."""
    tables: Tables = {}
    table = ""
    for line in filter(None, map(str.strip, text.splitlines())):
        if line.startswith("*"):
            table = line[1:]
            tables[table] = {}
        elif line.startswith(":"):
            name, policy, *_ = line[1:].split()
            tables[table].setdefault(name, []).extend(["-P DROP"] if policy == "DROP" else [])
        else:
            _, name, rule = line.split(" ", 2)
            tables[table].setdefault(name, []).append(rule)
    return tables


def lab(text: str) -> Lab:
    return parse_and_compile(text, "t.yaml")[1]


def plan_tables(built: Lab, ns: str = "node1", family: str = "ip") -> Tables:
    """A namespace's rules by table and chain; a built-in chain without rules is not there."""
    tables: Tables = {}
    for item in built.plan:
        if isinstance(item, Chain) and (item.ns, item.family) == (ns, family):
            rules = [str(rule) for rule in item.rules]
            if rules or item.name not in BUILTIN[family, item.table]:
                tables.setdefault(item.table, {})[item.name] = rules
    return tables


def resource_texts(built: Lab, kind: type, ns: str = "node1") -> list[str]:
    return [resource_values(item) for item in built.plan if isinstance(item, kind) and item.ns == ns]


def plan_ruleset(built: Lab, ns: str = "node1") -> list[NftObject]:
    """A namespace's objects of nft, to compare with `ruleset(text)`."""
    return [item for item in built.plan if isinstance(item, NftObject) and item.ns == ns]


def ruleset(text: str, ns: str = "node1") -> list[NftObject]:
    """The objects in a text of `nft list ruleset`."""
    return list(parse_ruleset(ns, text))


def in_any_order(objects: list[NftObject]) -> list[NftObject]:
    """Objects sorted by their keys: nft lists a table after the other, a plan may have all tables first."""
    return sorted(objects, key=lambda item: item.key)

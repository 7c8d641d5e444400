"""Hold the kube-proxy model against what the real kube-proxy wrote.

A folder of cases has the shape VERSION/MODE/CASE.json and CASE.txt: the configuration, the node and what was observed,
and the rules as `iptables-save` and `ip6tables-save` printed them. The API objects (`items`) can be in the file of one
version only; they count for the same case of all versions.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

from labctl.core.iptables import rule
from labctl.kubernetes.api.api_reader import read_cluster
from labctl.kubernetes.services.kube_proxy_config import Release, read_config
from labctl.kubernetes.services.kube_proxy_iptables import kube_proxy_chains

FAMILIES = {4: "ip", 6: "ip6"}
# the chains in which the order of Services means nothing: kube-proxy writes another one with every sync
UNORDERED = ("KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-EXTERNAL-SERVICES", "KUBE-PROXY-FIREWALL")
LAST_RULE = "this must be the last rule in this chain"
ADDED_ADDRESS = re.compile(r"\baddr add (\S+)")
Chains = dict[tuple[str, str, str], list[str]]  # (family, table, chain): its rules


@dataclass(frozen=True)
class Case:
    """One situation in which kube-proxy wrote rules."""

    version: str
    mode: str
    name: str
    document: Mapping[str, Any]
    items: tuple[Mapping[str, Any], ...] | None
    text: str

    def __str__(self) -> str:
        return f"{self.version}/{self.mode}/{self.name}"

    @cached_property
    def real(self) -> Chains:
        """What kube-proxy wrote."""
        return parse(self.text)

    @cached_property
    def modelled(self) -> Chains:
        """What the model writes. Raises ValueError."""
        config, document = self.document["config"], self.document
        cluster = read_cluster(self.items or ())
        node = cluster.node(config["hostnameOverride"])
        if node is None:
            raise ValueError(f"no Node {config['hostnameOverride']} among the objects")
        added = (ADDED_ADDRESS.search(command) for command in document.get("node_setup", ()))
        addresses = [ip_interface(found[1]).ip for found in added if found is not None]
        sysctls = document.get("observed", {}).get("sysctl", {})
        liberal = sysctls.get("net/netfilter/nf_conntrack_tcp_be_liberal") == "1"
        settings = read_config(config, Release.parse(self.version), node, addresses, be_liberal=liberal)
        return {
            (family, table, chain): [str(rule(text, family)) for text in rules]
            for version, family in FAMILIES.items()
            for (table, chain), rules in kube_proxy_chains(cluster, settings, version).items()  # type: ignore[arg-type]
        }

    def differences(self) -> Iterator[str]:
        """The rules that only one of both wrote, `-` for the real kube-proxy and `+` for the model, by chain."""
        for key in sorted({*self.real, *self.modelled}):
            real, ours = self.real.get(key), self.modelled.get(key)
            if real is None or ours is None:
                yield f"{'-' if ours is None else '+'} {' '.join(key)}: the chain itself"
            if _normal(key[2], real or []) == _normal(key[2], ours or []):
                continue
            only_real = [one for one in real or [] if one not in (ours or [])]
            only_ours = [one for one in ours or [] if one not in (real or [])]
            yield from (f"- {' '.join(key)} {one}" for one in only_real)
            yield from (f"+ {' '.join(key)} {one}" for one in only_ours)
            if not only_real and not only_ours:
                yield f"  {' '.join(key)}: another order, or other repeats"


def _normal(chain: str, rules: list[str]) -> list[str]:
    """The rules in an order that does not depend on that of the Services; a rule that must be the last stays it."""
    return sorted(rules, key=lambda one: (LAST_RULE in one, one)) if chain in UNORDERED else rules


def parse(text: str) -> Chains:
    """The chains of kube-proxy, and the built-in chains with rules, in the outputs of iptables-save and ip6tables-save,
    which follow a heading line `### ...`."""
    found: Chains = {}
    family = table = ""
    for line in text.splitlines():
        if line.startswith("###"):
            family = "ip6" if "ip6" in line else "ip"
        elif line.startswith("*"):
            table = line[1:]
        elif line.startswith(":") and line.split()[1] == "-":
            found.setdefault((family, table, line[1:].split()[0]), [])
        elif line.startswith("-A "):
            chain = line.split()[1]
            found.setdefault((family, table, chain), []).append(str(rule(line, family)))
    return found


def cases(folder: Path) -> Iterator[Case]:
    """All cases of a folder, those of one version after those of another."""
    documents = {
        path: json.loads(path.read_text()) for path in sorted(folder.glob("*/*/*.json"), key=lambda one: one.parts)
    }
    items = {path.stem: found["items"] for path, found in documents.items() if "items" in found}
    for path, document in documents.items():
        objects = document.get("items", items.get(path.stem))
        text = path.with_suffix(".txt").read_text()
        yield Case(path.parts[-3], path.parts[-2], path.stem, document, objects and tuple(objects), text)


# Saved cases: the objects of all cases in one file, and for each case the rules that are not those of a cluster without
# Services, with the versions that wrote them.

EMPTY = "empty"  # the case without Services
OBJECTS = "objects.json"
MAX_OBJECTS = 50  # API objects of a case that is saved
USED = {
    "Node": ("spec", "status"),
    "Service": ("spec", "status"),
    "EndpointSlice": ("addressType", "endpoints", "ports"),
}
METADATA = ("name", "namespace", "labels", "annotations")


def save(found: list[Case], folder: Path) -> None:
    """Write cases to a folder, in the saved form; without those of many objects, which show nothing more."""
    found = [case for case in found if len(case.items or ()) <= MAX_OBJECTS]
    folder.mkdir(parents=True, exist_ok=True)
    plain = {case.version: _lines(case.real) for case in found if case.name == EMPTY}
    documents: dict[str, dict[str, Any]] = {}
    texts: dict[str, dict[str, list[str]]] = {}
    for case in found:
        documents[case.name] = _inputs(case)
        lines = _lines(case.real)
        if case.name != EMPTY:
            lines = _changes(plain[case.version], lines)
        texts.setdefault(case.name, {}).setdefault("\n".join(lines), []).append(case.version)
    rows = ",\n".join(f"{json.dumps(name)}: {json.dumps(one)}" for name, one in sorted(documents.items()))
    (folder / OBJECTS).write_text("{\n" + rows + "\n}\n")
    for name, by_text in texts.items():
        blocks = [f"# kube-proxy {' '.join(versions)}\n{text}\n" for text, versions in by_text.items()]
        (folder / f"{name}.txt").write_text("\n".join(blocks))


def saved_cases(folder: Path) -> dict[str, tuple[Case, list[str]]]:
    """The saved cases by name, as VERSION/CASE, each with the lines that kube-proxy wrote."""
    documents = json.loads((folder / OBJECTS).read_text())
    found: dict[str, tuple[Case, list[str]]] = {}
    for path in sorted(folder.glob("*.txt")):
        for block in path.read_text().split("# kube-proxy ")[1:]:
            versions, *lines = block.rstrip("\n").split("\n")
            for version in versions.split():
                document = documents[path.stem]
                case = Case(version, "iptables", path.stem, document, tuple(document["items"]), "")
                found[f"{version}/{path.stem}"] = case, [line for line in lines if line]
    return found


def expected_lines(name: str, found: Mapping[str, tuple[Case, list[str]]]) -> list[str]:
    """All lines that kube-proxy wrote in a saved case."""
    case, lines = found[name]
    if case.name == EMPTY:
        return lines
    removed = {line[2:] for line in lines if line.startswith("- ")}
    plain = [line for line in found[f"{case.version}/{EMPTY}"][1] if line not in removed]
    return sorted([*plain, *(line[2:] for line in lines if line.startswith("+ "))])


def modelled_lines(case: Case) -> list[str]:
    """The lines of the model in a case, in the form of `expected_lines`."""
    return _lines(case.modelled)


def _lines(chains: Chains) -> list[str]:
    """Every chain, and every rule with its number, or without one where the order means nothing."""
    lines = []
    for key, rules in chains.items():
        lines.append(f"{' '.join(key)}:")
        for number, one in enumerate(rules, 1):
            place = "last" if LAST_RULE in one and number == len(rules) else number
            lines.append(f"{' '.join(key)}{'' if key[2] in UNORDERED and place != 'last' else f' {place}'}: {one}")
    return sorted(lines)


def _changes(plain: list[str], lines: list[str]) -> list[str]:
    gone, new = Counter(plain), Counter(lines)
    return [
        *(f"- {line}" for line in sorted((gone - new).elements())),
        *(f"+ {line}" for line in sorted((new - gone).elements())),
    ]


def _inputs(case: Case) -> dict[str, Any]:
    """What the model reads of a case."""
    config = {key: value for key, value in case.document["config"].items() if key != "clientConnection"}
    items = [
        {
            "kind": item["kind"],
            "metadata": {key: item["metadata"][key] for key in METADATA if item["metadata"].get(key)},
            **{key: item[key] for key in USED[item["kind"]] if key in item},
        }
        for item in case.items or ()
        if item["kind"] in USED
    ]
    return {"config": config, "node_setup": case.document.get("node_setup", []), "items": items}

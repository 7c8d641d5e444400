"""Cases of the real kube-proxy as tests keep them: the objects of all cases in one file, and for each mode and case the
rules that are not those of a cluster without Services, with the versions that wrote them.

The folder has the texts of the mode iptables, its folder `nftables` those of that mode. In a line, `+` and `-` say what
the case has more or less; in mode nftables, `~` is a chain that kube-proxy has emptied and deletes later.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labctl.core.nft_ruleset import WITH_ELEMENTS
from labctl.kubernetes.services.kube_proxy_config import IPTABLES, MODES, NFTABLES
from tests.support.kube_proxy_cases import LAST_RULE, UNORDERED, Case, Chains

EMPTY = "empty"  # the case without Services
OBJECTS = "objects.json"
MAX_OBJECTS = 50  # API objects of a case that is saved
USED = {
    "Node": ("spec", "status"),
    "Service": ("spec", "status"),
    "EndpointSlice": ("addressType", "endpoints", "ports"),
    "ServiceCIDR": ("spec",),
}
METADATA = ("name", "namespace", "labels", "annotations")


def save(found: list[Case], folder: Path) -> None:
    """Write cases to a folder, in the saved form; without those of many objects, which show nothing more."""
    found = [case for case in found if len(case.items or ()) <= MAX_OBJECTS]
    documents: dict[str, dict[str, Any]] = {}
    for case in found:
        config = documents.get(case.name, {}).get("config", {})
        documents[case.name] = _inputs(case, config)
    for mode in MODES:
        _save_texts([case for case in found if case.mode == mode], _folder_of(folder, mode))
    rows = ",\n".join(f"{json.dumps(name)}: {json.dumps(one)}" for name, one in sorted(documents.items()))
    (folder / OBJECTS).write_text("{\n" + rows + "\n}\n")


def _folder_of(folder: Path, mode: str) -> Path:
    return folder if mode == IPTABLES else folder / mode


def _save_texts(found: list[Case], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    plain = {case.version: _lines(case.real, case.mode) for case in found if case.name == EMPTY}
    texts: dict[str, dict[str, list[str]]] = {}
    for case in found:
        lines = _lines(case.real, case.mode)
        if case.name != EMPTY:
            lines = _changes(plain[case.version], lines)
        lines += sorted(f"~ {' '.join(key)}:" for key in case.emptied)
        texts.setdefault(case.name, {}).setdefault("\n".join(lines), []).append(case.version)
    for name, by_text in texts.items():
        blocks = [f"# kube-proxy {' '.join(versions)}\n{text}\n" for text, versions in by_text.items()]
        (folder / f"{name}.txt").write_text("\n".join(blocks))


def saved_cases(folder: Path, mode: str = IPTABLES) -> dict[str, tuple[Case, list[str]]]:
    """The saved cases of a mode by name, as VERSION/CASE, each with the lines that kube-proxy wrote."""
    documents = json.loads((folder / OBJECTS).read_text())
    found: dict[str, tuple[Case, list[str]]] = {}
    for path in sorted(_folder_of(folder, mode).glob("*.txt"), key=lambda one: one.stem):
        for block in path.read_text().split("# kube-proxy ")[1:]:
            versions, *lines = block.rstrip("\n").split("\n")
            for version in versions.split():
                document = documents[path.stem]
                document = {**document, "config": document["config"][mode]}
                first = found.get(f"{version}/{path.stem.partition('.')[0]}")
                previous = None if first is None else first[0]
                case = Case(version, mode, path.stem, document, tuple(document["items"]), "", previous)
                found[f"{version}/{path.stem}"] = case, [line for line in lines if line]
    return found


def expected_lines(name: str, found: Mapping[str, tuple[Case, list[str]]]) -> list[str]:
    """All lines that kube-proxy wrote in a saved case, without the chains that it deletes later."""
    case, lines = found[name]
    if case.name == EMPTY:
        return lines
    removed = {line[2:] for line in lines if line.startswith("- ")}
    plain = [line for line in found[f"{case.version}/{EMPTY}"][1] if line not in removed]
    return sorted([*plain, *(line[2:] for line in lines if line.startswith("+ "))])


def emptied_chains(lines: list[str]) -> set[tuple[str, ...]]:
    """The chains in a saved case that kube-proxy deletes later."""
    return {tuple(line[2:-1].split()) for line in lines if line.startswith("~ ")}


def modelled_lines(case: Case) -> list[str]:
    """The lines of the model in a case, in the form of `expected_lines`."""
    return _lines(case.modelled, case.mode)


def _lines(chains: Chains, mode: str) -> list[str]:
    """Every chain, and every rule with its number, or without one where the order means nothing."""
    lines = []
    for key, rules in chains.items():
        lines.append(f"{' '.join(key)}:")
        unordered = key[1] in WITH_ELEMENTS if mode == NFTABLES else key[2] in UNORDERED
        for number, one in enumerate(rules, 1):
            is_last = mode == IPTABLES and LAST_RULE in one and number == len(rules)
            place = " last" if is_last and unordered else "" if unordered else f" {number}"
            lines.append(f"{' '.join(key)}{place}: {one}")
    return sorted(lines)


def _changes(plain: list[str], lines: list[str]) -> list[str]:
    gone, new = Counter(plain), Counter(lines)
    return [
        *(f"- {line}" for line in sorted((gone - new).elements())),
        *(f"+ {line}" for line in sorted((new - gone).elements())),
    ]


def _inputs(case: Case, configs: dict[str, Any]) -> dict[str, Any]:
    """What the model reads of a case, with the configurations of the other mode."""
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
    return {"config": {**configs, case.mode: config}, "node_setup": case.document.get("node_setup", []), "items": items}

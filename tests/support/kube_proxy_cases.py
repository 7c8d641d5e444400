"""Hold the kube-proxy model against what the real kube-proxy wrote.

A folder of cases has the shape VERSION/MODE/CASE.json and CASE.txt: the configuration, the node and what was observed,
and the rules as `iptables-save` and `ip6tables-save`, or `nft list ruleset`, printed them. The API objects (`items`)
can be in the file of one version only; they count for the same case of all versions.

In mode nftables a key is (family, kind, name) of an object, and the header of the object is its first line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from ipaddress import ip_interface, ip_network
from pathlib import Path
from typing import Any, Literal

from labctl.core.iptables import rule
from labctl.core.nft_ruleset import WITH_ELEMENTS, parse_ruleset
from labctl.kubernetes.api.api_reader import read_cluster
from labctl.kubernetes.services.kube_proxy_config import NFTABLES, ProxyConfig, Release, read_config
from labctl.kubernetes.services.kube_proxy_iptables import kube_proxy_chains
from labctl.kubernetes.services.kube_proxy_nftables import TABLE, kube_proxy_table

VERSIONS: tuple[tuple[Literal[4, 6], str], ...] = ((4, "ip"), (6, "ip6"))
# the chains in which the order of Services means nothing: kube-proxy writes another one with every sync
UNORDERED = ("KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-EXTERNAL-SERVICES", "KUBE-PROXY-FIREWALL")
LAST_RULE = "this must be the last rule in this chain"
ADDED_ADDRESS = re.compile(r"\baddr add (\S+)")
ADDED_DEVICES = re.compile(r"\b(?:link add(?: name)?|peer name) (?!name\b)(\S+)")
Chains = dict[tuple[str, str, str], list[str]]  # (family, table or kind, chain or other object): its rules


@dataclass(frozen=True)
class Case:
    """One situation in which kube-proxy wrote rules."""

    version: str
    mode: str
    name: str
    document: Mapping[str, Any]
    items: tuple[Mapping[str, Any], ...] | None
    text: str
    previous: Case | None = None  # what kube-proxy had before a change

    def __str__(self) -> str:
        return f"{self.version}/{self.mode}/{self.name}"

    @cached_property
    def real(self) -> Chains:
        """What kube-proxy wrote, without chains that it has emptied and not yet deleted."""
        if self.mode != NFTABLES:
            return parse(self.text)
        found = parse_tables(self.text)
        return {key: lines for key, lines in found.items() if lines or key not in self.gone}

    @cached_property
    def emptied(self) -> list[tuple[str, str, str]]:
        """The chains that kube-proxy has emptied and not yet deleted."""
        found = parse_tables(self.text) if self.mode == NFTABLES else {}
        return [key for key, lines in found.items() if not lines and key in self.gone]

    @cached_property
    def gone(self) -> frozenset[tuple[str, str, str]]:
        """The chains that the model writes in the step before, and not in this one."""
        before = {} if self.previous is None else self.previous.modelled
        return frozenset(key for key in before if key[1] == "chain" and key not in self.modelled)

    @cached_property
    def modelled(self) -> Chains:
        """What the model writes. Raises ValueError."""
        cluster, settings = read_cluster(self.items or ()), self.settings
        found: Chains = {}
        for version, family in VERSIONS:
            if self.mode == NFTABLES:
                for item in kube_proxy_table(cluster, settings, version):
                    found[family, item.kind, item.name] = _object_lines(item.kind, item.header, item.entries)
            else:
                for (table, chain), rules in kube_proxy_chains(cluster, settings, version).items():
                    found[family, table, chain] = [str(rule(text, family)) for text in rules]
        return found

    @property
    def settings(self) -> ProxyConfig:
        """What kube-proxy was told. Raises ValueError."""
        config, document = self.document["config"], self.document
        node = read_cluster(self.items or ()).node(config["hostnameOverride"])
        if node is None:
            raise ValueError(f"no Node {config['hostnameOverride']} among the objects")
        commands = document.get("node_setup", ())
        addresses = [ip_interface(found[1]).ip for one in commands if (found := ADDED_ADDRESS.search(one))]
        devices = [name for one in commands for name in ADDED_DEVICES.findall(one)]
        sysctls = document.get("observed", {}).get("sysctl", {})
        liberal = sysctls.get("net/netfilter/nf_conntrack_tcp_be_liberal") == "1"
        cidrs = [one["spec"]["cidrs"] for one in self.items or () if one["kind"] == "ServiceCIDR"]
        ranges = [ip_network(text) for texts in cidrs for text in texts]
        release = Release.parse(self.version)
        return read_config(
            config, release, node, addresses, be_liberal=liberal, service_cidrs=ranges, devices=("lo", *devices)
        )

    def differences(self) -> Iterator[str]:
        """The rules that only one of both wrote, `-` for the real kube-proxy and `+` for the model, by chain."""
        for key in sorted({*self.real, *self.modelled}):
            real, ours = self.real.get(key), self.modelled.get(key)
            if real is None or ours is None:
                yield f"{'-' if ours is None else '+'} {' '.join(key)}: the chain itself"
            if _normal(key, real or []) == _normal(key, ours or []):
                continue
            only_real = [one for one in real or [] if one not in (ours or [])]
            only_ours = [one for one in ours or [] if one not in (real or [])]
            yield from (f"- {' '.join(key)} {one}" for one in only_real)
            yield from (f"+ {' '.join(key)} {one}" for one in only_ours)
            if not only_real and not only_ours:
                yield f"  {' '.join(key)}: another order, or other repeats"
        if self.mode == NFTABLES and _of_the_table(self.real) != _of_the_table(self.modelled):
            yield "  the objects that are not those of a Service come in another order"


def _normal(key: tuple[str, str, str], rules: list[str]) -> list[str]:
    """The rules in an order that does not depend on that of the Services; a rule that must be the last stays it. The
    elements of sets and maps have no order."""
    if key[1] in WITH_ELEMENTS:
        return sorted(rules)
    return sorted(rules, key=lambda one: (LAST_RULE in one, one)) if key[2] in UNORDERED else rules


def _of_the_table(found: Chains) -> list[tuple[str, str, str]]:
    return [key for key in found if "/" not in key[2]]


def _object_lines(kind: str, header: Iterable[str], entries: Iterable[str]) -> list[str]:
    """The header and the entries of an object of nft; the elements of sets and maps sorted."""
    lines = [f"is {one}" for one in header]
    return [*lines, *(sorted(entries) if kind in WITH_ELEMENTS else entries)]


def parse_tables(text: str) -> Chains:
    """The objects of kube-proxy's tables in the output of `nft list ruleset`, and of all other tables."""
    found: Chains = {}
    for item in parse_ruleset("", text):
        family, _, table = item.table.partition(" ")
        name = item.name if table == TABLE else f"{table}/{item.name}"
        found[family, item.kind, name] = _object_lines(item.kind, item.header, item.entries)
    return found


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
    made: dict[tuple[str, str, str], Case] = {}
    for path, document in documents.items():
        objects = document.get("items", items.get(path.stem))
        text = path.with_suffix(".txt").read_text()
        case = Case(path.parts[-3], path.parts[-2], path.stem, document, objects and tuple(objects), text)
        first = made.get((case.version, case.mode, path.stem.partition(".")[0]))
        if first is not None and first is not case:
            case = replace(case, previous=first)
        made.setdefault((case.version, case.mode, path.stem), case)
        yield case

"""The findings of `doctor`: each is ok, a warning or something missing, with its fix. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from labctl.core.features import remedy
from labctl.core.text import count

if TYPE_CHECKING:
    from labctl.core.fidelity import Fidelity
    from labctl.kernel.host_facts import HostFacts

MODULES = {
    "packet capture": "af_packet",
    "iptables legacy": "ip_tables iptable_filter iptable_nat",
    "iptables nft": "nf_tables nft_compat nft_chain_nat",
    "bridged packets to iptables": "br_netfilter",
}
REQUIRED_FEATURES = ("network namespace", "veth", "bridge", "packet capture")
OTHER_FIREWALL = {"iptables legacy": "iptables nft", "iptables nft": "iptables legacy"}  # one of them is enough
PACKAGES = {
    "ip": "iproute2",
    "iptables-legacy": "iptables",
    "iptables-nft": "iptables",
    "ebtables": "ebtables",
    "ping": "iputils-ping",
    "tcpdump": "tcpdump",
}
REQUIRED_TOOLS = ("ping",)
NEARLY_FULL = 0.8  # of the limit of a neighbour table
MIN_OPEN_FILES = 4096  # open files: more than a lab of a thousand containers needs


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `doctor`: what was checked, its state, a short detail, and the fix."""

    subject: str
    state: Literal["ok", "warn", "missing"]
    detail: str = ""
    fix: str = ""


def findings(facts: HostFacts, needing: Mapping[str, Iterable[str]] | None = None) -> tuple[Finding, ...]:
    """All findings about a machine, in the order in which to fix them.

    `needing` has the models that need a feature, for features that not every kernel has.
    """
    return (
        _root(facts),
        *_features(facts, needing or {}),
        *_tools(facts),
        *_libraries(facts),
        _plugins(facts),
        _firewall(facts),
        *_neighbours(facts),
        _files(facts),
        *_leftovers(facts),
    )


def _root(facts: HostFacts) -> Finding:
    if facts.root:
        return Finding("root", "ok")
    detail = "labs are namespaces, which root creates, or a user with --rootless"
    return Finding("root", "missing", detail, "sudo labctl doctor, or without root: labctl --rootless doctor")


def needed_link_kinds(parts: Mapping[str, Iterable[Fidelity]]) -> dict[str, tuple[str, ...]]:
    """The link kinds that models need and not every kernel has, each with its models; `parts` has all models' parts."""
    found: dict[str, tuple[str, ...]] = {}
    for model, model_parts in parts.items():
        for part in model_parts:
            if part.grade == "needs" and not part.feature.startswith("-"):
                otherwise = " (unless up --approximate)" if part.substitute else ""
                found[part.feature] = (*found.get(part.feature, ()), model + otherwise)
    return found


def _features(facts: HostFacts, needing: Mapping[str, Iterable[str]]) -> Iterator[Finding]:
    for name, problem in facts.features.items():
        needed = f"; needed by {', '.join(needing[name])}" if name in needing else ""
        if not problem:
            yield Finding(name, "ok", "works" + needed)
            continue
        fix = f"modprobe {MODULES[name]}" if MODULES.get(name) else remedy(name, problem)
        if name == "network namespace":
            fix = "run on a kernel, or in a container, that allows unshare(2)"
        if name == "bridged packets to iptables":
            problem = "br_netfilter is not loaded; labctl loads it when a lab needs it"
            fix = "modprobe br_netfilter, which sets bridge-nf-call-iptables=1 for the machine's own bridges too"
        necessary = name in REQUIRED_FEATURES or (
            name in OTHER_FIREWALL and facts.features.get(OTHER_FIREWALL[name], "") != ""
        )
        if name in OTHER_FIREWALL and not necessary:
            problem += f"; labs use {OTHER_FIREWALL[name]}"
        yield Finding(name, "missing" if necessary else "warn", problem + needed, fix)
    for name, modules in facts.unloaded_modules.items():
        needed = f"; needed by {', '.join(needing[name])}" if name in needing else ""
        detail = f"not tried, because that might load {', '.join(modules)}; labctl loads it when a lab needs it"
        yield Finding(name, "ok", detail + needed)


def _tools(facts: HostFacts) -> Iterator[Finding]:
    for name, path in facts.tools.items():
        if path and name == "tcpdump" and facts.only_root_user:
            detail = f"{path} switches to another user, and there is none here; labctl capture works without"
            yield Finding(
                name, "warn", detail, "apt-get install uidmap, and add lines for you to /etc/subuid and /etc/subgid"
            )
        elif path:
            yield Finding(name, "ok", path)
        else:
            other = {"iptables-legacy": "iptables-nft", "iptables-nft": "iptables-legacy"}.get(name)
            necessary = name in REQUIRED_TOOLS or (other is not None and not facts.tools.get(other))
            state: Literal["warn", "missing"] = "missing" if necessary else "warn"
            yield Finding(name, state, "not found", f"apt-get install {PACKAGES[name]}")


def _libraries(facts: HostFacts) -> Iterator[Finding]:
    missing = [name for name, importable in facts.libraries.items() if not importable]
    if missing:
        packages = " ".join({"iptc": "python-iptables", "yaml": "PyYAML"}.get(name, name) for name in missing)
        yield Finding("Python libraries", "missing", ", ".join(missing), f"pip install {packages}")
    elif facts.libraries:
        yield Finding("Python libraries", "ok", ", ".join(facts.libraries))


def _plugins(facts: HostFacts) -> Finding:
    if facts.cni_plugin_dir:
        return Finding("CNI plugins", "ok", facts.cni_plugin_dir)
    detail = "not found; only labs of the model cni need them"
    return Finding("CNI plugins", "warn", detail, "apt-get install containernetworking-plugins")


def _firewall(facts: HostFacts) -> Finding:
    variant = {"nft": "`iptables` is iptables-nft", "legacy": "`iptables` is iptables-legacy"}.get(
        facts.iptables_variant, ""
    )
    used = (
        f"legacy tables in use: {', '.join(facts.legacy_tables)}" if facts.legacy_tables else "no legacy tables in use"
    )
    backends = [
        name.partition(" ")[2]
        for name in OTHER_FIREWALL
        if facts.features.get(name) == "" or name in facts.unloaded_modules
    ]
    labs = f"labs use iptables-{backends[0]} in their namespaces" if backends else ""
    labs += f" (--firewall {backends[1]} works too)" if len(backends) > 1 else ""
    detail = "; ".join(text for text in (variant, used, labs) if text)
    return Finding("firewall of this machine", "ok", detail)


def _neighbours(facts: HostFacts) -> Iterator[Finding]:
    if not facts.neighbour_tables:
        yield Finding("neighbour table", "ok", "it cannot be seen from this namespace")
    for table in facts.neighbour_tables:
        name = f"neighbour table IPv{table.version}"
        entries = count(table.entry_count, "entry")
        detail = f"limit {table.limit} for all labs together, {entries} (permanent ones do not count)"
        if table.full_count:
            detail += f"; it was full {table.full_count} times since boot: packets were lost"
            yield Finding(name, "warn", detail, table.raise_command)
        elif table.entry_count > table.limit * NEARLY_FULL:
            yield Finding(name, "warn", f"{detail}: nearly full", table.raise_command)
        else:
            yield Finding(name, "ok", detail)


def _files(facts: HostFacts) -> Finding:
    soft, hard = facts.open_file_limits
    detail = f"{soft} now, {'no limit' if hard < 0 else hard} at most"
    if 0 <= hard < MIN_OPEN_FILES:
        return Finding("open files", "warn", f"{detail}: too few for large labs", f"ulimit -Hn {MIN_OPEN_FILES * 4}")
    return Finding("open files", "ok", detail)


def _leftovers(facts: HostFacts) -> Iterator[Finding]:
    for lab in facts.labs_without_record:
        yield Finding(
            f"lab {lab}", "warn", "runs, but labctl's record of it is lost", f"{facts.command_prefix} down {lab}"
        )
    for lab in facts.records_without_namespace:
        yield Finding(f"lab {lab}", "warn", "has a record, but no namespaces", f"{facts.command_prefix} down {lab}")
    if not facts.labs_without_record and not facts.records_without_namespace:
        running = f"{len(facts.labs)} running, " if facts.labs else ""
        yield Finding("labs", "ok", f"{running}no leftovers")

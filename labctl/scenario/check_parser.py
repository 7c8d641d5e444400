"""The section `checks`, in two steps: `read_checks` makes `Check` objects of what was read; after the lab is compiled,
`resolve` verifies that the names in them exist."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from labctl.core.names import did_you_mean, is_address, summarize_names
from labctl.core.probe_kinds import PROBE_KINDS, ProbeKind, probe_kind
from labctl.core.resources import Address, Attachment, Interface, Link
from labctl.core.scenario_types import Check, Lab, OpenConnections, Scenario, See
from labctl.scenario.document import Position, Reader
from labctl.scenario.field_types import Located, suggest

_KIND_BY_KEY = {kind.key: kind for kind in PROBE_KINDS.values() if kind.key}
_VALUE_KEYS = (
    "expect", "listen", "within", "via", "size", "pairs", "sticky", "connections", "host", "path", "status",
    "forwarded_for",
)  # fmt: skip
_SPECIAL_KEYS = tuple(dict.fromkeys(key for kind in PROBE_KINDS.values() for key in kind.check_keys))


@dataclass(frozen=True, slots=True)
class LocatedCheck:
    """A check and the values read for it, with their positions, so that its names can be verified later."""

    check: Check
    located: dict[str, Located]


def read_checks(rows: Iterable[Located], pods: tuple[str, ...], reader: Reader) -> list[LocatedCheck]:
    """Make checks of what was read. A check with an invalid probe is left out."""
    placed = []
    for item in rows:
        found: dict[str, Located] = item.value
        kind = next((kind for key, kind in _KIND_BY_KEY.items() if key in found), None)
        if kind is None:
            continue
        _check_keys(kind, found, reader)
        problem = kind.problem(pods)
        if problem is not None:
            reader.add_problem(found[kind.key].at, f"{found[kind.key].label}: {problem[0]}", problem[1])
        placed.append(LocatedCheck(_check(kind, found, pods), found))
    return placed


def _check_keys(kind: ProbeKind, found: dict[str, Located], reader: Reader) -> None:
    """Report the keys that do not apply to this kind of probe."""
    expect = found.get("expect")
    if expect is not None and expect.value not in kind.expects:
        what = f"expect: {expect.value!r} is not possible for {found[kind.key].label}"
        reader.add_problem(expect.at, what, f"it can be {' or '.join(kind.expects)}")
    for key in _SPECIAL_KEYS:
        if key in found and key not in kind.check_keys:
            able = ", ".join(name for name, other in _KIND_BY_KEY.items() if key in other.check_keys)
            what = f"{key!r} does not apply to {found[kind.key].label}"
            reader.add_problem(found[key].key, what, f"it is for {able}")
    for key in kind.needed_keys:
        if key not in found:
            reader.add_problem(found[kind.key].key, f"{found[kind.key].label} needs {key!r}", "such as [b, c]")
    if "sticky" in found and found["sticky"].value and "answered_by" in found and len(found["answered_by"].value) == 1:
        hint = "with one machine every connection has the same one"
        reader.add_problem(found["sticky"].key, "sticky needs two machines in 'answered_by'", hint)
    for key in ("host", "path"):
        if key in found and kind.name == "balance" and found[kind.key].value[2].protocol != "tcp":
            reader.add_problem(found[key].key, f"{key!r} does not apply to datagrams", "they carry no HTTP request")
    for see in (item.value for key in ("see", "not see") if key in found for item in found[key].value):
        if "sport" in see and (kind.key == "ping" or ("packet" in see and see["packet"].value == "arp")):
            reader.add_problem(see["sport"].key, "'sport' does not apply to this packet", "ICMP and ARP have no ports")
        if "packet" in see and see["packet"].value == "arp":
            if "dst" not in see:
                reader.add_problem(see["packet"].at, "packet: arp needs a dst", "name the neighbour that is asked for")
            if "ttl" in see:
                reader.add_problem(see["ttl"].key, "'ttl' does not apply to arp", "no router forwards it")


def _check(kind: ProbeKind, found: dict[str, Located], pods: tuple[str, ...]) -> Check:
    given: dict[str, Any] = {key: found[key].value for key in _VALUE_KEYS if key in found}
    given |= {key: tuple(one.value for one in found[key].value) for key in ("answered_by", "saw") if key in found}
    if "saw" in given:
        given["saw"] = tuple(map(str, given["saw"]))
    if kind.has_path:
        given["sees"] = tuple(_sees(found))
        if isinstance(given.get("listen"), tuple):
            given |= {"listen": True, "server": given["listen"]}
    check = Check("", kind.name, **kind.fields(found[kind.key].value, pods), **given)
    if "while_open" in found:
        check = replace(check, while_open=_open_connections(found["while_open"].value, check))
    say = found["say"].value if "say" in found else ""
    return replace(check, say=say or kind.sentence(check))


def _open_connections(value: Any, check: Check) -> OpenConnections | None:
    """The connections that stay open: a number of them with the ends of the check, or those that a section names."""
    if isinstance(value, int):
        return OpenConnections(value, check.source, check.target, check.port or 0)
    if not {"count", "tcp"} <= value.keys():
        return None  # reported when it was read
    (source, _), (target, port) = value["tcp"].value
    return OpenConnections(value["count"].value, source, str(target), port)


def _sees(found: dict[str, Located]) -> Iterator[See]:
    for key in ("see", "not see"):
        for item in found[key].value if key in found else ():
            values = {name: part.value for name, part in item.value.items()}
            if "at" in values:
                yield See(negate=key == "not see", **values)


def scenario_pods(scenario: Scenario) -> tuple[str, ...]:
    """The pods (or containers) of a mesh; in a raw scenario, the namespaces with these roles."""
    if scenario.raw_machines:
        return tuple(item.name for item in scenario.raw_machines if item.role in ("pod", "container"))
    return tuple(pod for _, pod in scenario.pods)


def resolve(lab: Lab, located_checks: Iterable[LocatedCheck], reader: Reader) -> None:
    """Report every name in the checks that does not exist in the compiled lab, with its position."""
    names = NameChecker(lab, reader)
    for item in located_checks:
        names.verify(item)


class NameChecker:
    """The names that checks can use: the machines, points and addresses of a compiled lab."""

    def __init__(self, lab: Lab, reader: Reader) -> None:
        self.reader = reader
        self.machines = {machine.name: machine for machine in lab.machines}
        self.virtual_names = {name for one in lab.virtual_addresses for name in one.names}
        self.interfaces = {item.at for item in lab.plan if isinstance(item, Link)}
        self.interfaces_with_address = {item.at for item in lab.plan if isinstance(item, Address)}
        self.plugin_pods: set[str] = set()  # machines that get their addresses from CNI plugins
        self.plugin_nodes: set[str] = set()  # nodes where third-party plugins create devices
        for item in lab.plan:
            if isinstance(item, Attachment):
                self._add_attachment(item)

    def _add_attachment(self, item: Attachment) -> None:
        """Add the devices that plugins will create, as far as they are known: the pod's device, the list's bridges."""
        from labctl.cni.conflist import Conflist
        from labctl.cni_runtime.invocation import REFERENCE

        conflist = Conflist(item.conflist)
        interfaces = {item.at, *(Interface(item.node, name) for name in conflist.bridges)}
        self.interfaces |= interfaces
        self.interfaces_with_address |= interfaces
        self.plugin_pods.add(item.pod)
        if not REFERENCE.issuperset(conflist.config_list.types):
            self.plugin_nodes.add(item.node)

    def verify(self, located_check: LocatedCheck) -> None:
        """Report every name of a check that does not exist in the lab."""
        check, found = located_check.check, located_check.located
        kind = probe_kind(check)
        probe = found[kind.key]
        if "source" in kind.endpoints:
            self.machine(check.source, probe.label, probe.at)
        if "target" in kind.endpoints:
            self.target(check.target, probe.label, probe.at)
        if check.while_open is not None and isinstance(ends := found["while_open"].value, dict):
            self.machine(check.while_open.source, "while_open", ends["tcp"].at)
            self.target(check.while_open.target, "while_open", ends["tcp"].at)
        if check.server is not None:
            self.machine(check.server[0], "listen", found["listen"].at)
        for item in found["answered_by"].value if "answered_by" in found else ():
            self.machine(item.value[0], "answered_by", item.at)
        for item in found["saw"].value if "saw" in found else ():
            self.target(str(item.value), "saw", item.at)
        if "forwarded_for" in found:
            self.target(check.forwarded_for, "forwarded_for", found["forwarded_for"].at)
        for key in ("see", "not see"):
            for item in found[key].value if key in found else ():
                see: dict[str, Located] = item.value
                if "at" in see:
                    self.interface(see["at"].value, "at", see["at"].at)
                for end in ("src", "dst"):
                    if end in see:
                        self.target(see[end].value, end, see[end].at)

    def machine(self, name: str, label: str, at: Position) -> bool:
        """Report a machine that does not exist; returns whether it does."""
        if name in self.machines:
            return True
        hint = suggest(name, self.machines) or f"the machines are {summarize_names(tuple(self.machines))}"
        self.reader.add_problem(at, f"{label}: there is no machine {name!r}", hint)
        return False

    def interface(self, interface: Interface, label: str, at: Position) -> bool:
        """Report a point that does not exist; returns whether it does."""
        if interface in self.interfaces or interface.ns in self.plugin_nodes:
            return True
        if self.machine(interface.ns, label, at):
            devices = sorted(item.dev for item in self.interfaces if item.ns == interface.ns)
            hint = did_you_mean(interface.dev, devices, quote=lambda dev: f"'{interface.ns}/{dev}'")
            hint = hint or f"{interface.ns} has {summarize_names(devices)}"
            self.reader.add_problem(at, f"{label}: {interface.ns} has no device {interface.dev!r}", hint)
        return False

    def target(self, text: str, label: str, at: Position) -> None:
        """Report a machine, point or Service that does not exist, or has no address."""
        ns, slash, dev = text.partition("/")
        if slash:
            interface = Interface(ns, dev)
            if (
                self.interface(interface, label, at)
                and interface not in self.interfaces_with_address
                and ns not in self.plugin_nodes
            ):
                self.reader.add_problem(at, f"{label}: {interface} has no address")
        elif text in self.virtual_names:
            return
        elif not is_address(text) and self.machine(text, label, at) and not self._has_address(text):
            self.reader.add_problem(at, f"{label}: {text} has no address", "name a point or an address")

    def _has_address(self, name: str) -> bool:
        return bool(self.machines[name].addresses) or name in self.plugin_pods

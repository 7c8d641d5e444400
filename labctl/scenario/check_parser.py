"""The section `checks`, in two steps: `read_checks` makes `Check` objects of what was read; after the lab is compiled,
`resolve` verifies that the names in them exist."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from labctl.cni.conflist import Conflist
from labctl.cni_runtime.invocation import REFERENCE
from labctl.core.names import did_you_mean, summarize_names
from labctl.core.resources import Address, Attachment, Interface, Link
from labctl.core.scenario_types import Check, Lab, Scenario, See
from labctl.scenario.document import Position, Reader
from labctl.scenario.field_types import Located, suggest
from labctl.scenario.language import PROBES

_ALLOWED_EXPECT = {
    "ping": ("reply", "fail"),
    "tcp": ("reply", "refused", "timeout"),
    "udp": ("reply", "refused", "timeout"),
    "mesh": ("reply",),
    "taken": ("reply",),
}
_PROBES_BY_KEY = {
    "listen": ("tcp", "udp"),
    "size": PROBES[:1],
    "see": PROBES[:3],
    "not see": PROBES[:3],
    "via": PROBES[:3],
}


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
        probe = next((name for name in PROBES if name in found), None)
        if probe is None:
            continue
        _check_keys(probe, found, reader)
        if probe == "mesh" and len(pods) < 2:
            reader.add_problem(found["mesh"].at, "mesh: a mesh needs at least two pods", f"here: {len(pods)}")
        placed.append(LocatedCheck(_check(probe, found, pods), found))
    return placed


def _check_keys(probe: str, found: dict[str, Located], reader: Reader) -> None:
    """Report the keys that do not apply to this probe."""
    expect = found.get("expect")
    if expect is not None and expect.value not in _ALLOWED_EXPECT[probe]:
        what = f"expect: {expect.value!r} is not possible for {probe}"
        hint = f"it can be {' or '.join(_ALLOWED_EXPECT[probe])}"
        reader.add_problem(expect.at, what, hint)
    for key, probes in _PROBES_BY_KEY.items():
        if key in found and probe not in probes:
            reader.add_problem(found[key].key, f"{key!r} does not apply to {probe}", f"it is for {', '.join(probes)}")
    for see in (item.value for key in ("see", "not see") if key in found for item in found[key].value):
        if "packet" in see and see["packet"].value == "arp":
            if "dst" not in see:
                reader.add_problem(see["packet"].at, "packet: arp needs a dst", "name the neighbour that is asked for")
            if "ttl" in see:
                reader.add_problem(see["ttl"].key, "'ttl' does not apply to arp", "no router forwards it")


def _check(probe: Any, found: dict[str, Located], pods: tuple[str, ...]) -> Check:
    given: dict[str, Any] = {
        key: found[key].value for key in ("expect", "listen", "within", "via", "size", "say") if key in found
    }
    sees = tuple(_sees(found))
    if probe == "mesh":
        say = given.pop("say", "every pod reaches every pod and is seen with its own address")
        return Check(say, "mesh", groups=((pods, pods),), **given)
    if probe == "taken":
        machine, listen = found[probe].value
        say = given.pop("say", f"port {listen} of {machine} is in use")
        return Check(say, "taken", machine, machine, listen.port, protocol=listen.protocol, **given)
    if isinstance(given.get("listen"), tuple):
        given |= {"listen": True, "server": given["listen"]}
    source, target, port = found[probe].value
    say = given.pop("say", None)
    check = Check("", probe, source, str(target), port, sees=sees, **given)
    return Check(say or sentence(check), probe, source, str(target), port, sees=sees, **given)


def _sees(found: dict[str, Located]) -> Iterator[See]:
    for key in ("see", "not see"):
        for item in found[key].value if key in found else ():
            values = {name: part.value for name, part in item.value.items()}
            if "at" in values:
                yield See(negate=key == "not see", **values)


def sentence(check: Check) -> str:
    """A sentence for a check without `say`."""
    source, target, suffix = check.source, check.target, "" if check.size is None else f" with {check.size} bytes"
    if check.port is not None:
        suffix = f" on {check.probe} port {check.port}"
    verb = {
        "reply": f"{source} reaches {target}{suffix}",
        "fail": f"{source} does not reach {target}{suffix}",
        "refused": f"{target} refuses {source}{suffix}",
        "timeout": f"{source} gets no answer from {target}{suffix}",
    }[check.expect]
    return verb + "".join(_see_clause(see) for see in check.sees)


def _see_clause(see: See) -> str:
    parts = []
    if see.src or see.dst:
        parts.append(f"as {see.src or 'any'} > {see.dst or 'any'}")
    if see.ttl:
        parts.append(f"with ttl {see.ttl}")
    if see.encap:
        parts.append("without a tunnel" if see.encap == "none" else f"in {see.encap}")
    if see.outer_src or see.outer_dst:
        parts.append(f"in a tunnel {see.outer_src or 'any'} > {see.outer_dst or 'any'}")
    if see.direction:
        parts.append("entering" if see.direction == "in" else "leaving")
    kind = {"request": ",", "reply": ", its reply", "arp": ", a neighbour request"}[see.packet]
    return f"{kind} {'not ' if see.negate else ''}seen at {see.at}" + "".join(f" {part}" for part in parts)


def scenario_pods(scenario: Scenario) -> tuple[str, ...]:
    """The pods (or containers) of a mesh; in a raw scenario, the namespaces with these roles."""
    if scenario.raw_machines:
        return tuple(item.name for item in scenario.raw_machines if item.role in ("pod", "container"))
    return tuple(pod for _, pod in scenario.pods)


def resolve(lab: Lab, located_checks: Iterable[LocatedCheck], reader: Reader) -> None:
    """Report every name in the checks that does not exist in the compiled lab, with its position."""
    names = _NameChecker(lab, reader)
    for item in located_checks:
        names.verify(item)


class _NameChecker:
    """The names that checks can use: the machines, points and addresses of a compiled lab."""

    def __init__(self, lab: Lab, reader: Reader) -> None:
        self.reader = reader
        self.machines = {machine.name: machine for machine in lab.machines}
        self.interfaces = {item.at for item in lab.plan if isinstance(item, Link)}
        self.interfaces_with_address = {item.at for item in lab.plan if isinstance(item, Address)}
        self.plugin_pods: set[str] = set()  # machines that get their addresses from CNI plugins
        self.plugin_nodes: set[str] = set()  # nodes where third-party plugins create devices
        for item in lab.plan:
            if isinstance(item, Attachment):
                self._add_attachment(item)

    def _add_attachment(self, item: Attachment) -> None:
        """Add the devices that plugins will create, as far as they are known: the pod's device, the list's bridges."""
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
        if check.probe != "mesh":
            at = found[check.probe].at
            self._machine(check.source, check.probe, at)
            if check.probe != "taken":
                self._target(check.target, check.probe, at)
        if check.server is not None:
            self._machine(check.server[0], "listen", found["listen"].at)
        for key in ("see", "not see"):
            for item in found[key].value if key in found else ():
                see: dict[str, Located] = item.value
                if "at" in see:
                    self._interface(see["at"].value, "at", see["at"].at)
                for end in ("src", "dst"):
                    if end in see:
                        self._target(see[end].value, end, see[end].at)

    def _machine(self, name: str, label: str, at: Position) -> bool:
        if name in self.machines:
            return True
        hint = suggest(name, self.machines) or f"the machines are {summarize_names(tuple(self.machines))}"
        self.reader.add_problem(at, f"{label}: there is no machine {name!r}", hint)
        return False

    def _interface(self, interface: Interface, label: str, at: Position) -> bool:
        if interface in self.interfaces or interface.ns in self.plugin_nodes:
            return True
        if self._machine(interface.ns, label, at):
            devices = sorted(item.dev for item in self.interfaces if item.ns == interface.ns)
            hint = did_you_mean(interface.dev, devices, quote=lambda dev: f"'{interface.ns}/{dev}'")
            hint = hint or f"{interface.ns} has {summarize_names(devices)}"
            self.reader.add_problem(at, f"{label}: {interface.ns} has no device {interface.dev!r}", hint)
        return False

    def _target(self, text: str, label: str, at: Position) -> None:
        ns, slash, dev = text.partition("/")
        if slash:
            interface = Interface(ns, dev)
            if (
                self._interface(interface, label, at)
                and interface not in self.interfaces_with_address
                and ns not in self.plugin_nodes
            ):
                self.reader.add_problem(at, f"{label}: {interface} has no address")
        elif not _is_address(text) and self._machine(text, label, at) and not self._has_address(text):
            self.reader.add_problem(at, f"{label}: {text} has no address", "name a point or an address")

    def _has_address(self, name: str) -> bool:
        return bool(self.machines[name].addresses) or name in self.plugin_pods


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True

"""Faults of destination NAT: published ports whose DNAT rule is missing, shadowed, or leads to the wrong place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import ip_address

from labctl.core.diff import Change
from labctl.core.resources import Chain, Process, Sysctl
from labctl.core.sentence import sentence
from labctl.faults.chain_changes import insert_rule, rules_with_target, with_rule, without_rule
from labctl.faults.claimed_paths import (
    ClaimedPath,
    claimed_paths,
    namespaces_by_role,
    paths_through,
    probes,
    unused_address,
)
from labctl.faults.fault import ExpectedCause, Fault, FaultKind
from labctl.faults.lab_objects import LabObjects

PORT = 8080  # the port of a DNAT rule in a lab that publishes none
LOOPBACK = "127.0.0.1"


def _published(objects: LabObjects, *, translated: bool) -> Iterator[tuple[Chain, int, ClaimedPath]]:
    """The DNAT rules behind which a check claims a server: their chain, their number, and the check's probe.

    Left out are those of machines where a program takes the packets with the fault: docker-proxy, and if they are not
    `translated`, those of Docker's daemon and of Podman's conmon, which listen on published ports.
    """
    for ns in namespaces_by_role(objects):
        programs = {process.command[0] for process in objects.all(Process, ns)}
        if "docker-proxy" in programs or (programs & {"dockerd", "conmon"} and not translated):
            continue
        for chain, number in rules_with_target(objects, ns, "nat", "PREROUTING", lambda one: one.target == "DNAT"):
            for one in claimed_paths(objects):
                if one.source != ns and ns in one.namespaces and _leads_to(objects, chain, number, one):
                    yield chain, number, one
                    break


def _leads_to(objects: LabObjects, chain: Chain, number: int, one: ClaimedPath) -> bool:
    found = chain.rules[number]
    target, ports, protocol = found.option("--to-destination"), found.option("--dport"), found.option("-p")
    if one.server is None or target is None or ports is None or protocol is None or one.port is None:
        return False
    name, port = one.server
    wanted = {f"{ip}:{port}" for ip in objects.topology.possible_addresses(name)}
    at = found.option("-d")
    fits = at is None or str(one.target_ip) == at.values[0].partition("/")[0]
    return fits and target.values[0] in wanted and ports.values[0] == str(one.port) and protocol.values[0] == one.probe


def _server(one: ClaimedPath) -> tuple[str, int]:
    return one.server if one.server is not None else ("", 0)


def _faults(
    kind: str,
    change: Callable[[LabObjects, Chain, int, ClaimedPath], tuple[tuple[Change, ...], tuple[str, ...]]],
    kinds: tuple[str, ...],
    *,
    translated: bool,
) -> Callable[[LabObjects], Iterator[Fault]]:
    def find(objects: LabObjects) -> Iterator[Fault]:
        for chain, number, one in _published(objects, translated=translated):
            changes, names = change(objects, chain, number, one)
            causes = (ExpectedCause(kinds, names),)
            symptoms = (ExpectedCause(("neighbour",), names[1:]),)
            name = f"{chain.ns}/nat/{chain.name}/{number + 1}"
            yield Fault(kind, name, changes, causes, probes((one,)), symptoms)

    return find


def _missing(
    objects: LabObjects, chain: Chain, number: int, one: ClaimedPath
) -> tuple[tuple[Change, ...], tuple[str, ...]]:
    return (without_rule(chain, number),), (chain.ns, str(one.port))


def _shadowed(
    objects: LabObjects, chain: Chain, number: int, one: ClaimedPath
) -> tuple[tuple[Change, ...], tuple[str, ...]]:
    text = f"-p {one.probe} -m {one.probe} --dport {one.port} -j ACCEPT"
    return (insert_rule(objects, chain.ns, "nat", "PREROUTING", text),), (chain.ns, str(one.port))


def _to(
    objects: LabObjects, chain: Chain, number: int, one: ClaimedPath, address: str, port: int
) -> tuple[Change, ...]:
    """The DNAT rule with another destination, and with it the rule of a filter that accepts only the old one."""
    words = str(chain.rules[number])
    new = f"{words[: words.index('-j DNAT')]} -j DNAT --to-destination {address}:{port}"
    changes = [with_rule(chain, number, new)]
    name, old_port = _server(one)
    old = {f"{ip}/32" for ip in objects.topology.possible_addresses(name)}
    for found, place in rules_with_target(objects, chain.ns, "filter", "FORWARD", lambda item: item.target == "ACCEPT"):
        item = found.rules[place]
        at, ports, protocol = item.option("-d"), item.option("--dport"), item.option("-p")
        if at is None or ports is None or protocol is None or protocol.values[0] != one.probe:
            continue
        if at.values[0] in old and ports.values[0] == str(old_port):
            text = (
                str(item)
                .replace(f"-d {at.values[0]}", f"-d {address}/32")
                .replace(f"--dport {old_port}", f"--dport {port}")
            )
            changes.append(with_rule(found, place, text))
            break
    return tuple(changes)


def _dead(
    objects: LabObjects, chain: Chain, number: int, one: ClaimedPath
) -> tuple[tuple[Change, ...], tuple[str, ...]]:
    name, port = _server(one)
    near = objects.topology.address_of(name, 4)
    address = unused_address(objects, near if near is not None else ip_address("192.0.2.1"))
    return _to(objects, chain, number, one, str(address), port), (chain.ns, str(address))


def _wrong_port(
    objects: LabObjects, chain: Chain, number: int, one: ClaimedPath
) -> tuple[tuple[Change, ...], tuple[str, ...]]:
    name, port = _server(one)
    address = objects.topology.address_of(name, 4)
    return _to(objects, chain, number, one, str(address), port + 1), (name, str(port + 1))


def _to_loopback(objects: LabObjects) -> Iterator[Fault]:
    """A DNAT rule to 127.0.0.1, on a machine that does not allow it (route_localnet)."""
    for ns in namespaces_by_role(objects):
        paths = [one for one in paths_through(objects, ns, "received") if one.probe == "ping"]
        if not paths or objects.is_leaf(ns) or _route_localnet(objects, ns):
            continue
        text = f"-p tcp -m tcp --dport {PORT} -j DNAT --to-destination {LOOPBACK}:{PORT}"
        change = insert_rule(objects, ns, "nat", "PREROUTING", text)
        causes = (ExpectedCause(("martian",), (ns, LOOPBACK, "route_localnet")),)
        symptoms = (ExpectedCause(("martian",), (ns,)),)
        traffic = probes(paths, protocols=("tcp",), port=PORT)
        yield Fault("dnat-to-loopback", f"{ns}/nat/PREROUTING", (change,), causes, traffic, symptoms)


def _route_localnet(objects: LabObjects, ns: str) -> bool:
    """Whether a device there may receive packets to 127.0.0.0/8."""
    return any(one.name.endswith(".route_localnet") and one.value == "1" for one in objects.all(Sysctl, ns))


def _dead_new(objects: LabObjects) -> Iterator[Fault]:
    """The same in a lab that publishes no port: a rule for one port of a machine, to an address that nothing has."""
    for ns in namespaces_by_role(objects):
        paths = [one for one in paths_through(objects, ns, "received") if one.probe == "ping"]
        if not paths or objects.is_leaf(ns) or ns not in objects.routers:
            continue
        address = unused_address(objects, paths[0].target_ip)
        text = f"-p tcp -m tcp --dport {PORT} -j DNAT --to-destination {address}:{PORT}"
        change = insert_rule(objects, ns, "nat", "PREROUTING", text)
        causes = (
            ExpectedCause(("dead-backend",), (ns, str(address))),
            # it leaves the machine again, and a router refuses it
            ExpectedCause(("no-route", "rule"), (ns, "rewrote the destination", str(address))),
        )
        symptoms = (ExpectedCause(("neighbour", "no-route"), (str(address),)),)
        traffic = probes(paths, protocols=("tcp",), port=PORT)
        yield Fault("dnat-dead-target", f"{ns}/nat/PREROUTING", (change,), causes, traffic, symptoms)


def _dead_target(objects: LabObjects) -> Iterator[Fault]:
    yield from _faults("dnat-dead-target", _dead, ("dead-backend",), translated=True)(objects)
    yield from _dead_new(objects)


KINDS: tuple[FaultKind, ...] = (
    FaultKind(
        "dnat-missing",
        sentence("The DNAT rule of a published port is missing."),
        sentence("The port is closed on the machine that publishes it."),
        # a router before the machine may have translated the packet to it: then no server is behind that translation
        _faults("dnat-missing", _missing, ("closed-port", "dead-backend"), translated=False),
    ),
    FaultKind(
        "dnat-shadowed",
        sentence("An ACCEPT at the beginning of nat/PREROUTING takes the packets before the DNAT rule sees them."),
        sentence("The port is closed on the machine that publishes it, though the DNAT rule is there."),
        _faults("dnat-shadowed", _shadowed, ("closed-port", "dead-backend", "rule"), translated=False),
    ),
    FaultKind(
        "dnat-dead-target",
        sentence("A DNAT rule leads to an address that no machine has."),
        sentence("The machine asks for the address by ARP and gets no answer."),
        _dead_target,
    ),
    FaultKind(
        "dnat-wrong-port",
        sentence("A DNAT rule leads to a port on which nothing listens."),
        sentence("The connection is refused by the container, not by the machine that publishes the port."),
        _faults("dnat-wrong-port", _wrong_port, ("dead-backend", "closed-port", "rule"), translated=True),
    ),
    FaultKind(
        "dnat-to-loopback",
        sentence("A DNAT rule leads to 127.0.0.1, and route_localnet is off."),
        sentence("The kernel discards the packet as a martian when it comes in by a device."),
        _to_loopback,
    ),
)

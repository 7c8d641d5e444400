"""Run the checks of a lab, one after the other, and report the verdicts.

`run` opens one tap per namespace that matters, proves that every tap receives frames, runs each check, and
closes everything at the end, also when interrupted. Nothing stays in the lab.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from ipaddress import ip_address

from labctl.checks.attempt import Trial
from labctl.checks.context import Bench, settle_carriers
from labctl.checks.verdict import judge_mesh
from labctl.core.neighbour_presets import MANY, presets
from labctl.core.resources import IP
from labctl.core.results import Outcome, Pair, Report
from labctl.core.scenario_types import Check, Lab
from labctl.core.topology import Who, probe_text
from labctl.errors import UsageError
from labctl.kernel.capture.tap import Taps
from labctl.kernel.capture.tcpdump import tcpdump_program
from labctl.kernel.host import paths
from labctl.kernel.namespaces import ports
from labctl.kernel.namespaces.thread import Inside
from labctl.kernel.probes.mesh import Mesh
from labctl.kernel.probes.neighbours import Presets
from labctl.lab import cni_attach
from labctl.packets.pcapng import pcapng

SMALL = 64  # in labs with up to this many namespaces, each namespace gets a tap
MIDDLE = 200  # in larger labs, nodes, fabrics and hosts get taps if there are at most this many
UNTAPPED = ("mesh", "taken")  # these probes need no taps, so there are no frames to keep
SECOND_LOOKS = 3  # failed pairs of a mesh that are probed again, with taps


def run(
    lab: Lab,
    word: str | None = None,
    progress: Callable[[Outcome], None] | None = None,
    keep: Callable[[Check, bytes], str] | None = None,
) -> Report:
    """Run a lab's checks, or those that contain `word`, and report. `progress` gets each outcome at once.
    `keep` gets the frames that the taps saw during a check, as a pcapng file, and returns where it stored them
    (a mesh and a CHECK have no such file, because they need no taps).

    Raises UsageError if `word` matches no check.
    """
    chosen = select(lab.checks, word)
    lab = cni_attach.complete(lab)
    who = Who(lab)
    outcomes = []
    with Inside() as inside, Taps(lab.name, tapped(who, chosen), inside) as taps:
        bench = Bench(who, inside, taps, tcpdump_program())
        settle_carriers(bench)
        for check in chosen:
            outcome = _prove(bench, check)
            if keep is not None and check.probe not in UNTAPPED:
                names = {ip: machine.name for machine in reversed(lab.machines) for ip in machine.addresses}
                outcome = replace(outcome, pcap=keep(check, pcapng(taps.frames(), names, check.say)))
            outcomes.append(outcome)
            if progress is not None:
                progress(outcome)
    return Report(lab.name, tuple(outcomes))


def select(checks: Sequence[Check], word: str | None) -> tuple[Check, ...]:
    """The checks with the word in their description or probe, ignoring case. Raises UsageError if there are none."""
    if word is None:
        return tuple(checks)
    found = tuple(check for check in checks if word.lower() in f"{check.say}\n{probe_text(check)}".lower())
    if not found:
        raise UsageError(f"no check contains {word!r}", "`labctl check` without -k runs and lists all checks")
    return found


def tapped(who: Who, chosen: Iterable[Check]) -> tuple[str, ...]:
    """The namespaces that get a tap: all of a small lab, else those that checks name, the hosts and the fabrics."""
    if len(who.nodes) <= SMALL:
        return who.nodes
    between = [node for node in who.nodes if who.role(node) not in ("pod", "container")]
    named = [node for check in chosen for node in who.involved(check)]
    return tuple(dict.fromkeys((*named, *(between if len(between) <= MIDDLE else ()))))


def _prove(bench: Bench, check: Check) -> Outcome:
    begun = time.monotonic()
    tries = {"mesh": _mesh, "taken": _taken, "cni": _plugins}
    outcome = tries.get(check.probe, _probe)(bench, check)
    return replace(outcome, seconds=time.monotonic() - begun)


def _probe(bench: Bench, check: Check) -> Outcome:
    addresses = bench.who.addresses(check.target)
    if not addresses:
        return Outcome(check, "fail", (f"{check.target} has no address",))
    command = by_hand(bench.lab, check, addresses[0])
    if check.via == "tcpdump" and check.sees and bench.tcpdump is None:
        return Outcome(check, "skip", ("tcpdump is not installed, and this check needs it",), command)
    evidence, (verdict, lines) = Trial(bench, check, addresses[0]).run()
    seen = sorted((*evidence.trail.requests, *evidence.trail.replies), key=lambda item: item.when)
    return Outcome(check, verdict, lines, command, tuple(seen))


TUNNELS = {
    "vxlan": "udp port 4789 or udp port 8472 or udp port 6784",
    "geneve": "udp port 6081",
    "ipip": "ip proto 4",
    "udp": "udp port 8285",
}  # tcpdump's filter for packets in a tunnel


def by_hand(lab: str, check: Check, address: IP) -> str:
    """The equivalent commands: a tcpdump for every point, then the probe."""
    lines = []
    for see in {see.at: see for see in check.sees}.values():
        ports = dict.fromkeys((check.port, check.server[1] if check.server is not None else check.port))
        words = " or ".join(f"{check.probe} port {port}" for port in ports)
        if check.probe == "ping":
            words = "icmp" if address.version == 4 else "icmp6"
        if see.packet == "arp":
            words = "arp" if address.version == 4 else "icmp6"
        if see.encap is not None and see.encap != "none":
            words = TUNNELS[see.encap.split()[0]]
        lines.append(f"ip netns exec {paths.netns_name(lab, see.at.ns)} tcpdump -nn -e -l -i {see.at.dev} {words}")
    probe = {
        "ping": f"ping -n -c 1 {'' if check.size is None else f'-M do -s {check.size} '}{address}",
        "tcp": f"nc -v -z -w 1 {address} {check.port}",
        "udp": f"nc -v -u -w 1 {address} {check.port}",
    }[check.probe]
    return " & ".join((*lines, f"ip netns exec {paths.netns_name(lab, check.source)} {probe}"))


def _taken(bench: Bench, check: Check) -> Outcome:
    """Try to bind the port. The check passes if the kernel refuses that with EADDRINUSE."""
    where, port, path = check.source, check.port or 0, paths.netns_path(bench.lab, check.source)
    command = f"ip netns exec {path.name} nc {'-u ' if check.protocol == 'udp' else ''}-l -p {port}"
    try:
        refused = bench.inside.run(path, ports.claim, check.protocol, port)
        held = bench.inside.run(path, ports.holders, path, check.protocol, port)
    except FileNotFoundError:
        return Outcome(check, "fail", (f"there is no namespace {path.name}",), command)
    what = f"{check.protocol} port {port} of {where}"
    if refused == errno.EADDRINUSE:
        return Outcome(check, "pass", (f"{what} is used by {', '.join(held) or 'a process outside the lab'}",), command)
    if refused:
        return Outcome(check, "inconclusive", (f"{what} could not be tested: {os.strerror(refused)}",), command)
    return Outcome(check, "fail", (f"{what} was free: no process uses it",), command)


def _mesh(bench: Bench, check: Check) -> Outcome:
    who = bench.who
    wants = [
        (source, target, address)
        for sources, targets in check.groups
        for source in sources
        for target in targets
        if source != target
        for address in who.addresses(target)[:1]
    ]
    nowhere = dict.fromkeys(name for _, targets in check.groups for name in targets if not who.addresses(name))
    if nowhere:
        return Outcome(check, "fail", tuple(f"{name} has no address" for name in nowhere))
    if not wants:
        return Outcome(check, "skip", ("there is no pair of machines to test",))
    members = dict.fromkeys((name, address.version) for source, target, address in wants for name in (source, target))
    notes: tuple[str, ...] = ()
    with ExitStack() as stack:
        preset = (
            presets(who.lab, (ip for name, _ in members for ip in who.addresses(name))) if len(wants) > MANY else []
        )
        if len(preset) > MANY:
            made = stack.enter_context(Presets(bench.lab, preset, bench.inside)).made
            notes = (f"{made} neighbour entries were preset for this check: the machine's table does not hold so many",)
        mesh = stack.enter_context(Mesh(bench.lab, members, bench.inside))
        pairs = mesh.run(wants, {name: who.held(name) for name, _ in members}, check.deadline)
    bad = [pair for pair in pairs if not pair.good]
    verdict, lines = judge_mesh(pairs)
    shown = bad[0] if bad else pairs[0]
    command = f"ip netns exec {paths.netns_name(bench.lab, shown.source)} ping -n -c 1 {shown.address}"
    looks = (_second_look(bench, check, pair) for pair in bad[:SECOND_LOOKS])
    return Outcome(check, verdict, (*lines, *looks, *notes), command)


def _plugins(bench: Bench, check: Check) -> Outcome:
    """Ask the CNI plugins about the pods that they attached (CHECK)."""
    found = list(cni_attach.check(bench.who.lab))
    bad = [text for _, verdict, text in found if verdict == "fail"]
    good = [text for _, verdict, text in found if verdict == "pass"]
    skipped = dict.fromkeys(text for _, verdict, text in found if verdict == "skip")
    if bad or good:
        return Outcome(check, "fail" if bad else "pass", (*bad, *good, *skipped))
    return Outcome(check, "skip", tuple(skipped) or ("there is no attached pod to ask about",))


def _second_look(bench: Bench, check: Check, pair: Pair) -> str:
    """Where a single probe between a failed pair was last seen."""
    single = Check(check.say, "ping", pair.source, str(pair.address), within=0.3)
    evidence, _ = Trial(bench, single, ip_address(pair.address)).run()
    seen = (*evidence.trail.requests, *evidence.trail.replies)
    return (
        f"{pair.source} -> {pair.target}: last seen {seen[-1]}" if seen else f"{pair.source} -> {pair.target}: not seen"
    )

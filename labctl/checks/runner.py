"""Run the checks of a lab, one after the other, and report the verdicts.

`run` opens one tap per namespace that matters, proves that every tap receives frames, runs each check, and
closes everything at the end, also when interrupted. Nothing stays in the lab.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from labctl.checks.context import (
    FULL_TAP_LIMIT,
    NODE_TAP_LIMIT,
    CheckContext,
    namespaces_to_tap,
    refresh_carriers,
)
from labctl.core.probe_kinds import equivalent_command, probe_kind, probe_text
from labctl.core.resources import attachments_of
from labctl.core.results import Outcome, Report
from labctl.core.scenario_types import Check, Lab
from labctl.core.sentence import sentence
from labctl.core.topology import Topology
from labctl.errors import UsageError
from labctl.kernel.capture.tap import Taps
from labctl.kernel.capture.tcpdump import tcpdump_program
from labctl.kernel.host import paths
from labctl.kernel.host.limits import widen_file_table
from labctl.kernel.namespaces import ports
from labctl.kernel.namespaces.thread import NetnsThread

FILES_PER_MACHINE = 3  # open files of a check of many machines
MAX_FILES = 4096  # that a check has open: a mesh closes sockets before it opens more


def run(
    lab: Lab,
    keyword: str | None = None,
    progress: Callable[[Outcome], None] | None = None,
    save_pcap: Callable[[Check, bytes], str] | None = None,
    *,
    all_pairs: bool = False,
) -> Report:
    """Run a lab's checks, or those that contain `keyword`, and report. `progress` gets each outcome at once.
    `save_pcap` gets the frames that the taps saw during a check, as a pcapng file, and returns where it stored them
    (a mesh and a CHECK have no such file, because they need no taps). With `all_pairs`, no mesh is sampled.

    Raises UsageError if `keyword` matches no check.
    """
    chosen = select(lab.checks, keyword)
    if all_pairs:
        chosen = tuple(replace(check, pairs="all") if check.probe == "mesh" else check for check in chosen)
    if attachments_of(lab.plan):
        from labctl.lab import cni_attach

        lab = cni_attach.with_plugin_results(lab)
    topology = Topology(lab)
    outcomes = []
    widen_file_table(min(FILES_PER_MACHINE * len(lab.machines), MAX_FILES))
    with NetnsThread() as thread, Taps(lab.name, namespaces_to_tap_for(topology, chosen), thread) as taps:
        context = CheckContext(topology, thread, taps, tcpdump_program())
        refresh_carriers(context)
        for check in chosen:
            outcome = _run_check(context, check)
            if save_pcap is not None and probe_kind(check).has_path:
                from labctl.packets.pcapng import pcapng

                names = topology.machine_by_address
                outcome = replace(outcome, pcap=save_pcap(check, pcapng(taps.frames(), names, check.say)))
            outcomes.append(outcome)
            if progress is not None:
                progress(outcome)
    return Report(lab.name, tuple(outcomes))


def select(checks: Sequence[Check], keyword: str | None) -> tuple[Check, ...]:
    """The checks with the word in their description or probe, ignoring case. Raises UsageError if there are none."""
    if keyword is None:
        return tuple(checks)
    texts = ((check, f"{check.say}\n{probe_text(check)}\n{check.probe}") for check in checks)
    found = tuple(check for check, text in texts if keyword.lower() in text.lower())
    if not found:
        raise UsageError(f"no check contains {keyword!r}", "without -k, labctl check runs and lists all checks")
    return found


def namespaces_to_tap_for(topology: Topology, checks: Iterable[Check]) -> tuple[str, ...]:
    """The namespaces that get a tap for these checks. In a large lab, a mesh alone needs none, and each would take its
    part of the time of every packet."""
    checks = tuple(checks)
    if len(topology.namespaces) > FULL_TAP_LIMIT and checks and all(check.probe == "mesh" for check in checks):
        return ()
    named = [node for check in checks for node in topology.check_namespaces(check)]
    return namespaces_to_tap(topology, named, NODE_TAP_LIMIT)


def _run_check(context: CheckContext, check: Check) -> Outcome:
    begun = time.monotonic()
    tries = {"mesh": _check_mesh, "balance": _check_balance, "taken": _check_port_in_use, "cni": _check_cni}
    outcome = tries.get(check.probe, _check_probe)(context, check)
    return replace(outcome, seconds=time.monotonic() - begun)


# What one kind of check needs is imported when there is such a check: it is a quarter of all imports.


def _check_mesh(context: CheckContext, check: Check) -> Outcome:
    from labctl.checks.mesh import check_mesh

    return check_mesh(context, check)


def _check_balance(context: CheckContext, check: Check) -> Outcome:
    from labctl.checks.balance import check_balance

    return check_balance(context, check)


def _check_probe(context: CheckContext, check: Check) -> Outcome:
    from labctl.checks.attempt import attempt

    addresses = context.topology.addresses(check.target)
    if not addresses:
        return Outcome(check, "fail", (sentence("{name} has no address", name=check.target),))
    command = equivalent_command(paths.command_prefix(context.lab), check, addresses[0])
    if check.via == "tcpdump" and check.sees and context.tcpdump_path is None:
        return Outcome(check, "skip", (sentence("tcpdump is not installed, and this check needs it"),), command)
    evidence, (verdict, lines) = attempt(context, check, addresses[0])
    seen = sorted((*evidence.trail.requests, *evidence.trail.replies), key=lambda item: item.time_ns)
    return Outcome(check, verdict, lines, command, tuple(seen))


def _check_port_in_use(context: CheckContext, check: Check) -> Outcome:
    """Try to bind the port. The check passes if the kernel refuses that with EADDRINUSE."""
    source, port, path = check.source, check.port or 0, paths.netns_path(context.lab, check.source)
    command = equivalent_command(paths.command_prefix(context.lab), check)
    try:
        error_number = context.thread.run(path, ports.try_listen, check.protocol, port)
        held = context.thread.run(path, ports.listening_processes, path, check.protocol, port)
    except FileNotFoundError:
        return Outcome(check, "fail", (sentence("there is no namespace {name}", name=path.name),), command)
    what = sentence("{protocol} port {port} of {source}", protocol=check.protocol, port=port, source=source)
    if error_number == errno.EADDRINUSE:
        return Outcome(
            check,
            "pass",
            (
                sentence(
                    "{what} is used by {held}", what=what, held=", ".join(held) or sentence("a process outside the lab")
                ),
            ),
            command,
        )
    if error_number:
        return Outcome(
            check,
            "inconclusive",
            (sentence("{what} could not be tested: {error}", what=what, error=os.strerror(error_number)),),
            command,
        )
    return Outcome(check, "fail", (sentence("{what} was free: no process uses it", what=what),), command)


def _check_cni(context: CheckContext, check: Check) -> Outcome:
    """Ask the CNI plugins about the pods that they attached (CHECK)."""
    from labctl.lab import cni_attach

    found = list(cni_attach.check(context.topology.lab))
    bad = [text for _, verdict, text in found if verdict == "fail"]
    good = [text for _, verdict, text in found if verdict == "pass"]
    skipped = dict.fromkeys(text for _, verdict, text in found if verdict == "skip")
    if bad or good:
        return Outcome(check, "fail" if bad else "pass", (*bad, *good, *skipped))
    return Outcome(check, "skip", tuple(skipped) or (sentence("there is no attached pod to ask about"),))

"""Measure everything that a comparison needs on one running lab. Nothing stays in the lab."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping

from labctl.checks.attempt import attempt
from labctl.checks.context import CheckContext, refresh_carriers
from labctl.checks.runner import namespaces_to_tap_for
from labctl.compare.measurements import NOT_ASKED, Measurements, PathMtu, ProbeResult, Timings
from labctl.compare.probes import (
    REPLY_TIMEOUT_S,
    SILENCE_TIMEOUT_S,
    expect_no_answer,
    probe_checks,
    probe_result,
    size_check,
)
from labctl.compare.roles import Roles, absence_text
from labctl.core.resources import IP, Address, Link, Plan
from labctl.core.scenario_types import Check, Lab
from labctl.core.topology import Topology
from labctl.kernel.capture.tap import Taps
from labctl.kernel.host import paths
from labctl.kernel.lab_kernel import KernelLab
from labctl.kernel.namespaces.thread import NetnsThread
from labctl.kernel.observe import node_view
from labctl.kernel.probes import throughput
from labctl.lab import cni_attach

MEASUREMENT_ROUNDS = 8  # alternating bursts of echoes and streams; the best of each counts
MIN_IPV4_MTU_BYTES = 576  # bytes of a packet that every IPv4 host must accept

MessageCallback = Callable[[str], None]


def measure(
    title: str, lab: Lab, roles: Roles, report_step: MessageCallback, *, with_times: bool = True
) -> Measurements:
    """Ask a running lab every question, and then read its kernel objects.

    Raises LabError if the lab cannot be read.
    """
    from labctl.lab.lifecycle import observe

    lab = cni_attach.with_plugin_results(lab)
    checks = probe_checks(roles)
    with KernelLab(lab.name) as kernel:
        mtu = _pod_mtu(kernel.observe((), [roles.pod], chains=False), Topology(lab).address_of(roles.pod, 4))
    with NetnsThread() as thread:
        report_step("sending probes")
        probe_results, path_mtu = _run_probes(lab, roles, checks, mtu, thread)
        timings: Timings | str = NOT_ASKED
        if with_times:
            report_step("measuring times")
            timings = _timings(lab, roles, probe_results, thread)
        report_step("reading the kernel's state")
        settings = {
            node: thread.run(paths.netns_path(lab.name, node), node_view.read_sysctls)
            for node in paths.labs().get(lab.name, ())
        }
    plan = observe(lab.name)
    return Measurements(title, lab, roles, plan, settings, _netns_inodes(lab), probe_results, path_mtu, "", timings)


def _run_probes(
    lab: Lab, roles: Roles, checks_by_key: Mapping[str, Check | str], mtu: int | None, thread: NetnsThread
) -> tuple[dict[str, ProbeResult | str], PathMtu | str]:
    """Ask every question that packets answer, with a tap in each namespace that matters."""
    topology = Topology(lab)
    checks = [check for check in checks_by_key.values() if isinstance(check, Check)]
    probe_results: dict[str, ProbeResult | str] = {}
    with Taps(lab.name, namespaces_to_tap_for(topology, checks), thread) as taps:
        context = CheckContext(topology, thread, taps, None)
        refresh_carriers(context)
        for key, check in checks_by_key.items():
            probe_results[key] = check if isinstance(check, str) else _probe_or_prove_silence(context, check)
        return probe_results, _path_mtu(context, roles, probe_results["far"], mtu)


def _probe_or_prove_silence(context: CheckContext, check: Check) -> ProbeResult:
    """Try to get a reply; if none comes, prove that there is none."""
    result = _probe(context, check)
    return result if result.outcome in ("came", "elsewhere") else _probe(context, expect_no_answer(check))


def _probe(context: CheckContext, check: Check) -> ProbeResult:
    addresses = context.topology.addresses(check.target)
    if not addresses:
        return ProbeResult(check, "inconclusive", (f"{check.target} has no address",))
    return probe_result(*attempt(context, check, addresses[0]))


def _path_mtu(context: CheckContext, roles: Roles, far: ProbeResult | str, pod_mtu: int | None) -> PathMtu | str:
    """The largest packet that passes unfragmented: the pod's MTU if that passes, else found by binary search."""
    if isinstance(far, str) or roles.other_node_pod is None:
        return absence_text("far", roles)
    if far.outcome != "came":
        return "pods of two nodes do not reach each other"
    if pod_mtu is None:
        return PathMtu(None, ("the pod's MTU is not known",), False)
    results: dict[int, ProbeResult] = {}

    def passes(size: int) -> bool:
        for timeout_s in (REPLY_TIMEOUT_S, SILENCE_TIMEOUT_S):
            if size not in results or results[size].outcome == "inconclusive":
                results[size] = _probe(context, size_check(roles.pod, str(roles.other_node_pod), size, timeout_s))
        return results[size].outcome == "came"

    passing, failing = (pod_mtu, pod_mtu + 1) if passes(pod_mtu) else _bisect(passes, MIN_IPV4_MTU_BYTES, pod_mtu)
    if not passes(passing):
        return PathMtu(None, (f"not even {passing} bytes pass", *results[passing].reasons), False)
    passes(failing)
    proven = results[failing].outcome == "silent"
    return PathMtu(
        passing,
        (f"{passing} bytes: {results[passing].reasons[0]}", f"{failing} bytes: {results[failing].reasons[0]}"),
        proven,
    )


def _bisect(passes: Callable[[int], bool], passing: int, failing: int) -> tuple[int, int]:
    """The largest size that passes and the smallest that does not, given one size of each."""
    while failing - passing > 1:
        middle = (passing + failing) // 2
        passing, failing = (middle, failing) if passes(middle) else (passing, middle)
    return passing, failing


def _pod_mtu(plan: Plan, address: IP | None) -> int | None:
    """The MTU of the device with this address, from the observed state of a pod."""
    at = next((item.at for item in plan if isinstance(item, Address) and item.addr.ip == address), None)
    return next((item.mtu for item in plan if isinstance(item, Link) and item.at == at), None)


def _timings(
    lab: Lab, roles: Roles, probe_results: Mapping[str, ProbeResult | str], thread: NetnsThread
) -> Timings | str:
    """Round trip and TCP rate between pods of two nodes, with no tap open."""
    far = probe_results["far"]
    if isinstance(far, str) or roles.other_node_pod is None:
        return absence_text("far", roles)
    if far.outcome != "came":
        return "pods of two nodes do not reach each other"
    address = Topology(lab).addresses(roles.other_node_pod)[0]
    source, target = (paths.netns_path(lab.name, name) for name in (roles.pod, roles.other_node_pod))
    round_trips: list[float] = []
    rates: list[float] = []
    error_text = ""
    for _ in range(MEASUREMENT_ROUNDS):
        try:
            round_trips.append(throughput.round_trip_time_s(thread, source, address))
            rates.append(throughput.tcp_rate(thread, source, target, address))
        except OSError as error:
            error_text = f"not measured: {error}"
            break
    return Timings(min(round_trips, default=None), max(rates, default=None), error_text)


def _netns_inodes(lab: Lab) -> dict[str, int]:
    """The inode number of each machine's network namespace; a machine that shares one has the owner's number."""
    return dict(_inodes(lab.name, ((one.name, one.netns_of or one.name) for one in lab.machines)))


def _inodes(lab: str, namespaces: Iterable[tuple[str, str]]) -> Iterable[tuple[str, int]]:
    for name, owner in namespaces:
        try:
            yield name, os.stat(paths.netns_path(lab, owner)).st_ino
        except OSError:
            continue

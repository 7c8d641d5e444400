"""Measure everything that a comparison needs on one running lab. Leaves nothing in it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping

from labctl.checks.attempt import Trial
from labctl.checks.context import Bench, settle_carriers
from labctl.checks.runner import tapped
from labctl.compare.measurements import Asked, Ceiling, Facts, Speed
from labctl.compare.probes import HOPE, SILENCE, questions, silence, sized, told
from labctl.compare.roles import Cast, absent
from labctl.core.resources import IP, Address, Link, Plan
from labctl.core.scenario_types import Check, Lab
from labctl.core.topology import Who
from labctl.kernel.capture.tap import Taps
from labctl.kernel.host import paths
from labctl.kernel.lab_kernel import Linux
from labctl.kernel.namespaces.thread import Inside
from labctl.kernel.observe import node_view
from labctl.kernel.probes import throughput
from labctl.lab import cni_attach

ROUNDS = 8  # alternating bursts of echoes and streams; the best of each counts
LEAST = 576  # bytes of a packet that every IPv4 host must accept

Tell = Callable[[str], None]


def ask(title: str, lab: Lab, who: Cast, tell: Tell) -> Facts:
    """Ask a running lab every question, and then read its kernel objects.

    Raises LabError if the lab cannot be read.
    """
    from labctl.lab.lifecycle import observe

    lab = cni_attach.complete(lab)
    wanted = questions(who)
    with Linux(lab.name) as kernel:
        mtu = _mtu(kernel.observe((), [who.pod], chains=False), Who(lab).own(who.pod, 4))
    with Inside() as inside:
        tell("sending probes")
        asked, ceiling = _with_packets(lab, who, wanted, mtu, inside)
        tell("measuring times")
        fast = _speed(lab, who, asked, inside)
        tell("reading the kernel's state")
        settings = {
            node: inside.run(paths.netns_path(lab.name, node), node_view.settings)
            for node in paths.labs().get(lab.name, ())
        }
    plan = observe(lab.name)
    return Facts(title, lab, who, plan, settings, _spaces(lab), asked, ceiling, "", fast)


def _with_packets(
    lab: Lab, who: Cast, wanted: Mapping[str, Check | str], mtu: int | None, inside: Inside
) -> tuple[dict[str, Asked | str], Ceiling | str]:
    """Ask every question that packets answer, with a tap in each namespace that matters."""
    known = Who(lab)
    checks = [check for check in wanted.values() if isinstance(check, Check)]
    asked: dict[str, Asked | str] = {}
    with Taps(lab.name, tapped(known, checks), inside) as taps:
        bench = Bench(known, inside, taps, None)
        settle_carriers(bench)
        for key, check in wanted.items():
            asked[key] = check if isinstance(check, str) else _ask(bench, check)
        return asked, _ceiling(bench, who, asked["far"], mtu)


def _ask(bench: Bench, check: Check) -> Asked:
    """Try to get a reply; if none comes, prove that there is none."""
    found = _try(bench, check)
    return found if found.outcome in ("came", "elsewhere") else _try(bench, silence(check))


def _try(bench: Bench, check: Check) -> Asked:
    addresses = bench.who.addresses(check.target)
    if not addresses:
        return Asked(check, "inconclusive", (f"{check.target} has no address",))
    return told(*Trial(bench, check, addresses[0]).run())


def _ceiling(bench: Bench, who: Cast, far: Asked | str, high: int | None) -> Ceiling | str:
    """The largest packet that passes unfragmented: the pod's MTU if that passes, else found by binary search."""
    if isinstance(far, str) or who.far is None:
        return absent("far", who)
    if far.outcome != "came":
        return "pods of two nodes do not reach each other"
    if high is None:
        return Ceiling(None, ("the pod's MTU is not known",), False)
    said: dict[int, Asked] = {}

    def passes(size: int) -> bool:
        for within in (HOPE, SILENCE):
            if size not in said or said[size].outcome == "inconclusive":
                said[size] = _try(bench, sized(who.pod, str(who.far), size, within))
        return said[size].outcome == "came"

    good, bad = (high, high + 1) if passes(high) else _halve(passes, LEAST, high)
    if not passes(good):
        return Ceiling(None, (f"not even {good} bytes pass", *said[good].said), False)
    passes(bad)
    sure = said[bad].outcome == "silent"
    return Ceiling(good, (f"{good} bytes: {said[good].said[0]}", f"{bad} bytes: {said[bad].said[0]}"), sure)


def _halve(passes: Callable[[int], bool], good: int, bad: int) -> tuple[int, int]:
    """The largest size that passes and the smallest that does not, given one size of each."""
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if passes(middle) else (good, middle)
    return good, bad


def _mtu(plan: Plan, own: IP | None) -> int | None:
    """The MTU of the device with this address, from the observed state of a pod."""
    at = next((item.at for item in plan if isinstance(item, Address) and item.addr.ip == own), None)
    return next((item.mtu for item in plan if isinstance(item, Link) and item.at == at), None)


def _speed(lab: Lab, who: Cast, asked: Mapping[str, Asked | str], inside: Inside) -> Speed | str:
    """Round trip and TCP rate between pods of two nodes, with no tap open."""
    far = asked["far"]
    if isinstance(far, str) or who.far is None:
        return absent("far", who)
    if far.outcome != "came":
        return "pods of two nodes do not reach each other"
    address = Who(lab).addresses(who.far)[0]
    source, target = (paths.netns_path(lab.name, name) for name in (who.pod, who.far))
    trips: list[float] = []
    rates: list[float] = []
    said = ""
    for _ in range(ROUNDS):
        try:
            trips.append(throughput.round_trip(inside, source, address))
            rates.append(throughput.stream(inside, source, target, address))
        except OSError as error:
            said = f"not measured: {error}"
            break
    return Speed(min(trips, default=None), max(rates, default=None), said)


def _spaces(lab: Lab) -> dict[str, int]:
    """The inode number of each machine's network namespace; a machine that shares one has the owner's number."""
    return dict(_numbers(lab.name, ((one.name, one.within or one.name) for one in lab.machines)))


def _numbers(lab: str, homes: Iterable[tuple[str, str]]) -> Iterable[tuple[str, int]]:
    for name, home in homes:
        try:
            yield name, os.stat(paths.netns_path(lab, home)).st_ino
        except OSError:
            continue

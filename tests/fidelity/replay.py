"""A lab made again from what was observed: can labctl say, and build, all that the real thing makes?

Where no model exists for what a plugin or Docker does, the plan's own language is still held against it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from labctl.core.diff import diff
from labctl.core.resources import Link, Neighbour, Netns, Plan, Resource, Route, Sysctl
from labctl.kernel.host import lab_state, paths
from labctl.kernel.lab_kernel import KernelLab
from tests.fidelity import subjects
from tests.fidelity.alike import differences, observed, settings

AGAIN = "again"
BIRTH = (("ageing_time", "30000"), ("stp_state", "0"), ("vlan_filtering", "0"), ("mcast_snooping", "1"))


def replayed(lab: str, nodes: Iterable[str]) -> list[str]:
    """Read a lab, build its twin from what was read, and say how the twin differs."""
    nodes = tuple(nodes)
    settled(lab, nodes)
    with KernelLab(lab) as kernel:
        wanted = _meant(kernel.observe(tuple(settings(lab, nodes)), nodes))
    rooms = tuple(item for item in wanted if isinstance(item, Netns) or _of_namespace(item))
    try:
        with _again() as kernel:  # what new links are born with comes before them
            kernel.apply(tuple(change for change in diff(rooms, ()) if isinstance(change.want, Netns)))
        for some in (rooms, tuple(item for item in wanted if not isinstance(item, Sysctl)), wanted):
            with _again() as kernel:
                changes = diff(some, kernel.observe(tuple(settings(AGAIN, nodes)), nodes))
                kernel.apply([change for change in changes if change.want in some])
        settled(AGAIN, nodes)
        return differences(observed(AGAIN, nodes), observed(lab, nodes))
    finally:
        with _again() as kernel:
            kernel.destroy()
        lab_state.remove_files(AGAIN)
        assert AGAIN not in paths.labs()


def _again() -> KernelLab:
    """The kernel for the twin, which has no record that would say what its rules are in."""
    kernel = KernelLab(AGAIN)
    kernel.backend = subjects.BACKEND
    return kernel


def settled(lab: str, nodes: Iterable[str]) -> None:
    """Wait until every device has its carrier and the IPv6 address that it makes itself: both take a moment."""
    until = time.monotonic() + 10
    for node in nodes:
        while waiting := _without_address(lab, node):
            assert time.monotonic() < until, f"{node}: no carrier or no address of {waiting}"
            time.sleep(0.02)


def at_last(look: Callable[[], list[str]]) -> list[str]:
    """What still differs after a moment: a daemon, and the kernel's look for a second owner of an address, may work
    on after the command has ended."""
    until = time.monotonic() + 10
    while (found := look()) and time.monotonic() < until:
        time.sleep(0.1)
    return found


def _without_address(lab: str, node: str) -> list[str]:
    """The devices without a carrier, without a link-local address that they should have, or with a tentative one."""
    silent = subjects.inside(lab, node, "sh", "-c", "grep -ls 1 /proc/sys/net/ipv6/conf/*/disable_ipv6 || true")
    routed = subjects.inside(
        lab, node, "ip", "-6", "route", "show", "table", "local"
    )  # added a moment after duplicate address detection
    waiting = []
    for link in json.loads(subjects.inside(lab, node, "ip", "-j", "-d", "addr", "show")):
        six = [one for one in link["addr_info"] if one["family"] == "inet6" and not one.get("tentative")]
        six = [one for one in six if f"local {one['local']} dev {link['ifname']} " in routed]
        if "UP" not in link["flags"] or link["link_type"] == "loopback":
            continue
        speaks = link.get("inet6_addr_gen_mode") == "eui64" and f"/{link['ifname']}/" not in silent
        if "NO-CARRIER" in link["flags"] or (speaks and not six):
            waiting.append(link["ifname"])
    return waiting


def _of_namespace(item: Resource) -> bool:
    """A setting that new devices take over, or that holds for all of them."""
    return isinstance(item, Sysctl) and (".default." in item.name or ".all." in item.name)


def _meant(plan: Plan) -> Plan:
    """What somebody wrote, in an order in which it can be written: without what the kernel learned, without
    a bridge's settings that are those of every bridge, and gateways after the routes that lead to them."""
    kept = [item for item in plan if not isinstance(item, Neighbour) or item.state == "permanent" or item.proxy]
    kept.sort(key=lambda item: isinstance(item, Route) and item.via is not None)
    return tuple(replace(item, options=_own(item)) if isinstance(item, Link) else item for item in kept)


def _own(link: Link) -> tuple[tuple[str, str], ...]:
    return tuple(option for option in link.options if link.kind != "bridge" or option not in BIRTH)

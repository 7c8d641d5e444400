"""Compare the namespaces on a probe's path with the plan, without firewalls. Drift makes a missing reply no proof.

A missing reply shows what a firewall does only if everything else is in place: links are up, addresses
and routes exist, forwarding is on. The path is compared with the plan by the same `diff` as in `status`.
This happens after the wait for the reply, so that a fault that occurs during the check counts as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from labctl.core.diff import Change, diff
from labctl.core.resources import Attachment, Chain, IpSet, Link, Plan, Resource
from labctl.core.topology import Who
from labctl.errors import LabError
from labctl.render.resources import change_lines

MOST = 128  # namespaces that are compared at most; the path of a probe is much shorter
LINES = 3  # differences that are reported; the others are counted


def drift(who: Who, road: Sequence[str]) -> tuple[str, ...]:
    """The differences between these namespaces and the plan, as sentences; empty if there are none."""
    from labctl.kernel.lab_kernel import Linux

    here = frozenset(road[:MOST])
    want = tuple(planned(who.lab.plan, here))
    try:
        with Linux(who.lab.name) as kernel:
            found = kernel.observe(want, [name for name in who.nodes if name in here], chains=False)
    except LabError as error:
        return (f"the path could not be compared with the plan: {error.message}",)
    return told(diff(want, found))


def planned(plan: Plan, here: frozenset[str]) -> Iterator[Resource]:
    """The plan's resources in these namespaces, without firewalls, attachments and references to other namespaces."""
    for item in plan:
        if item.ns not in here or isinstance(item, (Attachment, Chain, IpSet)):
            continue
        if isinstance(item, Link) and item.peer is not None and item.peer.ns not in here:
            item = replace(item, peer=None)
        if isinstance(item, Link) and item.born is not None and item.born not in here:
            item = replace(item, born=None)
        yield item


def told(changes: Sequence[Change]) -> tuple[str, ...]:
    """The first differences, each with its namespace, and the number of the others."""
    lines = [f"{change.subject.ns} is not as planned: {line}" for change in changes for line in change_lines(change)]
    more = (f"and {len(lines) - LINES} more differences, see labctl status",) if len(lines) > LINES else ()
    return (*lines[:LINES], *more)

"""Compare the namespaces on a probe's path with the plan, without firewalls. Drift makes a missing reply no proof.

A missing reply shows what a firewall does only if everything else is in place: links are up, addresses
and routes exist, forwarding is on. The path is compared with the plan by the same `diff` as in `status`.
This happens after the wait for the reply, so that a fault that occurs during the check counts as well. Hidden faults
are part of the definition, so they do not count as drift here either, and a check does not give them away.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from labctl.core.diff import Change, diff
from labctl.core.resources import Attachment, Chain, IpSet, Link, NftObject, Plan, Resource
from labctl.core.sentence import sentence
from labctl.core.topology import Topology
from labctl.errors import KernelError, MissingError
from labctl.lab import fault_records
from labctl.render.resources import change_lines

MAX_NAMESPACES = 128  # namespaces that are compared at most; the path of a probe is much shorter
MAX_LINES = 3  # differences that are reported; the others are counted


def drift(topology: Topology, path: Sequence[str]) -> tuple[str, ...]:
    """The differences between these namespaces and the plan, as sentences; empty if there are none."""
    from labctl.kernel.lab_kernel import KernelLab

    here = frozenset(path[:MAX_NAMESPACES])
    records = fault_records.load(topology.lab.name)
    want = tuple(planned_resources(fault_records.expected(topology.lab.plan, records), here))
    try:
        with KernelLab(topology.lab.name) as kernel:
            found = kernel.observe(want, [name for name in topology.namespaces if name in here], chains=False)
    except (KernelError, MissingError) as error:
        return (sentence("the path could not be compared with the plan: {message}", message=error.message),)
    changes = diff(want, found)
    if changes and records:
        repaired = fault_records.repaired_state(topology.lab.plan, records)
        if not diff(tuple(planned_resources(repaired, here)), found):
            return ()  # somebody has repaired the faults, and nothing else differs
    return describe(changes)


def planned_resources(plan: Plan, namespaces: frozenset[str]) -> Iterator[Resource]:
    """The plan's resources in these namespaces, without firewalls, attachments and references to other namespaces."""
    for item in plan:
        if item.ns not in namespaces or isinstance(item, (Attachment, Chain, IpSet, NftObject)):
            continue
        if isinstance(item, Link) and item.peer is not None and item.peer.ns not in namespaces:
            item = replace(item, peer=None)
        if isinstance(item, Link) and item.link_netns is not None and item.link_netns not in namespaces:
            item = replace(item, link_netns=None)
        yield item


def describe(changes: Sequence[Change]) -> tuple[str, ...]:
    """The first differences, each with its namespace, and the number of the others."""
    lines = [
        sentence("{node} is not as planned: {line}", node=change.subject.ns, line=line)
        for change in changes
        for line in change_lines(change)
    ]
    more = (
        (sentence("and {number} more differences, see labctl status", number=len(lines) - MAX_LINES),)
        if len(lines) > MAX_LINES
        else ()
    )
    return (*lines[:MAX_LINES], *more)

"""Losses because the machine's neighbour table is full: a namespace can create no entry for a next hop. Pure.

The table belongs to the machine, not to the lab (`labctl.core.neighbour_tables`).
"""

from __future__ import annotations

from labctl.core.neighbour_tables import FullTable
from labctl.core.sentence import sentence
from labctl.tracing.address_owners import has_address
from labctl.tracing.evidence import UnansweredNeighbour
from labctl.tracing.loss_point import LossPoint
from labctl.tracing.result import Cause

# what a socket gets when the kernel could create no entry: ENOBUFS for IPv4, EINVAL for IPv6
SEND_ERRORS = {4: "No buffer space available", 6: "Invalid argument"}


def no_entry(loss_point: LossPoint) -> Cause | None:
    """The kernel says that it could create no entry, when it dropped the packet or to the socket that sent it."""
    table = _full_table(loss_point)
    if loss_point.drop is not None and loss_point.drop.reason == "NEIGH_CREATEFAIL":
        return _cause(loss_point.node, table or FullTable(loss_point.version))
    unsent = loss_point.last_observation is None and not loss_point.delivered
    said = SEND_ERRORS[loss_point.version] in loss_point.evidence.detail
    return _cause(loss_point.node, table) if table is not None and unsent and said else None


def no_answer(loss_point: LossPoint, unanswered: UnansweredNeighbour) -> Cause | None:
    """A machine got the question for its address, and could create no entry for the machine that asked: then it does
    not answer."""
    table = _full_table(loss_point, unanswered.ip.version)
    evidence = loss_point.evidence
    nodes = (state.node for state in evidence.namespaces)
    owner = next((node for node in nodes if has_address(evidence, node, unanswered.ip)), None)
    return _cause(owner, table) if table is not None and owner is not None else None


def no_trace(loss_point: LossPoint) -> Cause | None:
    """A packet that left no trace in a namespace that had to send it, or the reply to it, while the table was full."""
    table = _full_table(loss_point)
    leaves_here = loss_point.last_observation is None or loss_point.entering
    return _cause(loss_point.node, table) if table is not None and leaves_here and loss_point.drop is None else None


def _full_table(loss_point: LossPoint, version: int | None = None) -> FullTable | None:
    wanted = version or loss_point.version
    return next((table for table in loss_point.evidence.full_tables if table.version == wanted), None)


def _cause(node: str, table: FullTable) -> Cause:
    text = sentence(
        "{node} could create no neighbour entry: the machine's table for IPv{version} is full ({limit} entries for all"
        " labs together)",
        node=node,
        version=table.version,
        limit=table.limit,
    )
    return Cause("neighbour-table", text, (), (table.raise_command,))

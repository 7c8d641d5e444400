"""The namespaces and devices of a running lab that a person means by a name."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from labctl.core.names import did_you_mean
from labctl.errors import UsageError

if TYPE_CHECKING:
    from labctl.core.address_names import AddressNames
    from labctl.core.resources import Interface


def find_nodes(lab: str, node: str | None) -> tuple[str, ...]:
    """The namespace of the named node, or of all nodes. Raises UsageError with a suggestion."""
    from labctl.kernel.host import paths

    nodes = paths.labs().get(lab, ())
    if node is None:
        return nodes
    namespace = netns_owners(lab).get(node, node)
    if namespace in nodes:
        return (namespace,)
    from labctl.core.names import summarize_names

    hint = f"{did_you_mean(node, nodes, 0.5)} its nodes are {summarize_names(nodes, 30)}".lstrip()
    raise UsageError(f"lab {lab} has no node {node!r}", hint)


def netns_owners(lab: str) -> dict[str, str]:
    """The machines that share the network namespace of another machine, with that machine (Docker's `host`)."""
    from labctl.kernel.host import definition_record

    record = definition_record.load(lab) or {}
    return {one["name"]: one["within"] for one in record.get("machines", ()) if one.get("within")}


def resolve_points(lab: str, points: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[Interface, ...]]:
    """The namespaces to capture in, and the devices there; no devices means all devices.

    Raises UsageError for a node or a device that does not exist.
    """
    from labctl.core.resources import Link
    from labctl.lab import lifecycle

    if not points:
        return find_nodes(lab, None), ()
    links = [item.at for item in lifecycle.observe(lab) if isinstance(item, Link)]
    nodes: dict[str, None] = {}
    interfaces: dict[Interface, None] = {}
    for point in points:
        name, slash, device = point.partition("/")
        (node,) = find_nodes(lab, name)
        nodes[node] = None
        node_interfaces = [at for at in links if at.ns == node]
        wanted = [at for at in node_interfaces if not slash or at.dev == device]
        if not wanted:
            devices = [at.dev for at in node_interfaces]
            raise UsageError(f"{node} has no device {device!r}", did_you_mean(device, devices) or ", ".join(devices))
        interfaces.update(dict.fromkeys(wanted))
    return tuple(nodes), tuple(interfaces)


def address_names(lab: str) -> AddressNames:
    """The names of the lab's machines, by address."""
    from ipaddress import ip_address

    from labctl.core.address_names import AddressNames
    from labctl.kernel.host import definition_record

    record = definition_record.load(lab) or {}
    with suppress(ValueError):
        return AddressNames(
            (one["name"], one.get("on"), [ip_address(text) for text in one["addresses"]])
            for one in record.get("machines", ())
            if not one.get("within")
        )
    return AddressNames(())

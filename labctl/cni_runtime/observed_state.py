"""Merge the objects that CNI plugins created with the plan: the wanted state after the pods are attached. Pure.

A plan says that a pod is attached and by which plugins; what the plugins create is known only afterwards. It is
recorded as plan objects, and from then on it is wanted like the plan's own objects: `merge` returns both,
`with_addresses` adds the addresses of the plugins' results to the machines, `without_attachments` leaves out the
objects of attachments that are created again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from labctl.cni.spec import DecodeError, Json, result_from_json
from labctl.cni_runtime.plugin_reasons import with_reason
from labctl.core.diff import surplus
from labctl.core.resources import (
    CREATION_ORDER,
    IP,
    Attachment,
    Link,
    Netns,
    Plan,
    Resource,
    Route,
    Sysctl,
    attachments_of,
)
from labctl.core.scenario_types import Lab, Machine

VOLATILE_SYSCTLS = ("nf_conntrack_count", "tcp_fastopen_key", "stable_secret", ".mtu", ".forwarding", "mc_forwarding")


def merge(plan: Plan, plugin_objects: Plan) -> Plan:
    """A plan with the plugins' objects: changed ones replace the plan's, new ones come after those of their kind."""
    changed = {item.key: item for item in plugin_objects}
    pods = {item.pod for item in attachments_of(plan)}
    planned = [with_reason(changed.pop(item.key), item, pods) if item.key in changed else item for item in plan]
    made = (with_reason(item, None, pods) for item in changed.values())
    return tuple(sorted((*planned, *made), key=lambda item: CREATION_ORDER[type(item)]))


def without_attachments(plugin_objects: Plan, attachments: Iterable[Attachment], lost: Iterable[str] = ()) -> Plan:
    """The plugins' objects without those that went with the namespaces of these attachments: all in the pod, and on
    the node the devices that led to it with everything on them. Firewall rules stay: the DEL removes them.
    All objects on nodes in `lost` (created again, or gone) are left out."""
    attachments, lost = tuple(attachments), frozenset(lost)
    pods = {item.pod for item in attachments}
    nodes = {item.node for item in attachments}
    ends = {
        (item.ns, item.at.dev)
        for item in plugin_objects
        if isinstance(item, Link) and item.ns in nodes and item.peer is not None and item.peer.ns in pods
    }
    return tuple(item for item in plugin_objects if item.ns not in pods | lost and not _on(item, ends))


def _on(item: Resource, ends: set[tuple[str, str]]) -> bool:
    """Whether an object is one of these devices, or is removed with it."""
    if isinstance(item, Route):
        return (item.ns, item.dev) in ends
    if isinstance(item, Sysctl):
        return any(ns == item.ns and dev.replace(".", "/") in item.name.split(".") for ns, dev in ends)
    at = getattr(item, "at", None)
    return at is not None and (at.ns, at.dev) in ends


def plugin_objects(plan: Plan, found: Plan, settings: Plan) -> Plan:
    """The observed objects that a plan does not have, in the namespaces of its attachments, with changed sysctls."""
    planned = tuple(item for item in plan if not isinstance(item, Attachment))
    touched = {name for item in attachments_of(plan) for name in (item.node, item.pod)}
    created = (
        item for item in surplus(planned, found) if item.ns in touched and not isinstance(item, (Netns, Attachment))
    )
    return merge(tuple(created), settings)


def changed_sysctls(ns: str, before: Mapping[str, str], after: Mapping[str, str]) -> Plan:
    """The sysctls of a namespace that changed, and those of new devices that differ from the default."""
    return tuple(
        Sysctl(ns, name, value)
        for name, value in after.items()
        if not name.endswith(VOLATILE_SYSCTLS) and before.get(name, after.get(_default(name), value)) != value
    )


def _default(name: str) -> str:
    """The sysctl that gives a new device its value: `net.ipv4.conf.default.arp_notify`."""
    parts = name.split(".")
    return ".".join([*parts[:3], "default", *parts[4:]]) if len(parts) > 4 else name


def with_addresses(lab: Lab, results: Mapping[str, Json]) -> Lab:
    """The lab with the addresses from the results, by pod; those of the first device come first."""
    if not results:
        return lab
    return replace(
        lab, machines=tuple(_with_result_addresses(machine, results.get(machine.name)) for machine in lab.machines)
    )


def _with_result_addresses(machine: Machine, result: Json | None) -> Machine:
    if result is None or machine.addresses:
        return machine
    return replace(machine, addresses=result_addresses(result))


def result_addresses(result: Json) -> tuple[IP, ...]:
    """The container's addresses in a result; empty if it is not a valid result."""
    try:
        read = result_from_json(result)
    except DecodeError:
        return ()
    sandboxed = {item.name for item in read.interfaces if item.sandbox}
    names = sandboxed or {""}
    return tuple(dict.fromkeys(one.ip for name in sorted(names) for one in read.addresses(name)))

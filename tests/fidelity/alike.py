"""Two labs side by side, one made by the real thing and one by labctl: what is not the same, in words.

Both are read by labctl's own observer, with every setting below /proc/sys/net, and compared by its own
`diff`, in both directions, since `diff` lets "any" and a few births pass on one side. What the plan's
types do not hold (broadcast addresses, queue lengths, a route's protocol, a bridge's timers, the local
table, forwarding entries, queueing) is read by iproute2's tools and compared as plain facts.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from typing import Any

from labctl.core.diff import Change, diff
from labctl.core.iptables import BUILTIN
from labctl.core.resources import Address, Interface, Link, Neighbour, Plan, Resource, Sysctl
from labctl.kernel.host import paths
from labctl.kernel.lab_kernel import KernelLab
from labctl.kernel.namespaces.thread import NetnsThread
from labctl.kernel.netlink import nft_tables
from labctl.render.resources import change_lines
from tests.fidelity import subjects

VETH = re.compile(r"\bveth[0-9a-f]{7,8}\b")  # Docker draws seven digits, the CNI plugins eight
SOLICITED = re.compile(r"\b33:33:ff(?::[0-9a-f]{2}){3}")
MAC = re.compile(r"\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b")
# a group of zeros is left out, and so are zeros before others: the third byte of a MAC address may be 00
MADE_OF_MAC = re.compile(r"\bfe80::(?:[0-9a-f]+:)?[0-9a-f]*ff:fe[0-9a-f]+:[0-9a-f]+|\bff02::1:ff[0-9a-f:]+")
AT_ONCE = {
    "ipv6.conf.all.accept_dad": 0,
    "ipv6.conf.default.accept_dad": 0,
}  # no duplicate address detection of new IPv6 addresses
COUNTING = ("count", "fastopen_key", "nf_conntrack_buckets", "stable_secret", "ip_local_reserved")

COMMANDS = (  # each prints what labctl's own types do not hold, and more
    "ip -j -d link show", "ip -j addr show", "ip -j -d -4 route show table all", "ip -j -d -6 route show table all",
    "ip -j -4 rule show", "ip -j -6 rule show", "ip -j neigh show nud permanent", "ip -j neigh show proxy",
    "bridge -j fdb show", "bridge -j vlan show", "bridge -j mdb show", "tc -j qdisc show", "ip -j maddr show",
    "ip -j nexthop show", "ip -j addrlabel list",
)  # fmt: skip
# the keys that distinguish the objects of such a list
NAMING = {
    "link": "ifname", "addr": "ifname local", "route": "type dst dev table metric", "neigh": "dst dev",
    "rule": "priority src dst iif oif fwmark", "fdb": "ifname mac flags vlan master", "vlan": "ifname vlan",
    "qdisc": "dev kind", "maddr": "ifname address link", "mdb": "dev port grp vid", "nexthop": "id",
    "addrlabel": "address prefixlen ifname",
}  # fmt: skip
# numbers that the kernel hands out in the order of creation, clocks, and names made of MAC addresses
HANDED_OUT = {
    "ifindex", "link_index", "link_netnsid", "iflink", "port_id", "port_no", "designated_port", "designated_bridge",
    "designated_root", "root_id", "root_port", "bridge_id", "hello_timer", "tcn_timer", "topology_change_timer",
    "gc_timer", "hold_timer", "message_age_timer", "forward_delay_timer", "valid_life_time", "preferred_life_time",
    "handle", "operstate", "state", "topology_change", "topology_change_ack", "config_pending", "users",
    "linkinfo.info_slave_data.id", "linkinfo.info_slave_data.no", "fdb_n_learned", "index",
}  # fmt: skip


CARRIER = ("LOWER_UP", "NO-CARRIER")  # comes a moment after the other end is up


@dataclasses.dataclass(frozen=True)
class Side:
    """One of two labs, after normalising: its objects, and the further facts about them."""

    plan: Plan
    facts: dict[str, dict[str, str]]


def observed(lab: str, nodes: Iterable[str], *, prefix: str | None = None) -> Side:
    """Some namespaces of a lab: names, MAC addresses and numbers that were drawn replaced by what they are of.

    `prefix` is how the addresses begin that the real thing draws. Without one, it leaves them to the kernel, which may
    draw the same beginning: for one device in 16,384, if the prefix has two bytes.
    """
    nodes = tuple(nodes)
    with KernelLab(lab) as kernel:
        plan = kernel.observe(tuple(settings(lab, nodes)))
    speak = _Names(plan, prefix)
    kept = tuple(speak.item(item) for item in plan if item.ns in nodes and not is_kernel_neighbour(item))
    facts: dict[str, dict[str, str]] = {}
    for node in nodes:
        for name, values in _facts(lab, node):
            facts[speak.text(name)] = {path: speak.text(value) for path, value in values.items()}
    return Side(kept, facts)


def docker_observed(lab: str, nodes: Iterable[str]) -> Side:
    """The same of a lab with Docker's networks: Docker draws the rest of an address after two bytes."""
    return observed(lab, nodes, prefix="02:42")


def is_kernel_neighbour(item: Resource) -> bool:
    """Whether the kernel made this neighbour entry itself, when it sent a multicast packet."""
    return isinstance(item, Neighbour) and item.state == "noarp" and item.ip.is_multicast


def settings(lab: str, nodes: Iterable[str]) -> Iterator[Sysctl]:
    """Every setting below /proc/sys/net of these namespaces that can be read, for `observe` to read."""
    with NetnsThread() as inside:
        for node in nodes:
            for name in inside.run(paths.netns_path(lab, node), _names):
                yield Sysctl(node, name, "")


def _names() -> list[str]:
    found = []
    for folder, _, files in os.walk("/proc/sys/net"):
        parts = folder.split("/proc/sys/", 1)[1].split("/")
        dotted = ".".join(part.replace(".", "/") for part in parts)
        found += [f"{dotted}.{file}" for file in files if not any(word in file for word in COUNTING)]
    return sorted(found)


def differences(model: Side, real: Side) -> list[str]:
    """What labctl's lab would have to change to be the real one; `real` and `labctl` say who has it."""
    there = {item.key: item for item in real.plan}
    changes = list(diff(real.plan, model.plan))
    told = {change.subject.key for change in changes}
    # the other way round it may be stricter: what is "any" or implied on one side is not on the other
    for change in diff(model.plan, real.plan):
        if change.subject.key not in told:
            changes.append(Change(change.have, change.want))
            told.add(change.subject.key)
    lines = [f"{change.subject.ns}: {line}" for change in changes for line in change_lines(change)]
    for item in model.plan:  # what diff lets pass on purpose, as a peer that is named or an "any"
        if item.key not in told and there.get(item.key, item) != item:
            lines.append(f"{item.ns}: {item} should be {there[item.key]}")
    for name in model.facts.keys() | real.facts.keys():
        ours, theirs = model.facts.get(name), real.facts.get(name)
        if ours is None or theirs is None:
            lines.append(f"{name}: {'missing' if ours is None else 'extra'}")
        else:
            lines += [
                f"{name}: {path} was {ours.get(path)}, should be {theirs.get(path)}"
                for path in ours.keys() | theirs.keys()
                if ours.get(path) != theirs.get(path)
            ]
    return sorted(lines)


class _Names:
    """What drawn names and addresses are replaced by: `veth:c1` for the host's end of c1's cable."""

    def __init__(self, plan: Plan, prefix: str | None = None) -> None:
        self.veths: dict[str, str] = {}
        self.macs: dict[str, str] = {}
        self.bridges: dict[Interface, str] = {}  # those that have the MAC address of a port
        held = {(item.at, item.addr.ip) for item in plan if isinstance(item, Address)}
        links = [item for item in plan if isinstance(item, Link)]
        for link in links:
            if VETH.fullmatch(link.at.dev):
                end = link.peer
                self.veths[link.at.dev] = f"veth-{end.ns}-{end.dev}" if end is not None else "veth-nowhere"
        ports = {(link.ns, link.master, link.mac) for link in links if link.master}
        for link in (link for link in links if link.mac):
            whose = f"MAC of {link.at.ns}/{self.text(link.at.dev)}"
            if (link.ns, link.at.dev, link.mac) in ports:
                self.bridges[link.at] = f"{whose}, the lowest of its ports"
            elif prefix and link.mac.startswith(prefix) and not VETH.fullmatch(link.at.dev):
                made = any(at == link.at and link.mac[6:] == ip.packed.hex(":") for at, ip in held)
                self.macs[link.mac] = f"{whose}, {prefix} and its address" if made else f"{whose}, drawn after {prefix}"
            else:
                self.macs[link.mac] = whose

    def text(self, text: str) -> str:
        text = VETH.sub(lambda found: self.veths.get(found[0], found[0]), text)
        text = MADE_OF_MAC.sub(lambda found: f"{found[0].partition('::')[0]}::MADE-OF-MAC", text)
        text = SOLICITED.sub("33:33:ff:MADE-OF-MAC", text)
        return MAC.sub(lambda found: self.macs.get(found[0], found[0]), text)

    def item(self, item: Any) -> Any:
        """A plan's object with everything that was drawn replaced, however deep it stands."""
        if isinstance(item, str):
            return self.text(item)
        if isinstance(item, tuple):
            return tuple(self.item(one) for one in item)
        if isinstance(item, Link) and item.at in self.bridges:
            item = dataclasses.replace(item, mac=self.bridges[item.at])
        if dataclasses.is_dataclass(item) and not isinstance(item, type):
            return dataclasses.replace(
                item, **{field.name: self.item(getattr(item, field.name)) for field in dataclasses.fields(item)}
            )
        return item


def _facts(lab: str, node: str) -> Iterator[tuple[str, dict[str, str]]]:
    """What iproute2 reports about one namespace: every object with its values by their path."""
    for command in COMMANDS:
        tool, *words = command.split()
        done = subprocess.run(
            [tool, "-n", paths.netns_name(lab, node), *words], capture_output=True, text=True, check=True
        )
        about = " ".join(word for word in words if word not in ("-j", "-d", "show"))
        naming = next(NAMING[word] for word in words if word in NAMING).split()
        for entry in json.loads(done.stdout or "[]"):
            inner = next((value for value in entry.values() if _objects(value)), None)
            for one in [entry] if inner is None else inner:
                named = {**{key: value for key, value in entry.items() if not _objects(value)}, **one}
                if tool == "bridge" and "self" not in named.get("flags", "self") and not named.get("state"):
                    continue  # learned
                if naming[-1] == "vid" and named.get("state") != "permanent":
                    continue  # learned, or a bridge with no groups
                name = " ".join(str(named[key]) for key in naming if named.get(key) not in (None, "", []))
                yield f"{node}: {tool} {about} {name}", dict(_leaves("", one))
    yield from _without_json(lab, node)


def _without_json(lab: str, node: str) -> Iterator[tuple[str, dict[str, str]]]:
    """What iproute2 and nft report only as text: classes and filters of queueing, IPsec, and tables of nf_tables."""
    name = paths.netns_name(lab, node)
    queues: dict[str, dict[str, str]] = {}

    def said(*words: str) -> str:
        done = subprocess.run([*words[:1], "-n", name, *words[1:]], capture_output=True, text=True, check=True)
        return " | ".join(line.strip() for line in done.stdout.splitlines() if line.strip())

    for entry in json.loads(said("tc", "-j", "qdisc", "show")):
        dev, kind = entry["dev"], entry["kind"]
        hooks = {"clsact": ("ingress", "egress"), "ingress": ("ingress",), "noqueue": ()}.get(kind, ("root",))
        queues.setdefault(dev, {}).update({hook: said("tc", "filter", "show", "dev", dev, hook) for hook in hooks})
        if kind != "noqueue":
            queues[dev]["class"] = said("tc", "class", "show", "dev", dev)
    for dev, texts in queues.items():
        yield f"{node}: tc queue {dev}", texts
    for table in ("state", "policy"):
        yield f"{node}: ip xfrm {table}", {"entries": said("ip", "xfrm", table)}
    with NetnsThread() as inside:
        tables = inside.run(paths.netns_path(lab, node), nft_tables.tables)
    if subjects.BACKEND == "nft":  # the chains of iptables' own are compared one by one
        tables = tuple(table for table in tables if table not in BUILTIN)
    yield f"{node}: nf_tables", {"tables": " ".join(sorted(" ".join(table) for table in tables))}


def _objects(value: Any) -> bool:
    """Whether a value of iproute2's JSON is a list of objects, as the addresses of a device are."""
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _leaves(path: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            where = f"{path}.{key}".lstrip(".")
            if key not in HANDED_OUT and where not in HANDED_OUT:
                yield from _leaves(where, inner)
    elif isinstance(value, list):
        value = [word for word in value if word not in CARRIER]
        yield path, " ".join(sorted(map(str, value)))
    else:
        yield path, str(value)

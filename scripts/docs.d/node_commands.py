"""The commands that build one node of a lab and one pod on it, abridged, for the page of its model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from labctl.compare.roles import NODE_ROLES
from labctl.core.resources import Link
from labctl.core.scenario_types import Lab, Machine
from labctl.core.topology import LEAF_ROLES
from labctl.kernel.host import paths
from labctl.report.shell_script import plan_script

MAX_COMMANDS = 18  # if there are more, the last kinds of SHOWN are reduced first
# the commands that show how a node is built: their form, the most that are shown, and how many of these stay if
# there are too many; the others (most sysctls, loopback devices, processes, calls of CNI plugins) are only counted
SHOWN = (
    (r"ip netns add", 2, 2),
    (r"ip (link|tuntap) add", 8, 6),
    (r"ip link set (?!lo up)(?!\S+ addrgenmode)", 8, 4),
    (r"sysctl -qw net\.ipv4\.ip_forward=", 1, 1),
    (r"ip( -6)? addr add", 4, 3),
    (r"ip( -6)? neigh|bridge fdb", 1, 1),
    (r"ip( -6)? route add", 3, 2),
    (r"ip( -6)? rule add", 1, 1),
    (r"iptables\S* -t nat -A .*-j (MASQUERADE|SNAT)", 1, 1),
    (r"(iptables|ip6tables|ebtables)\S* .*-A ", 2, 0),
)


@dataclass(frozen=True)
class NodeCommands:
    """Commands of the script `plan --as shell`: those that are shown, and the number of the others."""

    machines: tuple[str, ...]
    shown: tuple[str, ...]
    others: int


def node_commands(lab: Lab) -> NodeCommands:
    """The commands for the first node of a lab and the first pod on it; for a lab without nodes, its first machine."""
    node = next((machine for machine in lab.machines if machine.role in NODE_ROLES), lab.machines[0])
    pods = [one for one in lab.machines if one.on == node.name and one.role in LEAF_ROLES and one.netns_of is None]
    names = (node.name, *(pod.name for pod in pods[:1]))
    lines = list(_lines(lab, node, names, pods[1:]))
    shown = set(_choose(lines))
    return NodeCommands(names, tuple(line for line in lines if line in shown), len(lines) - len(shown))


def _lines(lab: Lab, node: Machine, names: tuple[str, ...], others: list[Machine]) -> Iterator[str]:
    """The script's lines for these machines, without those about other pods: their devices and their addresses."""
    other_names = {pod.name for pod in others}
    foreign = {link.at.dev for link in lab.plan if isinstance(link, Link) and _leads_to(link, node.name, other_names)}
    foreign |= {str(address) for pod in others for address in pod.addresses}
    namespaces = {paths.netns_name(lab.name, name) for name in names}
    for line in plan_script(lab, lambda name: paths.netns_name(lab.name, name), "/run/labctl"):
        words = line.split()
        if words[:1] == ["in_node"] and words[1] in names:
            if not foreign & {part for word in words for part in (*word.split("/"), *word.split("."))}:
                yield line
        elif re.match(r"(in_node \S+ )?ip (link|netns) add", line) and namespaces & set(words):
            yield line


def _leads_to(link: Link, node: str, others: set[str]) -> bool:
    return link.ns == node and link.peer is not None and link.peer.ns in others


def _choose(lines: Iterable[str]) -> list[str]:
    kinds: dict[str, list[str]] = {pattern: [] for pattern, _, _ in SHOWN}
    for line in lines:
        command = re.sub(r"^in_node \S+ ", "", line)
        for pattern, most, _ in SHOWN:
            if re.match(pattern, command):
                if len(kinds[pattern]) < most:
                    kinds[pattern].append(line)
                break
    for pattern, _, least in reversed(SHOWN):
        while len(kinds[pattern]) > least and sum(map(len, kinds.values())) > MAX_COMMANDS:
            kinds[pattern].pop()
    return [line for some in kinds.values() for line in some]

"""The benchmark's network: names, addresses, and the `ip` lines that create it.

            hub
       eth0/   \\eth1 ...            nodes first, then leaves: 10.224.<n>.1 -- 10.224.<n>.2
     eth0 /     \\ eth0
       node0    node1     leaf0
     +--br0--+
     |   |   |
     pods: eth0                     one node: 172.17.0.0/16 (Docker's); several: 10.244.<node>.0/24

It has as many namespaces and links as labctl's lab of the same size. floor.c makes the same network from
the same numbers. The other tools create no firewall rules and set only ip_forward, while labctl builds its
complete lab: this is an advantage for the other tools. They leave IPv6 autoconfiguration on, as such scripts
usually do; the separate variant `quiet` shows the cost of turning it off.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Network:
    """One size of the benchmark: as a labctl scenario, and the same in numbers."""

    title: str
    scenario: str  # the text of labctl's file
    nodes: int
    pods: int  # on each node
    leaves: int  # machines at the hub that are not nodes

    @property
    def namespaces(self) -> int:
        return 1 + self.nodes + self.leaves + self.nodes * self.pods

    @property
    def links(self) -> int:
        """Devices in all namespaces, without loopback."""
        return 2 * (self.nodes + self.leaves) + self.nodes + 2 * self.nodes * self.pods

    @property
    def size(self) -> int:
        return self.nodes * self.pods

    def pod_net(self, node: int) -> str:
        return "172.17.0.0/16" if self.nodes == 1 else f"10.244.{node}.0/24"

    def pod_ip(self, node: int, number: int) -> str:
        """Address `number` of a node's pod network; 1 is the bridge's, pods begin at 2."""
        return f"172.17.{number >> 8}.{number & 255}" if self.nodes == 1 else f"10.244.{node}.{number}"

    @property
    def pod_length(self) -> int:
        return 16 if self.nodes == 1 else 24

    @property
    def first(self) -> str:
        """The namespace that pings, without prefix."""
        return "n0p0"

    @property
    def target(self) -> str:
        """The address that is pinged: the last pod's."""
        return self.pod_ip(self.nodes - 1, self.pods + 1)

    @property
    def routers(self) -> tuple[str, ...]:
        return ("hub", *(f"n{node}" for node in range(self.nodes)))

    @property
    def far_ends(self) -> tuple[str, ...]:
        """The machines at the hub: nodes, then leaves."""
        return (*self.routers[1:], *(f"l{leaf}" for leaf in range(self.leaves)))

    @property
    def pod_names(self) -> tuple[str, ...]:
        return tuple(f"n{node}p{pod}" for node in range(self.nodes) for pod in range(self.pods))

    @property
    def names(self) -> tuple[str, ...]:
        return ("hub", *self.far_ends, *self.pod_names)


def ip_lines(net: Network, prefix: str, *, pods: bool = True, quiet: bool = False) -> Iterator[tuple[str, str]]:
    """(namespace, line) for `ip -n NAMESPACE LINE`, in a valid order, grouped by namespace.

    Without `pods`: only the hub, its far ends and their uplinks, as a CNI plugin finds them on a node.
    `quiet` turns IPv6 autoconfiguration off before a device comes up, as labctl and the floor do.
    """
    for at, line in _all_lines(net, prefix, pods):
        words = line.split()
        if quiet and words[:2] == ["link", "set"] and words[2] != "lo":
            yield at, f"link set {words[2]} addrgenmode none"
        yield at, line


def _all_lines(net: Network, prefix: str, pods: bool) -> Iterator[tuple[str, str]]:
    yield from _hub(net, prefix)
    for node in range(net.nodes):
        yield from _far_end(net, prefix, node)
        if pods:
            yield from _bridge(net, prefix, node)
    for leaf in range(net.nodes, net.nodes + net.leaves):
        yield from _far_end(net, prefix, leaf)
    if not pods:
        return
    for node in range(net.nodes):
        for pod in range(net.pods):
            at = f"{prefix}.n{node}p{pod}"
            yield from _up(at, "lo", "eth0")
            yield at, f"addr add {net.pod_ip(node, pod + 2)}/{net.pod_length} dev eth0"
            yield at, f"route add default via {net.pod_ip(node, 1)}"


def _hub(net: Network, prefix: str) -> Iterator[tuple[str, str]]:
    hub = f"{prefix}.hub"
    yield from _up(hub, "lo")
    for number, far_end in enumerate(net.far_ends):
        yield hub, f"link add eth{number} type veth peer name eth0 netns {prefix}.{far_end}"
        yield from _up(hub, f"eth{number}")
        yield hub, f"addr add 10.224.{number}.1/24 dev eth{number}"
        if number < net.nodes:
            yield hub, f"route add {net.pod_net(number)} via 10.224.{number}.2"


def _far_end(net: Network, prefix: str, number: int) -> Iterator[tuple[str, str]]:
    at = f"{prefix}.{net.far_ends[number]}"
    yield from _up(at, "lo", "eth0")
    yield at, f"addr add 10.224.{number}.2/24 dev eth0"
    yield at, f"route add default via 10.224.{number}.1"


def _bridge(net: Network, prefix: str, node: int) -> Iterator[tuple[str, str]]:
    at = f"{prefix}.n{node}"
    yield at, "link add br0 type bridge"
    yield from _up(at, "br0")
    yield at, f"addr add {net.pod_ip(node, 1)}/{net.pod_length} dev br0"
    for pod in range(net.pods):
        yield at, f"link add veth{pod} master br0 type veth peer name eth0 netns {prefix}.n{node}p{pod}"
        yield from _up(at, f"veth{pod}")


def _up(at: str, *devices: str) -> Iterator[tuple[str, str]]:
    return ((at, f"link set {device} up") for device in devices)

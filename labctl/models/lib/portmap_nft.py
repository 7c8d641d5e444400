"""Host ports of pods (`hostPort`) as the CNI plugin portmap sets them up with `backend: nftables`. Pure.

All pods share a table for each IP version. A packet to a local address passes the chain with the ports of all pods,
which translates it (DNAT); the comment of a rule is the container. No mark is needed: after the translation, a rule
masquerades what has a pod as its source and its destination, and what comes from 127.0.0.1. Other pods of the same
range keep their source, so their answers must pass the node, which they do where the node routes between pods.

Follows containernetworking/plugins 1.9.1, plugins/meta/portmap/portmap_nftables.go, and what the program wrote
(tests/golden/cni-plugins-1.9.1). It writes ports at one address of the node to the chain of all ports as well, and
leaves the chain that is meant for them empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from labctl.cni_runtime import plugin_nft_reasons
from labctl.core import nft_objects
from labctl.core.resources import IP, NftObject, Resource, Sysctl
from labctl.core.scenario_types import PublishedPort
from labctl.models.lib import primitives
from labctl.models.lib.portmap import WHY_ROUTE_LOCALNET, HostPortPod

TABLES = {4: "ip cni_hostport", 6: "ip6 cni_hostport"}
_LOCAL = "fib daddr type local jump hostports_all"


def host_port_tables(ns: str, pods: Iterable[HostPortPod]) -> Iterator[Resource]:
    """The table of a node with host ports, and the sysctls of its devices. Without host ports it yields nothing."""
    pods = tuple(pod for pod in pods if pod.host_ports)
    if not pods:
        return
    rules = [rule for pod in pods for rule in port_rules(pod.pod, pod.address, pod.host_ports)]
    masquerading = [rule for pod in pods for rule in masquerade_rules(pod.pod, pod.address)]
    yield from primitives.nft_explained(plugin_nft_reasons.RULES, *table(ns, 4, rules, masquerading))
    for device in dict.fromkeys(pod.device for pod in pods):
        yield Sysctl(ns, f"net.ipv4.conf.{device}.route_localnet", "1", why=WHY_ROUTE_LOCALNET)


def table(ns: str, version: int, rules: Iterable[str], masquerading: Iterable[str]) -> Iterator[NftObject]:
    """The table for one IP version, in the order in which the plugin makes its chains."""
    name = TABLES[version]
    yield nft_objects.table(ns, name, comment="CNI portmap plugin")
    yield nft_objects.chain(ns, name, "hostports", rules)
    yield nft_objects.chain(ns, name, "hostip_hostports")
    yield nft_objects.chain(ns, name, "hostports_all", ("jump hostip_hostports", "jump hostports"))
    for hook in ("prerouting", "output"):
        yield nft_objects.base_chain(ns, name, hook, (_LOCAL,), type="nat", hook=hook, priority="dstnat")
    yield nft_objects.base_chain(
        ns, name, "masquerading", masquerading, type="nat", hook="postrouting", priority="srcnat"
    )


def port_rules(container: str, address: IP, ports: Iterable[PublishedPort]) -> Iterator[str]:
    """The translation of each port, for the ports without an address or with one of the same IP version."""
    family = "ip" if address.version == 4 else "ip6"
    target = str(address) if address.version == 4 else f"[{address}]"
    for port in ports:
        if port.address is not None and port.address.version != address.version:
            continue
        at = f"{family} daddr {port.address} " if port.address is not None and int(port.address) else ""
        yield f'{at}{port.protocol} dport {port.host_port} dnat to {target}:{port.port} comment "{container}"'


def masquerade_rules(container: str, address: IP) -> Iterator[str]:
    """What is masqueraded towards a container: packets from itself, and from the node at 127.0.0.1."""
    if address.version == 4:
        yield f'ip saddr {address} ip daddr {address} masquerade comment "{container}"'
        yield f'ip saddr 127.0.0.1 ip daddr {address} masquerade comment "{container}"'
    else:
        yield f'ip6 saddr {address} ip6 daddr {address} masquerade comment "{container}"'

"""What a network list does for the pods of one node, as far as its text shows: which claims about packets hold. Pure.

Follows the plugins of containernetworking/plugins 1.1 to 1.9. Of a plugin that is not among these, nothing is known: it
is expected to do what Kubernetes requires of a network, which is why somebody tests it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_network
from typing import Any

from labctl.cni.conflist import NetworkConfigList
from labctl.cni.spec import Json
from labctl.core.resources import Net

# plugins that change a device of the container, or the node, and create no device
WITHOUT_DEVICE = frozenset({"bandwidth", "firewall", "loopback", "portmap", "sbr", "tuning", "vrf"})
# plugins whose devices share the wire of a device of the node: the kernel passes nothing between that device and them
_ON_A_WIRE = frozenset({"ipvlan", "macvlan"})
_ELSEWHERE = frozenset({"dummy", "host-device", "tap", "vlan"})  # the node is not on the way of their packets
_WITH_VETH = frozenset({"bridge", "labctl-cni", "ptp"})


@dataclass(frozen=True, slots=True)
class ListEffects:
    """What a list does on one node.

    `ranges` are the ranges that its plugins assign addresses from, in the order of the addresses; empty if the text
    does not show them. `creates_device` is false for a list that gives a pod no device. `masquerades` is true if the
    node rewrites the source of packets that leave a pod's range. `pods_meet` is true if pods of the node reach each
    other, `node_reaches` if the node reaches them, `routed` if packets of other machines reach them through the node.
    """

    ranges: tuple[Net, ...] = ()
    creates_device: bool = True
    masquerades: bool = False
    pods_meet: bool = True
    node_reaches: bool = True
    routed: bool = True
    node_ranges: tuple[Net, ...] = ()  # the ranges that the node itself has an address of, on a bridge

    def overlaps(self, pod_cidr: IPv4Network, node_range: IPv4Network) -> bool:
        """Whether the list uses addresses of a pod CIDR that are not the node's own: those of other nodes."""
        ipv4 = [item for item in self.ranges if isinstance(item, IPv4Network)]
        return any(item.overlaps(pod_cidr) and not item.subnet_of(node_range) for item in ipv4)

    def is_within(self, network: IPv4Network) -> bool:
        """Whether the first address of a pod is in a network; true if the text does not show it."""
        return all(isinstance(item, IPv4Network) and item.subnet_of(network) for item in self.ranges[:1])


def list_effects(config_list: NetworkConfigList, node_range: IPv4Network) -> ListEffects:
    """What a node's list does. `node_range` is the range that a plugin with the capability `ipRanges` gets."""
    main = next((plugin for plugin in config_list.plugins if plugin["type"] not in WITHOUT_DEVICE), None)
    if main is None:
        return ListEffects(creates_device=False, pods_meet=False, node_reaches=False, routed=False)
    kind, masquerades = main["type"], any(_masquerades(plugin) for plugin in config_list.plugins)
    ranges = tuple(_ranges(main, node_range))
    if any(plugin["type"] == "vrf" for plugin in config_list.plugins):  # programs outside the VRF do not use its routes
        return ListEffects(ranges, True, masquerades, pods_meet=False, node_reaches=False, routed=False)
    if kind in _ON_A_WIRE | _WITH_VETH and not _has_ipam(main):  # a device without an address, for frames only
        return ListEffects(pods_meet=False, node_reaches=False, routed=False)
    if kind in _ON_A_WIRE:
        meet = main.get("mode", "bridge") in ("bridge", "l2", "l3", "l3s")
        return ListEffects(ranges, pods_meet=meet, node_reaches=False, routed=False)
    if kind in _ELSEWHERE:
        return ListEffects(ranges, pods_meet=False, node_reaches=False, routed=False)
    if kind in _WITH_VETH:
        reaches = kind == "ptp" or main.get("shape") == "routed" or _is_gateway(main)
        meet = main.get("portIsolation") is not True
        routed = reaches and main.get("vlan") in (None, 0)
        on_bridge = kind == "bridge" and reaches
        return ListEffects(ranges, True, masquerades, meet, reaches, routed, ranges if on_bridge else ())
    return ListEffects(ranges, masquerades=masquerades)


def _has_ipam(plugin: Json) -> bool:
    ipam = plugin.get("ipam")
    return isinstance(ipam, dict) and bool(ipam.get("type"))


def _is_gateway(plugin: Json) -> bool:
    return plugin.get("isGateway") is True or plugin.get("isDefaultGateway") is True


def _masquerades(plugin: Json) -> bool:
    """Whether a plugin, or the one that it delegates to as flannel's does, is configured with the usual key ipMasq."""
    delegate = plugin.get("delegate")
    return plugin.get("ipMasq") is True or (isinstance(delegate, dict) and delegate.get("ipMasq") is True)


def _ranges(plugin: Json, node_range: IPv4Network) -> Iterator[Net]:
    """The ranges of a plugin's IPAM configuration: in the keys of host-local and static, which others use as well."""
    capabilities = plugin.get("capabilities")
    if isinstance(capabilities, dict) and capabilities.get("ipRanges") is True:
        yield node_range
    ipam = plugin.get("ipam")
    for text in _range_texts(ipam if isinstance(ipam, dict) else {}):
        try:
            yield ip_network(text, strict=False)
        except ValueError:
            continue


def _range_texts(ipam: Json) -> Iterator[str]:
    sets = ipam.get("ranges")
    addresses = ipam.get("addresses")
    candidates: list[Any] = [ipam.get("subnet")]
    for one_set in sets if isinstance(sets, list) else ():
        candidates += (
            [item.get("subnet") for item in one_set[:1] if isinstance(item, dict)] if isinstance(one_set, list) else []
        )
    candidates += (
        [item.get("address") for item in addresses if isinstance(item, dict)] if isinstance(addresses, list) else []
    )
    yield from (text for text in candidates if isinstance(text, str))

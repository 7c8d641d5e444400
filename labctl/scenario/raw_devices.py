"""What the devices of a raw scenario will be like in the kernel: their MTU, and whether they have IPv6.

Follows Linux 6.18: net/ipv6/addrconf.c (no IPv6 below an MTU of 1280), br_mtu_auto_adjust in net/bridge/br_if.c,
vxlan_config_apply in drivers/net/vxlan/vxlan_core.c, macvlan_common_newlink in drivers/net/macvlan.c.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_address

from labctl.core.resources import Interface, Link, Sysctl
from labctl.core.sysctl_values import same_value

MIN_IPV6_MTU = 1280
LOOPBACK_MTU, ETHERNET_MTU, MAX_MTU = 65536, 1500, 65535
_VXLAN_HEADROOM = {4: 50, 6: 70}  # bytes of the outer headers, by the family of the tunnel


class Devices:
    """The devices by name, with what follows from several of them together.

    `loops` are pairs of a device and one below it that close a circle. `depth` is how many levels of devices there are
    from a device down, with itself.
    """

    def __init__(self, links: Mapping[Interface, Link], sysctls: Iterable[Sysctl] = ()) -> None:
        self.links = links
        self._ports: dict[Interface, list[Interface]] = {}
        for link in links.values():
            if link.master is not None:
                self._ports.setdefault(Interface(link.ns, link.master), []).append(link.at)
        self.loops: list[tuple[Interface, Interface]] = []
        self.depth: dict[Interface, int] = {}
        self._mtu: dict[Interface, int] = {}
        for at in self._lowest_first():
            self.depth[at] = 1 + max((self.depth.get(below, 0) for below in self._below(at)), default=0)
            self._mtu[at] = self._find_mtu(links[at])
        self._without_ipv6: dict[Interface, str] = {}  # and the sysctl that switches it off
        self._apply(sysctls)

    def lower(self, link: Link) -> Interface | None:
        """The device below this one, if the link names one."""
        dev = dict(link.options).get("dev")
        return None if dev is None else Interface(link.link_netns or link.ns, dev)

    def mtu(self, at: Interface) -> int:
        """The MTU that a device will have, in bytes: that of its link, or what the kernel takes from other devices."""
        return self._mtu[at]

    def max_mtu(self, link: Link) -> int:
        """The largest MTU that the device below allows."""
        lower = self.lower(link)
        if lower is None or lower not in self.links:
            return MAX_MTU
        below = self._mtu.get(lower, ETHERNET_MTU)  # the default for a circle
        return below - _VXLAN_HEADROOM[vxlan_family(link)] if link.kind == "vxlan" else below

    def _find_mtu(self, link: Link) -> int:
        if link.mtu is not None:
            return link.mtu
        if link.kind == "loopback":
            return LOOPBACK_MTU
        if link.kind == "bridge":
            return min((self._mtu.get(port, ETHERNET_MTU) for port in self._below(link.at)), default=ETHERNET_MTU)
        return self.max_mtu(link) if self.lower(link) in self.links else ETHERNET_MTU

    def _below(self, at: Interface) -> list[Interface]:
        """The devices directly below: the ports of a bridge, and the lower device."""
        lower = self.lower(self.links[at])
        below = [*self._ports.get(at, ()), *([lower] if lower is not None else [])]
        return [item for item in below if item in self.links and item != at]

    def _lowest_first(self) -> Iterator[Interface]:
        """Every device after those below it. Records circles in `loops`."""
        done: set[Interface] = set()
        for start in self.links:
            path: dict[Interface, Iterator[Interface]] = {}
            if start not in done:
                path[start] = iter(self._below(start))
            while path:
                at = next(reversed(path))
                below = next(path[at], None)
                if below is None:
                    del path[at]
                    done.add(at)
                    yield at
                elif below in path:
                    self.loops.append((at, below))
                elif below not in done:
                    path[below] = iter(self._below(below))

    def why_without_ipv6(self, at: Interface) -> str:
        """Why a device has no IPv6 at all, or ""."""
        if self.mtu(at) < MIN_IPV6_MTU:
            return f"its MTU is {self.mtu(at)}, and IPv6 needs {MIN_IPV6_MTU}"
        return self._without_ipv6.get(at, "")

    def _apply(self, sysctls: Iterable[Sysctl]) -> None:
        """Switch IPv6 off and on, in the order in which the sysctls are written. `default` is for devices that are
        created later."""
        of_machine: dict[str, list[str]] = {}
        for at in self.links:
            of_machine.setdefault(at.ns, []).append(at.dev)
        for item in sysctls:
            parts = sysctl_path(item.name).split("/")
            if parts[:3] != ["net", "ipv6", "conf"] or parts[4:] != ["disable_ipv6"]:
                continue
            for dev in of_machine.get(item.ns, ()) if parts[3] == "all" else [parts[3]]:
                if not same_value(item.value, "0"):
                    self._without_ipv6[Interface(item.ns, dev)] = f"{item.name} is {item.value}"
                else:
                    self._without_ipv6.pop(Interface(item.ns, dev), None)


def sysctl_path(name: str) -> str:
    """A sysctl's name as its path: dots become slashes, and slashes become dots."""
    return name.translate(str.maketrans("./", "/."))


def vxlan_family(link: Link) -> int:
    """The IP version of a vxlan's outer packets: that of its addresses, else 4."""
    options = dict(link.options)
    ends = [ip_address(options[name]) for name in ("remote", "group", "local") if name in options]
    return ends[0].version if ends else 4

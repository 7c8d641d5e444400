"""What the kernel allows for the links of a raw scenario together, so that `validate` can say it with its place.

Follows Linux 6.18: br_add_if in net/bridge/br_if.c, drivers/net/macvlan.c, vxlan_config_validate and vxlan_vni_in_use
in drivers/net/vxlan/vxlan_core.c, net/8021q/vlan.c.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

from labctl.core.resources import IP, Interface, Link
from labctl.scenario.document import Reader
from labctl.scenario.field_types import Located
from labctl.scenario.raw_devices import MIN_IPV6_MTU, Devices, vxlan_family

DEFAULT_VXLAN_PORT = "8472"  # the kernel's, from before IANA assigned 4789
_ENDS = ("local", "remote", "group")
MAX_NESTING = 8  # levels of devices over each other (MAX_NEST_DEV)
Rows = Mapping[Interface, Mapping[str, Located]]  # the keys of each link, with their places


def check_links(devices: Devices, rows: Rows, reader: Reader) -> None:
    """Record a problem for each link that the kernel refuses beside the others, or that it changes."""
    checks = _LinkRules(devices, rows, reader)
    for at in rows:
        checks.check(devices.links[at])
    for upper, lower in devices.loops:
        link = devices.links[upper if devices.links[upper].kind != "bridge" else lower]
        checks.add(link, "dev" if link.at == upper else "master", f"{upper} and {lower} are each below the other")


class _LinkRules:
    def __init__(self, devices: Devices, rows: Rows, reader: Reader) -> None:
        self.devices, self.rows, self.reader = devices, rows, reader
        self.first_upper: dict[Interface, Link] = {}  # the first macvlan or ipvlan of each lower device
        self.unique: dict[Any, Link] = {}  # the first link with a number that only one may have

    def check(self, link: Link) -> None:
        if link.master is not None:
            self._check_port(link)
        if link.link_netns not in (None, link.ns) and link.kind == "bridge":
            self.add(link, "link_netns", f"{link.at} cannot be created in {link.link_netns}: a bridge cannot move")
        if link.kind == "vxlan":
            self._check_vxlan(link)
        lower = self.devices.lower(link)
        if lower is not None and lower in self.devices.links:
            self._check_lower(link, self.devices.links[lower])
        if self.devices.depth[link.at] > MAX_NESTING:
            self.add(link, link.kind, f"{link.at} is over more than {MAX_NESTING - 1} levels of devices")
        if link.autoconf and self.devices.mtu(link.at) < MIN_IPV6_MTU and "autoconf" in self.rows[link.at]:
            why = self.devices.why_without_ipv6(link.at)
            self.add(link, "autoconf", f"autoconf: {link.at} has no IPv6: {why}")

    def add(self, link: Link, key: str, what: str, hint: str = "") -> None:
        row = self.rows[link.at]
        self.reader.add_problem(row[key].at if key in row else row[link.kind].at, what, hint)

    def _add_once(self, number: Any, link: Link, key: str, what: str, hint: str = "") -> None:
        """Record a problem if an earlier link has this number."""
        first = self.unique.setdefault(number, link)
        if first is not link:
            self.add(link, key, f"{what}, as {first.at} has", hint)

    def _check_port(self, link: Link) -> None:
        if link.kind == "bridge":
            self.add(link, "master", f"master: the bridge {link.at} cannot be a port of another bridge")

    def _check_vxlan(self, link: Link) -> None:
        options = dict(link.options)
        ends: dict[str, IP] = {name: ip_address(options[name]) for name in _ENDS if name in options}
        if {"remote", "group"} <= set(ends):
            self.add(link, "group", "remote and group cannot be used together", "leave one of them out")
        for name, ip in ends.items():
            if ip.is_unspecified:
                self.add(link, name, f"{name}: {ip} is not an address", f"leave {name} out")
            elif name == "group" and not ip.is_multicast:
                self.add(link, name, f"group: {ip} is not a multicast address", f"write remote: {ip}")
            elif name == "remote" and ip.is_multicast:
                self.add(link, name, f"remote: {ip} is a multicast address", f"write group: {ip}")
            elif name == "local" and ip.is_multicast:
                self.add(link, name, f"local: {ip} is a multicast address, not a machine's")
        if len({ip.version for ip in ends.values()}) > 1:
            self.add(link, "local", "local and the other end are of different families")
        if "group" in ends and "dev" not in options:
            self.add(link, "group", f"group: {link.at} needs dev, the device that joins the group")
        self._check_link_local(link, ends, "dev" in options)
        where = link.link_netns or link.ns
        port = options.get("dstport", DEFAULT_VXLAN_PORT)
        what = f"id: {link.at} has the VNI {options.get('id')}, UDP port {port} and family"
        self._add_once(("vni", where, options.get("id"), port, vxlan_family(link)), link, "id", what)

    def _check_link_local(self, link: Link, ends: Mapping[str, IP], has_dev: bool) -> None:
        """IPv6 link-local addresses: on both ends or on none, and only with a device."""
        far = ends.get("remote")
        six = [ip for ip in (ends.get("local"), far) if ip is not None and ip.version == 6]
        scopes = {ip.is_link_local for ip in six}
        if True in scopes and not has_dev:
            self.add(link, "dev", f"{link.at}: a link-local address needs dev, the device it belongs to")
        if len(scopes) > 1:
            self.add(link, "local", "local and remote: only one of them is link-local")

    def _check_lower(self, link: Link, lower: Link) -> None:
        mtu, largest = link.mtu, self.devices.max_mtu(link)
        if mtu is not None and mtu > largest:
            self.add(link, "mtu", f"mtu: {link.at} can have at most {largest} over {lower.at}")
        if link.kind == "vxlan":
            if vxlan_family(link) == 6 and (why := self.devices.why_without_ipv6(lower.at)):
                self.add(link, "dev", f"dev: {lower.at} has no IPv6: {why}")
            return
        if lower.kind == "loopback":
            self.add(link, "dev", f"dev: a {link.kind} cannot be over {lower.at}")
        if link.kind == "vlan":
            number = dict(link.options).get("id")
            self._add_once(("tag", lower.at, number), link, "id", f"id: {link.at} has the tag {number} on {lower.at}")
        if link.kind == "vlan" and link.up and not lower.up:
            self.add(link, "up", f"{link.at} cannot be up while {lower.at} is down", "set up: false for it as well")
        if link.kind in ("macvlan", "ipvlan"):
            self._check_shared(link, lower)

    def _check_shared(self, link: Link, lower: Link) -> None:
        """A macvlan or ipvlan takes all frames of its lower device, and so does a bridge of its port."""
        if lower.kind == link.kind:  # the kernel puts it over the device below both
            below = dict(lower.options).get("dev")  # without it, that is a problem of its own
            hint = "" if below is None else f"write dev: {below}"
            self.add(link, "dev", f"dev: {lower.at} is a {lower.kind} itself", hint)
            return
        if lower.master is not None:
            self.add(link, "dev", f"dev: {lower.at} is a port of the bridge {lower.master}, which takes its frames")
        first = self.first_upper.setdefault(lower.at, link)
        mode, first_mode = dict(link.options).get("mode"), dict(first.options).get("mode")
        if first is link:
            pass
        elif first.kind != link.kind:
            self.add(link, "dev", f"dev: {lower.at} has the {first.kind} {first.at}, and can have no {link.kind}")
        elif link.kind == "macvlan" and "passthru" in (mode, first_mode):
            self.add(link, "dev", f"dev: {lower.at} has the macvlan {first.at}, and passthru allows only one")
        elif link.kind == "ipvlan" and (mode or "l3") != (first_mode or "l3"):
            self.add(link, "mode", f"mode: all ipvlans of {lower.at} have one mode, as {first.at} has")
        if link.mac is not None and link.kind == "macvlan":
            what = f"mac: {link.at} has the address {link.mac} on {lower.at}"
            if lower.mac is not None and dict(link.options).get("mode") != "passthru":
                self.unique.setdefault(("mac", lower.at, lower.mac), lower)
            self._add_once(("mac", lower.at, link.mac), link, "mac", what)

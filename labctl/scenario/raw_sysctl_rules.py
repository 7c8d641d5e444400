"""The sysctls of a raw scenario: in which order they are written, and which contradict each other or the links.

Follows Linux 6.18: devinet_sysctl_forward in net/ipv4/devinet.c, addrconf_fixup_forwarding, addrconf_disable_ipv6 and
addrconf_sysctl_addr_gen_mode in net/ipv6/addrconf.c. These settings of `all` also write the one of each device.
"""

from __future__ import annotations

from collections.abc import Iterable

from labctl.core.resources import Interface, Sysctl
from labctl.core.sysctl_values import same_value
from labctl.scenario.document import Position, Reader
from labctl.scenario.raw_devices import MIN_IPV6_MTU, Devices, sysctl_path

_SYNONYMS = {"net/ipv4/ip_forward": "net/ipv4/conf/all/forwarding"}  # one setting with two names
# the settings of IPv6 that the kernel sets by the link, also later, when a link gets a carrier (addrconf_notify)
_OF_LINKS = {"addr_gen_mode": "autoconf", "mtu": "mtu"}
_SCOPES = ("all", "default")


def write_order(item: Sysctl) -> int:
    """What is for every device comes first, because it would overwrite what is for one."""
    parts = sysctl_path(item.name).split("/")
    if sysctl_path(item.name) in _SYNONYMS:
        return 0
    return next((number for number, scope in enumerate(_SCOPES) if parts[3:4] == [scope]), len(_SCOPES))


def check_sysctls(rows: Iterable[tuple[Sysctl, Position]], devices: Devices, reader: Reader) -> None:
    """Record a problem for each sysctl that contradicts another one, or that its device does not have."""
    named: dict[tuple[str, str], Sysctl] = {}
    for item, at in rows:
        path = sysctl_path(item.name)
        first = named.setdefault((item.ns, _SYNONYMS.get(path, path)), item)
        if not same_value(first.value, item.value):
            reader.add_problem(at, f"sysctls: {item.name} is the same setting as {first.name}, which is {first.value}")
        parts = path.split("/")
        dev = Interface(item.ns, parts[3]) if parts[1] == "ipv6" and len(parts) > 4 else None
        if dev is not None and dev in devices.links and devices.mtu(dev) < MIN_IPV6_MTU:
            reader.add_problem(at, f"sysctls: {dev} has no IPv6: {devices.why_without_ipv6(dev)}")
        of_link = _OF_LINKS.get(path.removeprefix("net/ipv6/conf/").partition("/")[2]) if parts[1] == "ipv6" else None
        if of_link is not None and parts[3:4] != ["default"]:
            reader.add_problem(at, f"sysctls: the link decides about {item.name}", f"set {of_link} of the link")

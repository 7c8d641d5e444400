"""`Port`, one device of one namespace, and the types of addresses that all modules use."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import TypeAlias

IP: TypeAlias = IPv4Address | IPv6Address
Net: TypeAlias = IPv4Network | IPv6Network
Iface: TypeAlias = IPv4Interface | IPv6Interface


@dataclass(frozen=True, slots=True, order=True)
class Port:
    """One device of one namespace, written `node1/eth0`."""

    ns: str
    dev: str

    def __str__(self) -> str:
        return f"{self.ns}/{self.dev}"

"""The members of IP sets, as ipset(8) prints them: `10.0.0.1`, `10.0.0.0/8 nomatch`, `10.0.0.1,tcp:80`. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_network

from labctl.core.resources import Net

KINDS = ("hash:net", "hash:ip", "hash:ip,port")
PORT_PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132, "udplite": 136}  # those whose ports a set can hold
_NO_MATCH = " nomatch"


@dataclass(frozen=True, slots=True)
class SetMember:
    """A member. `protocol` (a name of `PORT_PROTOCOLS`) and `port` are those of a `hash:ip,port` set. `nomatch` excepts
    the network from a larger one of the same `hash:net` set."""

    network: Net
    protocol: str = ""
    port: int = 0
    nomatch: bool = False

    def __str__(self) -> str:
        one = self.network
        single = one.prefixlen == one.max_prefixlen  # ipset(8) prints these without a prefix length
        text = str(one.network_address if single else one)
        if self.protocol:
            return f"{text},{self.protocol}:{self.port}"
        return text + _NO_MATCH * self.nomatch


def parse_member(text: str, kind: str) -> SetMember:
    """A member of a set of this kind. Raises ValueError for a text that cannot be one."""
    nomatch = kind == "hash:net" and text.endswith(_NO_MATCH)
    address, comma, rest = text.removesuffix(_NO_MATCH if nomatch else "").partition(",")
    network = ip_network(address)
    if (kind == "hash:ip,port") != bool(comma):
        raise ValueError(f"{text} cannot be a member of a set of the type {kind}")
    if kind != "hash:net" and network.prefixlen != network.max_prefixlen:
        raise ValueError(f"a set of the type {kind} has addresses only")
    if not comma:
        return SetMember(network, nomatch=nomatch)
    protocol, colon, port = rest.rpartition(":")
    protocol = protocol if colon else "tcp"  # as ipset(8) reads a port without a protocol
    if protocol not in PORT_PROTOCOLS or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"{rest} is not a port such as tcp:80")
    return SetMember(network, protocol, int(port))

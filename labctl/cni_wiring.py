"""What labctl's CNI plugin makes for one container, as a plan of two namespaces: `host` and `pod`. Pure.

    bridge   a port of a bridge that the node may have an address on     follows plugins/main/bridge
    routed   a cable of its own, with the gateway's address and a route   follows plugins/main/ptp

Both of containernetworking/plugins 1.1 (bridge.go, ptp.go, pkg/ip, pkg/utils), as are the rules of `ipMasq`
(pkg/ip/ipmasq_linux.go) and of `firewall` (plugins/meta/firewall/iptables.go). Everything that is made bears a
name or a comment that is computed from network, container and device, so that it can be found again without a
record.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha512
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from labctl.cni_config import Failure, Request
from labctl.cni_spec import INVALID_CONFIG, UNSUPPORTED_FIELD, Interface, IpConfig, Result, RouteConfig
from labctl.plan import Address, Link, Plan, Port, Resource, Route, Sysctl

HOST, POD = "host", "pod"
ANYWHERE = IPv4Network("0.0.0.0/0")
FORWARD, ADMIN = "CNI-FORWARD", "CNI-ADMIN"


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of one container, as lines of iptables: `chains` are its own, `heads` and `tails` go to the begin
    and the end of chains that others use too. Each pair is a chain and a rule; `tables` are told apart by name."""

    table: str
    chains: tuple[str, ...] = ()  # its own, which nobody else fills
    shared: tuple[str, ...] = ()  # made if they are not there
    heads: tuple[tuple[str, str], ...] = ()
    tails: tuple[tuple[str, str], ...] = ()


def veth(request: Request) -> str:
    """The name of the host's end of a container's cable: always the same for one attachment."""
    digest = sha512(f"{request.config.name} {request.container} {request.ifname}".encode()).hexdigest()
    return f"veth{digest[:8]}"


def mark(request: Request) -> str:
    """What the host's end bears as its alias, so that a GC knows whose it is."""
    return " ".join(("labctl-cni", request.config.name, request.container, request.ifname))


def of_mark(alias: str, network: str) -> tuple[str, str] | None:
    """The container and device behind an alias, if it is of this network."""
    words = alias.split()
    return (words[2], words[3]) if len(words) == 4 and words[:2] == ["labctl-cni", network] else None


def addresses(result: Result) -> tuple[IpConfig, ...]:
    """The addresses that IPAM gave. Raises Failure for none, or of a family that is not wired here."""
    if not result.ips:
        raise Failure(INVALID_CONFIG, "the IPAM plugin gave no address")
    if any(item.address.version != 4 for item in result.ips):
        raise Failure(UNSUPPORTED_FIELD, "IPv6 addresses are not wired by this plugin", "give the IPAM IPv4 ranges")
    return result.ips


def wiring(request: Request, given: Result, *, ipv6: bool, bridge_mac: str | None = None) -> Plan:
    """Every kernel object of one container. `given` has its addresses and routes; `ipv6` tells whether the kernel
    has that family, whose settings are then written too; `bridge_mac` is for a bridge that is not there yet.

    Raises Failure where what IPAM gave cannot be wired.
    """
    made = _bridge(request, given, bridge_mac) if request.config.shape == "bridge" else _routed(request, given)
    return tuple(item for item in made if ipv6 or not (isinstance(item, Sysctl) and ".ipv6." in item.name))


def _bridge(request: Request, given: Result, bridge_mac: str | None) -> Iterator[Resource]:
    config, inner, outer = request.config, Port(POD, request.ifname), Port(HOST, veth(request))
    at = Port(HOST, config.bridge)
    yield Link(at, "bridge", mtu=config.mtu or None, mac=bridge_mac, promisc=config.promisc, autoconf=True)
    yield from _cable(request, outer, inner, config.bridge)
    yield Sysctl(POD, f"net.ipv4.conf.{_dotless(inner.dev)}.arp_notify", "1")
    yield Sysctl(HOST, f"net.ipv6.conf.{_dotless(config.bridge)}.accept_ra", "0")
    for item in addresses(given):
        yield _address(inner, item)
        if config.gateway:
            gateway = _gateway(item)
            yield _address(at, replace(item, address=IPv4Interface((int(gateway), item.address.network.prefixlen))))
    if config.gateway:
        yield Sysctl(HOST, "net.ipv4.ip_forward", "1")
    yield from _routes(inner, given)


def _routed(request: Request, given: Result) -> Iterator[Resource]:
    inner, outer = Port(POD, request.ifname), Port(HOST, veth(request))
    yield from _cable(request, outer, inner, None)
    yield Sysctl(HOST, "net.ipv4.ip_forward", "1")
    for item in addresses(given):
        gateway, own, subnet = _gateway(item), IPv4Address(item.address.ip), IPv4Network(item.address.network)
        yield Address(inner, item.address, connected=False)
        yield Route(POD, IPv4Network((int(gateway), 32)), dev=inner.dev, src=own)
        yield Route(POD, subnet, gateway, inner.dev, src=own)
        yield Address(outer, IPv4Interface((int(gateway), 32)), None)
        yield Route(HOST, IPv4Network((int(own), 32)), dev=outer.dev, scope="host")
    yield from _routes(inner, given)


def _cable(request: Request, outer: Port, inner: Port, master: str | None) -> Iterator[Resource]:
    config, mtu = request.config, request.config.mtu or None
    yield Link(outer, "veth", inner, master, mtu, autoconf=True, hairpin=config.hairpin)
    yield Link(inner, "veth", outer, None, mtu, config.mac, autoconf=True)
    yield Sysctl(HOST, f"net.ipv6.conf.{outer.dev}.accept_ra", "0")
    yield Sysctl(POD, f"net.ipv6.conf.{_dotless(inner.dev)}.accept_dad", "0")


def _address(at: Port, item: IpConfig) -> Address:
    return Address(at, item.address, None if item.address.network.prefixlen == 32 else True)


def _gateway(item: IpConfig) -> IPv4Address:
    """The gateway of an address: as IPAM says, else the subnet's first."""
    if item.gateway is not None:
        return IPv4Address(str(item.gateway))
    first = IPv4Address(int(item.address.network.network_address) + 1)
    if first == item.address.ip:
        raise Failure(INVALID_CONFIG, f"{item.address} is the address of its subnet's gateway")
    return first


def _routes(inner: Port, given: Result) -> Iterator[Resource]:
    """The routes that IPAM gave; without a next hop they go by the first address's gateway."""
    for route in given.routes:
        via = route.gw if route.gw is not None else _gateway(given.ips[0])
        yield Route(POD, route.dst, via, inner.dev, metric=route.priority or 0, mtu=route.mtu)


def granted(request: Request, given: Result) -> Result:
    """What IPAM gave, and the default route that `isDefaultGateway` adds. Raises Failure for a second one."""
    if not request.config.is_default_gateway:
        return given
    if any(route.dst == ANYWHERE for route in given.routes):
        raise Failure(INVALID_CONFIG, "isDefaultGateway is on, and the IPAM plugin gave a default route", "keep one")
    return replace(given, routes=(*given.routes, RouteConfig(ANYWHERE, _gateway(addresses(given)[0]))))


def result(request: Request, given: Result, macs: dict[Port, str]) -> Result:
    """What an ADD returns: the devices in the reference plugins' order, addresses, routes; after what came before."""
    config, inner, outer = request.config, Port(POD, request.ifname), Port(HOST, veth(request))
    before = config.previous or Result(config.version)
    bridge = Port(HOST, config.bridge)
    own = [Interface(bridge.dev, macs.get(bridge, ""))] if config.shape == "bridge" else []
    own += [Interface(outer.dev, macs.get(outer, "")), Interface(inner.dev, macs.get(inner, ""), request.netns)]
    index = len(before.interfaces) + len(own) - 1
    ips = (replace(item, interface=index, gateway=_gateway(item)) for item in given.ips)
    return Result(
        config.version,
        (*before.interfaces, *own),
        (*before.ips, *ips),
        (*before.routes, *given.routes),
        given.dns or before.dns or dict(config.raw.get("dns") or {}),
    )


def own_part(request: Request) -> Result:
    """Of an ADD's result what is about this attachment's device: what CHECK and DEL go by."""
    previous = request.config.previous
    if previous is None:
        return Result(request.config.version)
    here = [
        number
        for number, item in enumerate(previous.interfaces)
        if item.name == request.ifname and item.sandbox == request.netns
    ]
    return replace(previous, ips=tuple(item for item in previous.ips if item.interface in (None, *here)))


# ---- rules -------------------------------------------------------------------------------------------


def chain_name(network: str, container: str) -> str:
    """The chain of a container's masquerading: `CNI-` and a digest, 28 characters in all."""
    return f"CNI-{sha512((network + container).encode()).hexdigest()}"[:28]


def comment(network: str, container: str) -> str:
    """What every rule about a container says."""
    return f'name: "{network}" id: "{container}"'


def rules(request: Request, given: Result) -> tuple[Rules, ...]:
    """The rules of one container, table by table."""
    made = []
    if request.config.ip_masq:
        made.append(_masquerade(request, given))
    if request.config.firewall:
        made.append(_firewall(given))
    return tuple(made)


def _masquerade(request: Request, given: Result) -> Rules:
    name = chain_name(request.config.name, request.container)
    said = comment(request.config.name, request.container).replace('"', '\\"')
    about = f'-m comment --comment "{said}"'
    tails = []
    for item in given.ips:
        tails.append((name, f"-d {item.address.network} {about} -j ACCEPT"))
        tails.append((name, f"! -d 224.0.0.0/4 {about} -j MASQUERADE"))
    tails += [("POSTROUTING", f"-s {item.address.ip}/32 {about} -j {name}") for item in given.ips]
    return Rules("nat", chains=(name,), tails=tuple(tails))


def _firewall(given: Result) -> Rules:
    heads = (
        ("FORWARD", f'-m comment --comment "CNI firewall plugin rules" -j {FORWARD}'),
        (FORWARD, f'-m comment --comment "CNI firewall plugin admin overrides" -j {ADMIN}'),
    )
    tails = []
    for item in given.ips:
        tails.append((FORWARD, f"-d {item.address.ip}/32 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"))
        tails.append((FORWARD, f"-s {item.address.ip}/32 -j ACCEPT"))
    return Rules("filter", shared=(FORWARD, ADMIN), heads=heads, tails=tuple(tails))


def _dotless(device: str) -> str:
    """A device's name inside a setting's dotted name, as sysctl(8) writes it."""
    return device.replace(".", "/")


def stale(network: str, stay: Iterable[str], there: Iterable[tuple[str, ...]]) -> tuple[Rules, ...]:
    """The masquerading of this network's containers that are not to stay, as found by their rules' comments.

    `there` are the rules of the nat table, as words behind their chain's name.
    """
    kept = set(stay)
    chains = dict.fromkeys(
        words[-1]
        for words in there
        if words[0] == "POSTROUTING"
        and words[-1].startswith("CNI-")
        and _container(words, network) not in (None, *kept)
    )
    return (Rules("nat", chains=tuple(chains)),) if chains else ()


def _container(words: tuple[str, ...], network: str) -> str | None:
    """The container that a rule's comment speaks of, if it is of this network."""
    found = re.fullmatch(r'name: "(.*)" id: "(.*)"', _after(words, "--comment"))
    return found[2] if found is not None and found[1] == network else None


def _after(words: tuple[str, ...], word: str) -> str:
    return words[words.index(word) + 1] if word in words else ""

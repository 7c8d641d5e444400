"""The table that kube-proxy writes in mode nftables, for one address family of one node. Pure.

```text
 table ip kube-proxy
   nat-prerouting, nat-output --> services --+-- map service-ips ------+-> service-... (Cluster) --+-> dnat, or
                                             |                         +-> local-...   (Local) ----+   endpoint-...
                                             +-- map service-nodeports --> external-... --> service- or local-...
   filter-prerouting-pre-dnat, -output-pre-dnat --> firewall-check -- map firewall-ips --> firewall-...: drop
   filter-input, -forward, -output --> map no-endpoint-services: reject or drop; cluster-ips-check: reject, drop
   nat-postrouting --> masquerading: what has the mark, and from 1.36 a pod that reaches itself
```

A packet finds its Service by one look into a map, however many Services there are: mode iptables goes through a rule
for each. A change of a Service changes elements of maps and that Service's chains, so it costs the same in small and
large clusters. Each port of a Service has chains of its own, named by a hash and by the port.

Shapes: 1.30 to 1.32 filter before DNAT; 1.33 to 1.35 filter after it, and drop what goes to cluster IPs that no Service
has; 1.36 has no chains of endpoints, but a set of the connections of local endpoints to themselves.

A plan is what stands when kube-proxy has finished: the chains of a Service that is deleted are first emptied, and
deleted in a later transaction; these empty chains are in no plan.

Source: kubernetes `pkg/proxy/nftables/proxier.go`, 1.30 to 1.36. The texts are those of nft 1.0.6.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from labctl.core.chain_hash import chain_hash
from labctl.core.resources import IP, Net
from labctl.kubernetes.api.api_objects import Cluster
from labctl.kubernetes.services.endpoint_choice import Backend
from labctl.kubernetes.services.kube_proxy_config import ProxyConfig
from labctl.kubernetes.services.kube_proxy_nft_table import (
    TableObject,
    duration,
    interval_set,
    local_traffic,
    set_mark,
    static_objects,
)
from labctl.kubernetes.services.proxied_ports import ProxiedPort, SharedChoices

TABLE = "kube-proxy"
AFFINITY_SIZE = 65535  # what the kernel gives a dynamic set without a size


class SharedTables(SharedChoices):
    """What the kube-proxies of a cluster's nodes have in common: most objects are the same on every node, so they are
    made once."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster)
        self.parts: dict[Any, _PortObjects] = {}


@dataclass(slots=True)
class _PortObjects:
    """What one port of a Service adds: elements of the sets and maps of the table, and objects of its own."""

    elements: list[tuple[str, str]] = field(default_factory=list)
    objects: list[TableObject] = field(default_factory=list)


def kube_proxy_table(
    cluster: Cluster, config: ProxyConfig, version: Literal[4, 6], shared: SharedTables | None = None
) -> list[TableObject]:
    """The table of kube-proxy with all that is in it, in the order in which nft lists them. The Services come in the
    order of the cluster; kube-proxy's own changes with every sync. `shared` is that of the other nodes of the same
    cluster. No objects if nft refuses the table, because a rule names a device that is not there.
    """
    shared = shared or SharedTables(cluster)
    parts = [
        _port_objects(shared, one, config) for one in shared.ports(config, version, shared.candidates(config, version))
    ]
    if refused_device(config, version) and any(_names_device(part) for part in parts):
        return []
    elements: dict[str, dict[str, None]] = {}
    for part in parts:
        for name, text in part.elements:
            elements.setdefault(name, {})[text] = None
    found: list[TableObject] = []
    for item in static_objects(config, version):
        added = tuple(elements.get(item.name, ()))
        found.append(TableObject(item.kind, item.name, item.header, item.entries + added))
    sets = [item for part in parts for item in part.objects if item.kind == "set"]
    chains = [item for part in parts for item in part.objects if item.kind == "chain"]
    first_chain = next(number for number, item in enumerate(found) if item.kind == "chain")
    return [*found[:first_chain], *sets, *found[first_chain:], *chains]


def hashed_name(text: str) -> str:
    """A text with the beginning of its hash before it: a name that is too long is cut, and is still unique."""
    return f"{chain_hash(text)[:8]}-{text}"


def refused_device(config: ProxyConfig, version: Literal[4, 6]) -> str:
    """The device that rules of this release name by its number although the node has none of that name; "" if none."""
    local = config.local_traffic.match(version)
    if config.nft is None or not config.nft.matches_device_number or local is None or local[0] != "-i":
        return ""
    there = config.devices is None or local[1] in config.devices
    return "" if there else local[1]


def _names_device(part: _PortObjects) -> bool:
    return any("iif " in entry for item in part.objects for entry in item.entries)


def _port_objects(shared: SharedTables, one: ProxiedPort, config: ProxyConfig) -> _PortObjects:
    """All objects of a port: those that another node has, if all that they depend on is the same there."""
    local = tuple([each.text for each in one.choice.reachable if each.local])
    node_ip = config.node_ip(one.version) if one.ranges else None
    key = (*one.key, local, config.local_traffic.match(one.version), config.masquerade_all, config.nft, node_ip)
    found = shared.parts.get(key)
    if found is None:
        found = shared.parts[key] = _Writer(one, config).part
    return found


class _Writer:
    """Writes the objects of one port of a Service."""

    def __init__(self, one: ProxiedPort, config: ProxyConfig) -> None:
        assert config.nft is not None
        self.one, self.config, self.shape = one, config, config.nft
        self.ip = "ip" if one.version == 4 else "ip6"
        self.base = f"{one.service.namespace}/{one.service.name}/{one.protocol}/{one.port.name}"
        named = hashed_name(self.base)
        self.service, self.local, self.external, self.firewall = (
            f"{kind}-{named}" for kind in ("service", "local", "external", "firewall")
        )
        self.part = _PortObjects()
        self._names: dict[str, str] = {}
        self._elements()
        self._objects()

    def _add(self, name: str, text: str) -> None:
        self.part.elements.append((name, text))

    def _chain(self, name: str, rules: Iterable[str]) -> None:
        self.part.objects.append(TableObject("chain", name, (), tuple(rules)))

    def _elements(self) -> None:
        one, shape = self.one, self.shape
        self._add("cluster-ips", str(one.cluster_ip))
        if one.has_internal:
            self._lead(one.cluster_ip, self.local if one.is_internal_local else self.service)
        else:
            self._end(one.cluster_ip)
        comment = f' comment "{one.name}"' if shape.comments_firewall else ""
        for ip in (*one.external_ips, *one.lb_ips):
            if one.choice.exist:
                self._lead(ip, self.external)
            if not one.has_external:
                self._end(ip)
        if self._has_firewall:
            for ip in one.lb_ips:
                self._add("firewall-ips", f"{self._key(ip)}{comment} : goto {self.firewall}")
        if one.port.node_port:
            key = f"{one.protocol} . {one.port.node_port}"
            if one.choice.exist:
                self._add("service-nodeports", f"{key} : goto {self.external}")
            if not one.has_external:
                self._add("no-endpoint-nodeports", f'{key} comment "{one.name}" : {self._no_endpoint}')
        if shape.has_hairpin_set:
            for each in one.choice.reachable:
                if each.local:
                    text = f"{each.ip} . {each.ip} . {one.protocol} . {each.port}"
                    self._add("hairpin-connections", text)

    def _key(self, ip: IP) -> str:
        return f"{ip} . {self.one.protocol} . {self.one.port.port}"

    def _lead(self, ip: IP, chain: str) -> None:
        self._add("service-ips", f"{self._key(ip)} : goto {chain}")

    def _end(self, ip: IP) -> None:
        """No endpoint may answer at this address."""
        self._add("no-endpoint-services", f'{self._key(ip)} comment "{self.one.name}" : {self._no_endpoint}')

    @property
    def _no_endpoint(self) -> str:
        return "drop" if self.one.choice.exist else "goto reject-chain"

    @property
    def _has_firewall(self) -> bool:
        return bool(self.one.lb_ips and self.one.ranges)

    def _objects(self) -> None:
        one, choice = self.one, self.one.choice
        if choice.exist:
            if one.service.affinity_timeout_s:
                for each in choice.reachable:
                    self.part.objects.append(self._affinity_set(each, one.service.affinity_timeout_s))
            if self._has_endpoint_chains:
                for each in choice.reachable:
                    self._chain(self._endpoint("endpoint", each), self._endpoint_rules(each))
            for name, found in ((self.service, choice.cluster), (self.local, choice.local)):
                if found:
                    is_internal = name == (self.local if one.is_internal_local else self.service)
                    marks = self._mark_internal() if is_internal else ()
                    self._chain(name, (*marks, *self._choose(found)))
            if one.is_external:
                self._chain(self.external, self._external_rules())
        if self._has_firewall:
            self._chain(self.firewall, (f"{self.ip} saddr != {interval_set(self._sources())} drop",))

    @property
    def _has_endpoint_chains(self) -> bool:
        """From 1.36 on, only a Service with session affinity has chains of endpoints."""
        return not self.shape.has_hairpin_set or bool(self.one.service.affinity_timeout_s)

    def _endpoint(self, kind: str, backend: Backend) -> str:
        """The name of a chain or set of an endpoint. A name cannot have colons: they become dots."""
        named = self._names.get(backend.text)
        if named is None:
            ip = str(backend.ip).replace(":", ".")
            named = self._names[backend.text] = hashed_name(f"{self.base}__{ip}/{backend.port}")
        return f"{kind}-{named}"

    def _affinity_set(self, backend: Backend, timeout_s: int) -> TableObject:
        header = (
            f"type ipv{self.one.version}_addr",
            f"size {AFFINITY_SIZE}",
            "flags dynamic,timeout",
            f"timeout {duration(timeout_s)}",
        )
        return TableObject("set", self._endpoint("affinity", backend), header)

    def _endpoint_rules(self, backend: Backend) -> Iterator[str]:
        if not self.shape.has_hairpin_set:
            yield f"{self.ip} saddr {backend.ip} jump mark-for-masquerade"
        if self.one.service.affinity_timeout_s:
            yield f"update @{self._endpoint('affinity', backend)} {{ {self.ip} saddr }}"
        yield f"meta l4proto {self.one.protocol} dnat to {backend.text}"

    def _mark_internal(self) -> Iterator[str]:
        """Mark the packets to the cluster IP that do not come from pods: their answers must come back here. From 1.36
        on, the chain `services` has one rule for all."""
        one = self.one
        if self.shape.has_hairpin_set:
            return
        port = f" {one.protocol} dport {one.port.port}" if self.shape.matches_port_to_mark else ""
        to = f"{self.ip} daddr {one.cluster_ip}{port}"
        if self.config.masquerade_all:
            yield f"{to} jump mark-for-masquerade"
        elif others := local_traffic(self.config, one.version, "!= "):
            yield f"{to} {others} jump mark-for-masquerade"

    def _choose(self, found: tuple[Backend, ...]) -> Iterator[str]:
        """One endpoint: the one that the client had, else one by chance."""
        if self.one.service.affinity_timeout_s:
            for each in found:
                had = f"{self.ip} saddr @{self._endpoint('affinity', each)}"
                yield f"{had} goto {self._endpoint('endpoint', each)}"
        number = f"numgen random mod {len(found)}"
        if self._has_endpoint_chains:
            chains = (f"{index} : goto {self._endpoint('endpoint', each)}" for index, each in enumerate(found))
            yield f"{number} vmap {{ {', '.join(chains)} }}"
            return
        ends = (f"{index} : {each.ip} . {each.port}" for index, each in enumerate(found))
        yield f"meta l4proto {self.one.protocol} dnat {self.ip} to {number} map {{ {', '.join(ends)} }}"

    def _external_rules(self) -> Iterator[str]:
        """Where packets to a nodePort, an external address or a load balancer go."""
        one, mark = self.one, set_mark(self.config)
        to_mark = mark if self.shape.has_hairpin_set else "jump mark-for-masquerade"
        if not one.is_external_local:
            yield f'{to_mark} comment "masquerade"' if self.shape.has_hairpin_set else to_mark
        else:
            if pods := local_traffic(self.config, one.version):
                yield f'{pods} goto {self.service} comment "short-circuit pod traffic"'
            yield f'fib saddr type local {to_mark} comment "masquerade local traffic"'
            yield f'fib saddr type local goto {self.service} comment "short-circuit local traffic"'
        if one.has_external:
            yield f"goto {self.local if one.is_external_local else self.service}"

    def _sources(self) -> Iterator[Net | IP]:
        """Who may use the load balancer. A range with the node's address also lets the packets through that the node
        itself sends to the load balancer's address."""
        node_ip = self.config.node_ip(self.one.version)
        yield from self.one.ranges
        if node_ip is not None and any(node_ip in each for each in self.one.ranges):
            yield from self.one.lb_ips

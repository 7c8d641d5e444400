"""The rules that kube-proxy writes in iptables mode, for one address family of one node. Pure.

```text
 packet to a Service             nat                                             filter
   PREROUTING, OUTPUT --> KUBE-SERVICES --+-> KUBE-SVC (Cluster) --+-> KUBE-SEP --> DNAT     KUBE-SERVICES: REJECT,
                             |            +-> KUBE-SVL (Local) ----+                          no endpoints
                             |            +-> KUBE-FW --> KUBE-EXT --> SVC or SVL            KUBE-PROXY-FIREWALL:
                             +-> KUBE-NODEPORTS --------> KUBE-EXT                            not accepted by KUBE-FW
   POSTROUTING --> KUBE-POSTROUTING --> MASQUERADE, if KUBE-MARK-MASQ has marked the packet
```

Every Service has chains of its own, named by a hash, because kube-proxy rewrites only the chains of Services that
change. A packet first gets a destination, and a mark if its answer must come back through this node; the masquerading
itself is one rule at the end, for all of them.

Source: kubernetes `pkg/proxy/iptables/proxier.go`, 1.28 to 1.36. The texts are those of iptables-save 1.8.9.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

from labctl.core.chain_hash import chain_hash
from labctl.core.resources import IP
from labctl.kubernetes.api.api_objects import Cluster, Service, ServicePort
from labctl.kubernetes.services.endpoint_choice import Backend
from labctl.kubernetes.services.kube_proxy_config import ProxyConfig
from labctl.kubernetes.services.proxied_ports import ProxiedPort, SharedChoices, port_name

Chains = dict[tuple[str, str], list[str]]  # (table, chain): its rules, without `-A CHAIN`
LARGE_CLUSTER = 1000  # endpoints above which the rules of endpoints have no comments
STATISTIC_ONE = 1 << 31  # the kernel's fixed-point number for the probability 1
PORTALS = "kubernetes service portals"
EXTERNAL_PORTALS = "kubernetes externally-visible service portals"
LB_FIREWALL = "kubernetes load balancer firewall"
LAST_RULE = "kubernetes service nodeports; NOTE: this must be the last rule in this chain"


class SharedRules(SharedChoices):
    """What the kube-proxies of a cluster's nodes have in common: most rules are the same on every node, so they are
    made once. The lists of rules in the answers are then the same objects."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster)
        self.parts: dict[Any, _PortRules] = {}
        self._endpoint_chains: dict[tuple[str, str], list[str]] = {}

    def endpoint_chain(self, backend: Backend, protocol: str) -> list[str]:
        """The chain of an endpoint without comments and session affinity: the same for all Services that have it."""
        found = self._endpoint_chains.get((backend.text, protocol))
        if found is None:
            found = self._endpoint_chains[backend.text, protocol] = _endpoint_chain(backend, protocol)
        return found


def kube_proxy_chains(
    cluster: Cluster, config: ProxyConfig, version: Literal[4, 6], shared: SharedRules | None = None
) -> Chains:
    """The chains of kube-proxy and the built-in chains with its rules, for one address family. The order of Services
    in KUBE-SERVICES is that of the cluster; kube-proxy's own changes with every sync. `shared` is that of the other
    nodes of the same cluster."""
    return _Proxy(shared or SharedRules(cluster), config, version).chains()


def chain_name(
    kind: Literal["SVC", "SVL", "EXT", "FW", "SEP"], service: Service, port: ServicePort, to: str = ""
) -> str:
    """The name of a Service's chain: the first 16 characters of a hash of `ns/name:port`, the protocol, and for an
    endpoint its address."""
    text = port_name(service, port) + port.protocol.lower() + to
    return f"KUBE-{kind}-{chain_hash(text)}"


@dataclass(slots=True)
class _PortRules:
    """The rules of one port of a Service: those it adds to the chains of all Services, by table and chain, and its
    separate chains."""

    added: list[tuple[str, str, str]] = field(default_factory=list)
    chains: dict[str, list[str]] = field(default_factory=dict)


class _Proxy:
    """One sync of one family."""

    def __init__(self, shared: SharedRules, config: ProxyConfig, version: Literal[4, 6]) -> None:
        self.shared, self.cluster, self.config, self.version = shared, shared.cluster, config, version
        self.local = config.local_traffic.match(version)
        self.has_localhost = version == 4 and config.serves_localhost
        self.nat: dict[str, list[str]] = {}
        self.filter: dict[str, list[str]] = {}
        self.has_comments = True

    def chains(self) -> Chains:
        self._static_chains()
        found = self.shared.candidates(self.config, self.version)
        self.has_comments = sum(len(one[2]) for one in found) <= LARGE_CLUSTER
        for one in self.shared.ports(self.config, self.version, found):
            part = _ServicePortRules(self, one).rules()
            for table, chain, text in part.added:
                (self.nat if table == "nat" else self.filter)[chain].append(text)
            self.nat.update(part.chains)
        self.nat["KUBE-SERVICES"] += self._node_port_jumps()
        canary: dict[str, list[str]] = {"KUBE-PROXY-CANARY": []}
        tables = {"nat": self.nat, "filter": self.filter, "mangle": canary}
        return {(table, chain): rules for table, chains in tables.items() for chain, rules in chains.items()}

    def _static_chains(self) -> None:
        mark, invalid = self.config.mark, "-m conntrack --ctstate INVALID "
        if self.config.has_nfacct and self.config.release.counts_with_nfacct:
            invalid += "-m nfacct --nfacct-name ct_state_invalid_dropped_pkts "
        new = "-m conntrack --ctstate NEW "
        self.filter = {
            "INPUT": [
                "-j KUBE-FIREWALL",
                f"{new}{_comment(LB_FIREWALL)} -j KUBE-PROXY-FIREWALL",
                f"{_comment('kubernetes health check service ports')} -j KUBE-NODEPORTS",
                f"{new}{_comment(EXTERNAL_PORTALS)} -j KUBE-EXTERNAL-SERVICES",
            ],
            "FORWARD": [
                f"{new}{_comment(LB_FIREWALL)} -j KUBE-PROXY-FIREWALL",
                f"{_comment('kubernetes forwarding rules')} -j KUBE-FORWARD",
                f"{new}{_comment(PORTALS)} -j KUBE-SERVICES",
                f"{new}{_comment(EXTERNAL_PORTALS)} -j KUBE-EXTERNAL-SERVICES",
            ],
            "OUTPUT": [
                "-j KUBE-FIREWALL",
                f"{new}{_comment(LB_FIREWALL)} -j KUBE-PROXY-FIREWALL",
                f"{new}{_comment(PORTALS)} -j KUBE-SERVICES",
            ],
            "KUBE-EXTERNAL-SERVICES": [],
            "KUBE-FIREWALL": [
                f"! -s 127.0.0.0/8 -d 127.0.0.0/8 {_comment('block incoming localnet connections')}"
                " -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP"
            ]
            if self.has_localhost
            else [],
            "KUBE-FORWARD": [
                *([f"{invalid}-j DROP"] if self.config.drops_invalid else []),
                f"{_comment('kubernetes forwarding rules')} -m mark --mark {mark}/{mark} -j ACCEPT",
                f"{_comment('kubernetes forwarding conntrack rule')} -m conntrack --ctstate RELATED,ESTABLISHED"
                " -j ACCEPT",
            ],
            "KUBE-NODEPORTS": [],
            "KUBE-PROXY-CANARY": [],
            "KUBE-PROXY-FIREWALL": [],
            "KUBE-SERVICES": [],
        }
        self.nat = {
            "PREROUTING": [f"{_comment(PORTALS)} -j KUBE-SERVICES"],
            "OUTPUT": [f"{_comment(PORTALS)} -j KUBE-SERVICES"],
            "POSTROUTING": [f"{_comment('kubernetes postrouting rules')} -j KUBE-POSTROUTING"],
            "KUBE-MARK-MASQ": [f"-j MARK --set-xmark {mark}/{mark}"],
            "KUBE-NODEPORTS": [],
            "KUBE-POSTROUTING": [
                f"-m mark ! --mark {mark}/{mark} -j RETURN",
                f"-j MARK --set-xmark {mark}/0x0",
                f"{_comment('kubernetes service traffic requiring SNAT')} -j MASQUERADE --random-fully",
            ],
            "KUBE-PROXY-CANARY": [],
            "KUBE-SERVICES": [],
        }

    def _node_port_jumps(self) -> Iterator[str]:
        addresses = self.config.node_port_addresses(self.version)
        if addresses is not None:
            yield from (f"-d {_host(ip)} {_comment(LAST_RULE)} -j KUBE-NODEPORTS" for ip in addresses)
            return
        loopback = "127.0.0.0/8" if self.version == 4 else "::1/128"
        but = "" if self.has_localhost else f"! -d {loopback} "
        yield f"{but}{_comment(LAST_RULE)} -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS"


class _ServicePortRules:
    """The rules of one port of a Service."""

    def __init__(self, proxy: _Proxy, one: ProxiedPort) -> None:
        self.proxy, self.one, self.service, self.port = proxy, one, one.service, one.port
        self.name, self.protocol, self.choice = one.name, one.protocol, one.choice
        self._part = _PortRules()
        self._seps: dict[str, str] = {}

    def rules(self) -> _PortRules:
        """All rules of this port: those that another node has, if all that they depend on is the same there."""
        config = self.proxy.config
        key = (
            *self.one.key, self.proxy.has_comments, self.proxy.has_localhost, self.proxy.local, config.masquerade_all,
            config.release, config.has_nfacct, config.node_ip(self.proxy.version) if self.one.ranges else None,
        )  # fmt: skip
        found = self.proxy.shared.parts.get(key)
        if found is None:
            self._write()
            found = self.proxy.shared.parts[key] = self._part
        return found

    def _add(self, table: str, chain: str, text: str) -> None:
        self._part.added.append((table, chain, text))

    def _write(self) -> None:
        choice = self.choice
        self.svc, self.svl, self.ext, self.fw = (
            chain_name(kind, self.service, self.port) for kind in ("SVC", "SVL", "EXT", "FW")
        )
        has_internal, has_external = self.one.has_internal, self.one.has_external
        internal = self.svl if self.one.is_internal_local else self.svc
        has_firewall = choice.exist and bool(self.one.lb_ips and self.one.ranges)
        if has_internal:
            self._add("nat", "KUBE-SERVICES", f"{self._to(self.one.cluster_ip, 'cluster IP')} -j {internal}")
        else:
            self._add("filter", "KUBE-SERVICES", self._unserved(f"-d {_host(self.one.cluster_ip)} "))
        for ip in self.one.external_ips:
            self._external_address(ip, "external IP", self.ext, has_external)
        for ip in self.one.lb_ips:
            self._external_address(ip, "loadbalancer IP", self.fw if has_firewall else self.ext, has_external)
            if has_firewall:
                text = f"{self._to(ip, f'traffic not accepted by {self.fw}')} -j DROP"
                self._add("filter", "KUBE-PROXY-FIREWALL", text)
        self._node_port(has_external)
        if not choice.exist:
            return
        chains = self._part.chains
        if choice.cluster:
            chains[self.svc] = []
        if choice.local:
            chains[self.svl] = []
        if has_internal:
            chains[internal] += self._masquerade_internal()
        if self.one.is_external:
            chains[self.ext] = list(self._external_chain(has_external))
        if has_firewall:
            chains[self.fw] = list(self._firewall_chain())
        for chain, found in ((self.svc, choice.cluster), (self.svl, choice.local)):
            if found:
                chains[chain] += self._jumps(found)
        if self.proxy.has_comments or self.service.affinity_timeout_s:
            chains |= {self._sep(backend): self._endpoint_chain(backend) for backend in choice.reachable}
        else:
            shared = self.proxy.shared.endpoint_chain
            chains |= {self._sep(backend): shared(backend, self.protocol) for backend in choice.reachable}

    def _to(self, ip: IP, what: str) -> str:
        """The matches of a packet to this port of an address."""
        comment = _comment(f"{self.name} {what}")
        return f"-d {_host(ip)} -p {self.protocol} {comment} -m {self.protocol} --dport {self.port.port}"

    def _unserved(self, to: str, port: int | None = None, match: str = "") -> str:
        """The rule in the table filter for a packet that no endpoint can serve."""
        if self.choice.exist:
            why, target = "has no local endpoints", "DROP"
        else:
            why, target = (
                "has no endpoints",
                f"REJECT --reject-with icmp{'6' * (self.proxy.version == 6)}-port-unreachable",
            )
        protocol = self.protocol
        return (
            f"{to}-p {protocol} {_comment(f'{self.name} {why}')} {match}-m {protocol}"
            f" --dport {port or self.port.port} -j {target}"
        )

    def _external_address(self, ip: IP, what: str, chain: str, has_external: bool) -> None:
        if self.choice.exist:
            self._add("nat", "KUBE-SERVICES", f"{self._to(ip, what)} -j {chain}")
        if not has_external:
            self._add("filter", "KUBE-EXTERNAL-SERVICES", self._unserved(f"-d {_host(ip)} "))

    def _node_port(self, has_external: bool) -> None:
        node_port, protocol = self.port.node_port, self.protocol
        config = self.proxy.config
        if node_port:
            match = f"-p {protocol} {_comment(self.name)} -m {protocol} --dport {node_port} "
            if self.choice.exist:
                if config.has_nfacct and config.release.counts_with_nfacct and self.proxy.has_localhost:
                    counted = f"-d 127.0.0.0/8 {match}-m nfacct --nfacct-name localhost_nps_accepted_pkts "
                    self._add("nat", "KUBE-NODEPORTS", f"{counted}-j {self.ext}")
                self._add("nat", "KUBE-NODEPORTS", f"{match}-j {self.ext}")
            if not has_external:
                local = "-m addrtype --dst-type LOCAL "
                self._add("filter", "KUBE-EXTERNAL-SERVICES", self._unserved("", node_port, local))
        if self.service.type == "LoadBalancer" and self.service.health_check_node_port and self.one.is_external_local:
            comment = _comment(f"{self.name} health check node port")
            text = f"-p tcp {comment} -m tcp --dport {self.service.health_check_node_port} -j ACCEPT"
            self._add("filter", "KUBE-NODEPORTS", text)

    def _masquerade_internal(self) -> Iterator[str]:
        """Mark the packets to the cluster IP that do not come from pods: their answers must come back here."""
        to = self._to(self.one.cluster_ip, "cluster IP")
        if self.proxy.config.masquerade_all:
            yield f"{to} -j KUBE-MARK-MASQ"
        elif self.proxy.local is not None:
            option, value = self.proxy.local
            destination, rest = to.split(" -p ", 1)
            outside = f"! {option} {value}"
            head = f"{outside} {destination}" if option == "-s" else f"{destination} {outside}"
            yield f"{head} -p {rest} -j KUBE-MARK-MASQ"

    def _external_chain(self, has_external: bool) -> Iterator[str]:
        """Where packets to a nodePort, an external address or a load balancer go."""
        what = f"{self.name} external destinations"
        if not self.one.is_external_local:
            yield f"{_comment(f'masquerade traffic for {what}')} -j KUBE-MARK-MASQ"
        else:
            if self.proxy.local is not None:
                option, value = self.proxy.local
                yield f"{option} {value} {_comment(f'pod traffic for {what}')} -j {self.svc}"
            local = "-m addrtype --src-type LOCAL"
            yield f"{_comment(f'masquerade LOCAL traffic for {what}')} {local} -j KUBE-MARK-MASQ"
            yield f"{_comment(f'route LOCAL traffic for {what}')} {local} -j {self.svc}"
        if has_external:
            yield f"-j {self.svl if self.one.is_external_local else self.svc}"

    def _firewall_chain(self) -> Iterator[str]:
        """Which sources may use the load balancer's address. A range that holds the node's address also lets the
        packets through that the node itself sends to that address."""
        comment = _comment(f"{self.name} loadbalancer IP")
        node_ip = self.proxy.config.node_ip(self.proxy.version)
        for one in self.one.ranges:
            source = "" if one.prefixlen == 0 else f"-s {one} "
            yield f"{source}{comment} -j {self.ext}"
        if node_ip is not None and any(node_ip in one for one in self.one.ranges):
            for ip in self.one.lb_ips:
                yield f"-s {_host(ip)} {comment} -j {self.ext}"
        yield _comment(f"other traffic to {self.name} will be dropped by KUBE-PROXY-FIREWALL")

    def _jumps(self, found: tuple[Backend, ...]) -> Iterator[str]:
        """One endpoint each: the one that the client had, else one by chance."""
        timeout = self.service.affinity_timeout_s
        if timeout is not None:
            for backend in found:
                sep = self._sep(backend)
                recent = f"-m recent --rcheck --seconds {timeout} --reap {self._recent(sep)}"
                yield f"{self._endpoint_comment(f'{self.name} -> {backend}')}{recent} -j {sep}"
        for left, backend in zip(range(len(found), 0, -1), found, strict=True):
            chance = f"-m statistic --mode random --probability {_probability(left)} " if left > 1 else ""
            comment = self._endpoint_comment(f"{self.name} -> {backend.text}") if self.proxy.has_comments else ""
            yield f"{comment}{chance}-j {self._sep(backend)}"

    def _endpoint_chain(self, backend: Backend) -> list[str]:
        recent = f"-m recent --set {self._recent(self._sep(backend))} " if self.service.affinity_timeout_s else ""
        return _endpoint_chain(backend, self.protocol, self._endpoint_comment(self.name), recent)

    def _sep(self, backend: Backend) -> str:
        found = self._seps.get(backend.text)
        if found is None:
            found = f"KUBE-SEP-{chain_hash(f'{self.name}{self.protocol}{backend.text}')}"  # as `chain_name`
            self._seps[backend.text] = found
        return found

    def _recent(self, name: str) -> str:
        mask = "255.255.255.255" if self.proxy.version == 4 else "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
        return f"--name {name} --mask {mask} --rsource"

    def _endpoint_comment(self, text: str) -> str:
        return f"{_comment(text)} " if self.proxy.has_comments else ""


def _endpoint_chain(backend: Backend, protocol: str, comment: str = "", recent: str = "") -> list[str]:
    """The chain of an endpoint: its own packets to itself are marked, and all get its address."""
    return [
        f"-s {_host(backend.ip)} {comment}-j KUBE-MARK-MASQ",
        f"-p {protocol} {comment}{recent}-m {protocol} -j DNAT --to-destination {backend}",
    ]


@lru_cache(maxsize=4096)
def _probability(left: int) -> str:
    """1/n as the kernel keeps it: kube-proxy writes ten decimals, and the kernel rounds them to 2^-31."""
    return f"{round(float(f'{1 / left:.10f}') * STATISTIC_ONE) / STATISTIC_ONE:.11f}"


def _comment(text: str) -> str:
    return f'-m comment --comment "{text}"'


def _host(ip: IP) -> str:
    return f"{ip}/{ip.max_prefixlen}"

"""The iptables rules of labctl's CNI plugin on a node, for one container. Pure.

Those of `ipMasq` follow pkg/ip/ipmasq_linux.go of containernetworking/plugins 1.1, those of `firewall`
plugins/meta/firewall/iptables.go. As there, the masquerade chain and its comment belong to a container in one network:
two devices of the container in this network share both, and only the jump rules in POSTROUTING differ.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha512
from ipaddress import IPv4Interface

from labctl.cni_plugin.config import Config
from labctl.core.iptables import FirewallRule

FORWARD, ADMIN = "CNI-FORWARD", "CNI-ADMIN"


@dataclass(frozen=True, slots=True)
class ContainerRules:
    """The rules of one container in one table, as lines of iptables. `chains` belong to the container; `inserts` and
    `appends` are rules at the head and at the end of a chain, each a pair of chain and rule."""

    table: str
    chains: tuple[str, ...] = ()  # used by this container only
    shared_chains: tuple[str, ...] = ()  # used by all containers, and created if they do not exist
    inserts: tuple[tuple[str, str], ...] = ()
    appends: tuple[tuple[str, str], ...] = ()


def chain_name(network: str, container: str) -> str:
    """The name of a container's masquerade chain: `CNI-` and a digest, 28 characters in all."""
    return f"CNI-{sha512((network + container).encode()).hexdigest()}"[:28]


def comment(network: str, container: str) -> str:
    """The comment of every masquerade rule of a container."""
    return f'name: "{network}" id: "{container}"'


def rules(config: Config, container: str, addresses: Iterable[IPv4Interface]) -> tuple[ContainerRules, ...]:
    """The rules for these addresses of a container, by table. Without an address only the masquerade chain is known."""
    addresses = tuple(addresses)
    found = []
    if config.ip_masq:
        found.append(_masquerade(config.name, container, addresses))
    if config.firewall:
        found.append(_firewall(addresses))
    return tuple(found)


def _masquerade(network: str, container_id: str, addresses: tuple[IPv4Interface, ...]) -> ContainerRules:
    name = chain_name(network, container_id)
    text = comment(network, container_id).replace('"', '\\"')
    comment_args = f'-m comment --comment "{text}"'
    tails = []
    for item in addresses:
        tails.append((name, f"-d {item.network} {comment_args} -j ACCEPT"))
        tails.append((name, f"! -d 224.0.0.0/4 {comment_args} -j MASQUERADE"))
    tails += [("POSTROUTING", f"-s {item.ip}/32 {comment_args} -j {name}") for item in addresses]
    return ContainerRules("nat", chains=(name,), appends=tuple(tails))


def _firewall(addresses: tuple[IPv4Interface, ...]) -> ContainerRules:
    heads = (
        ("FORWARD", f'-m comment --comment "CNI firewall plugin rules" -j {FORWARD}'),
        (FORWARD, f'-m comment --comment "CNI firewall plugin admin overrides" -j {ADMIN}'),
    )
    tails = []
    for item in addresses:
        tails.append((FORWARD, f"-d {item.ip}/32 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"))
        tails.append((FORWARD, f"-s {item.ip}/32 -j ACCEPT"))
    return ContainerRules("filter", shared_chains=(FORWARD, ADMIN), inserts=heads, appends=tuple(tails))


def stale_rules(
    config: Config, is_gone: Callable[[str], bool], nat_rules: Iterable[tuple[str, FirewallRule]]
) -> Iterator[ContainerRules]:
    """The rules of this network's containers that are gone, found by the comments of their masquerade rules.

    `nat_rules` are the rules of the nat table, each with its chain's name. Rules of the firewall have no comment: their
    addresses are known only from the masquerade rules.
    """
    for chain, rule in nat_rules:
        container = _masqueraded_container(config, chain, rule)
        if container is not None and is_gone(container):
            yield ContainerRules("nat", chains=(rule.target or "",), appends=((chain, str(rule)),))
            if config.firewall:
                yield _firewall(_source_addresses(rule))


def masqueraded_containers(config: Config, nat_rules: Iterable[tuple[str, FirewallRule]]) -> tuple[str, ...]:
    """The containers of this network that have masquerade rules, each once. `nat_rules` are as in `stale_rules`."""
    found = (_masqueraded_container(config, chain, rule) for chain, rule in nat_rules)
    return tuple(dict.fromkeys(container for container in found if container is not None))


def _masqueraded_container(config: Config, chain: str, rule: FirewallRule) -> str | None:
    """The container of this network that has its packets sent to its masquerade chain by a rule."""
    masquerading = chain == "POSTROUTING" and (rule.target or "").startswith("CNI-")
    return _container_id_of(rule, config.name) if masquerading else None


def _source_addresses(rule: FirewallRule) -> tuple[IPv4Interface, ...]:
    """The source address of a rule; empty for a rule of others that looks like one of ours and has none."""
    try:
        return (IPv4Interface(_value(rule, "-s")),)
    except ValueError:
        return ()


def _container_id_of(rule: FirewallRule, network: str) -> str | None:
    """The container in a rule's comment, if the rule belongs to this network."""
    found = re.fullmatch(r'name: "(.*)" id: "(.*)"', _value(rule, "--comment"))
    return found[2] if found is not None and found[1] == network else None


def _value(rule: FirewallRule, flag: str) -> str:
    option = rule.option(flag)
    return " ".join(option.values) if option is not None else ""

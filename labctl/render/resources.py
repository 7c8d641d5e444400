"""Kernel objects as text, in the syntax of ip, bridge, sysctl and iptables.

`resource_line` is the text of an object, `change_lines` of the difference between wanted and observed, `plan_text` of a
whole lab. Nothing here runs anything; the commands that create an object are in `commands.py`.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

from labctl.core.diff import Change, differing_fields
from labctl.core.fidelity import substitute_text
from labctl.core.iptables import BUILTIN, CHAIN_TOOLS, FirewallRule
from labctl.core.nft_ruleset import NFT, is_table_item
from labctl.core.resources import (
    ROUTE_PROTOCOLS,
    RT_TABLE_MAIN,
    Address,
    Attachment,
    Chain,
    Fdb,
    IpSet,
    Link,
    Neighbour,
    Net,
    Netns,
    NextHop,
    Process,
    Resource,
    Route,
    Rule,
    Sysctl,
)
from labctl.core.scenario_types import Lab, Machine
from labctl.render.checks import check_lines
from labctl.render.cni import attachment_lines, attachment_text
from labctl.render.plan_json import plan_json, resource_json

__all__ = [
    "change_lines",
    "link_option_args",
    "link_text",
    "next_hop_text",
    "plan_json",
    "plan_text",
    "prefix_text",
    "process_text",
    "resource_identity",
    "resource_json",
    "resource_line",
    "resource_values",
    "route_text",
    "rule_text",
    "txqueuelen_args",
    "value_text",
]

DEFAULT_TX_QUEUE_LEN = 1000  # packets; the kernel's default for most kinds of links

RESOURCE_NOUNS: dict[type, str] = {
    Netns: "namespace", Link: "link", Sysctl: "sysctl", Address: "address", Neighbour: "neighbour", Fdb: "fdb entry",
    Route: "route", Rule: "rule", IpSet: "ipset", Chain: "chain", Attachment: "attachment", Process: "process",
}  # fmt: skip
# options of a vxlan that iproute2 takes without a value
VXLAN_SWITCHES = ("external", "learning", "proxy", "rsc", "l2miss", "l3miss")
_HEADING = {Fdb: "fdb", Address: "addresses", IpSet: "ip sets", Chain: "firewall", Process: "processes"}
_FAMILY = {"ip": "", "ip6": " (IPv6)", "bridge": " (ebtables)", "legacy": " (legacy)", "legacy6": " (IPv6, legacy)"}
_TOOL = CHAIN_TOOLS


def resource_line(resource: Resource) -> str:
    """One line for an object: its kind, then its values in the syntax of its tool."""
    return f"{RESOURCE_NOUNS[type(resource)]} {resource_values(resource)}"


def resource_values(resource: Resource) -> str:
    """An object's values without its kind, for lists with a heading."""
    if isinstance(resource, Netns):
        return resource.name
    if isinstance(resource, Link):
        return link_text(resource)
    if isinstance(resource, Sysctl):
        return f"{resource.name} = {resource.value}"
    if isinstance(resource, Address):
        bare = ", without the route to its subnet" if resource.connected is False else ""
        return f"{resource.addr} dev {resource.at.dev}{bare}"
    if isinstance(resource, Neighbour):
        proxy = "proxy " if resource.proxy else ""
        values = "" if resource.mac is None else f" lladdr {resource.mac}"
        state = "" if resource.proxy else f" nud {resource.state}"
        return f"{proxy}{resource.ip} dev {resource.at.dev}{values}{state}"
    if isinstance(resource, Fdb):
        far = "" if resource.dst is None else f" dst {resource.dst}"
        return f"{resource.mac} dev {resource.at.dev}{far}" + ("" if resource.via is None else f" via {resource.via}")
    if isinstance(resource, Route):
        return route_text(resource)
    if isinstance(resource, Rule):
        return rule_text(resource)
    if isinstance(resource, IpSet):
        family = [] if resource.family == "inet" else ["family", resource.family]
        return " ".join([resource.name, resource.kind, *family, *resource.members])
    if isinstance(resource, Attachment):
        return attachment_text(resource)
    if isinstance(resource, Process):
        return process_text(resource)
    policy = "" if resource.policy is None else f" policy {resource.policy}"
    return f"{resource.table} {resource.name}{_FAMILY[resource.family]}{policy}"


def link_text(link: Link) -> str:
    """A link in the syntax of `ip link`, with its peer as an interface (`node1/eth0`)."""
    args = [link.at.dev, "type", link.kind] if link.kind != "loopback" else [link.at.dev]
    args += ["peer", str(link.peer)] if link.peer is not None else []
    args += link_option_args(link)
    args += [] if link.mtu is None else ["mtu", str(link.mtu)]
    args += [] if link.mac is None else ["address", link.mac]
    args += txqueuelen_args(link)
    args += [] if link.master is None else ["master", link.master]
    args += ["promisc", "on"] if link.promisc else []
    args += ["hairpin", "on"] if link.hairpin else []
    args += ["isolated", "on"] if link.isolated else []
    args += [] if link.arp else ["arp", "off"]
    args += ["addrgenmode", "eui64"] if link.autoconf else []
    args += [] if link.link_netns is None else ["link-netns", link.link_netns]
    return " ".join([*args, "up" if link.up else "down"])


def txqueuelen_args(link: Link) -> list[str]:
    """The length of a link's transmit queue in the syntax of `ip link`; nothing for the kernel's usual length."""
    return [] if link.txqueuelen in (None, DEFAULT_TX_QUEUE_LEN) else ["txqueuelen", str(link.txqueuelen)]


def link_option_args(link: Link) -> list[str]:
    """The options of a link in the syntax of `ip link`: a switch of a vxlan is `proxy` or `noproxy`."""
    return [
        ("no" if value == "off" else "") + name if name in VXLAN_SWITCHES else f"{name} {value}"
        for name, value in link.options
    ]


def prefix_text(network: Net) -> str:
    """A destination as ip prints it: `default` for everything, a single address without its length."""
    if network.prefixlen == 0:
        return "default"
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


def route_text(route: Route) -> str:
    """A route as `ip route` takes and prints it."""
    args = [] if route.kind == "unicast" else [route.kind]
    args.append(prefix_text(route.dst))
    args += [] if route.encap is None else ["encap", "ip", value_text("encap", route.encap)]
    if route.via is not None:
        args += ["via", *(["inet6"] if route.via.version > route.dst.version else []), str(route.via)]
    args += [] if route.dev is None else ["dev", route.dev]
    args += [] if route.table == RT_TABLE_MAIN else ["table", str(route.table)]
    args += ["metric", str(route.metric)] if route.metric else []
    args += [] if route.proto is None else ["proto", ROUTE_PROTOCOLS.get(route.proto, str(route.proto))]
    args += [] if route.src is None else ["src", str(route.src)]
    args += [] if route.mtu is None else ["mtu", str(route.mtu)]
    args += [] if route.scope is None else ["scope", route.scope]
    args += ["onlink"] if route.onlink else []
    return " ".join([*args, *(next_hop_text(hop, route.dst.version) for hop in route.nexthops)])


def next_hop_text(hop: NextHop, version: int) -> str:
    """A next hop of a multipath route to an address of this IP version, as ip prints it."""
    args = ["nexthop"]
    args += [] if hop.via is None else ["via", *(["inet6"] if hop.via.version > version else []), str(hop.via)]
    args += [] if hop.dev is None else ["dev", hop.dev]
    return " ".join([*args, "weight", str(hop.weight), *(["onlink"] if hop.onlink else [])])


def rule_text(rule: Rule) -> str:
    """A policy-routing rule as `ip rule` takes it."""
    args = ["pref", str(rule.pref), *(["not"] if rule.invert else [])]
    args += ["from", "all" if rule.src is None else str(rule.src)]
    args += [] if rule.dst is None else ["to", str(rule.dst)]
    args += [] if rule.iif is None else ["iif", rule.iif]
    args += [] if rule.oif is None else ["oif", rule.oif]
    if rule.mark is not None:
        mask = 0xFFFFFFFF if rule.mask is None and not rule.mark else rule.mask  # `fwmark 0` alone is any mark for ip
        args += ["fwmark", hex(rule.mark) + ("" if mask is None else f"/{mask:#x}")]
    tables = {253: "default", 254: "main", 255: "local"}
    action = ["lookup", tables.get(rule.table, str(rule.table))] if rule.kind == "lookup" else [rule.kind]
    return " ".join([*args, *action])


def process_text(process: Process) -> str:
    """A process: its name, its command line, and its sandbox if it has one (or that it holds the namespace)."""
    inside = "" if process.inside is None else f", inside {process.inside}"
    return f"{process.name}: {shlex.join(process.command)}{', holds the namespace' if process.sandbox else inside}"


def change_lines(change: Change, verb: str = "was") -> tuple[str, ...]:
    """The differences of one object; each line begins with missing, extra or changed. `verb` stands before a value that
    was found: `was`, or `is` while it is certainly still so.

    A chain is reported rule by rule, because a person adds and removes single rules.
    """
    want, have = change.want, change.have
    if isinstance(change.subject, Chain):
        assert isinstance(want, Chain | None)
        assert isinstance(have, Chain | None)
        return tuple(_chain_lines(change.subject, want, have, verb))
    if want is None or have is None:
        return (f"{change.kind} {resource_line(change.subject)}",)
    subject = f"changed {RESOURCE_NOUNS[type(want)]} {resource_identity(want)}"
    return tuple(f"{subject}: {_field_difference(name, want, have, verb)}" for name in differing_fields(want, have))


def resource_identity(resource: Resource) -> str:
    """The name of an object, without the values that may have changed."""
    if isinstance(resource, Link):
        return resource.at.dev
    if isinstance(resource, (Sysctl, IpSet, Process)):
        return resource.name
    if isinstance(resource, Address):
        return f"{resource.addr} dev {resource.at.dev}"
    if isinstance(resource, Neighbour):
        return f"{resource.ip} dev {resource.at.dev}"
    if isinstance(resource, Route):
        return prefix_text(resource.dst) + ("" if resource.table == RT_TABLE_MAIN else f" table {resource.table}")
    return resource_values(resource)


def _field_difference(name: str, want: Resource, have: Resource, verb: str) -> str:
    if name == "connected":
        return f"the route to its subnet should {'' if getattr(want, name) else 'not '}be there"
    label = "address" if name == "mac" else name
    found, wanted = value_text(name, getattr(have, name, None)), value_text(name, getattr(want, name))
    return f"{label} {verb} {found}, should be {wanted}"


def value_text(name: str, value: Any) -> str:
    """The value of a field of an object, in the words of ip."""
    if isinstance(value, bool):
        return ("up" if value else "down") if name == "up" else ("on" if value else "off")
    if name == "encap" and value is not None:
        return f"id {value[0]} dst {value[1]}"
    if name == "nexthops" and value:
        return " ".join(next_hop_text(hop, 6) for hop in value)
    if isinstance(value, tuple):
        return " ".join(text for part in value for text in ((part,) if isinstance(part, str) else part)) or "none"
    return "none" if value is None else str(value)


def _nft_lines(chain: Chain, want: Chain | None, have: Chain | None) -> Iterator[str]:
    """The differences of a table of nft or of one of its chains; a chain without a name has the lines of the table."""
    kind = "missing" if have is None else "extra"
    if is_table_item(chain):
        note = "" if have is None else " (not this lab's: nft, or iptables of the other back end, created it)"
        yield f"{kind} nft table {chain.name}{note}"
        return
    place = f"{chain.table} {chain.name}".rstrip()
    if (want is None or have is None) and chain.name:
        yield f"{kind} nft chain {place}"
    wanted, found = (
        Counter(rule.args[0] for rule in side.rules) if side is not None else Counter() for side in (want, have)
    )
    for word, lines in (("extra", found - wanted), ("missing", wanted - found)):
        yield from (f"{word} nft {place}: {' '.join(line.split())}" for line in lines.elements())
    if wanted == found and want is not None and have is not None:
        yield f"changed nft {place}: the rules are in another order"


def _chain_lines(chain: Chain, want: Chain | None, have: Chain | None, verb: str) -> Iterator[str]:
    if chain.family == NFT:
        yield from _nft_lines(chain, want, have)
        return
    command = f"{_TOOL[chain.family]} -t {chain.table}"
    if (want is None or have is None) and chain.policy is None:
        yield f"{'extra' if want is None else 'missing'} {command} -N {chain.name}"
    wanted: Counter[FirewallRule] = Counter(want.rules if want is not None else ())
    found: Counter[FirewallRule] = Counter(have.rules if have is not None else ())
    for kind, rules in (("extra", found - wanted), ("missing", wanted - found)):
        for rule in rules.elements():
            yield f"{kind} {command} -A {chain.name} {rule}"
    if wanted == found and want is not None and have is not None and want.rules != have.rules:
        yield f"changed {command} {chain.name}: the rules are in another order"
    was, should = ((side.policy if side is not None else None) or "ACCEPT" for side in (have, want))
    if was != should:
        yield f"changed {command} -P {chain.name}: policy {verb} {was}, should be {should}"


def plan_text(lab: Lab) -> str:
    """A whole lab as text: the machines, then each namespace's objects by kind, then the checks."""
    out = [f"lab {lab.name}, model {lab.model}" + (f": {lab.say}" if lab.say else "")]
    out += [*map(substitute_text, lab.approximations), "", "machines"]
    out += _columns(_machine(machine) for machine in lab.machines)
    by_namespace: dict[str, list[Resource]] = {}
    for item in lab.plan:
        by_namespace.setdefault(item.ns, []).append(item)
    for ns, items in by_namespace.items():
        out += ["", ns]
        for kind, group in groupby(items, key=type):
            if kind is not Netns:
                out += [
                    f"  {_HEADING.get(kind, RESOURCE_NOUNS[kind] + 's')}",
                    *(f"    {text}" for text in _group(kind, group)),
                ]
    if lab.checks:
        out += ["", "checks", *(f"  {text}" for check in lab.checks for text in check_lines(check))]
    return "\n".join(out) + "\n"


def _machine(machine: Machine) -> tuple[str, ...]:
    on = f"on {machine.on}" if machine.on else ""
    on += f", in the network of {machine.netns_of}" if machine.netns_of else ""
    return machine.name, machine.role, ", ".join(map(str, machine.addresses)), on


def _columns(rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    rows = tuple(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  " + "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()


def _group(kind: type, items: Iterable[Resource]) -> Iterator[str]:
    if kind is Attachment:
        yield from (text for item in items if isinstance(item, Attachment) for text in attachment_lines(item))
        return
    if kind is not Chain:
        yield from map(resource_values, items)
        return
    chains = [item for item in items if isinstance(item, Chain)]
    for family, table in dict.fromkeys((chain.family, chain.table) for chain in chains):
        yield f"*{table}{_FAMILY[family]}"
        table_chains = [chain for chain in chains if (chain.family, chain.table) == (family, table)]
        yield from (f":{chain.name} {_policy(chain)}" for chain in table_chains)
        yield from (f"-A {chain.name} {rule}" for chain in table_chains for rule in chain.rules)


def _policy(chain: Chain) -> str:
    built_in = chain.name in BUILTIN.get((chain.family, chain.table), ())
    return chain.policy or ("ACCEPT" if built_in else "-")

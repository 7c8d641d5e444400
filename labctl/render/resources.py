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

from labctl.core.diff import Change, ChangeKind, differing_fields
from labctl.core.fidelity import substitute_text
from labctl.core.iptables import BUILTIN, CHAIN_TOOLS, FirewallRule
from labctl.core.nft_ruleset import ruleset_text
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
    NftObject,
    Process,
    Resource,
    Route,
    Rule,
    Sysctl,
)
from labctl.core.scenario_types import Lab, Machine
from labctl.core.sentence import Sentence, joined, sentence
from labctl.render.checks import check_lines
from labctl.render.cni import attachment_lines, attachment_text
from labctl.render.plan_json import plan_json, resource_json

__all__ = [
    "change_lines",
    "change_parts",
    "link_option_args",
    "link_text",
    "next_hop_text",
    "nft_entry",
    "nft_name",
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

RESOURCE_NOUNS: dict[type, Sentence] = {
    Netns: sentence("namespace"), Link: sentence("link"), Sysctl: sentence("sysctl"), Address: sentence("address"),
    Neighbour: sentence("neighbour"), Fdb: sentence("fdb entry"), Route: sentence("route"), Rule: sentence("rule"),
    IpSet: sentence("ipset"), Chain: sentence("chain"), NftObject: sentence("nft object"),
    Attachment: sentence("attachment"), Process: sentence("process"),
}  # fmt: skip
CHANGE_WORDS: dict[ChangeKind, Sentence] = {
    "missing": sentence("missing"), "extra": sentence("extra"), "changed": sentence("changed"),
}  # fmt: skip
# options of a vxlan that iproute2 takes without a value
VXLAN_SWITCHES = ("external", "learning", "proxy", "rsc", "l2miss", "l3miss")
_HEADING = {
    Fdb: "fdb",
    Address: "addresses",
    IpSet: "ip sets",
    Chain: "firewall",
    NftObject: "nftables",
    Process: "processes",
}
_FAMILY = {"ip": "", "ip6": " (IPv6)", "bridge": " (ebtables)", "legacy": " (legacy)", "legacy6": " (IPv6, legacy)"}
_TOOL = CHAIN_TOOLS


def resource_line(resource: Resource) -> Sentence:
    """One line for an object: its kind, then its values in the syntax of its tool."""
    return joined(" ", (RESOURCE_NOUNS[type(resource)], resource_values(resource)))


def resource_values(resource: Resource) -> str:
    """An object's values without its kind, for lists with a heading."""
    if isinstance(resource, Netns):
        return resource.name
    if isinstance(resource, Link):
        return link_text(resource)
    if isinstance(resource, Sysctl):
        return f"{resource.name} = {resource.value}"
    if isinstance(resource, Address):
        text = f"{resource.addr} dev {resource.at.dev}"
        bare = sentence("{address}, without the route to its subnet", address=text)
        return bare if resource.connected is False else text
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
    if isinstance(resource, NftObject):
        return nft_name(resource).removeprefix("nft ")
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
    text = f"{process.name}: {shlex.join(process.command)}"
    if process.sandbox:
        return sentence("{process}, holds the namespace", process=text)
    return text if process.inside is None else sentence("{process}, inside {netns}", process=text, netns=process.inside)


def change_lines(change: Change, verb: str = "was") -> tuple[str, ...]:
    """The differences of one object; each line begins with missing, extra or changed. `verb` stands before a value that
    was found: `was`, or `is` while it is certainly still so.

    A chain is reported rule by rule, because a person adds and removes single rules.
    """
    return tuple(joined(" ", (CHANGE_WORDS[kind], text)) for kind, text in change_parts(change, verb))


def change_parts(change: Change, verb: str = "was") -> tuple[tuple[ChangeKind, str], ...]:
    """The same lines, each as its kind and the text behind that."""
    want, have = change.want, change.have
    if isinstance(change.subject, Chain):
        assert isinstance(want, Chain | None)
        assert isinstance(have, Chain | None)
        return tuple(_chain_parts(change.subject, want, have, verb))
    if isinstance(change.subject, NftObject):
        assert isinstance(want, NftObject | None)
        assert isinstance(have, NftObject | None)
        return tuple(_nft_parts(change.subject, want, have))
    if want is None or have is None:
        return ((change.kind, resource_line(change.subject)),)
    subject = joined(" ", (RESOURCE_NOUNS[type(want)], resource_identity(want)))
    found = (_field_difference(name, want, have, verb) for name in differing_fields(want, have))
    return tuple(("changed", joined(": ", (subject, text))) for text in found)


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


def _field_difference(name: str, want: Resource, have: Resource, verb: str) -> Sentence:
    if name == "connected":
        if getattr(want, name):
            return sentence("the route to its subnet should be there")
        return sentence("the route to its subnet should not be there")
    label = sentence("address") if name == "mac" else name
    found, wanted = value_text(name, getattr(have, name, None)), value_text(name, getattr(want, name))
    return _difference(label, verb, found, wanted)


def _difference(name: str, verb: str, found: str, wanted: str) -> Sentence:
    if verb == "is":
        return sentence("{field} is {found}, should be {wanted}", field=name, found=found, wanted=wanted)
    return sentence("{field} was {found}, should be {wanted}", field=name, found=found, wanted=wanted)


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


def _nft_parts(subject: NftObject, want: NftObject | None, have: NftObject | None) -> Iterator[tuple[ChangeKind, str]]:
    """The differences of an object of nft, rule by rule and element by element, in nft's words."""
    kind: ChangeKind = "missing" if have is None else "extra"
    if subject.kind == "table" and (want is None or have is None):
        text = f"nft table {subject.table}"
        other = sentence("{table} (not this lab's: nft, or iptables of the other back end, created it)", table=text)
        yield kind, text if have is None else other
        return
    place = nft_name(subject)
    if want is None or have is None:
        yield kind, place
    elif want.header != have.header:
        yield "changed", joined(": ", (place, _difference("it", "is", "; ".join(have.header), "; ".join(want.header))))
    wanted, found = (Counter(side.entries) if side is not None else Counter() for side in (want, have))
    both: tuple[tuple[ChangeKind, Counter[str]], ...] = (("extra", found - wanted), ("missing", wanted - found))
    for kind, lines in both:
        yield from ((kind, nft_entry(subject, line)) for line in lines.elements())
    if wanted == found and want is not None and have is not None and want.header == have.header:
        yield "changed", sentence("{chain}: the rules are in another order", chain=place)


def nft_name(item: NftObject) -> str:
    """An object of nft as `nft list` takes it: `nft chain ip docker-bridges filter-FORWARD`."""
    return f"nft {item.kind} {item.table} {item.name}".rstrip()


def nft_entry(item: NftObject, entry: str) -> str:
    """A rule or an element as `nft add` takes it: `nft rule inet filter input tcp dport 22 accept`."""
    if item.kind == "chain":
        return f"nft rule {item.table} {item.name} {entry}"
    return f"nft element {item.table} {item.name} {{ {entry} }}"


def _chain_parts(chain: Chain, want: Chain | None, have: Chain | None, verb: str) -> Iterator[tuple[ChangeKind, str]]:
    command = f"{_TOOL[chain.family]} -t {chain.table}"
    if (want is None or have is None) and chain.policy is None:
        yield "extra" if want is None else "missing", f"{command} -N {chain.name}"
    wanted: Counter[FirewallRule] = Counter(want.rules if want is not None else ())
    found: Counter[FirewallRule] = Counter(have.rules if have is not None else ())
    both: tuple[tuple[ChangeKind, Counter[FirewallRule]], ...] = (
        ("extra", found - wanted),
        ("missing", wanted - found),
    )
    for kind, rules in both:
        yield from ((kind, f"{command} -A {chain.name} {rule}") for rule in rules.elements())
    if wanted == found and want is not None and have is not None and want.rules != have.rules:
        yield "changed", sentence("{chain}: the rules are in another order", chain=f"{command} {chain.name}")
    was, should = ((side.policy if side is not None else None) or "ACCEPT" for side in (have, want))
    if was != should:
        yield "changed", joined(": ", (f"{command} -P {chain.name}", _difference("policy", verb, was, should)))


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
    if kind is NftObject:
        yield from ruleset_text(item for item in items if isinstance(item, NftObject)).expandtabs(4).splitlines()
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

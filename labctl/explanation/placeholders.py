"""The placeholders of a sentence, filled from the object that it is about: `{via_machine}` is the owner of `via`. Pure.

of every object             {ns} its machine, {runs} the pods or containers there
with a device               {dev}, {dev_machine} the machine at the other end of its cable
link                        {peer_ns}, {peer_dev}, {master}, {mac}, {mtu}, and its options ({id}, {local}, ...)
address                     {ip}, {net}
neighbour, fdb entry        {ip}, {mac}, {dst}, {owner} the machine with the address or the MAC address
route                       {dst}, {via}, {via_machine}, {dst_machines}, {table}, {src}, {src_machine}, {next_hops}
policy rule                 {pref}, {table}, {src}, {src_machine}, {dst}, {iif}, {iif_machine}, {mark}
sysctl                      {name}, {value}
IP set                      {name}, {members}
object of nft               {table}, {chain}, {name}, {kind}, {hook}, {priority}, {policy}, {members} of a set or map,
                            {chain_machine}; its rules have the placeholders of a firewall rule
chain, firewall rule        {table}, {chain}, {policy}, {src}, {dst}, {src_machine}, {dst_machines}, {iif}, {oif},
                            {iif_machine}, {oif_machine}, {proto}, {sport}, {dport}, {dports}, {to}, {to_machine},
                            {mark}, {target}, {set}, {comment}, {mac}, {service} and {endpoint} of kube-proxy's
                            comment, {chain_service}, {either_machine} of source or destination,
                            {chain_machine} at the device in the chain's name (cali-tw-DEVICE)
process                     {name}, {command}, {ports}
attachment                  {pod}, {node}, {dev}, {network}
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from functools import cached_property
from ipaddress import ip_address, ip_network
from typing import Any

from labctl.core.address_names import AddressNames
from labctl.core.iptables import FirewallRule
from labctl.core.names import summarize_names
from labctl.core.nft_ruleset import hook_of, policy_of
from labctl.core.resources import (
    IP,
    Address,
    Attachment,
    Chain,
    Fdb,
    Interface,
    IpSet,
    Link,
    Net,
    NftObject,
    Process,
    Resource,
)
from labctl.core.scenario_types import Lab
from labctl.core.topology import LEAF_ROLES
from labctl.core.why import Why
from labctl.explanation import nft_words

MAX_NAMES = 6  # machines that a sentence names
_FLAGS = {
    "src": "-s",
    "dst": "-d",
    "iif": "-i",
    "oif": "-o",
    "proto": "-p",
    "dports": "--dports",
    "sport": "--sport",
    "set": "--match-set",
    "comment": "--comment",
    "mac": "--mac-source",
}
_TO = ("--to-destination", "--to-source", "--to-ports", "--to-dst", "--to-src")
_MARKS = ("--set-xmark", "--set-mark", "--mark", "--mark-set", "--nfmask")


class Placeholders:
    """Fills the sentences about the objects of one lab."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def fill(self, why: Why, item: Resource, rule: FirewallRule | str | None = None) -> str:
        """The sentence of an object, or of one rule of a chain, in nft's words for a chain of nft. Raises KeyError for
        a placeholder without a value."""
        return why.sentence.format_map(_Values(self, item, rule)) if "{" in why.sentence else why.sentence

    def owner(self, ip: IP) -> str:
        """The machine with this address; the address itself if no machine has it."""
        return self._owners.get(ip, str(ip))

    def owner_of_text(self, text: str) -> str:
        """The machine with an address that may have a port (`192.0.2.1:80`) or an end; the text if none has it."""
        address = text[1:].partition("]")[0] if text.startswith("[") else text.partition(":")[0]
        try:
            ip = ip_address(address.partition("-")[0])
        except ValueError:
            return text
        return self._owners.get(ip, text)

    def owners(self, network: Net) -> str:
        """The machines with an address in a network, the first few of many; only pods and containers, if there are."""
        if network.prefixlen == network.max_prefixlen:
            return self.owner(network.network_address)
        found = [name for ip, name in self._main_owners.items() if ip.version == network.version and ip in network]
        leaves = [name for name in found if name in self._leaves]
        return summarize_names(list(dict.fromkeys(leaves or found)), MAX_NAMES) or "none in this lab"

    def running_on(self, machine: str) -> str:
        """The pods or containers of a machine."""
        found = [one.name for one in self.lab.machines if one.on == machine]
        return summarize_names(found, MAX_NAMES) or "none"

    def owner_of_mac(self, mac: str) -> str:
        """The machine with this MAC address; the address itself if no machine has it."""
        return self._mac_owners.get(mac, mac)

    def beyond(self, at: Interface) -> str:
        """The machine at the other end of a cable; the machine of the device itself if it has no other end."""
        return self._beyond.get(at, at.ns)

    @cached_property
    def _main_owners(self) -> dict[IP, str]:
        return AddressNames((one.name, one.on, one.addresses) for one in self.lab.machines).unique

    @cached_property
    def _leaves(self) -> frozenset[str]:
        return frozenset(one.name for one in self.lab.machines if one.role in LEAF_ROLES)

    @cached_property
    def _owners(self) -> dict[IP, str]:
        found = {item.addr.ip: item.ns for item in self.lab.plan if isinstance(item, Address)}
        services = {ip: one.names[0] for one in self.lab.virtual_addresses for ip in one.ips}
        return found | services | self._main_owners

    @cached_property
    def _mac_owners(self) -> dict[str, str]:
        return {item.mac: item.ns for item in self.lab.plan if isinstance(item, Link) and item.mac is not None}

    @cached_property
    def _beyond(self) -> dict[Interface, str]:
        return {item.at: item.peer.ns for item in self.lab.plan if isinstance(item, Link) and item.peer is not None}


class _Values(dict[str, str]):
    """The values of one object, looked up when a sentence asks for them."""

    def __init__(self, lab: Placeholders, item: Resource, rule: FirewallRule | str | None) -> None:
        super().__init__()
        self.lab, self.item, self.rule = lab, item, rule

    def __missing__(self, name: str) -> str:
        value = self._rule_value(name) if self.rule is not None else self._value(name)
        if value is None or value == "":
            raise KeyError(f"{name} of {self.item.key}")
        return str(value)

    def _value(self, name: str) -> Any:
        item: Any = self.item
        special: dict[str, Callable[[], Any]] = {
            "dev": lambda: _device(item),
            "dev_machine": lambda: self.lab.beyond(Interface(item.ns, _device(item) or "")),
            "ip": lambda: item.addr.ip if isinstance(item, Address) else item.ip,
            "net": lambda: item.addr.network,
            "dst": lambda: item.dst if isinstance(item, Fdb) else _network_text(item.dst),
            "owner": lambda: self._owner(),
            "peer_ns": lambda: item.peer.ns,
            "peer_dev": lambda: item.peer.dev,
            "via_machine": lambda: self.lab.owner(item.via),
            "dst_machines": lambda: self.lab.owners(item.dst),
            "src_machine": lambda: self.lab.owners(ip_network(item.src)),
            "iif_machine": lambda: self.lab.beyond(Interface(item.ns, item.iif)),
            "next_hops": lambda: ", ".join(str(hop.via or hop.dev) for hop in item.nexthops),
            "members": lambda: len(item.members) if isinstance(item, IpSet) else _entries(item),
            "chain": lambda: item.name,
            "runs": lambda: self.lab.running_on(item.ns),
            "chain_service": lambda: _service_of(item),
            "chain_machine": lambda: self.lab.beyond(Interface(item.ns, _device_in_name(item.name))),
            "ports": lambda: _ports(item),
            "network": lambda: json.loads(item.conflist).get("name"),
            "mark": lambda: hex(item.mark),
        }
        if isinstance(item, NftObject) and name in ("hook", "priority", "policy"):
            hook, priority = hook_of(item) or ("", "")
            return {"hook": hook, "priority": priority, "policy": policy_of(item)}[name]
        if name in special:
            return special[name]()
        if isinstance(item, Link) and name in (options := dict(item.options)):
            return options[name]
        return getattr(item, name, None)

    def _owner(self) -> str:
        item: Any = self.item
        if isinstance(item, Fdb):
            return self.lab.owner(item.dst) if item.dst is not None else self.lab.owner_of_mac(item.mac)
        return self.lab.owner(item.ip)

    def _rule_value(self, name: str) -> Any:
        if isinstance(self.rule, str):
            return self._nft_value(name, self.rule)
        assert self.rule is not None
        assert isinstance(self.item, Chain)
        at_device = {"iif_machine": "iif", "oif_machine": "oif"}
        if name in at_device:
            return self.lab.beyond(Interface(self.item.ns, self._option(_FLAGS[at_device[name]])))
        if name in ("src_machine", "dst_machines"):
            text = self._address(name[:3])
            return self.lab.owners(ip_network(text)) if text else None
        if name in ("comment", "service", "endpoint"):
            return self._from_comment(name)
        if name == "either_machine":
            return self._rule_value("src_machine") or self._rule_value("dst_machines")
        if name in ("to", "to_machine"):
            return self._to(owner=name == "to_machine")
        if name == "dport":
            return self._option("--dport") or self._option("--dports")
        if name == "mark":
            return next((text for flag in _MARKS if (text := self._option(flag))), None)
        if name in ("src", "dst"):
            text = self._address(name)
            return _network_text(ip_network(text)) if text else None
        if name in _FLAGS:
            return self._option(_FLAGS[name])
        own = {"ns": self.item.ns, "table": self.item.table, "chain": self.item.name, "target": self.rule.target}
        return own.get(name)

    def _nft_value(self, name: str, rule: str) -> Any:
        """The value of a rule of nft. Sets of addresses have no machine: they stand as they are."""
        assert isinstance(self.item, NftObject)
        value = nft_words.value if self.item.kind == "chain" else nft_words.element_value
        if name in ("iif_machine", "oif_machine"):
            return self.lab.beyond(Interface(self.item.ns, value(rule, name[:3]) or ""))
        if name in ("src_machine", "dst_machines"):
            text = value(rule, name[:3])
            try:
                return self.lab.owners(ip_network(text)) if text else None
            except ValueError:
                return text
        if name == "either_machine":
            return self._nft_value("src_machine", rule) or self._nft_value("dst_machines", rule)
        if name == "to_machine":
            return self.lab.owner_of_text(value(rule, "to") or "")
        if name == "service":
            return nft_words.service(rule) or nft_words.service(self.item.name) or "a Service"
        if name == "chain_service":
            return _service_of(self.item)
        own = {"ns": self.item.ns, "table": self.item.table, "chain": self.item.name}
        return own.get(name) or value(rule, name)

    def _from_comment(self, name: str) -> str:
        """The comment (Felix's digest left out); the Service, its first word; the endpoint, behind its arrow."""
        assert isinstance(self.rule, FirewallRule)
        comment = next(
            (
                option.values[0]
                for part in self.rule.parts
                for option in part.options
                if option.flag == "--comment" and option.values and not option.values[0].startswith("cali:")
            ),
            "",
        )
        if name == "service":
            return _service_in(comment) or "a Service"
        if name == "endpoint":
            address = comment.partition(" -> ")[2]
            machine = self.lab.owner_of_text(address)
            return f"{address} ({machine})" if machine != address else address or f"the one of {self.rule.target}"
        return comment

    def _address(self, name: str) -> str:
        """The source or destination; of a rule of ebtables, its IP address."""
        assert isinstance(self.item, Chain)
        return self._option(f"--ip-{name}" if self.item.family == "bridge" else _FLAGS[name])

    def _to(self, *, owner: bool) -> str | None:
        text = next((text for flag in _TO if (text := self._option(flag))), None)
        if text is None or not owner:
            return text
        return self.lab.owner_of_text(text)

    def _option(self, flag: str) -> str:
        assert isinstance(self.rule, FirewallRule)
        option = self.rule.option(flag)
        return option.values[0] if option is not None and option.values else ""


def _device_in_name(chain: str) -> str:
    """The device in the name of a chain of a pod: `cali-tw-DEVICE`, `filter-cali-tw-DEVICE` in nftables."""
    return chain.removeprefix("filter-").split("-", 2)[-1]


def _entries(item: Any) -> int | None:
    """How many elements a set or map of nft has."""
    return len(item.entries) if isinstance(item, NftObject) and item.kind in ("set", "map") else None


def _device(item: Any) -> str | None:
    """The device of an object; that of a sysctl is in its name (`net.ipv4.conf.DEVICE.rp_filter`)."""
    at = getattr(item, "at", None)
    if at is not None:
        return str(at.dev)
    if isinstance(item, Attachment):
        return item.ifname
    if hasattr(item, "value"):
        parts = str(item.name).replace("/", ".").split(".")
        return ".".join(parts[3:-1]).replace("/", ".") if len(parts) > 4 else None
    dev: str | None = getattr(item, "dev", None)
    return dev


def _service_of(chain: Chain | NftObject) -> str:
    """The Service of a chain of kube-proxy, as the comments of its rules call it; in mode nftables, its name does."""
    if isinstance(chain, NftObject):
        return nft_words.service(chain.name) or "a Service"
    comments = (rule.option("--comment") for rule in chain.rules)
    return next((name for one in comments if one and (name := _service_in(one.values[0]))), "a Service")


def _service_in(comment: str) -> str:
    """The Service that a comment names, such as `default/web:http`."""
    found = re.search(r"[\w.-]+/[\w.:-]+", comment)
    return found[0] if found else ""


def _network_text(network: Net | None) -> str | None:
    if network is None:
        return None
    if network.prefixlen == 0:
        return "every other address"
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


def _ports(item: Any) -> str | None:
    """What a program of the lab listens on, from its command line: `tcp:80`, or `tcp:192.0.2.1:80`."""
    if not isinstance(item, Process):
        return None
    found: Iterable[str] = (word for word in item.command if word.startswith(("tcp:", "udp:")))
    texts = [
        f"{protocol} port {where.rpartition(':')[2]}" for protocol, _, where in (one.partition(":") for one in found)
    ]
    return summarize_names(texts, MAX_NAMES) or "no port"

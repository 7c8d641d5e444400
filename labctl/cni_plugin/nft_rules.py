"""The rules of `ipMasqBackend: nftables`: one table of nft for all networks and containers of a host. Pure.

Each address of a container has a rule in the chain `masq_checks`. Its comment begins with two digests, of the network,
and of the device and the container: by these the rules of an attachment are found again, whatever addresses it had.
Unlike with iptables, the device counts, so two devices of one container have separate rules.

The texts are those of the plugins bridge and ptp of containernetworking/plugins 1.9.1 (pkg/ip/ipmasq_nftables_linux.go,
pkg/utils.FormatHash): both may share the table.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha512
from ipaddress import IPv4Interface, IPv6Interface

from labctl.core.nft_ruleset import parse_ruleset

TABLE, CHECKS, POSTROUTING = "inet cni_plugins_masquerade", "masq_checks", "postrouting"
TABLE_COMMENT = "Masquerading for plugins from github.com/containernetworking/plugins"
CHECKS_COMMENT = "Masquerade traffic from certain IPs to any (non-multicast) IP outside their subnet"
POSTROUTING_TYPE = "type nat hook postrouting priority srcnat"
POSTROUTING_RULES = ("ip daddr 224.0.0.0/4 return", "ip6 daddr ff00::/8 return", f"goto {CHECKS}")
MAX_COMMENT = 128  # bytes, of nft
_RULE = re.compile(r'(.*?)(?: comment "([^"]*)")?(?: # handle (\d+))?')
_IPV4 = re.compile(r"ip saddr ([0-9.]+) ip daddr != [0-9.]+(?:/(\d+))? masquerade")
_ATTACHMENT = re.compile(r"([0-9a-f]{16}-[0-9a-f]{16}), net: (.*), if: (.*), id: (.*)")


@dataclass(frozen=True, slots=True)
class MasqueradeRule:
    """A rule of the chain: its text without the comment, the comment, and the handle if it exists."""

    text: str
    comment: str
    handle: int = 0

    @property
    def address(self) -> IPv4Interface | None:
        """The IPv4 address that it is for, with the prefix length of its network."""
        found = _IPV4.fullmatch(self.text)
        return IPv4Interface(f"{found[1]}/{found[2] or 32}") if found is not None else None

    def __str__(self) -> str:
        return f'{self.text} comment "{self.comment}"'


def network_digest(network: str) -> str:
    """The digest with which the comments of all rules of a network begin."""
    return _digest(network)


def attachment_digest(network: str, ifname: str, container: str) -> str:
    """The digests with which the comments of the rules of an attachment begin."""
    return f"{_digest(network)}-{_digest(f'{ifname}:{container}')}"


def _digest(text: str) -> str:
    return sha512(text.encode()).hexdigest()[:16]


def comment(network: str, ifname: str, container: str) -> str:
    """The comment of an attachment's rules; a long one is cut off, but never in its digests."""
    net, device, name = (text.replace('"', "") for text in (network, ifname, container))
    whole = f"{attachment_digest(network, ifname, container)}, net: {net}, if: {device}, id: {name}"
    return whole.encode()[:MAX_COMMENT].decode(errors="ignore")


def rules(
    network: str, ifname: str, container: str, addresses: Iterable[IPv4Interface | IPv6Interface]
) -> tuple[MasqueradeRule, ...]:
    """The rules of an attachment with these addresses, in their order."""
    told = comment(network, ifname, container)
    return tuple(MasqueradeRule(_text(address), told) for address in addresses)


def _text(address: IPv4Interface | IPv6Interface) -> str:
    family = "ip" if address.version == 4 else "ip6"
    network = address.network
    outside = network.network_address if network.prefixlen == network.max_prefixlen else network
    return f"{family} saddr {address.ip} {family} daddr != {outside} masquerade"


def parse_chain(listing: str) -> Iterator[MasqueradeRule]:
    """The masquerade rules in what `nft -a list chain` or `nft -a list table` printed."""
    for line in listing.splitlines():
        found = _RULE.fullmatch(line.strip())
        if found is not None and found[2] is not None and " masquerade" in found[1]:
            yield MasqueradeRule(found[1], found[2], int(found[3] or 0))


def belonging(existing: Iterable[MasqueradeRule], digest: str) -> tuple[MasqueradeRule, ...]:
    """The rules with a comment that begins with a digest."""
    return tuple(rule for rule in existing if rule.comment.startswith(digest))


def stale(
    existing: Iterable[MasqueradeRule], network: str, valid: Iterable[tuple[str, str]]
) -> tuple[MasqueradeRule, ...]:
    """The rules of a network that belong to none of the valid attachments, each a pair of container and device."""
    kept = {comment(network, ifname, container) for container, ifname in valid}
    return tuple(rule for rule in belonging(existing, network_digest(network)) if rule.comment not in kept)


def attachments(existing: Iterable[MasqueradeRule], network: str) -> tuple[tuple[str, str], ...]:
    """The attachments of a network that have rules, each once: a pair of container and device. Those with a comment
    that was cut off are left out: their digests are of other names."""
    found: dict[tuple[str, str], None] = {}
    for rule in belonging(existing, network_digest(network)):
        told = _ATTACHMENT.fullmatch(rule.comment)
        if told is not None and told[1] == attachment_digest(network, told[3], told[4]):
            found[told[4], told[3]] = None
    return tuple(found)


def add_script(wanted: Sequence[MasqueradeRule], earlier: Iterable[MasqueradeRule] = ()) -> str:
    """The input of `nft -f` that adds rules, with the table and its chains, in place of `earlier` ones."""
    lines = [
        f'add table {TABLE} {{ comment "{TABLE_COMMENT}"; }}',
        f'add chain {TABLE} {CHECKS} {{ comment "{CHECKS_COMMENT}"; }}',
        f"add chain {TABLE} {POSTROUTING} {{ {POSTROUTING_TYPE}; }}",
        f"flush chain {TABLE} {POSTROUTING}",
        *(f"add rule {TABLE} {POSTROUTING} {rule}" for rule in POSTROUTING_RULES),
        *(f"add rule {TABLE} {CHECKS} {rule}" for rule in wanted),
    ]
    return delete_script(earlier) + "".join(f"{line}\n" for line in lines)


def delete_script(dropped: Iterable[MasqueradeRule]) -> str:
    """The input of `nft -f` that deletes rules by their handles."""
    return "".join(f"delete rule {TABLE} {CHECKS} handle {rule.handle}\n" for rule in dropped)


def missing(listing: str, wanted: Iterable[MasqueradeRule]) -> list[str]:
    """What is missing in a listing of the table, as the commands that would add it."""
    chains = {item.name: item for item in parse_ruleset("", listing) if item.kind == "chain"}
    there = chains[CHECKS].entries if CHECKS in chains else ()
    found = [f"nft add rule {TABLE} {CHECKS} {rule}" for rule in wanted if str(rule) not in there]
    postrouting = chains.get(POSTROUTING)
    if postrouting is None or not postrouting.header or not postrouting.header[0].startswith(POSTROUTING_TYPE):
        found.append(f"nft add chain {TABLE} {POSTROUTING} {{ {POSTROUTING_TYPE}; }}")
    if postrouting is None or postrouting.entries != POSTROUTING_RULES:
        found += [f"nft add rule {TABLE} {POSTROUTING} {rule}" for rule in POSTROUTING_RULES]
    return found

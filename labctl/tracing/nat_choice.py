"""What the present nat rules of a namespace can choose for the first packet of a connection. Pure.

Where an option of a rule cannot be decided (a random choice, a set, a mark), both answers are followed. So the choices
are all that are possible, and a translation that is not among them is none of the present rules.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Literal, TypeAlias

from labctl.core.iptables import FirewallRule
from labctl.core.resources import IP, Chain
from labctl.tracing.rule_matching import RulePacket, match

KEEPING_TARGETS = ("ACCEPT", "DROP")  # a rule with one of them ends the search without a translation
CONTINUING_TARGETS = (
    None, "CONNMARK", "CT", "LOG", "MARK", "NFLOG", "SET", "TRACE",
)  # fmt: skip
NatEnd: TypeAlias = Literal["source", "destination"]
MAX_DEPTH = 16  # chains of iptables cannot be deeper than the kernel's stack for them


@dataclass(frozen=True, slots=True)
class NatChoice:
    """One possible end of the search: a rule (`chain`, `number` from 1) with its target, or none (`rule` is None)."""

    chain: str = ""
    number: int = 0
    rule: FirewallRule | None = None

    @property
    def target(self) -> str | None:
        """The target that translates; None if the packet keeps its addresses."""
        return None if self.rule is None else self.rule.target

    @property
    def destination(self) -> str:
        """The address and port to which the rule translates, as it says them; "" if it does not say."""
        options = ("--to-destination", "--to-source", "--to-ports")
        found = (self.rule.option(flag) for flag in options) if self.rule is not None else ()
        return next((option.values[-1] for option in found if option is not None and option.values), "")

    def can_give(
        self, end: NatEnd, before: tuple[IP, int], after: tuple[IP, int], local_addresses: frozenset[IP]
    ) -> bool:
        """Whether it can turn one address and port into the other. The port of a source counts only if the rule names
        ports: the kernel changes it if another connection has it."""
        if self.target in (None, *KEEPING_TARGETS):
            return before == after if end == "destination" else before[0] == after[0]
        if self.target == "MASQUERADE":
            return after[0] in local_addresses
        if self.target == "REDIRECT":
            return (after[0] in local_addresses or after[0].is_loopback) and _in_ports(
                self.destination, before[1], after[1]
            )
        if self.target not in ("DNAT", "SNAT"):
            return True  # NETMAP, or a target that is not known here
        addresses, ports = _split(self.destination)
        if not _in_addresses(addresses, before[0], after[0]):
            return False
        return (self.target == "SNAT" and not ports) or _in_ports(ports, before[1], after[1])


def choices(chains: tuple[Chain, ...], hook_chain: str, packet: RulePacket) -> tuple[NatChoice, ...]:
    """All that the nat table can choose at a built-in chain, in the order of the rules."""
    by_name = {chain.name: chain for chain in chains}
    found, falls = _walk(by_name, hook_chain, packet, 0)
    return tuple(dict.fromkeys((*found, *((NatChoice(),) if falls else ()))))


def _walk(chains: Mapping[str, Chain], name: str, packet: RulePacket, depth: int) -> tuple[list[NatChoice], bool]:
    """The choices in a chain, and whether the packet can come to its end."""
    chain = chains.get(name)
    if chain is None or depth > MAX_DEPTH:
        return [], True
    found: list[NatChoice] = []
    returns = False
    for number, rule in enumerate(chain.rules, 1):
        matches = match(rule, packet, chain.family)
        if matches is False:
            continue
        target, ends = rule.target, False
        if target == "RETURN":
            returns, ends = True, True
        elif target in KEEPING_TARGETS:
            found, ends = [*found, NatChoice()], True
        elif target is not None and target in chains:
            inner, falls = _walk(chains, target, packet, depth + 1)
            found, ends = [*found, *inner], not falls
            if falls and any(part.flag == "-g" for part in rule.parts):  # after a goto, the caller's caller goes on
                returns, ends = True, True
        elif target not in CONTINUING_TARGETS:
            found, ends = [*found, NatChoice(name, number, rule)], True
        if ends and matches:
            return found, returns
    return found, True


def _split(text: str) -> tuple[str, str]:
    """The addresses and the ports in the value of --to-destination or --to-source; "" for each that it lacks."""
    if text.startswith("["):
        addresses, _, ports = text[1:].partition("]")
        return addresses, ports.removeprefix(":")
    if text.count(":") > 1:
        return text, ""
    addresses, _, ports = text.partition(":")
    return addresses, ports


def _in_addresses(text: str, before: IP, after: IP) -> bool:
    if not text:
        return before == after
    try:
        ends = [ip_address(part.strip("[]")) for part in text.split("-")]
    except ValueError:
        return True  # in a form that is not known here
    return after.version == ends[0].version and int(ends[0]) <= int(after) <= int(ends[-1])


def _in_ports(text: str, before: int, after: int) -> bool:
    """Whether a port is in `80`, or `8080-8089`, or with an offset in `8080-8089/80`; without ports it is kept."""
    if not text:
        return before == after
    numbers = list(_numbers(text.partition("/")[0]))
    return not numbers or numbers[0] <= after <= numbers[-1]


def _numbers(text: str) -> Iterator[int]:
    for part in text.split("-"):
        if part.isdecimal():
            yield int(part)

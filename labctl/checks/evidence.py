"""The evidence about one probe, as frozen data: its answer, its trail, and how far the taps can be trusted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from labctl.core.neighbour_tables import FullTable
from labctl.core.observations import Answer
from labctl.core.resources import IP, Interface
from labctl.core.results import BackendAnswer, Sighting
from labctl.core.scenario_types import ENDPOINT_FIELDS, Check, See
from labctl.core.sentence import Sentence, in_a_row, joined, sentence
from labctl.core.snat_ports import PortUse
from labctl.packets.trail import Trail

FIELD_TEXT = {
    "src": sentence("src"),
    "dst": sentence("dst"),
    "outer_src": sentence("outer src"),
    "outer_dst": sentence("outer dst"),
}
PACKET_TEXT = {"reply": sentence("reply"), "arp": sentence("arp")}


@dataclass(frozen=True, slots=True)
class Expectation:
    """A `see:` or `not see:` with its names resolved. `problem` is the reason if a name has no address."""

    see: See
    src: IP | None = None
    dst: IP | None = None
    outer_src: IP | None = None
    outer_dst: IP | None = None
    problem: str = ""

    def matches(self, sighting: Sighting) -> bool:
        """Whether a sighting of the right packet matches."""
        see = self.see
        return (
            sighting.at == see.at
            and (self.src is None or sighting.src == self.src)
            and (self.dst is None or sighting.dst == self.dst)
            and (see.sport is None or sighting.sport in see.sport)
            and (see.ttl is None or sighting.ttl == see.ttl)
            and (see.direction is None or sighting.direction == see.direction)
            and (see.encap is None or see.encap in (sighting.encap, sighting.encap.split()[0]))
            and self._matches_tunnel(sighting.outer)
        )

    def _matches_tunnel(self, outer: tuple[IP, IP] | None) -> bool:
        wanted = (self.outer_src, self.outer_dst)
        found = outer if outer is not None else (None, None)
        return all(want is None or want == have for want, have in zip(wanted, found, strict=True))

    def __str__(self) -> str:
        return self.sentence

    @property
    def sentence(self) -> Sentence:
        """The packet and the point, as a sentence."""
        see = self.see
        parts: list[Any] = [
            joined(" ", (FIELD_TEXT[name], _with_address(word, getattr(self, name))))
            for name, word in self._address_fields()
        ]
        parts += [f"sport {see.sport}"] if see.sport is not None else []
        parts += [f"ttl {see.ttl}"] if see.ttl is not None else []
        parts += [f"encap {see.encap}"] if see.encap is not None else []
        where = {
            "in": sentence("entering {point}", point=see.at),
            "out": sentence("leaving {point}", point=see.at),
            None: sentence("at {point}", point=see.at),
        }[see.direction]
        if see.packet != "request":
            where = joined(" ", (PACKET_TEXT[see.packet], where))
        return joined(": ", (where, in_a_row(parts or [sentence("the packet")])))

    def _address_fields(self) -> tuple[tuple[str, str], ...]:
        return tuple((name, word) for name in ENDPOINT_FIELDS if (word := getattr(self.see, name)) is not None)


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """The answer to an HTTP request: its status, None without an answer, and what a server of labctl says in it.

    `clients` are the addresses of which the server must see one, `forwarded_for` that of which X-Forwarded-For must
    consist; empty where the check does not claim it.
    """

    status: int | None
    backend: BackendAnswer
    clients: frozenset[IP] = frozenset()
    forwarded_for: frozenset[IP] = frozenset()


@dataclass(frozen=True, slots=True)
class CheckEvidence:
    """All that is known about one probe of one check.

    `target_ns` is the namespace that must answer: the target's, or the one that the check names behind a
    translation. It is None for an address that no machine of the lab has. `not_receiving` maps each namespace
    without a proven tap to the reason. `lost_frames` counts the frames that each tap lost. `looping` lists the
    devices where frames circulate in a loop of bridges. `faults` lists what is broken (`c/eth0 is down`), by
    namespace and by point. `tcpdump_trails` is what the real tcpdump showed, by point. `forwarded_to` is the
    namespace that the request entered last, if it is not `target_ns` and has the request's destination address.
    `silence_reasons` are the reasons, found in the namespace that the request entered, why it did not answer.
    `own_rejects` and `own_drops` are the rules by which the source's own firewall rejected, or dropped, what never left
    it.
    `drift` lists what is not as planned on the probe's path (without firewalls); it is filled only where a missing
    reply is about to pass. `notes` are facts for the reader; they do not affect the verdict.
    """

    check: Check
    source: str
    target_ns: str | None
    answer: Answer
    detail: str
    trail: Trail
    expectations: tuple[Expectation, ...] = ()
    not_receiving: Mapping[str, str] = field(default_factory=dict)
    lost_frames: Mapping[str, int] = field(default_factory=dict)
    looping: tuple[Interface, ...] = ()
    faults: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    tcpdump_trails: Mapping[Interface, Trail] = field(default_factory=dict)
    unanswered_neighbours: tuple[
        tuple[Interface, IP], ...
    ] = ()  # the neighbours that did not answer, and the device that asked
    forwarded_to: str | None = None
    silence_reasons: tuple[str, ...] = ()
    own_rejects: tuple[str, ...] = ()
    own_drops: tuple[str, ...] = ()
    drift: tuple[str, ...] = ()
    reply_has_probe_id: bool = True  # False: a listener that is not labctl's answers, without our marker
    notes: tuple[str, ...] = ()
    http: HttpAnswer | None = None  # of an HTTP request
    probe_count: int = 1
    port_uses: tuple[PortUse, ...] = ()  # of rules that had no source port left for the probe
    full_tables: tuple[FullTable, ...] = ()  # the machine's neighbour tables that were full meanwhile

    @property
    def delivered(self) -> bool:
        """Whether the request was seen entering the target's namespace (by `lo` if it never leaves it). A frame for
        another machine, which a switch flooded to this port, does not count."""
        return any(
            seen.at.ns == self.target_ns and seen.direction == "in" and not seen.otherhost
            for seen in self.trail.requests
        )

    @property
    def silent_ns(self) -> str | None:
        """The destination's namespace, if the request entered it and it sent neither a reply nor an ICMP error."""
        passed = self.target_ns != self.source and any(
            seen.at.ns == self.target_ns and seen.direction == "out" for seen in self.trail.requests
        )
        end = self.target_ns if self.delivered and not passed else self.forwarded_to
        complained = any(item.at.ns == end for item in self.trail.icmp_errors)
        return None if self.trail.replies or complained else end

    @property
    def departure(self) -> Sighting | None:
        """The first sighting of the request as it leaves its source; None if there is none."""
        seen = (seen for seen in self.trail.requests if seen.at.ns == self.source and seen.direction == "out")
        return next(seen, None)

    @property
    def neighbours_asked_once(self) -> tuple[tuple[Interface, IP], ...]:
        """The neighbours that did not answer, and were asked a single time."""
        asked = self._questions()
        return tuple(one for one in self.unanswered_neighbours if asked.count(one) == 1)

    @property
    def neighbours_answered_late(self) -> tuple[tuple[Interface, IP], ...]:
        """The neighbours that answered, but not the first question."""
        asked = self._questions()
        return tuple(
            one for one in dict.fromkeys(asked) if asked.count(one) > 1 and one not in self.unanswered_neighbours
        )

    def _questions(self) -> list[tuple[Interface, IP]]:
        """Each question for a MAC address, with the device that asked; not where bridges and tunnels repeated it."""
        asked = [one for one in self.trail.neighbour_requests if one.direction == "out"]
        first = {(one.src, one.dst): one.at for one in reversed(asked)}
        return [(one.at, one.dst) for one in asked if first[one.src, one.dst] == one.at]

    def untrusted_taps(self, nodes: Iterable[str]) -> tuple[str, ...]:
        """Why the absence of a packet proves nothing in these namespaces; empty if it does."""
        deaf = ((node, self.not_receiving[node]) for node in nodes if node in self.not_receiving)
        return tuple(sentence("the tap in {node} cannot be trusted: {why}", node=node, why=why) for node, why in deaf)


def _with_address(name: str | None, ip: IP | None) -> str:
    return f"{name} ({ip})" if str(ip) != name else str(ip)

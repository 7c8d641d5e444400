"""What a probe brought to light, as frozen data: its answer, its trail, and how far the taps can be trusted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from labctl.core.resources import IP, Port
from labctl.core.results import Answer, Sighting
from labctl.core.scenario_types import ENDS, Check, See
from labctl.packets.probe_id import Trail


@dataclass(frozen=True, slots=True)
class Want:
    """A `see:` or `not see:` with its names resolved. `problem` says why that could not be done."""

    see: See
    src: IP | None = None
    dst: IP | None = None
    outer_src: IP | None = None
    outer_dst: IP | None = None
    problem: str = ""

    def meets(self, seen: Sighting) -> bool:
        """Whether a sighting of the right packet is what this asks for."""
        see = self.see
        return (
            seen.at == see.at
            and (self.src is None or seen.src == self.src)
            and (self.dst is None or seen.dst == self.dst)
            and (see.ttl is None or seen.ttl == see.ttl)
            and (see.direction is None or seen.direction == see.direction)
            and (see.encap is None or see.encap in (seen.encap, seen.encap.split()[0]))
            and self._in_its_tunnel(seen.outer)
        )

    def _in_its_tunnel(self, outer: tuple[IP, IP] | None) -> bool:
        wanted = (self.outer_src, self.outer_dst)
        found = outer if outer is not None else (None, None)
        return all(want is None or want == have for want, have in zip(wanted, found, strict=True))

    def __str__(self) -> str:
        see = self.see
        way = {"in": "entering ", "out": "leaving ", None: "at "}[see.direction]
        parts = [f"{name.replace('_', ' ')} {_named(word, getattr(self, name))}" for name, word in self._ends()]
        parts += [f"ttl {see.ttl}"] if see.ttl is not None else []
        parts += [f"encap {see.encap}"] if see.encap is not None else []
        return f"{see.packet + ' ' if see.packet != 'request' else ''}{way}{see.at}: {', '.join(parts) or 'the packet'}"

    def _ends(self) -> tuple[tuple[str, str], ...]:
        return tuple((name, word) for name in ENDS if (word := getattr(self.see, name)) is not None)


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that was learned about one probe of one check.

    `home` is the namespace that must answer: the target's, or the one that the check names behind a
    translation; None for an address that no machine of the lab has. `deaf` names
    namespaces without a proven tap and why, `lost` counts the frames that taps lost, `circling` names
    where frames go round a loop of bridges, `dead` lists what is
    broken (`c/eth0 is down`), by namespace and by point. `dumped` is what the real tcpdump showed, by
    point; `beyond` is a namespace other than `home` that the request, sent on to one of its addresses, entered
    last; `felled` is what a namespace that let the request in itself says about why it did not answer;
    `drift` is what is not as planned on the probe's road (firewalls apart), looked for only where a
    silence is about to be believed; `notes` are facts for the reader that judge nothing.
    """

    check: Check
    source: str
    home: str | None
    answer: Answer
    said: str
    trail: Trail
    wants: tuple[Want, ...] = ()
    deaf: Mapping[str, str] = field(default_factory=dict)
    lost: Mapping[str, int] = field(default_factory=dict)
    circling: tuple[Port, ...] = ()
    dead: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    dumped: Mapping[Port, Trail] = field(default_factory=dict)
    unanswered: tuple[tuple[Port, IP], ...] = ()  # neighbours that were asked for in vain, and where
    beyond: str | None = None
    felled: tuple[str, ...] = ()
    drift: tuple[str, ...] = ()
    marked_reply: bool = True  # False: somebody else's listener answers, without our mark
    notes: tuple[str, ...] = ()
    probes: int = 1

    @property
    def delivered(self) -> bool:
        """Whether the request was seen entering the target's namespace, or staying in it. A frame that is for another
        machine, as a switch floods them, is none."""
        return any(
            seen.at.ns == self.home and seen.direction == "in" and not seen.other for seen in self.trail.requests
        )

    @property
    def mute(self) -> str | None:
        """The namespace that the request was for and that it entered, if this neither answered nor complained."""
        passed = self.home != self.source and any(
            seen.at.ns == self.home and seen.direction == "out" for seen in self.trail.requests
        )
        end = self.home if self.delivered and not passed else self.beyond
        complained = any(item.at.ns == end for item in self.trail.complaints)
        return None if self.trail.replies or complained else end

    @property
    def left(self) -> Sighting | None:
        """The request leaving its source for the first time, if that was seen."""
        seen = (seen for seen in self.trail.requests if seen.at.ns == self.source and seen.direction == "out")
        return next(seen, None)

    def blind(self, nodes: Iterable[str]) -> tuple[str, ...]:
        """Why absence cannot be claimed for these namespaces; empty if it can."""
        deaf = ((node, self.deaf[node]) for node in nodes if node in self.deaf)
        return tuple(f"the tap in {node} is not to be trusted: {why}" for node, why in deaf)


def _named(word: str | None, ip: IP | None) -> str:
    return f"{word} ({ip})" if str(ip) != word else str(ip)

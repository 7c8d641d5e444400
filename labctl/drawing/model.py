"""What a drawing of a lab consists of, before any layout: boxes with devices, cables, tunnels, notes. Frozen data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from labctl.core.resources import Interface
from labctl.core.sentence import Sentence, sentence
from labctl.translation.language import gettext

State: TypeAlias = Literal["", "missing", "changed", "extra"]  # of an object in the kernel, "" if it is as planned
LEGEND: dict[State, str] = {
    "missing": sentence("missing: planned, but not in the kernel"),
    "changed": sentence("changed: has other values in the kernel, or a device of the cable is down"),
    "extra": sentence("extra: in the kernel, but not planned"),
}


Leg: TypeAlias = Literal["request", "reply", "error"]  # of the way of a packet

LEG_TITLES: dict[Leg, Sentence] = {
    "request": sentence("request"), "reply": sentence("reply"), "error": sentence("ICMP error")
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mark:
    """A sign before a line: the number of a step of a packet's path, or where it was lost (no number)."""

    leg: Leg
    number: int | None

    def __str__(self) -> str:
        return "(x)" if self.number is None else f"({self.number})"


@dataclass(frozen=True, slots=True)
class Line:
    """A line of text on something, and the state of that. `marks` are before it; `is_lost` is that of a cause."""

    text: str
    state: State = ""
    marks: tuple[Mark, ...] = ()
    is_lost: bool = False

    def __str__(self) -> str:
        text = f"{self.text} ({self.state})" if self.state in ("missing", "extra") else self.text
        return f"{''.join(map(str, self.marks))} {text}" if self.marks else text


@dataclass(frozen=True, slots=True)
class Remote:
    """The far end of a tunnel: its underlay address, and the machine that has it ("" if no machine does)."""

    address: str
    machine: str = ""

    def __str__(self) -> str:
        return f"{self.address} {self.machine}".rstrip()


@dataclass(frozen=True, slots=True)
class Device:
    """A device of a machine. `text` is its kind and settings in iproute2's words (`vxlan id 42`), "" for a veth.

    `peer` is the other end of its cable, None if that is not drawn. `remotes` are the far ends of a tunnel, and
    `more_remotes` the number of those that are left out. `differences` are sentences on values that are not as planned,
    `is_down` is whether it is down although it should be up, and `is_port` whether it is a port of its master in the
    kernel. `marks` are the steps of a packet there, and `path_lines` what happened to it.
    """

    at: Interface
    kind: str
    text: str = ""
    addresses: tuple[Line, ...] = ()
    master: str | None = None
    peer: Interface | None = None
    remotes: tuple[Remote, ...] = ()
    more_remotes: int = 0
    state: State = ""
    differences: tuple[str, ...] = ()
    is_down: bool = False
    is_port: bool = True
    marks: tuple[Mark, ...] = ()
    path_lines: tuple[Line, ...] = ()

    @property
    def marked_lines(self) -> tuple[Line, ...]:
        """What a drawing says of the device: its name, its kind, its addresses, its far ends, what happened there."""
        remotes = [Line(f"to {one}") for one in self.remotes]
        more = [Line(f"to {self.more_remotes} {'more' if remotes else 'machines'}")] if self.more_remotes else []
        kind = [Line(self.text)] if self.text else []
        differences = [Line(one, "changed") for one in self.differences]
        name = Line(self.at.dev, self.state, self.marks)
        return (name, *kind, *self.addresses, *differences, *remotes, *more, *self.path_lines)

    @property
    def lines(self) -> tuple[str, ...]:
        """The same as texts."""
        return tuple(map(str, self.marked_lines))


@dataclass(frozen=True, slots=True)
class Box:
    """A machine with what is inside it, or several pods that are drawn as their number (role `summary`).

    `notes` are sentences on the machine, and `addresses` those of its addresses that no drawn device has. `routes`
    are in iproute2's words, and `more_routes` is the number of those that are left out. `members` are the machines of a
    `summary`. `differences` are what of the machine is not as planned and is no device, address or route. `marks` and
    `path_lines` are those of a packet's steps that have no drawn device.
    """

    name: str
    role: str
    devices: tuple[Device, ...] = ()
    boxes: tuple[Box, ...] = ()
    addresses: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    routes: tuple[Line, ...] = ()
    more_routes: int = 0
    members: tuple[str, ...] = ()
    state: State = ""
    differences: tuple[str, ...] = ()
    marks: tuple[Mark, ...] = ()
    path_lines: tuple[Line, ...] = ()

    @property
    def machines(self) -> tuple[str, ...]:
        """The machines that the box stands for: itself, or those that a summary counts."""
        return self.members if self.role == "summary" else (self.name,)

    @property
    def heading(self) -> Line:
        """Its name and role, without repetition."""
        text = self.name if self.role in ("summary", self.name) else f"{self.name} ({self.role})"
        return Line(text, self.state, self.marks)

    @property
    def title(self) -> str:
        """The heading as text."""
        return str(self.heading)

    @property
    def own_lines(self) -> tuple[Line, ...]:
        """Its lines except for the routes."""
        differences = (Line(one, "changed") for one in self.differences)
        return (*map(Line, self.notes), *map(Line, self.addresses), *differences, *self.path_lines)

    @property
    def route_lines(self) -> tuple[Line, ...]:
        """Its routes, one a line, and how many there are besides."""
        return (*self.routes, *([Line(f"and {self.more_routes} more")] if self.more_routes else []))

    @property
    def texts(self) -> tuple[str, ...]:
        """All its lines, the routes below a heading."""
        return (*map(str, self.own_lines), *(("routes", *map(str, self.route_lines)) if self.route_lines else ()))

    def walk(self) -> Iterator[Box]:
        """The box and every box inside it."""
        yield self
        for one in self.boxes:
            yield from one.walk()


@dataclass(frozen=True, slots=True)
class Event:
    """What happened to a packet, and at which device; None if at no certain one."""

    at: Interface | None
    text: str


@dataclass(frozen=True, slots=True)
class Visit:
    """One step of a packet's path: its visit of a machine, by these devices. `events` are what happened to it there.
    `is_end` is whether it was lost there, for the reason `lost`; `is_past` says that it had left by the last device."""

    number: int
    leg: Leg
    machine: str
    devices: tuple[Interface, ...]
    events: tuple[Event, ...] = ()
    is_end: bool = False
    is_past: bool = False
    lost: str = ""


@dataclass(frozen=True, slots=True)
class Tunnel:
    """Two tunnel devices, of which each sends to the other or one to the other. `text` is the kind: `vxlan id 42`."""

    ends: tuple[Interface, Interface]
    text: str


def _leg_legend(leg: Leg, last: int, number: int) -> Sentence:
    if number == 1:
        return LEG_TITLES[leg]
    return sentence("to {number}: {leg}", number=last, leg=LEG_TITLES[leg])


@dataclass(frozen=True, slots=True)
class Drawing:
    """A lab as a picture. `cables` are veth pairs with both ends drawn. `services` are lines on the addresses that no
    machine has, `omissions` say what is drawn as a number only. `source` says what a running lab was compared with."""

    name: str
    model: str
    say: str
    boxes: tuple[Box, ...]
    cables: tuple[tuple[Interface, Interface], ...] = ()
    tunnels: tuple[Tunnel, ...] = ()
    services: tuple[str, ...] = ()
    omissions: tuple[str, ...] = ()
    source: str = ""
    path: tuple[Visit, ...] = ()
    verdict: tuple[Line, ...] = ()

    @property
    def title(self) -> str:
        """The lab and its model in a few words."""
        return gettext(sentence("lab {lab}, model {model}", lab=self.name, model=self.model))

    def walk(self) -> Iterator[Box]:
        """Every box, at any depth."""
        for one in self.boxes:
            yield from one.walk()

    @property
    def legend(self) -> tuple[Line, ...]:
        """What the states mean that occur."""
        return tuple(Line(gettext(text), state) for state, text in LEGEND.items() if state in set(self._states()))

    @property
    def path_legend(self) -> tuple[Line, ...]:
        """Which steps are the request, which the reply."""
        legs: dict[Leg, list[int]] = {}
        for one in self.path:
            legs.setdefault(one.leg, []).append(one.number)
        return tuple(
            Line(gettext(_leg_legend(leg, found[-1], len(found))), marks=(Mark(leg, found[0]),))
            for leg, found in legs.items()
        )

    def _states(self) -> Iterator[State]:
        for box in self.walk():
            yield box.state
            yield from (line.state for line in (*box.own_lines, *box.routes))
            yield from (line.state for device in box.devices for line in device.marked_lines)


def line_state(one: Device, other: Device) -> State:
    """The state of the line between two devices, a cable or from a bridge to its port: `missing` with either end,
    `changed` if an end is down."""
    states = {one.state, other.state}
    if "missing" in states:
        return "missing"
    return "extra" if "extra" in states else "changed" if one.is_down or other.is_down else ""


def port_state(bridge: Device, port: Device) -> State:
    """The state of the line from a bridge to its port."""
    state = line_state(bridge, port)
    return state or ("" if port.is_port else "missing")

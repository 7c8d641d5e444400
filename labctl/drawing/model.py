"""What a drawing of a lab consists of, before any layout: boxes with devices, cables, tunnels, notes. Frozen data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from labctl.core.resources import Interface


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
    `more_remotes` the number of those that are left out.
    """

    at: Interface
    kind: str
    text: str = ""
    addresses: tuple[str, ...] = ()
    master: str | None = None
    peer: Interface | None = None
    remotes: tuple[Remote, ...] = ()
    more_remotes: int = 0

    @property
    def lines(self) -> tuple[str, ...]:
        """What a drawing says of the device: its name, its kind, its addresses, its far ends."""
        remotes = [f"to {one}" for one in self.remotes]
        more = [f"to {self.more_remotes} more"] if self.more_remotes else []
        return (self.at.dev, *([self.text] if self.text else []), *self.addresses, *remotes, *more)


@dataclass(frozen=True, slots=True)
class Box:
    """A machine with what is inside it, or several pods that are drawn as their number (role `summary`).

    `notes` are sentences on the machine, and `addresses` those of its addresses that no drawn device has. `routes`
    are in iproute2's words, and `more_routes` is the number of those that are left out. `members` are the machines of a
    `summary`.
    """

    name: str
    role: str
    devices: tuple[Device, ...] = ()
    boxes: tuple[Box, ...] = ()
    addresses: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()
    more_routes: int = 0
    members: tuple[str, ...] = ()

    @property
    def machines(self) -> tuple[str, ...]:
        """The machines that the box stands for: itself, or those that a summary counts."""
        return self.members if self.role == "summary" else (self.name,)

    @property
    def title(self) -> str:
        """Its name and role, without repetition."""
        return self.name if self.role in ("summary", self.name) else f"{self.name} ({self.role})"

    @property
    def route_lines(self) -> tuple[str, ...]:
        """Its routes, one a line, and how many there are besides."""
        return (*self.routes, *([f"and {self.more_routes} more"] if self.more_routes else []))

    def walk(self) -> Iterator[Box]:
        """The box and every box inside it."""
        yield self
        for one in self.boxes:
            yield from one.walk()


@dataclass(frozen=True, slots=True)
class Tunnel:
    """Two tunnel devices, of which each sends to the other or one to the other. `text` is the kind: `vxlan id 42`."""

    ends: tuple[Interface, Interface]
    text: str


@dataclass(frozen=True, slots=True)
class Drawing:
    """A lab as a picture. `cables` are veth pairs with both ends drawn. `services` are lines on the addresses that no
    machine has, `omissions` say what is drawn as a number only."""

    name: str
    model: str
    say: str
    boxes: tuple[Box, ...]
    cables: tuple[tuple[Interface, Interface], ...] = ()
    tunnels: tuple[Tunnel, ...] = ()
    services: tuple[str, ...] = ()
    omissions: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The lab and its model in a few words."""
        return f"lab {self.name}, model {self.model}"

    def walk(self) -> Iterator[Box]:
        """Every box, at any depth."""
        for one in self.boxes:
            yield from one.walk()

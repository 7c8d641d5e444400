"""What all checks of a run share, and what is broken in the lab: devices that are down, addresses that are missing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from labctl.core.resources import IP, Port
from labctl.core.topology import Who
from labctl.kernel.capture.tap import Taps
from labctl.kernel.host import paths
from labctl.kernel.namespaces import device_state
from labctl.kernel.namespaces.thread import Inside


@dataclass(frozen=True, slots=True)
class Bench:
    """What all checks of a run share: the lab, the thread that enters its namespaces, the taps, and tcpdump's path."""

    who: Who
    inside: Inside
    taps: Taps
    tcpdump: str | None

    @property
    def lab(self) -> str:
        """The lab's name."""
        return self.who.lab.name


@dataclass(frozen=True, slots=True)
class Ends:
    """The two ends of a probe. `home` is the namespace that has `address`, None if no machine has it."""

    source: str
    home: str | None
    address: IP


def settle_carriers(bench: Bench) -> None:
    """Read the carrier of each end of a cable, which makes the kernel process a pending carrier change at once.
    Otherwise the first packets are dropped, and a lost ARP request is repeated only after a second."""
    for node in bench.who.nodes:
        for link in bench.who.links.get(node, ()):
            if device_state.plugged(link):
                trouble(bench, link.at)


def trouble(bench: Bench, at: Port) -> str | None:
    """What is wrong with a device; None if it works. Devices in a namespace without a tap are not examined."""
    sock = bench.taps.socket_of(at.ns)
    if sock is not None:
        return device_state.trouble(sock, at.dev)
    return None if paths.netns_path(bench.lab, at.ns).exists() else "is in a namespace that does not exist"


def diagnose(bench: Bench, where: Iterable[str | Port], ends: Ends) -> dict[str, tuple[str, ...]]:
    """What is broken at the ends of a probe and at these namespaces and points. The keys are their names."""
    dead: dict[str, tuple[str, ...]] = {}
    for place in dict.fromkeys((ends.source, *((ends.home,) if ends.home else ()), *where)):
        if isinstance(place, Port):
            what = trouble(bench, place)
            dead[str(place)] = (f"{place} {what}",) if what else ()
        else:
            dead[place] = _broken(bench, place, ends)
    home = ends.home
    if home is not None and not dead[home] and not device_state.owns(bench.inside, bench.lab, home, ends.address):
        dead[home] = (f"{home} does not have its address {ends.address}",)
    return {place: lines for place, lines in dead.items() if lines}


def _broken(bench: Bench, node: str, ends: Ends) -> tuple[str, ...]:
    """The planned devices of a namespace that do not work. The node's end of a cable to a pod that is not an end
    of the probe does not count: that pod does not affect the probe."""
    path = paths.netns_path(bench.lab, node)
    if not path.exists():
        return (f"there is no namespace {path.name}",)
    lines = []
    for link in bench.who.links.get(node, ()):
        other = link.peer.ns if link.peer is not None else None
        aside = other not in (None, ends.source, ends.home) and bench.who.role(other or "") in ("pod", "container")
        what = trouble(bench, link.at) if link.up and not aside else None
        if what and (what != device_state.NO_CARRIER or device_state.plugged(link)):
            lines.append(f"{link.at} {what}")
    return tuple(lines)

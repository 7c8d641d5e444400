"""What packets showed: the addresses that are seen, what can be reached, the path between nodes. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from labctl.compare.cell import Cell, absent, inconclusive
from labctl.compare.measurements import Asked, Ceiling, Facts, parts
from labctl.core.resources import IP, Link
from labctl.core.results import Sighting
from labctl.packets.decode import BARE_PORT

TUNNELS = ("tun", "ipip", "gre", "geneve", "vxlan", "sit", "wireguard")  # kinds of devices that encapsulate
WRAPPED = {"vxlan": "VXLAN", "ipip": "IP in IP", "geneve": "Geneve", "udp": "UDP"}
PEERS = ("mate", "far", "back")


@dataclass(frozen=True, slots=True)
class Tunnel:
    """The tunnel that carried a packet: its kind, its VNI and its port; the last two may be empty."""

    kind: str
    number: str = ""
    port: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.number}".rstrip() + self.port


def seen_as(facts: Facts, key: str) -> Cell:
    """The owner of the source address with which the pod's request arrived."""
    asked = facts.asked[key]
    if isinstance(asked, str):
        return absent(asked)
    if asked.outcome != "came" or asked.arrival is None:
        return _unanswered(asked)
    source = asked.arrival.src
    return Cell(owner(facts, source, asked.check.target), address=source, evidence=(f"seen {asked.arrival}",))


def leaving(facts: Facts) -> Cell:
    """The owner of the source address with which the pod's packet to the internet leaves the node."""
    asked = facts.asked["internet"]
    if isinstance(asked, str):
        return absent(asked)
    out = asked.leaving(parts(facts.lab.machines, facts.cast.node))
    if asked.outcome != "came" or out is None:
        return _unanswered(asked)
    return Cell(owner(facts, out.src, facts.cast.node), address=out.src, evidence=(f"seen {out}",))


def reaches(facts: Facts, key: str) -> Cell:
    """Whether a machine outside reaches the pod by the pod's address, and which source the pod sees."""
    found = seen_as(facts, key)
    return found if found.address is None else replace(found, text=f"yes, seen as {found.text}")


def peer(facts: Facts) -> Cell:
    """The source address that other pods see: the common invariant of Kubernetes' network models."""
    those = [asked for key in PEERS if not isinstance(asked := facts.asked[key], str)]
    if not those:
        return absent("no second pod")
    lost = [asked for asked in those if asked.outcome == "inconclusive"]
    if lost:
        return _unanswered(lost[0])
    came = [asked for asked in those if asked.outcome == "came" and asked.arrival is not None]
    if not came:
        return _unanswered(those[0])
    told = []
    for asked in came:
        assert asked.arrival is not None
        mine = asked.arrival.src == facts.own(asked.check.source)
        told.append("its own address" if mine else owner(facts, asked.arrival.src, asked.check.target))
    evidence = tuple(f"seen {asked.arrival}" for asked in came)
    first = came[0].arrival
    missed = [asked for asked in those if asked not in came]
    less = f"; {', '.join(dict.fromkeys(_ends(asked) for asked in missed))} not reached" if missed else ""
    return Cell(", ".join(dict.fromkeys(told)) + less, address=first.src if first else None, evidence=evidence)


def ttl(facts: Facts, *keys: str) -> Cell:
    """The TTL with which a packet arrives that was sent with 64; for several questions, all different values."""
    came, other = _came(facts, keys)
    if other is not None:
        return other
    seen = [asked.arrival for asked in came if asked.arrival is not None]
    told = dict.fromkeys(str(one.ttl) for one in seen)
    return Cell(" or ".join(told), number=seen[0].ttl, evidence=tuple(f"seen {one}" for one in seen))


def path(facts: Facts, *keys: str) -> Cell:
    """How a packet got from one pod to another: switched, or routed and by which machine, and in which tunnel."""
    came, other = _came(facts, keys)
    if other is not None:
        return other
    evidence = (f"seen {one}" + (f", from {one.eth_src}" if one.eth_src else "") for one in came[0].requests)
    words = _joined([(_way(facts, asked), _tunnel(facts, asked.requests)) for asked in came])
    return Cell(words, counts={"routers": len(_routers(came[0].requests))}, evidence=tuple(evidence))


def _joined(ways: list[tuple[str, Tunnel | None]]) -> str:
    """The paths of several packets in one phrase; the common part appears once."""
    tunnels = list(dict.fromkeys(tunnel for _, tunnel in ways))
    if len({(tunnel.kind, tunnel.port) for tunnel in tunnels if tunnel is not None}) == 1 and None not in tunnels:
        numbers = " or ".join(tunnel.number for tunnel in tunnels if tunnel is not None)
        tunnels = [replace(tunnel, number=numbers) for tunnel in tunnels[:1] if tunnel is not None]
        ways = [(way, tunnels[0]) for way, _ in ways]
    told = dict.fromkeys(way + (f", in {tunnel}" if tunnel else "") for way, tunnel in ways)
    return " or ".join(word if not number else word.removeprefix("routed ") for number, word in enumerate(told))


def _came(facts: Facts, keys: tuple[str, ...]) -> tuple[list[Asked], Cell | None]:
    """Those of the questions that were answered, or a cell with the reason if the first was not."""
    first = facts.asked[keys[0]]
    if isinstance(first, str):
        return [], absent(first)
    if first.outcome == "silent":
        return [], absent("not reached")
    if first.outcome != "came" or first.arrival is None:
        return [], _unanswered(first)
    rest = (asked for key in keys if not isinstance(asked := facts.asked[key], str))
    return [asked for asked in rest if asked.outcome == "came" and asked.arrival is not None], None


def _way(facts: Facts, asked: Asked) -> str:
    """Whether one packet was switched or routed, and by which machines."""
    seen = asked.requests
    routers = _routers(seen)
    roles = {facts.machines[name].role for name in routers if name in facts.machines}
    together = facts.belongs(asked.check.source) == facts.belongs(asked.check.target)
    words = "switched"
    if "fabric" in roles:
        words = "routed by the fabric"
    elif routers:
        words = "routed by the node" if together else "routed by the nodes"
    elif together and _outside(facts, seen):
        words = "switched, through the fabric"
    return words


def _outside(facts: Facts, seen: tuple[Sighting, ...]) -> bool:
    """Whether a fabric forwarded the packet. A fabric that only received a flooded copy does not count."""
    sent = (facts.machines.get(one.at.ns) for one in seen if one.direction == "out")
    return any(machine is not None and machine.role == "fabric" for machine in sent)


def _routers(seen: tuple[Sighting, ...]) -> list[str]:
    """The namespaces that decremented the TTL, in order."""
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for one in seen:
        if one.direction == "in":
            first.setdefault(one.at.ns, one.ttl)
        else:
            last[one.at.ns] = one.ttl
    return [name for name, came in first.items() if last.get(name, came) < came]


def _tunnel(facts: Facts, seen: tuple[Sighting, ...]) -> Tunnel | None:
    """The tunnel that carried the packet: as it was seen on the wire, with the port from the kernel's device; else the
    tunnel device that the packet entered, if the encapsulated packet was not seen."""
    wrapped = next((one for one in seen if one.encap != "none"), None)
    if wrapped is not None:
        kind, _, number = wrapped.encap.partition(" ")
        if kind == "udp":  # recognised by its port alone
            return Tunnel(WRAPPED[kind], str(BARE_PORT))
        options = [dict(link.options) for link in facts.links.values() if link.kind == kind]
        own = [one["dstport"] for one in options if one.get("id") == number and "dstport" in one]
        shared = [one["dstport"] for one in options if one.get("id", "0") == "0" and "dstport" in one]
        port = next((f", UDP {one}" for one in (*own, *shared)), "")
        return Tunnel(WRAPPED.get(kind, kind), number, port)
    out = [one for one in seen if one.at.ns == facts.cast.node and one.direction == "out"]
    link: Link | None = facts.links.get(out[-1].at) if out else None
    found = link is not None and link.kind in TUNNELS
    return Tunnel(f"a tunnel of {link.at.dev} ({link.kind})") if link is not None and found else None


def path_mtu(facts: Facts) -> Cell:
    """The largest packet that passes unfragmented between pods of two nodes."""
    found = facts.ceiling
    if isinstance(found, str):
        return absent(found)
    return _ceiling(found)


def _ceiling(found: Ceiling) -> Cell:
    if found.passed is None or not found.sure:
        return inconclusive("no size was proven to be the largest", found.said)
    return Cell(str(found.passed), number=found.passed, evidence=found.said)


def owner(facts: Facts, ip: IP, at: str) -> str:
    """The owner of an address, as a word that means the same in every lab. `at` is the machine that saw it."""
    who = facts.cast
    held = facts.holders(ip)
    rank = (who.pod, who.mate, who.far, who.node, who.other)
    order = sorted(held, key=lambda port: rank.index(port.ns) if port.ns in rank else len(rank))
    port = order[0] if order else None
    machine = facts.machines.get(port.ns) if port is not None else None
    if machine is not None and machine.role not in ("fabric", "internet"):
        word = {who.pod: "pod", who.node: "node"}.get(machine.name, machine.name)
        if machine.on == who.node and machine.role not in ("pod", "container"):
            word = "node"
        assert port is not None
        return word if machine.addresses[0] == ip else f"{word} ({port.dev})"
    target = facts.machines.get(at)
    if target is not None and target.role == "internet":
        return "public address"
    return machine.role if machine is not None else f"{ip}, which no machine has"


def _unanswered(asked: Asked) -> Cell:
    """The cell of a question without a reply from the target."""
    if asked.outcome == "inconclusive" or asked.outcome == "came":
        return inconclusive(f"{_ends(asked)} could not be decided", asked.said)
    if asked.outcome == "elsewhere":
        return Cell("no: another machine has that address", evidence=asked.said)
    return Cell(f"no: {_end(asked)}", evidence=asked.said)


def _end(asked: Asked) -> str:
    """Where a packet ended that got no reply."""
    if asked.blocked:
        return f"{asked.check.source} has no route to it"
    last = asked.requests[-1] if asked.requests else None
    if last is None:
        return "no machine answers for it"
    return f"it ends in {last.at.ns}" if last.direction == "in" else f"it is lost after {last.at.ns}"


def _ends(asked: Asked) -> str:
    return f"{asked.check.source} -> {asked.check.target}"

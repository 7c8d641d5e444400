"""The answers that packets give: which addresses are seen, what can be reached, the path between nodes. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from labctl.compare.cell import Cell, absent, inconclusive
from labctl.compare.measurements import Measurements, PathMtu, ProbeResult, ServiceProbe, node_namespaces
from labctl.compare.service_lab import backend
from labctl.core.resources import IP, Link
from labctl.core.results import Sighting
from labctl.packets.decode import FLANNEL_UDP_PORT

TUNNEL_LINK_KINDS = ("tun", "ipip", "gre", "geneve", "vxlan", "sit", "wireguard")  # kinds of devices that encapsulate
ENCAP_NAMES = {"vxlan": "VXLAN", "ipip": "IP in IP", "geneve": "Geneve", "udp": "UDP"}
POD_PROBES = ("mate", "far", "back")


@dataclass(frozen=True, slots=True)
class Tunnel:
    """The tunnel that carried a packet: its kind, its VNI and its port; the last two may be empty."""

    kind: str
    number: str = ""
    port: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.number}".rstrip() + self.port


def seen_as(measurements: Measurements, key: str) -> Cell:
    """The owner of the source address with which the pod's request arrived."""
    result = measurements.probe_results[key]
    if isinstance(result, str):
        return absent(result)
    if result.outcome != "came" or result.arrival is None:
        return _unanswered_cell(result)
    source = result.arrival.src
    return Cell(owner(measurements, source, result.check.target), address=source, evidence=(f"seen {result.arrival}",))


def source_at_node_exit(measurements: Measurements) -> Cell:
    """The owner of the source address with which the pod's packet to the internet leaves the node."""
    result = measurements.probe_results["internet"]
    if isinstance(result, str):
        return absent(result)
    departure = result.departure(node_namespaces(measurements.lab.machines, measurements.roles.node))
    if result.outcome != "came" or departure is None:
        return _unanswered_cell(result)
    return Cell(
        owner(measurements, departure.src, measurements.roles.node),
        address=departure.src,
        evidence=(f"seen {departure}",),
    )


def reach_of_pod(measurements: Measurements, key: str) -> Cell:
    """Whether a machine outside reaches the pod by the pod's address, and which source the pod sees."""
    cell = seen_as(measurements, key)
    return cell if cell.address is None else replace(cell, text=f"yes, seen as {cell.text}")


def seen_by_pods(measurements: Measurements) -> Cell:
    """The source address that other pods see: the common invariant of Kubernetes' network models."""
    results = [result for key in POD_PROBES if not isinstance(result := measurements.probe_results[key], str)]
    if not results:
        return absent("no second pod")
    undecided = [asked for asked in results if asked.outcome == "inconclusive"]
    if undecided:
        return _unanswered_cell(undecided[0])
    answered_results = [asked for asked in results if asked.outcome == "came" and asked.arrival is not None]
    if not answered_results:
        return _unanswered_cell(results[0])
    texts = []
    for result in answered_results:
        assert result.arrival is not None
        unchanged = result.arrival.src == measurements.address_of(result.check.source)
        texts.append("its own address" if unchanged else owner(measurements, result.arrival.src, result.check.target))
    evidence = tuple(f"seen {asked.arrival}" for asked in answered_results)
    first = answered_results[0].arrival
    missed_results = [asked for asked in results if asked not in answered_results]
    missed_text = (
        f"; {', '.join(dict.fromkeys(_probe_text(asked) for asked in missed_results))} not reached"
        if missed_results
        else ""
    )
    return Cell(", ".join(dict.fromkeys(texts)) + missed_text, address=first.src if first else None, evidence=evidence)


def ttl(measurements: Measurements, *keys: str) -> Cell:
    """The TTL with which a packet arrives that was sent with 64; for several questions, all different values."""
    answered_results, reason_cell = _answered_results(measurements, keys)
    if reason_cell is not None:
        return reason_cell
    arrivals = [result.arrival for result in answered_results if result.arrival is not None]
    values = dict.fromkeys(str(one.ttl) for one in arrivals)
    return Cell(" or ".join(values), number=arrivals[0].ttl, evidence=tuple(f"seen {one}" for one in arrivals))


def path(measurements: Measurements, *keys: str) -> Cell:
    """How a packet got from one pod to another: switched, or routed and by which machine, and in which tunnel."""
    answered_results, reason_cell = _answered_results(measurements, keys)
    if reason_cell is not None:
        return reason_cell
    evidence = (
        f"seen {sighting}" + (f", from {sighting.eth_src}" if sighting.eth_src else "")
        for sighting in answered_results[0].requests
    )
    text = _join_paths(
        [
            (_forwarding_text(measurements, result), _tunnel(measurements, result.requests))
            for result in answered_results
        ]
    )
    return Cell(text, counts={"routers": len(_routers(answered_results[0].requests))}, evidence=tuple(evidence))


def _join_paths(paths: list[tuple[str, Tunnel | None]]) -> str:
    """The paths of several packets in one phrase; the common part appears once."""
    tunnels = list(dict.fromkeys(tunnel for _, tunnel in paths))
    if len({(tunnel.kind, tunnel.port) for tunnel in tunnels if tunnel is not None}) == 1 and None not in tunnels:
        numbers = " or ".join(tunnel.number for tunnel in tunnels if tunnel is not None)
        tunnels = [replace(tunnel, number=numbers) for tunnel in tunnels[:1] if tunnel is not None]
        paths = [(path_text, tunnels[0]) for path_text, _ in paths]
    texts = dict.fromkeys(path_text + (f", in {tunnel}" if tunnel else "") for path_text, tunnel in paths)
    return " or ".join(text if not number else text.removeprefix("routed ") for number, text in enumerate(texts))


def _answered_results(measurements: Measurements, keys: tuple[str, ...]) -> tuple[list[ProbeResult], Cell | None]:
    """Those of the questions that were answered, or a cell with the reason if the first was not."""
    first = measurements.probe_results[keys[0]]
    if isinstance(first, str):
        return [], absent(first)
    if first.outcome == "silent":
        return [], absent("not reached")
    if first.outcome != "came" or first.arrival is None:
        return [], _unanswered_cell(first)
    rest = (result for key in keys if not isinstance(result := measurements.probe_results[key], str))
    return [answered for answered in rest if answered.outcome == "came" and answered.arrival is not None], None


def _forwarding_text(measurements: Measurements, result: ProbeResult) -> str:
    """Whether one packet was switched or routed, and by which machines."""
    sightings = result.requests
    routers = _routers(sightings)
    roles = {measurements.machines[name].role for name in routers if name in measurements.machines}
    same_node = measurements.node_of(result.check.source) == measurements.node_of(result.check.target)
    text = "switched"
    if "fabric" in roles:
        text = "routed by the fabric"
    elif routers:
        text = "routed by the node" if same_node else "routed by the nodes"
    elif same_node and _forwarded_by_fabric(measurements, sightings):
        text = "switched, through the fabric"
    return text


def _forwarded_by_fabric(measurements: Measurements, sightings: tuple[Sighting, ...]) -> bool:
    """Whether a fabric forwarded the packet. A fabric that only received a flooded copy does not count."""
    senders = (measurements.machines.get(sighting.at.ns) for sighting in sightings if sighting.direction == "out")
    return any(machine is not None and machine.role == "fabric" for machine in senders)


def _routers(sightings: tuple[Sighting, ...]) -> list[str]:
    """The namespaces that decremented the TTL, in order."""
    entry_ttl: dict[str, int] = {}
    exit_ttl: dict[str, int] = {}
    for sighting in sightings:
        if sighting.direction == "in":
            entry_ttl.setdefault(sighting.at.ns, sighting.ttl)
        else:
            exit_ttl[sighting.at.ns] = sighting.ttl
    return [name for name, entered in entry_ttl.items() if exit_ttl.get(name, entered) < entered]


def _tunnel(measurements: Measurements, sightings: tuple[Sighting, ...]) -> Tunnel | None:
    """The tunnel that carried the packet: as it was seen on the wire, with the port from the kernel's device; else the
    tunnel device that the packet entered, if the encapsulated packet was not seen."""
    encapsulated = next((item for item in sightings if item.encap != "none"), None)
    if encapsulated is not None:
        kind, _, number = encapsulated.encap.partition(" ")
        if kind == "udp":  # recognised by its port alone
            return Tunnel(ENCAP_NAMES[kind], str(FLANNEL_UDP_PORT))
        options = [dict(link.options) for link in measurements.links.values() if link.kind == kind]
        ports_of_vni = [item["dstport"] for item in options if item.get("id") == number and "dstport" in item]
        flow_based_ports = [item["dstport"] for item in options if item.get("id", "0") == "0" and "dstport" in item]
        port = next((f", UDP {item}" for item in (*ports_of_vni, *flow_based_ports)), "")
        return Tunnel(ENCAP_NAMES.get(kind, kind), number, port)
    departures = [item for item in sightings if item.at.ns == measurements.roles.node and item.direction == "out"]
    link: Link | None = measurements.links.get(departures[-1].at) if departures else None
    is_tunnel = link is not None and link.kind in TUNNEL_LINK_KINDS
    return Tunnel(f"a tunnel of {link.at.dev} ({link.kind})") if link is not None and is_tunnel else None


def path_mtu(measurements: Measurements) -> Cell:
    """The largest packet that passes unfragmented between pods of two nodes."""
    measured = measurements.path_mtu
    if isinstance(measured, str):
        return absent(measured)
    return _path_mtu_cell(measured)


def _path_mtu_cell(measured: PathMtu) -> Cell:
    if measured.largest_bytes is None or not measured.proven:
        return inconclusive("no size was proven to be the largest", measured.evidence)
    return Cell(str(measured.largest_bytes), number=measured.largest_bytes, evidence=measured.evidence)


def owner(measurements: Measurements, ip: IP, at: str) -> str:
    """The owner of an address, as a text that means the same in every lab. `at` is the machine that saw it."""
    roles = measurements.roles
    interfaces = measurements.interfaces_of(ip)
    rank = (roles.pod, roles.same_node_pod, roles.other_node_pod, roles.node, roles.other_node)
    order = sorted(interfaces, key=lambda interface: rank.index(interface.ns) if interface.ns in rank else len(rank))
    interface = order[0] if order else None
    machine = measurements.machines.get(interface.ns) if interface is not None else None
    if machine is not None and machine.role not in ("fabric", "internet"):
        name = {roles.pod: "pod", roles.node: "node"}.get(machine.name, machine.name)
        if machine.on == roles.node and machine.role not in ("pod", "container"):
            name = "node"
        assert interface is not None
        return name if machine.addresses[0] == ip else f"{name} ({interface.dev})"
    target = measurements.machines.get(at)
    if target is not None and target.role == "internet":
        return "public address"
    return machine.role if machine is not None else f"{ip}, which no machine has"


def service_source(measurements: Measurements, key: str) -> Cell:
    """The owner of the source address with which a connection to a Service arrived at its backend."""
    probe = service_probe(measurements, key)
    if isinstance(probe, Cell):
        return probe
    arrival = probe.arrival(str(backend(measurements.roles)))
    if probe.answer != "reply" or arrival is None:
        return unanswered_service(probe)
    return Cell(owner(measurements, arrival.src, arrival.at.ns), address=arrival.src, evidence=(f"seen {arrival}",))


def unanswered_service(probe: ServiceProbe) -> Cell:
    """The cell of a connection to a Service without an answer from its backend."""
    passed = tuple(f"seen {one}" for one in probe.requests)
    if not passed:
        return inconclusive("no packet of the connection was captured", (probe.detail,))
    return Cell(f"no: it ends in {probe.requests[-1].at.ns}", evidence=passed)


def refusal(measurements: Measurements) -> Cell:
    """How a TCP connection ends that a NetworkPolicy denies: without an answer, by a reset, or by an ICMP error."""
    probe = service_probe(measurements, "denied")
    if isinstance(probe, Cell):
        return probe
    if probe.answer == "reply":
        return Cell("it is not denied", evidence=_evidence(probe))
    return _end(probe)


def wrong_port(measurements: Measurements) -> Cell:
    """How a TCP connection ends to a port of a cluster IP that the Service does not have."""
    probe = service_probe(measurements, "wrong_port")
    if isinstance(probe, Cell):
        return probe
    if probe.answer == "timeout" and probe.requests:
        return Cell(f"no answer: it ends in {probe.requests[-1].at.ns}", evidence=_evidence(probe))
    if probe.answer == "reply":
        return Cell("an answer", evidence=_evidence(probe))
    return _end(probe)


def loopback_port(measurements: Measurements) -> Cell:
    """Whether a node reaches a Service at a nodePort of its own 127.0.0.1. The packet is translated before it leaves:
    only the client's result counts."""
    probe = service_probe(measurements, "node_port_loopback")
    if isinstance(probe, Cell):
        return probe
    texts = {"reply": "answered", "refused": "refused", "timeout": "no answer"}
    return Cell(texts.get(probe.answer, probe.answer), evidence=(probe.detail,))


def _evidence(probe: ServiceProbe) -> tuple[str, ...]:
    return (*(f"seen {one}" for one in (*probe.requests, *probe.replies)), probe.detail)


def _end(probe: ServiceProbe) -> Cell:
    """How a connection without an answer ended."""
    evidence = _evidence(probe)
    if not probe.requests and not probe.replies:
        return inconclusive("no packet of the connection was captured", (probe.detail,))
    if probe.answer == "timeout":
        return Cell("no answer, a timeout", evidence=evidence)
    reset = any(one.proto == "tcp" for one in probe.replies)
    if probe.answer in ("refused", "unreachable"):
        return Cell("a TCP reset" if reset else "an ICMP error", evidence=evidence)
    return inconclusive(f"the connection ended with {probe.answer}", evidence)


def service_probe(measurements: Measurements, key: str) -> ServiceProbe | Cell:
    """The connection of a question, or the cell that says why it was not made."""
    probes = measurements.service_probes
    if isinstance(probes, str):
        return absent(probes or "not asked")
    probe = probes[key]
    return absent(probe) if isinstance(probe, str) else probe


def _unanswered_cell(result: ProbeResult) -> Cell:
    """The cell of a question without a reply from the target."""
    if result.outcome == "inconclusive" or result.outcome == "came":
        return inconclusive(f"{_probe_text(result)} could not be decided", result.reasons)
    if result.outcome == "elsewhere":
        return Cell("no: another machine has that address", evidence=result.reasons)
    return Cell(f"no: {_loss_text(result)}", evidence=result.reasons)


def _loss_text(result: ProbeResult) -> str:
    """The place where a packet without a reply ended."""
    if result.blocked:
        return f"{result.check.source} has no route to it"
    last = result.requests[-1] if result.requests else None
    if last is None:
        return "no machine answers for it"
    return f"it ends in {last.at.ns}" if last.direction == "in" else f"it is lost after {last.at.ns}"


def _probe_text(result: ProbeResult) -> str:
    return f"{result.check.source} -> {result.check.target}"

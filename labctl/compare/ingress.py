"""How far the pod of a Service is from the load balancer of an Ingress, and which client it sees. Pure."""

from __future__ import annotations

from labctl.compare.cell import Cell
from labctl.compare.measurements import Measurements, ServiceProbe
from labctl.compare.service_lab import backend
from labctl.compare.visibility import owner, service_probe, unanswered_service
from labctl.core.resources import IP


def hops(measurements: Measurements, key: str) -> Cell:
    """The number of nodes that a request enters behind the load balancer, and the owner of the source that the pod
    sees."""
    probe = service_probe(measurements, key)
    if isinstance(probe, Cell):
        return probe
    arrival = probe.arrival(str(backend(measurements.roles)))
    if probe.answer != "reply" or arrival is None:
        return unanswered_service(probe)
    nodes = dict.fromkeys(one.at.ns for one in probe.requests if one.direction == "in" and not one.otherhost)
    count = sum(measurements.machines[name].role == "node" for name in nodes if name in measurements.machines)
    seen = "the load balancer" if arrival.src in _balancer_ips(measurements, probe) else ""
    who = seen or owner(measurements, arrival.src, arrival.at.ns)
    evidence = tuple(f"seen {one}" for one in probe.requests)
    text = f"{count} hop{'' if count == 1 else 's'}, sees {who}"
    return Cell(text, address=arrival.src, counts={"hops": count}, evidence=evidence)


def _balancer_ips(measurements: Measurements, probe: ServiceProbe) -> frozenset[IP]:
    """The addresses from which the load balancer sent: a machine that is not a node, a pod or the network."""
    machines = measurements.machines
    sent = (one for one in probe.requests if one.direction == "out")
    return frozenset(one.src for one in sent if one.at.ns not in machines or machines[one.at.ns].role == "machine")

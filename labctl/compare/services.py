"""What Services and policies do to packets, measured: the client that a backend sees, and how a denied connection ends.

The questions are asked in a separate lab, the same one with the objects of `service_lab` on top.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from labctl.checks.attempt import attempt
from labctl.checks.context import CheckContext, refresh_carriers
from labctl.checks.runner import namespaces_to_tap_for
from labctl.compare import service_lab
from labctl.compare.measurements import ServiceProbe
from labctl.compare.probes import REPLY_TIMEOUT_S, SILENCE_TIMEOUT_S, expect_no_answer
from labctl.compare.roles import Roles
from labctl.core.scenario_types import Check, Lab
from labctl.core.topology import Topology
from labctl.kernel.capture.tap import Taps
from labctl.kernel.namespaces.thread import NetnsThread
from labctl.kubernetes.api.api_objects import Service
from labctl.kubernetes.api.ingress_objects import MODES
from labctl.kubernetes.ingress.ingress_rules import HTTP_PORT
from labctl.kubernetes.services.kube_proxy_config import LOOPBACK


def service_probes(lab: Lab, roles: Roles) -> Mapping[str, ServiceProbe | str]:
    """The answers of a running lab that `service_lab.with_services` made, by the question's key; a text is the reason
    why a question could not be asked."""
    checks = dict(_checks(lab, roles))
    topology = Topology(lab)
    asked = [check for check in checks.values() if isinstance(check, Check)]
    with (
        NetnsThread() as thread,
        Taps(lab.name, namespaces_to_tap_for(topology, asked), thread) as taps,
    ):
        context = CheckContext(topology, thread, taps, None)
        refresh_carriers(context)
        return {key: check if isinstance(check, str) else _probe(context, check, lab) for key, check in checks.items()}


def _checks(lab: Lab, roles: Roles) -> Iterator[tuple[str, Check | str]]:
    """The questions. A Service without an address or a nodePort is not asked."""
    pod, outside = str(service_lab.backend(roles)), roles.vm or roles.internet
    services: dict[str, Service] = {one.name: one for one in lab.kubernetes.cluster.services}
    cluster, local = services[service_lab.CLUSTER], services[service_lab.LOCAL]
    ips = [ip for ip in cluster.cluster_ips if ip.version == 4]
    yield "cluster_ip", _tcp(roles.pod, str(ips[0]), service_lab.PORT) if ips else "no range for Services"
    yield "wrong_port", _tcp(roles.pod, str(ips[0]), service_lab.WRONG_PORT) if ips else "no range for Services"
    yield "node_port_loopback", _tcp(roles.node, str(LOOPBACK[4]), cluster.ports[0].node_port)
    backend_node = lab.machine(pod).on if lab.machine(pod) is not None else None  # type: ignore[union-attr]
    if outside is None:
        yield "node_port", "no machine outside"
        yield "node_port_local", "no machine outside"
    else:
        yield "node_port", _tcp(outside, roles.node, cluster.ports[0].node_port)
        yield "node_port_local", _tcp(outside, str(backend_node), local.ports[0].node_port)
    addresses = {one.name: one.address for one in lab.kubernetes.http_balancers}
    client = roles.internet or roles.vm
    for mode in MODES:
        address = addresses.get(service_lab.ingress_name(mode))
        why = "no machine outside" if client is None else "refused: the network has no route to the pod"
        yield f"ingress_{mode}", _http(client, address) if client is not None and address else why
    refusals = [one.what for one in lab.kubernetes.problems if not one.warning]
    denied = Check("a policy denies this", "tcp", roles.pod, pod, service_lab.DENIED_PORT, within=SILENCE_TIMEOUT_S)
    yield "denied", refusals[0] if refusals else expect_no_answer(denied)


def _tcp(source: str, target: str, port: int) -> Check:
    return Check(f"{source} reaches the Service", "tcp", source, target, port, listen=False, within=REPLY_TIMEOUT_S)


def _http(source: str, target: str) -> Check:
    return Check(f"{source} reaches the Ingress", "http", source, target, HTTP_PORT, path="/", within=REPLY_TIMEOUT_S)


def _probe(context: CheckContext, check: Check, lab: Lab) -> ServiceProbe:
    """Send it; a question that expects an answer gets a second chance, with more time."""
    address = context.topology.addresses(check.target)[0]
    evidence, _ = attempt(context, check, address)
    if check.probe == "http":  # nodes take turns: of two requests, at least one enters another node than the pod's
        other, _ = attempt(context, check, address)
        evidence = max(evidence, other, key=lambda one: len({seen.at.ns for seen in one.trail.requests}))
    if evidence.answer != "reply" and not check.expects_no_answer:
        evidence, _ = attempt(context, replace(check, within=SILENCE_TIMEOUT_S), address)
    trail = evidence.trail
    return ServiceProbe(check, evidence.answer, evidence.detail, trail.requests, trail.replies)

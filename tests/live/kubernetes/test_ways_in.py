"""The ways into a cluster, row by row: which source the pod sees, how often the request crosses the network between the
machines, and how many routers it passes. One pod is on node2; packets come through node1 where a node is chosen.

| path                          | crossings | the pod sees          |
| ClusterIP from a pod          | 1         | the pod               |
| NodePort on node1, Cluster    | 2         | node1                 |
| NodePort on node2, Local      | 1         | the client            |
| load balancer, Cluster        | 2         | node1                 |
| load balancer, Local          | 1         | the client            |
| Ingress, mode instance        | 1 + 2     | node1                 |
| Ingress, mode ip              | 1 + 1     | the proxy             |
"""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from labctl.checks import runner
from labctl.core.resources import Interface
from labctl.core.results import Outcome
from labctl.core.scenario_types import Check, Lab, See
from labctl.kernel.host import paths
from labctl.kernel.namespaces.thread import NetnsThread
from labctl.kernel.programs.load_balancer import Flow, choose, key, parse_frontend
from labctl.kubernetes.api.api_objects import Service
from labctl.kubernetes.services.load_balancer import FIRST_MARK, RULE_PREF
from labctl.lab import lifecycle
from labctl.scenario.definition import define_text
from tests.support.drift import drift

pytestmark = pytest.mark.firewall

TEXT = """
name: ways-in
model: MODEL
nodes:
  node1: {pods: {client: , drained: {labels: {app: both}, containers: ['web:80']}}}
  node2: {pods: {server: {labels: {app: web, tier: one}}, stays: {labels: {app: both}}}}
services:
  web: {type: NodePort, selector: {app: web}, ports: [80]}
  local: {type: NodePort, externalTrafficPolicy: Local, selector: {app: web}, ports: [80]}
  lb: {type: LoadBalancer, selector: {app: web}, ports: [80]}
  lb-local: {type: LoadBalancer, externalTrafficPolicy: Local, selector: {app: web}, ports: [80]}
  both: {type: LoadBalancer, externalTrafficPolicy: Local, selector: {app: both}, ports: [80]}
  everywhere: {type: LoadBalancer, selector: {app: both}, ports: [80]}
ingress:
  shop: {rules: {shop.example: web:80}}
  direct: {mode: ip, rules: {direct.example: web:80}}
"""
SERVER = Interface("server", "eth0")
# the model, and how many routers are between two nodes: in AWS they are on one subnet, elsewhere the fabric routes
MODELS = {"kubenet": 2, "gke-vpc-native": 2, "eks-vpc-cni": 1}
HEALTH_S = 5.0  # seconds within which the load balancer must notice


@dataclass(frozen=True)
class WaysIn:
    """A running lab, and how many routers are between a packet's leaving one node and the next one."""

    lab: Lab
    routers_between_nodes: int

    def service(self, name: str) -> Service:
        return next(one for one in self.lab.kubernetes.cluster.services if one.name == name)

    def address(self, name: str) -> str:
        """The address of a Service's load balancer."""
        service = self.service(name)
        return str((*service.load_balancer_ips, *service.proxied_ips)[0])

    def run(self, check: Check) -> Outcome:
        return runner.run(replace(self.lab, checks=(check,))).outcomes[0]

    def sport(self, name: str, node: int, first: int = 41000) -> int:
        """A source port, `first` or a later one, from which `internet` reaches this node through a Service's load
        balancer."""
        client = self.lab.machine("internet")
        assert client is not None
        frontend = parse_frontend(f"tcp:{self.address(name)}:80@1")
        source = client.addresses[0].packed
        flows = (
            (port, Flow(socket.IPPROTO_TCP, source, port, frontend.address, 80)) for port in range(first, first + 999)
        )
        marks = (FIRST_MARK, FIRST_MARK + 1)
        return next(port for port, flow in flows if choose(marks, key(flow, frontend)) == FIRST_MARK + node)


@pytest.fixture(scope="module", params=list(MODELS))
def ways(request: pytest.FixtureRequest) -> Iterator[WaysIn]:
    lab = lifecycle.up(define_text("ways-in.yaml", TEXT.replace("MODEL", request.param))).lab
    found = WaysIn(lab, MODELS[request.param])
    await_answers(found, "both", "drained", "stays")
    yield found
    lifecycle.down("ways-in")


def await_answers(ways: WaysIn, service: str, *machines: str) -> Outcome:
    """Wait until exactly these machines answer for a Service's load balancer."""
    shares = tuple((machine, 1) for machine in machines)
    check = Check("", "balance", "internet", ways.address(service), 80, answered_by=shares, within=1)
    deadline = time.monotonic() + HEALTH_S
    while (outcome := ways.run(check)).verdict != "pass" and time.monotonic() < deadline:
        time.sleep(0.2)
    assert outcome.verdict == "pass", outcome.evidence
    return outcome


def entered(outcome: Outcome) -> list[str]:
    """The machines that the request entered from the network between them, in order."""
    requests = (seen for seen in outcome.sightings if not seen.reply and seen.direction == "in")
    names = [seen.at.ns for seen in requests if seen.at.dev.startswith("eth")]
    return [name for name in dict.fromkeys(names) if name in ("node1", "node2", "lb")]


@pytest.mark.parametrize(
    ("row", "path", "source", "routed"),
    [
        ("ClusterIP from a pod", ["node2"], "client", 1),
        ("NodePort on node1, Cluster", ["node1", "node2"], "node1", 1),
        ("NodePort on node2, Local", ["node2"], "vm", 0),
        ("load balancer, Cluster", ["node1", "node2"], "node1", 1),
        ("load balancer, Local", ["node2"], "internet", 0),
    ],
)
def test_packets(ways: WaysIn, row: str, path: list[str], source: str, routed: int) -> None:
    """`routed` is how many times the packet goes from one node to another."""
    at = {"port": 80, "expect": "reply", "listen": False}
    node_port = {name: ways.service(name).ports[0].node_port for name in ("web", "local")}
    cluster_sport = ways.sport("lb", 0)
    check = {
        "ClusterIP from a pod": Check("", "tcp", "client", "web", **at),
        "NodePort on node1, Cluster": Check("", "tcp", "vm", "node1", **{**at, "port": node_port["web"]}),
        "NodePort on node2, Local": Check("", "tcp", "vm", "node2", **{**at, "port": node_port["local"]}),
        "load balancer, Cluster": Check("", "tcp", "internet", ways.address("lb"), **at, sport=cluster_sport),
        "load balancer, Local": Check("", "tcp", "internet", ways.address("lb-local"), **at),
    }[row]
    first_router = 1  # that of the network, or for a pod its node
    ttl = 64 - first_router - 1 - (ways.routers_between_nodes if routed else 0)
    if row == "ClusterIP from a pod":
        ttl = 64 - 1 - ways.routers_between_nodes
    outcome = ways.run(replace(check, sees=(See(SERVER, src=source, dst="server", ttl=ttl, direction="in"),)))

    assert outcome.verdict == "pass", outcome.evidence
    assert entered(outcome) == path


@pytest.mark.parametrize(
    ("host", "path", "source", "hops"),
    [
        ("shop.example", ["lb", "node1", "node2"], "node1", 2),
        ("direct.example", ["lb", "node2"], "lb", 1),
    ],
)
def test_requests(ways: WaysIn, host: str, path: list[str], source: str, hops: int) -> None:
    """An Ingress ends the client's connection. In mode instance the second connection takes two hops, in mode ip one.

    The proxy takes the nodes in turn, so one of two requests goes through node1.
    """
    ttl = 64 - 2 - (ways.routers_between_nodes if hops == 2 else 0)
    see = See(SERVER, src=source, dst="server", ttl=ttl, direction="in")
    claims = {"answered_by": (("server", 1),), "saw": (source,), "forwarded_for": "internet", "path": "/"}
    check = Check("", "http", "internet", host, 80, sees=(see,), **claims)  # type: ignore[arg-type]
    outcomes = [ways.run(check) for _ in range(2)]
    passed = [one for one in outcomes if one.verdict == "pass"]

    assert passed, [one.evidence for one in outcomes]
    assert path in [entered(one) for one in passed]
    spoofed = ways.run(replace(check, forwarded_for="vm", sees=()))
    assert spoofed.verdict == "fail"


def test_the_load_balancer_spreads_flows_by_the_hash(ways: WaysIn) -> None:
    outcome = await_answers(ways, "both", "drained", "stays")

    assert any("chi-square" in line for line in outcome.evidence)
    assert any("saw 203.0.113.1 (internet)" in line or "saw 8.8.8.1 (internet)" in line for line in outcome.evidence)


def test_status_stays_clean_and_no_route_answers_404(ways: WaysIn) -> None:
    check = Check("", "http", "vm", "shop.example", 80, host="other.example", path="/", status=404)

    assert ways.run(check).verdict == "pass"
    assert ways.run(replace(check, host="shop.example")).verdict == "fail"
    assert drift("ways-in") == []


def test_a_packet_without_a_way_to_its_node_does_not_go_round(ways: WaysIn) -> None:
    """Without the rules for marked packets, the route to the address would lead them to the program again."""
    sport = ways.sport("lb", 0, 43000)
    check = Check("", "tcp", "internet", ways.address("lb"), 80, "timeout", listen=False, sport=sport)
    remove = ["ip", "-n", paths.netns_name("ways-in", "fabric"), "rule", "del", "pref", str(RULE_PREF)]
    try:
        for _ in ("node1", "node2"):
            subprocess.run(remove, check=True)
        outcome = ways.run(check)
        to_program = [seen for seen in outcome.sightings if seen.at == Interface("fabric", "l4lb")]
        assert 1 <= len(to_program) <= 3, outcome.evidence  # the SYN, and its repetition
    finally:
        lifecycle.up(define_text("ways-in.yaml", TEXT.replace("MODEL", ways.lab.model)))


def connect(ways: WaysIn, service: str, node: int) -> socket.socket:
    """A connection from `internet` that goes through this node."""

    def start() -> socket.socket:
        client = socket.socket()
        client.settimeout(3)
        client.bind(("", ways.sport(service, node, 42000)))
        client.connect((ways.address(service), 80))
        return client

    with NetnsThread() as thread:
        client = thread.run(paths.netns_path("ways-in", "internet"), start)
    assert echo(client, b"hello") == b"hello"
    return client


def echo(client: socket.socket, data: bytes) -> bytes:
    """What comes back."""
    client.sendall(data)
    return client.recv(4096)


def test_a_drained_node_gets_no_traffic_under_local_and_cluster_goes_on(ways: WaysIn) -> None:
    """The last local endpoint goes: the health port answers 503, and the load balancer leaves the node out. Connections
    that exist stay where they are."""
    port = ways.service("both").health_check_node_port
    health = Check("", "http", "fabric", "node1", port, path="/")
    assert ways.run(health).verdict == "pass"
    model = ways.lab.model
    text = TEXT.replace("MODEL", model).replace("drained: {labels: {app: both}", "drained: {labels: {app: none}")
    connection = connect(ways, "both", node=0)
    drained = replace(ways, lab=lifecycle.up(define_text("ways-in.yaml", text)).lab)
    try:
        assert drained.run(replace(health, status=503)).verdict == "pass"
        assert drift("ways-in") == []
        await_answers(drained, "both", "stays")
        await_answers(drained, "everywhere", "stays")
        local = drained.run(Check("", "http", "internet", drained.address("both"), 80, path="/", saw=("internet",)))
        assert local.verdict == "pass", local.evidence
        through_node1 = drained.sport("everywhere", 0)
        check = Check("", "tcp", "internet", drained.address("everywhere"), 80, listen=False, sport=through_node1)
        outcome = drained.run(check)
        assert (outcome.verdict, entered(outcome)) == ("pass", ["node1", "node2"])
        assert echo(connection, b"still here") == b"still here"
    finally:
        connection.close()
        lifecycle.up(define_text("ways-in.yaml", TEXT.replace("MODEL", model)))
        await_answers(ways, "both", "drained", "stays")

"""Services by packets: every row of the flow table on bridged and routed models, health checks, and hairpin.

Which pods answer is judged statistically by the check `balance`, and which clients they see exactly.
"""

from __future__ import annotations

import errno
import json
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_network
from typing import Any
from urllib import error, request

import pytest

from labctl.checks import runner
from labctl.core.resources import IP, Address, Interface, Link, Resource, Route
from labctl.core.results import Outcome
from labctl.core.scenario_types import Check, Lab
from labctl.core.topology import Topology
from labctl.kernel.host import paths
from labctl.kernel.namespaces.thread import NetnsThread
from labctl.kubernetes.composition import merge
from labctl.kubernetes.services.kube_proxy_config import MODES
from labctl.lab import lifecycle
from labctl.scenario.definition import define_text
from tests.support.service_flows import ROWS, SERVICES, TEXT, WAYS, Row

pytestmark = pytest.mark.firewall

# by model: the devices of a node of which the address is the source of what it masquerades, for its pods and for others
SNAT_DEVICES = {
    "kubenet": ("cbr0", "eth0"),
    "flannel": ("cni0", "flannel.1"),
    "azure-cni-transparent": ("eth0", "eth0"),
    "calico": ("eth0", "eth0"),
}

CONNECTIONS = 40  # for each pod; the first row has the default, which is judged more sharply
PROBLEMS = {"unreachable": "Network is unreachable"}  # what the client gets


@dataclass(frozen=True)
class Flows:
    """A running lab, with the outcome of every row that exists in its model."""

    model: str
    mode: str
    lab: Lab
    outcomes: Mapping[str, Outcome]

    @property
    def topology(self) -> Topology:
        return Topology(self.lab)

    def address(self, text: str) -> str:
        """The address that a row's target means."""
        return _address(self.lab, text)

    def client(self, text: str, pod: str) -> IP:
        """The client that a pod must see."""
        kind, _, node = text.partition(" ")
        if kind == "snat":
            machine = self.topology.machines[pod]
            device = SNAT_DEVICES[self.model][machine.on != node]
            text = f"{node}/{device}"
        return self.topology.addresses(text)[0]


def _address(lab: Lab, text: str) -> str:
    kind, _, name = text.partition(" ")
    if text == "self":
        return "127.0.0.1"
    if not name:
        return str(Topology(lab).addresses(text)[0])
    service = next(one for one in lab.kubernetes.cluster.services if one.name == name)
    return str((service.cluster_ips if kind == "svc" else service.load_balancer_ips)[0])


def _ways(lab: Lab) -> Iterator[Resource]:
    """Routes of the network outside the cluster: in the client if the nodes are its neighbours, else in its router."""
    (network,) = (one.addr.network for one in lab.plan if isinstance(one, Address) and one.ns == "vm")
    for text, node in WAYS.items():
        destination, via = ip_network(_address(lab, text)), Topology(lab).addresses(node)[0]
        if via in network:
            yield Route("vm", destination, via, "eth0")
        else:
            yield Route("fabric", destination, via, node, onlink=True)


def _check(lab: Lab, row: Row) -> Check:
    target = _address(lab, row.target)
    balance = Check(str(row), "balance", row.source, target, row.port, protocol=row.protocol, sticky=row.sticky)
    if isinstance(row.answer, dict):
        connections = None if row is ROWS[0] or row.sticky else CONNECTIONS * len(row.answer)
        return replace(balance, answered_by=tuple((pod, 1) for pod in row.answer), connections=connections)
    if row.answer in PROBLEMS:
        return replace(balance, answered_by=(("a", 1),), connections=1)
    single = replace(balance, probe=row.protocol, listen=False)
    return (
        replace(single, expect="timeout", within=0.5) if row.answer == "dropped" else replace(single, expect="refused")
    )


def _text(model: str, mode: str = "iptables", vm: object = "10.225.0.4") -> str:
    return (TEXT + SERVICES).format(model=model, mode=mode, vm=vm)


@pytest.fixture(scope="module", params=[(model, mode) for model in SNAT_DEVICES for mode in MODES], ids="-".join)
def flows(request: pytest.FixtureRequest) -> Iterator[Flows]:
    model, mode = request.param
    vm = Topology(define_text("flows.yaml", TEXT.format(model=model, mode=mode)).compiled).addresses("vm")[0]
    found = define_text("flows.yaml", _text(model, mode, vm))
    plan = merge(found.compiled.plan, _ways(found.compiled))
    lab = lifecycle.up(replace(found, lab=replace(found.compiled, plan=plan))).lab
    checks = (_check(lab, row) for row in ROWS if _exists(model, mode, row))
    report = runner.run(replace(lab, checks=tuple(checks)))
    yield Flows(model, mode, lab, {one.check.say: one for one in report.outcomes})
    lifecycle.down("flows")


DRAINED = _text("kubenet").replace("name: flows", "name: drained")


@pytest.fixture
def kubenet() -> Iterator[Lab]:
    yield lifecycle.up(define_text("drained.yaml", DRAINED)).lab
    lifecycle.down("drained")


def _exists(model: str, mode: str, row: Row) -> bool:
    return (not row.models or model in row.models) and (not row.modes or mode in row.modes)


def _mistakes(flows: Flows, row: Row) -> str:
    """What is not as the row says; "" if all is."""
    outcome = flows.outcomes[str(row)]
    evidence = "\n".join((str(row), *outcome.evidence))
    if not isinstance(row.answer, dict) and row.answer in PROBLEMS:
        return "" if [one.problem for one in outcome.answers] == [PROBLEMS[row.answer]] else evidence
    if outcome.verdict != "pass" or not isinstance(row.answer, dict):
        return "" if outcome.verdict == "pass" else evidence
    wanted = {(pod, flows.client(client, pod)) for pod, client in row.answer.items()}
    seen = {(one.machine, one.client) for one in outcome.answers}
    return "" if seen <= wanted and (row.sticky or seen == wanted) else f"{evidence}\nwanted {sorted(map(str, wanted))}"


@pytest.mark.parametrize("row", [row for row in ROWS if not row.models and not row.modes], ids=str)
def test_a_row_of_the_flow_table(flows: Flows, row: Row) -> None:
    mistakes = _mistakes(flows, row)
    assert not mistakes, mistakes


def test_the_rows_that_only_this_model_or_this_mode_has(flows: Flows) -> None:
    rows = [row for row in ROWS if (row.models or row.modes) and _exists(flows.model, flows.mode, row)]
    assert rows
    mistakes = [text for row in rows if (text := _mistakes(flows, row))]
    assert not mistakes, "\n".join(mistakes)


def _fetch(url: str) -> tuple[int, Mapping[str, str], str]:
    try:
        with request.urlopen(url, timeout=5) as answer:
            return answer.status, dict(answer.headers), answer.read().decode()
    except error.HTTPError as refusal:
        return refusal.code, dict(refusal.headers), refusal.read().decode()


def _health(lab: Lab, node: str, port: int, path: str = "/") -> tuple[int, str | None, Any]:
    """The status, the weight and the body that a client outside the cluster gets at a port of a node."""
    url = f"http://{_address(lab, node)}:{port}{path}"
    with NetnsThread() as thread:
        status, headers, text = thread.run(paths.netns_path(lab.name, "vm"), _fetch, url)
    return status, headers.get("X-Load-Balancing-Endpoint-Weight"), json.loads(text)


def test_the_health_check_of_each_node(flows: Flows) -> None:
    found = {node: _health(flows.lab, node, 30181) for node in ("node1", "node2", "node3")}

    assert {node: (status, weight) for node, (status, weight, _) in found.items()} == {
        "node1": (200, "2"),
        "node2": (200, "1"),
        "node3": (503, "0"),
    }
    assert found["node1"][2]["service"] == {"namespace": "default", "name": "local"}
    assert [body["localEndpoints"] for _, _, body in found.values()] == [2, 1, 0]
    status, _, body = _health(flows.lab, "node3", 10256, "/healthz")
    assert (status, body["nodeEligible"]) == (200, True)


def test_health_checks_at_an_address_that_is_not_the_main_one(flows: Flows) -> None:
    """In mode iptables kube-proxy listens everywhere, in mode nftables at the main address."""
    with NetnsThread() as thread:
        try:
            seen: object = thread.run(paths.netns_path(flows.lab.name, "node1"), _fetch, "http://127.0.0.1:30181/")[0]
        except error.URLError as problem:
            seen = problem.reason.errno if isinstance(problem.reason, OSError) else problem

    assert seen == {"iptables": 200, "nftables": errno.ECONNREFUSED}[flows.mode]


def test_a_pod_reaches_itself_with_hairpin_mode(kubenet: Lab) -> None:
    """kubenet's cbr0 is promiscuous, and its ports have no hairpin mode. That does not help since Linux 6.9
    (br_netfilter: skip conntrack input hook for promisc packets): the packet is handed up without its connection.
    """
    check = Check("", "balance", "a", _address(kubenet, "svc one"), 80, answered_by=(("a", 1),), connections=1)
    lab = replace(kubenet, checks=(replace(check, within=1),))
    port = next(one.at for one in lab.plan if isinstance(one, Link) and one.peer == Interface("a", "eth0"))
    promiscuous = runner.run(lab).outcomes[0].answers[0]
    command = ["ip", "netns", "exec", paths.netns_name(lab.name, port.ns), "bridge", "link", "set", "dev", port.dev]
    subprocess.run([*command, "hairpin", "on"], check=True)
    hairpin = runner.run(lab).outcomes[0].answers[0]

    gateway = Topology(lab).addresses("node1/cbr0")[0]
    assert (promiscuous.problem or promiscuous.client) in ("no answer", gateway)
    assert (hairpin.machine, hairpin.client) == ("a", gateway)


def test_a_node_without_its_last_endpoint_fails_its_health_check(kubenet: Lab) -> None:
    """Local loses the node, Cluster keeps working: what a load balancer needs to see when a node is drained."""
    before = _health(kubenet, "node2", 30181)[:2]
    lab = lifecycle.up(define_text("drained.yaml", DRAINED.replace("c: {labels: {app: web}}", "c: "))).lab
    cluster = Check("", "balance", "vm", _address(lab, "node2"), 30080, answered_by=(("a", 1), ("b", 1)))
    local = Check("", "tcp", "vm", _address(lab, "node2"), 30081, listen=False, expect="timeout", within=0.5)
    report = runner.run(replace(lab, checks=(cluster, local)))

    assert (before, _health(lab, "node2", 30181)[:2]) == ((200, "1"), (503, "0"))
    assert report.verdict == "pass", str(report)


def test_a_node_port_with_the_policy_local_takes_a_foreign_address_for_a_pod() -> None:
    """kubernetes issue 95555. Azure's nodes are in the range that kube-proxy takes for that of pods, and the packets of
    its pods keep their address. So a node takes a pod of another node for one of its own, and sends a part of the
    connections to pods elsewhere, without translation of the source: the answer comes from a foreign address."""
    text = _text("azure-cni-transparent").replace("flows", "foreign")
    lab = lifecycle.up(define_text("foreign.yaml", text)).lab
    try:
        target = _address(lab, "node1")
        check = Check("", "balance", "e", target, 30081, answered_by=(("a", 1), ("b", 1)), connections=80, within=1)
        (outcome,) = runner.run(replace(lab, checks=(check,))).outcomes
    finally:
        lifecycle.down("foreign")

    assert {one.problem for one in outcome.answers} == {"", "no answer"}
    assert {(one.machine, str(one.client)) for one in outcome.answers if not one.problem} == {
        (pod, _address(lab, "e")) for pod in ("a", "b")
    }

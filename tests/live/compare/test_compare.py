"""Comparisons of real labs: the values that each model is known for are measured, and nothing stays behind.

The expected tables are those that the projects' own documents and sources give for their models. They are held
against cells that were measured, never against the models' code.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from labctl.cli import main
from labctl.compare import measure, run
from labctl.compare.cell import Cell
from labctl.compare.measurements import Measurements
from labctl.compare.table import Table
from labctl.compare.table import table as compare_table
from labctl.core import results
from labctl.errors import KernelError, MissingError
from labctl.kernel.capture.tap import Taps
from labctl.kernel.host import lab_state, paths
from labctl.kernel.probes import throughput
from labctl.lab import lifecycle
from labctl.report import comparison
from labctl.scenario import catalog
from tests.support import kernels
from tests.support.paths import ROOT

pytestmark = pytest.mark.firewall

NO_NODE, NO_VM, NO_ROUTE = "(no second node)", "(no vm)", "no: internet has no route to it"
FABRIC, PUBLIC, OWN = "routed by the fabric", "public address", "its own address"
EXPECTED: dict[str, dict[str, str]] = {
    "docker-bridge": {
        "bridge": "docker0", "subnet": "a range apart from the node's, 172.17.0.0/16",
        "gateway": "172.17.0.1, address of docker0", "own_node": "pod", "other_node": NO_NODE, "vm": NO_VM,
        "leaving": "node", "internet": "node", "from_vm": NO_VM, "from_internet": "no: it ends in host1",
        "same_node": "switched", "same_node_ttl": "64", "cross_node": NO_NODE, "cross_node_ttl": NO_NODE,
        "pod_mtu": "1500", "path_mtu": NO_NODE, "round_trip": NO_NODE, "stream": NO_NODE,
        "pod_adds": "1 link, 1 firewall rule", "pod_adds_elsewhere": "nothing",
    },
    "docker-overlay": {
        "bridge": "br0 (in a namespace beside the node), docker_gwbridge",
        "subnet": "one range over all nodes, 10.0.1.0/24", "gateway": "172.18.0.1, address of docker_gwbridge",
        "own_node": "pod (eth1)", "other_node": "node", "vm": NO_VM, "leaving": "node", "internet": "node",
        "same_node": "switched", "same_node_ttl": "64", "cross_node": "switched, in VXLAN 4097, UDP 4789",
        "cross_node_ttl": "64", "pod_mtu": "1450", "path_mtu": "1450", "pod_adds": "2 links, 1 firewall rule",
        "pod_adds_elsewhere": "each other node: 1 neighbour, 1 forwarding entry",
    },
    "kubenet": {
        "bridge": "cbr0", "subnet": "a range per node, 10.244.0.0/24 and 10.244.1.0/24",
        "gateway": "10.244.0.1, address of cbr0", "own_node": "pod", "other_node": "node", "vm": "node",
        "leaving": "node", "internet": PUBLIC, "from_vm": "no: it ends in fabric", "from_internet": NO_ROUTE,
        "same_node": "switched", "same_node_ttl": "64", "cross_node": FABRIC, "cross_node_ttl": "61",
        "pod_mtu": "1500", "path_mtu": "1500", "pod_adds": "1 link", "pod_adds_elsewhere": "nothing",
    },
    "azure-cni-bridge": {
        "bridge": "azure0", "subnet": "the node's own subnet, 10.224.0.0/16",
        "gateway": "10.224.0.1, address of the fabric", "own_node": "pod", "other_node": "pod", "vm": "pod",
        "leaving": "node", "internet": PUBLIC, "from_vm": "yes, seen as vm", "same_node": "switched",
        "same_node_ttl": "64", "cross_node": FABRIC, "cross_node_ttl": "63", "path_mtu": "1500",
        "pod_adds": "1 link, 2 firewall rules, 1 neighbour", "pod_adds_elsewhere": "the fabric: 1 route",
    },
    "azure-cni-transparent": {
        "bridge": "none", "subnet": "the node's own subnet, 10.224.0.0/16",
        "gateway": "169.254.1.1, proxy ARP of the cable's other end", "own_node": "pod", "other_node": "pod",
        "vm": "pod", "leaving": "node", "internet": PUBLIC, "from_vm": "yes, seen as vm",
        "same_node": "routed by the node", "same_node_ttl": "63", "cross_node": FABRIC, "cross_node_ttl": "61",
        "path_mtu": "1500", "pod_adds": "1 link, 1 route", "pod_adds_elsewhere": "the fabric: 1 route",
    },
    "azure-cni-overlay": {
        "bridge": "none", "subnet": "a range per node, 10.244.0.0/24 and 10.244.1.0/24",
        "gateway": "169.254.1.1, proxy ARP of the cable's other end", "own_node": "pod", "other_node": "node",
        "vm": "node", "leaving": "node", "internet": PUBLIC, "from_vm": "no: it ends in fabric",
        "same_node": "routed by the node", "same_node_ttl": "63", "cross_node": FABRIC, "cross_node_ttl": "61",
        "path_mtu": "1500", "pod_adds": "1 link, 1 route", "pod_adds_elsewhere": "nothing",
    },
    "eks-vpc-cni": {
        "bridge": "none", "subnet": "the node's own subnet, 10.0.0.0/20",
        "gateway": "169.254.1.1, permanent neighbour entry: the cable's other end", "own_node": "pod",
        "other_node": "pod", "vm": "pod", "leaving": "node", "internet": PUBLIC, "from_vm": "yes, seen as vm",
        "same_node": "routed by the node", "same_node_ttl": "63",
        "cross_node": "routed by the nodes or by the fabric", "cross_node_ttl": "62 or 61",
        "pod_mtu": "9001", "path_mtu": "9001",
    },
    "gke-vpc-native": {
        "bridge": "none", "subnet": "a range per node, 10.4.0.0/24 and 10.4.1.0/24",
        "gateway": "10.4.0.1, address of the cable's other end", "own_node": "pod", "other_node": "pod", "vm": "pod",
        "leaving": "node", "internet": PUBLIC, "from_vm": "yes, seen as vm", "same_node": "routed by the node",
        "same_node_ttl": "63", "cross_node": FABRIC, "cross_node_ttl": "61", "pod_mtu": "1460", "path_mtu": "1460",
    },
}  # fmt: skip


def entries(*words: str) -> list[run.ComparedScenario]:
    return [run.ComparedScenario(word, lifecycle.define(word)) for word in words]


def nothing(_: str) -> None:
    """Progress messages are dropped."""


def answers(table: Table, number: int = 0) -> dict[str, Cell]:
    return {row.key: cell for row, cell in zip(table.rows, table.cells[number], strict=True)}


def texts(table: Table, number: int = 0) -> dict[str, str]:
    return {key: cell.text for key, cell in answers(table, number).items()}


@pytest.fixture(scope="module")
def measured() -> dict[str, dict[str, Cell]]:
    table = run.compare(entries(*EXPECTED), nothing)
    assert paths.labs() == {}
    return {column.title: answers(table, number) for number, column in enumerate(table.columns)}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_model_is_measured_to_be_what_it_is_known_for(measured: dict[str, dict[str, Cell]], name: str) -> None:
    found = {key: measured[name][key].text for key in EXPECTED[name]}

    assert found == EXPECTED[name]


SILENCE, ICMP = "no answer, a timeout", "an ICMP error"
SERVICE_ROWS = ("cluster_ip", "node_port", "node_port_local", "ingress_instance", "ingress_ip", "refusal")
BY_NODES, BY_PODS = "2 hops, sees node", "1 hop, sees the load balancer"
NO_WAY = "(refused: the network has no route to the pod)"
SERVICE_ANSWERS = {  # the engine is kube-router's where pods are on a bridge, else Calico's
    "kubenet": ("pod", "node", "vm", BY_NODES, BY_PODS, ICMP),
    "azure-cni-bridge": ("pod", "node", "vm", BY_NODES, BY_PODS, ICMP),
    "azure-cni-transparent": ("pod", "node", "vm", BY_NODES, BY_PODS, SILENCE),
    "azure-cni-overlay": ("pod", "node", "vm", BY_NODES, NO_WAY, SILENCE),
    "eks-vpc-cni": ("pod", "node", "vm", BY_NODES, BY_PODS, SILENCE),
    "gke-vpc-native": ("pod", "node", "vm", BY_NODES, BY_PODS, SILENCE),
    "docker-overlay": ("(no Kubernetes)",) * 6,
}


@pytest.mark.parametrize("name", SERVICE_ANSWERS)
def test_services_and_policies_on_top_of_a_model_are_measured(measured: dict[str, dict[str, Cell]], name: str) -> None:
    assert tuple(measured[name][key].text for key in SERVICE_ROWS) == SERVICE_ANSWERS[name]
    if name != "docker-overlay":
        assert all(cell.evidence for key in SERVICE_ROWS if (cell := measured[name][key]).state != "absent")


@pytest.mark.parametrize("name", EXPECTED)
def test_in_every_model_a_pod_keeps_its_address_towards_pods_and_has_a_namespace(
    measured: dict[str, dict[str, Cell]], name: str
) -> None:
    assert measured[name]["peer"].text == OWN
    assert measured[name]["namespace"].text == "yes"


def test_behind_each_word_is_the_raw_address(measured: dict[str, dict[str, Cell]]) -> None:
    kubenet = {key: str(cell.address) for key, cell in measured["kubenet"].items() if cell.address is not None}

    assert kubenet["own_node"] == kubenet["peer"] == "10.244.0.2"
    assert kubenet["other_node"] == kubenet["vm"] == kubenet["leaving"] == "10.224.0.4"
    assert kubenet["internet"] == "203.0.113.50"


def test_times_are_of_the_first_lab_with_two_nodes(measured: dict[str, dict[str, Cell]]) -> None:
    assert measured["docker-overlay"]["round_trip"].text.startswith("1 (about ")
    ratio = measured["kubenet"]["stream"].ratio
    assert ratio is not None
    assert ratio > 0


ROWS = ("bridge", "gateway", "other_node", "same_node", "same_node_ttl", "cross_node", "cross_node_ttl", "path_mtu")
ACROSS, PROXY = "routed by the nodes", "169.254.1.1, proxy ARP of the cable's other end"
POINT = "10.0.0.254, address of cilium_host, permanent neighbour entry: the cable's other end"
CLUSTERS = {
    "flannel": ("cni0", "10.244.1.1, address of cni0", "node", "switched", "64", f"{ACROSS}, in VXLAN 1, UDP 8472",
                "62", "1450"),
    "flannel-host-gw": ("cni0", "10.244.1.1, address of cni0", "node", "switched", "64", ACROSS, "62", "1500"),
    "flannel-udp": ("cni0", "10.244.1.1, address of cni0", "node", "switched", "64", f"{ACROSS}, in UDP 8285",
                    "61", "1472"),
    "calico-bgp": ("none", PROXY, "node", "routed by the node", "63", ACROSS, "62", "1500"),
    "calico-vxlan": ("none", PROXY, "pod", "routed by the node", "63", f"{ACROSS}, in VXLAN 4096, UDP 4789",
                     "62", "1450"),  # its scenario sets natOutgoing's exclusions
    "calico-ipip": ("none", PROXY, "node", "routed by the node", "63", f"{ACROSS}, in IP in IP", "62", "1480"),
    "weave": ("weave", "10.32.0.1, address of weave", "node", "switched", "64", "switched, in VXLAN 1, UDP 6784",
              "64", "1376"),
    "cilium": ("none", POINT, "node", "routed by the node", "63",
               f"{ACROSS}, in VXLAN 12345 or 23456, UDP 8472", "62", "1450"),
    "kube-router": ("kube-bridge", "10.244.0.1, address of kube-bridge", "pod", "switched", "64", ACROSS, "62", "1480"),
    "antrea": ("br-int", "10.10.0.1, address of antrea-gw0", "node", "switched", "64",
               f"{ACROSS}, in VXLAN 0, UDP 4789", "62", "1450"),
}  # fmt: skip


NOBODY = "(no node behind a router)"
BEYOND = {
    "flannel": f"{ACROSS}, in VXLAN 1, UDP 8472", "flannel-host-gw": "(not reached)",
    "flannel-udp": f"{ACROSS}, in UDP 8285", "calico": f"{ACROSS}, in VXLAN 4096, UDP 4789",
    "calico-bgp": "routed by the fabric", "calico-vxlan": NOBODY, "calico-ipip": f"{ACROSS}, in IP in IP",
    "weave": "switched, in VXLAN 1, UDP 6784", "cilium": f"{ACROSS}, in VXLAN 12345, UDP 8472", "kube-router": NOBODY,
    "kube-router-overlay": f"{ACROSS}, in IP in IP", "antrea": NOBODY,
    "antrea-hybrid": f"{ACROSS}, in VXLAN 0, UDP 4789",
}  # fmt: skip


@pytest.fixture(scope="module")
def clusters() -> dict[str, dict[str, str]]:
    """Each built once; how fast they are and what one pod more costs is asked elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "MEASUREMENT_ROUNDS", 1)
        patch.setattr(run, "_measure_extra_pod", lambda *_: "not asked")
        patch.setattr(run, "_measure_services", lambda *_: "not asked")
        table = run.compare(entries(*BEYOND), nothing, approximate=True)
    return {column.title: texts(table, number) for number, column in enumerate(table.columns)}


@pytest.mark.parametrize("name", CLUSTERS)
def test_a_cluster_is_measured_to_be_what_its_project_says(clusters: dict[str, dict[str, str]], name: str) -> None:
    found = clusters[name]

    assert tuple(found[key] for key in ROWS) == CLUSTERS[name]
    assert (found["peer"], found["own_node"], found["leaving"]) == (OWN, "pod", "node")


@pytest.mark.parametrize("name", BEYOND)
def test_across_a_router_some_clusters_do_otherwise(clusters: dict[str, dict[str, str]], name: str) -> None:
    assert clusters[name]["beyond"] == BEYOND[name]


# ---- what decides an answer is the kernel, not the model -----------------------------------------------

KUBENET = (ROOT / "scenarios/kubenet.yaml").read_text().partition("checks:")[0]
TWO_NODES = """
say: two nodes, a wire of a smaller MTU between them, and a pod that is masqueraded towards everybody
model: raw
namespaces:
  n1: {role: node}
  n2: {role: node}
  wire: {role: fabric}
  p: {role: pod, on: n1}
  q: {role: pod, on: n2}
links:
  - veth: [p/eth0, n1/p]
  - veth: [q/eth0, n2/q]
  - {veth: [n1/eth0, wire/n1], mtu: 1400}
  - {veth: [n2/eth0, wire/n2], mtu: 1400}
addresses:
  p/eth0: 10.1.1.2/24
  q/eth0: 10.1.2.2/24
  n1/eth0: 10.9.1.2/24
  n1/p: 10.1.1.1/24
  n2/eth0: 10.9.2.2/24
  n2/q: 10.1.2.1/24
  wire/n1: 10.9.1.1/24
  wire/n2: 10.9.2.1/24
routes:
  p: [default via 10.1.1.1]
  q: [default via 10.1.2.1]
  n1: [default via 10.9.1.1]
  n2: [default via 10.9.2.1]
  wire: [10.1.1.0/24 via 10.9.1.2, 10.1.2.0/24 via 10.9.2.2]
sysctls:
  n1: {net.ipv4.ip_forward: 1}
  n2: {net.ipv4.ip_forward: 1}
  wire: {net.ipv4.ip_forward: 1}
firewall:
  n1: {nat: {POSTROUTING: [-s 10.1.1.0/24 -j MASQUERADE]}}
"""


def scenario(folder: Path, text: str) -> str:
    path = folder / "lab.yaml"
    path.write_text(text)
    return str(path)


def test_what_a_scenario_sets_otherwise_is_measured_otherwise(tmp_path: Path) -> None:
    path = scenario(tmp_path, KUBENET + "routing: host\n")
    found = texts(run.compare(entries(path), nothing))

    assert (found["cross_node"], found["cross_node_ttl"]) == ("routed by the nodes", "62")


def test_any_topology_is_asked_and_a_smaller_wire_is_found_by_halving(tmp_path: Path) -> None:
    found = answers(run.compare(entries(scenario(tmp_path, TWO_NODES)), nothing))
    told = {key: cell.text for key, cell in found.items()}

    assert told["peer"] == "node, its own address"
    assert (told["bridge"], told["own_node"], told["other_node"]) == ("none", "pod", "node")
    assert (told["pod_mtu"], told["path_mtu"]) == ("1500", "1400")
    assert any("1401 bytes: too big" in line for line in found["path_mtu"].evidence)
    assert (told["cross_node"], told["cross_node_ttl"], told["same_node"]) == (FABRIC, "61", "(one pod on its node)")
    assert told["pod_adds"] == "(not on n1 or n2: its scenario does not list pods by node)"
    assert told["vm"] == told["from_vm"] == NO_VM


def test_where_no_router_says_that_a_packet_is_too_big_the_largest_is_not_known(tmp_path: Path) -> None:
    mute = TWO_NODES + "  n2: {filter: {OUTPUT: [-p icmp --icmp-type 3 -j DROP]}}\n"
    mute = mute.replace("MASQUERADE]}}", "MASQUERADE]}, filter: {OUTPUT: [-p icmp --icmp-type 3 -j DROP]}}")
    found = answers(run.compare(entries(scenario(tmp_path, mute)), nothing))

    assert found["path_mtu"].state == "inconclusive"
    assert found["peer"].state == "measured"


def test_frames_that_a_tap_lost_make_an_answer_inconclusive(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = iter(range(10_000))
    monkeypatch.setattr(Taps, "losses", lambda _: {"node1": next(counts)})
    table = run.compare(entries("kubenet"), nothing)
    found = answers(table)

    assert {found[key].state for key in ("peer", "own_node", "vm", "from_vm", "cross_node")} == {"inconclusive"}
    assert found["bridge"].state == "measured"
    assert table.inconclusive


def test_lost_evidence_is_inconclusive_and_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = iter(range(10_000))
    monkeypatch.setattr(Taps, "losses", lambda _: {"host1": next(counts)})

    assert main(["compare", "docker-bridge"]) == 1
    assert "inconclusive: c1 -> host1 could not be decided" in capsys.readouterr().out


def test_a_deaf_namespace_makes_what_it_had_to_hear_inconclusive(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Taps.verify_receiving
    monkeypatch.setattr(Taps, "verify_receiving", lambda taps: {**real(taps), "vm": "no canary was heard"})
    found = answers(run.compare(entries("kubenet"), nothing))

    assert found["from_vm"].state == "inconclusive"
    assert found["own_node"].text == "pod"


def test_nobody_answers_a_stream_or_an_echo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = TWO_NODES + "  q: {filter: {INPUT: [-p tcp -j DROP]}}\n"
    monkeypatch.setattr(throughput, "TIMEOUT_S", 0.2)
    found = answers(run.compare(entries(scenario(tmp_path, refused)), nothing))

    assert found["round_trip"].state == "measured"
    assert (found["stream"].state, found["stream"].text) == ("absent", "(not measured: timed out)")


# ---- nothing is touched, nothing stays -----------------------------------------------------------------


def test_running_labs_are_left_alone_and_nothing_is_left() -> None:
    lifecycle.up(lifecycle.define("kubenet"))
    try:
        before = lifecycle.observe("kubenet", plan=lifecycle.load_compiled_lab("kubenet").plan)
        run.compare(entries("kubenet"), nothing)
        after = lifecycle.observe("kubenet", plan=lifecycle.load_compiled_lab("kubenet").plan)

        assert tuple(paths.labs()) == lab_state.labs_with_files() == ("kubenet",)
        assert set(after) == set(before)
    finally:
        lifecycle.down("kubenet")


@pytest.mark.parametrize("where", ["_run_probes", "ExtraPod"])
def test_a_failure_in_the_midst_leaves_nothing(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("a bug")

    if where == "_run_probes":
        monkeypatch.setattr(measure, "_run_probes", broken)
    else:
        monkeypatch.setattr(run, "ExtraPod", broken)
    with pytest.raises(RuntimeError):
        run.compare(entries("docker-bridge"), nothing)

    assert paths.labs() == {}
    assert lab_state.labs_with_files() == ()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_comparison_leaves_nothing(number: signal.Signals, code: int) -> None:
    words = [sys.executable, "-m", "labctl", "compare", "kubenet", "docker-bridge"]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 30
        while not any(name.startswith("compare-") for name in paths.labs()) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert paths.labs(), "no lab was begun"
        process.send_signal(number)
        _, told = process.communicate(timeout=30)

    assert process.returncode == code
    assert "interrupted: the labs of the comparison are removed" in told
    assert paths.labs() == {}
    assert lab_state.labs_with_files() == ()


def test_a_name_that_a_lab_has_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = iter(("aa", "bb", "cc"))
    monkeypatch.setattr(run.secrets, "token_hex", lambda _: next(tokens))
    monkeypatch.setattr(paths, "labs", lambda: {"compare-aa": ()})
    monkeypatch.setattr(lab_state, "labs_with_files", lambda: ("compare-bb",))

    assert run.temporary_lab_name() == "compare-cc"


# ---- what cannot be built ------------------------------------------------------------------------------


@pytest.fixture
def lacking(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel on which docker-overlay cannot be built."""
    real = lifecycle.up

    def up(definition: lifecycle.Definition, **how: Any) -> results.UpResult:
        if "docker-overlay" in definition.file:
            raise MissingError("lab compare-0 cannot be built: this kernel lacks vxlan, needed for vxlan0")
        if "docker-icc" in definition.file:
            raise KernelError("cannot add link: Operation not permitted")
        return real(definition, **how)

    monkeypatch.setattr(lifecycle, "up", up)


@pytest.mark.usefixtures("lacking")
def test_what_this_kernel_cannot_hold_is_skipped_with_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["compare", "docker-bridge", "docker-overlay", "--json"])
    document = json.loads(capsys.readouterr().out)

    assert code == 0
    assert [lab["skipped"] for lab in document["labs"]] == [None, "this kernel lacks vxlan, needed for vxlan0"]
    assert document["labs"][1]["answers"] == []


@pytest.mark.usefixtures("lacking")
@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ("docker-overlay", 4, "no lab could be measured: docker-overlay: this kernel lacks vxlan"),
        ("docker-overlay docker-icc", 3, "docker-icc: cannot add link: Operation not permitted"),
        ("raw-dual-stack", 2, "raw-dual-stack: it has no pod or container with its own address"),
    ],
)
def test_if_nothing_can_be_measured_the_reason_is_the_error(
    capsys: pytest.CaptureFixture[str], words: str, code: int, says: str
) -> None:
    assert main(["compare", *words.split()]) == code
    assert says in capsys.readouterr().err


def test_a_substitute_is_built_for_who_asks_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compare", "azure-cni-transparent-vlan", "--json"]
    code = main([*words, "--approximate"])
    (lab,) = json.loads(capsys.readouterr().out)["labs"]
    told = {answer["row"]: answer["text"] for answer in lab["answers"]}
    lacks = main(words)
    said = json.loads(capsys.readouterr().out)

    assert code == 0
    assert (told["same_node"], told["same_node_ttl"], told["peer"]) == (FABRIC, "61", OWN)
    assert told["leaving"] == "pod"
    if lacks:
        assert lacks == 4
        assert "this kernel lacks vlan" in said["error"]["message"]
        assert [part["feature"] for part in lab["approximate"]] == ["vlan"]
    else:
        assert lab["approximate"] == []


def test_a_lab_whose_second_build_fails_still_has_its_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise MissingError("no room")

    monkeypatch.setattr(run, "with_extra_pod", full)
    (column,) = run.compare(entries("docker-bridge"), nothing).columns

    assert isinstance(column, Measurements)
    assert column.extra_pod == "not on host1: no room"


# ---- the page ------------------------------------------------------------------------------------------


def test_one_lab_alone_is_measured_too_and_said_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "docker-bridge"]) == 0
    out = capsys.readouterr().out

    assert re.search("the pods' bridge +docker0", out)
    assert "\n1 lab measured in " in out
    assert "\033" not in out


@kernels.LEGACY
def test_a_firewall_may_be_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str | None] = []

    def up(definition: lifecycle.Definition, **how: Any) -> results.UpResult:
        built.append(definition.firewall)
        return plain(definition, **how)

    plain = lifecycle.up
    monkeypatch.setattr(lifecycle, "up", up)
    assert main(["compare", "docker-bridge", "--firewall", "nft", "--markdown"]) == 0

    assert built == ["nft", "nft"]
    assert "sudo labctl compare docker-bridge --firewall nft --markdown" in capsys.readouterr().out.splitlines()[0]


def test_a_page_names_the_command_that_wrote_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "docker-bridge", "--markdown"]) == 0
    out = capsys.readouterr().out

    assert out.startswith("<!-- Written by `sudo labctl compare docker-bridge --markdown`: ")
    assert "--all" not in out


def page() -> dict[str, dict[str, str]]:
    """The cells of docs/comparison.md, by lab and by the question's words."""
    found: dict[str, dict[str, str]] = {}
    titles: list[str] = []
    for line in (ROOT / "docs/comparison.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")] if line.startswith("| ") else []
        if cells and cells[0] == "lab":
            titles = cells[1:]
        elif cells and cells[0] != "---":
            found.setdefault(cells[0], {}).update(zip(titles, cells[1:], strict=True))
    return found


@pytest.mark.parametrize("name", ["kubenet", "docker-overlay", "docker-host-none"])
def test_the_page_has_what_is_measured(name: str) -> None:
    table = run.compare(entries(name), nothing)
    stable = {row.title: cell.text for row, cell in zip(table.rows, table.cells[0], strict=True) if not row.timed}

    assert {title: cell for title, cell in page()[name].items() if title in stable} == stable


def test_the_page_knows_only_scenarios_that_there_are() -> None:
    text = (ROOT / "docs/comparison.md").read_text()

    assert set(page()) <= set(catalog.names())
    assert set(EXPECTED) <= set(page())
    assert text.splitlines()[0] == f"<!-- Written by `{comparison.DEFAULT_COMMAND}`: measure again, do not edit. -->"
    assert "times are from one run" in text


def test_all_means_every_scenario_that_has_somebody_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def measure(chosen: list[run.ComparedScenario], *_: Any, **__: Any) -> Table:
        asked.extend(entry.title for entry in chosen)
        return compare_table([])

    monkeypatch.setattr(run, "compare", measure)
    main(["compare", "--all"])

    assert set(catalog.names()) - set(asked) == {"raw-dual-stack"}

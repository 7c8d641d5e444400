"""`labctl policy matrix --live` on labs with policies of both kinds: the packets do what the policies say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import labctl
from labctl.checks import policy_pairs
from labctl.cli import main
from labctl.core.resources import NftObject
from labctl.kubernetes.policies.policy_engine import policy_engine
from labctl.running_lab import RunningLab
from tests.support.cluster_policy_cases import Spec, houses, policy, ports, rules

LAB = "matrix"
OF_D: Spec = {"pods": {"podSelector": {"matchLabels": {"pod": "d"}}}}
GUARD = rules("from", ("Deny", OF_D, {}), ("Accept", houses("z"), ports(80)), ("Pass", houses("y"), {}))
CLUSTER_POLICIES: dict[str, Spec] = {
    "guard": policy(houses("x"), ingress=GUARD),
    "default": policy(
        houses("y"), "Baseline", 1, ingress=rules("from", ("Accept", houses("y"), {}), ("Deny", houses("z"), {}))
    ),
}
SCENARIO = """
model: MODEL
policy_engine: ENGINE
nodes:
  node1:
    pods:
      a: {namespace: x, labels: {pod: a}, containers: ['web:http=80']}
      b: {namespace: x, labels: {pod: b}}
      c: {namespace: y, labels: {pod: c}}
  node2: {pods: {d: {namespace: y, labels: {pod: d}}, e: {namespace: z, labels: {pod: e}}}}
policies:
  x/deny-all: {podSelector: {}, policyTypes: [Ingress, Egress]}
  x/allow-web:
    podSelector: {matchLabels: {pod: a}}
    ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: y}}}], ports: [{port: http}]}]
"""
FROM_X = {f"{source}{target}" for source in "ab" for target in "abcde" if source != target}
TO_B = {f"{source}b" for source in "acde"}


ENGINES = [
    ("calico", "calico"),
    ("azure-cni-transparent", "calico"),
    ("kubenet", "kube-router"),
    ("calico", "calico-nftables"),
    ("kubenet", "kube-router-nftables"),
]


@pytest.fixture(scope="module", params=ENGINES, ids=" ".join)
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningLab]:
    folder: Path = tmp_path_factory.mktemp("matrix")
    items = [
        {"apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy", "metadata": {"name": name},
         "spec": spec}
        for name, spec in CLUSTER_POLICIES.items()
    ]  # fmt: skip
    (folder / "cluster.json").write_text(json.dumps({"kind": "List", "apiVersion": "v1", "items": items}))
    model, engine = request.param
    files = () if model == "kubenet" else (str(folder / "cluster.json"),)
    scenario = SCENARIO.replace("MODEL", model).replace("ENGINE", engine)
    with labctl.up(scenario, name=LAB, manifests=files) as running:
        yield running


def live(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, set[str], int]:
    """The exit code, the pairs that do not connect, and the number of differences."""
    capsys.readouterr()
    code = main(["-l", LAB, "policy", "matrix", "--live", "--json", *words])
    found = json.loads(capsys.readouterr().out)
    denied = {f"{one['source'][-1]}{one['target'][-1]}" for one in found["pairs"] if one["measured"] != "connected"}
    return code, denied, found["differences"]


def test_the_packets_do_what_the_policies_say(lab: RunningLab, capsys: pytest.CaptureFixture[str]) -> None:
    code, denied, differences = live(capsys, "--port", "80")
    has_guard = bool(lab.compiled.kubernetes.cluster_policies)

    assert (code, differences) == (0, 0)
    assert denied == FROM_X | ({"cb", "db", "da", "ec", "ed"} if has_guard else TO_B | {"ea"})


def test_the_silence_of_denied_pairs_is_explained_by_the_counters_of_rules(
    lab: RunningLab, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    main(["-l", LAB, "policy", "matrix", "--live", "--json", "--port", "80"])
    found = json.loads(capsys.readouterr().out)["pairs"]
    silent = [one for one in found if one["measured"] == "timeout"]

    assert all(one["detail"] == policy_pairs.BY_RULES for one in silent)
    if policy_engine(lab.compiled.kubernetes, lab.compiled).startswith("calico"):  # kube-router rejects
        assert len(silent) == len([one for one in found if not one["allowed"]])


def test_another_port_and_protocol(lab: RunningLab, capsys: pytest.CaptureFixture[str]) -> None:
    denied = {}
    for words in (("--port", "81"), ("--port", "80", "--protocol", "udp")):
        code, denied[words], differences = live(capsys, *words)
        assert (code, differences) == (0, 0)

    assert all(TO_B | {"ca", "da", "ea"} <= one for one in denied.values())


def test_a_rule_that_is_gone_is_a_difference(lab: RunningLab, capsys: pytest.CaptureFixture[str]) -> None:
    """Each node forgets its firewall for the time of one matrix: what the policies deny connects."""
    _, denied, _ = live(capsys, "--port", "80")
    saved = {node: lab[node].run("iptables-save -t filter").stdout for node in ("node1", "node2")}
    native = next((one for one in lab.compiled.plan if isinstance(one, NftObject)), None)
    table, tables = "" if native is None else native.table, {}
    for node in saved:
        assert lab[node].run("iptables -F FORWARD && iptables -P FORWARD ACCEPT").ok
        if table:
            tables[node] = lab[node].run(f"nft list table {table}").stdout
            assert lab[node].run(f"nft delete table {table}").ok
    try:
        code, left, differences = live(capsys, "--port", "80")
    finally:
        for node, text in saved.items():
            assert lab[node].run("iptables-restore -T filter", input=text).ok
        for node, text in tables.items():
            assert lab[node].run("nft -f -", input=text).ok
    assert (code, left, differences) == (1, set(), len(denied))
    assert live(capsys, "--port", "80")[0] == 0

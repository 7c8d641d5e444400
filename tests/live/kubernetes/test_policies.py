"""NetworkPolicies in the kernel: what packets meet is what the policies mean, and what a change does to connections."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from labctl import api
from labctl.core.scenario_types import Lab
from labctl.kernel.host import paths
from labctl.kernel.namespaces.thread import NetnsThread
from labctl.kernel.probes import port_pairs
from labctl.lab import lifecycle
from tests.support import policy_live
from tests.support.policy_cases import (
    ADDRESSES,
    CASES,
    DENY_INGRESS,
    PolicyCase,
    block,
    egress,
    ingress,
    ns,
    pod,
    tcp,
)
from tests.support.policy_labs import bare_lab, machine, placed

pytestmark = pytest.mark.firewall

# each set of policies of the tables once, whatever port its rows are about
TABLES = list({json.dumps([one.specs, dict(one.labels)], sort_keys=True): one for one in CASES}.values())
BY_NAME = ingress("a", {**ns("y"), **pod("a")}, ports=[*tcp("serve-80-tcp"), *tcp(82)])
BUT_C = egress("b", block(f"{ADDRESSES['x/b']}/4", f"{ADDRESSES['x/c']}/32"))
SAMPLE = [PolicyCase("a port by its name, pods by labels, a block with an exception", (BY_NAME, BUT_C), ())]
CLIENT, SERVER, PORT = "y/a", "x/a", 9000
ASK_AGAIN_S = 0.001  # seconds between two bytes: without a pause, they take one processor


@pytest.fixture(autouse=True)
def short_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pair of one machine answers within a millisecond."""
    monkeypatch.setattr(port_pairs, "TRY_S", 0.2)


@contextmanager
def lab_of(model: str, case: PolicyCase, engine: str | None = None) -> Iterator[Lab]:
    """The lab of a case; removed at the end."""
    lab = policy_live.build(model, case, engine=engine)
    try:
        yield lab
    finally:
        lifecycle.down(lab.name)


def answer_at_once(lab: Lab) -> None:
    """Let the nodes send an ICMP error for each packet that they reject: by default, a pod gets six, then one a second,
    and the rest is silence."""
    with NetnsThread() as thread:
        for one in lab.machines:
            if one.role == "node":
                path = Path("/proc/sys/net/ipv4/icmp_ratelimit")
                thread.run(paths.netns_path(lab.name, one.name), path.write_text, "0")


@pytest.mark.parametrize(
    ("model", "engine", "cases"),
    [
        ("kubenet", None, TABLES),
        *((name, None, SAMPLE) for name in ("azure-cni-transparent", "calico", "flannel", "eks-vpc-cni")),
        ("kubenet", "kube-router-nftables", SAMPLE),
        ("flannel", "kube-router-nftables", SAMPLE),
        ("calico", "calico-nftables", SAMPLE),
        ("eks-vpc-cni", "calico-nftables", SAMPLE),
    ],
)
def test_packets_meet_what_the_policies_mean(model: str, engine: str | None, cases: list[PolicyCase]) -> None:
    """All pairs of the nine pods, on two ports. The lab is not built again: each case changes the policies of the one
    before it."""
    bare = bare_lab(model)[0]
    wrong: dict[str, list[str]] = {}
    with lab_of(model, PolicyCase("open", (), ()), engine) as lab:
        assert set(policy_live.connected(lab, "TCP", 80).values()) == {"connected"}
        answer_at_once(lab)
        for case in cases:
            found = policy_live.build(model, placed(case, bare), engine=engine)
            problems = [text for port in (80, 81) for text in policy_live.not_enforced(found, "TCP", port)]
            if case.protocol == "UDP":
                problems += policy_live.not_enforced(found, "UDP", case.port)
            wrong |= {case.name: problems} if problems else {}
    assert wrong == {}


@contextmanager
def connection(lab: Lab) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A TCP connection from the client to the server, which stays open: both ends."""
    address = next(str(one.addresses[0]) for one in lab.machines if one.name == machine(SERVER))
    with NetnsThread() as thread:
        listener, client = (
            thread.run(paths.netns_path(lab.name, machine(name)), socket.socket, socket.AF_INET, socket.SOCK_STREAM)
            for name in (SERVER, CLIENT)
        )
        with listener, client:
            listener.bind(("", PORT))
            listener.listen()
            client.settimeout(3)
            client.connect((address, PORT))
            server, _ = listener.accept()
            with server:
                server.settimeout(3)
                yield client, server


def carries(client: socket.socket, server: socket.socket) -> bool:
    """Whether a byte comes through in both directions."""
    try:
        client.sendall(b"?")
        server.sendall(server.recv(1))
        return client.recv(1) == b"?"
    except OSError:
        return False


OPEN = PolicyCase("open", (), ())
ALLOWED = PolicyCase("from y", (ingress("a", ns("y")),), ())
OTHERWISE = PolicyCase("from y, in other words", (DENY_INGRESS, ingress("a", ns("y"), pod("b"))), ())
DENIED = PolicyCase("nothing", (DENY_INGRESS,), ())


@pytest.mark.parametrize(
    ("model", "engine"),
    [("calico", None), ("kubenet", None), ("calico", "calico-nftables"), ("kubenet", "kube-router-nftables")],
)
def test_a_change_cuts_no_connection_and_refuses_new_ones(model: str, engine: str | None) -> None:
    """As with Calico and kube-router: their rules accept packets of known connections before they ask any policy."""
    flow = (CLIENT, SERVER)
    with lab_of(model, OPEN, engine) as lab, connection(lab) as (client, server):
        stop, lost = threading.Event(), []

        def keep_asking() -> None:
            while not stop.wait(ASK_AGAIN_S):
                begun = time.monotonic()
                if not carries(client, server):
                    lost.append(begun)
                    return

        asking = threading.Thread(target=keep_asking)
        asking.start()
        met = []
        for case in (ALLOWED, OTHERWISE, DENIED):
            changed = policy_live.build(model, case, engine=engine)
            met.append(policy_live.connected(changed, "TCP", PORT, [flow])[flow])
        stop.set()
        asking.join()

        assert not lost
        assert carries(client, server)
        assert met[:2] == ["connected", "connected"]
        assert met[2] == {"calico": "timeout", "kubenet": "refused"}[model]


def test_a_policy_that_goes_opens_what_it_closed() -> None:
    flow = (CLIENT, SERVER)
    with lab_of("kubenet", DENIED) as lab:
        before = policy_live.connected(lab, "TCP", PORT, [flow])[flow]
        after = policy_live.connected(policy_live.build("kubenet", OPEN), "TCP", PORT, [flow])[flow]
        assert (before, after) == ("refused", "connected")
        assert lifecycle.status(lab.name, policy_live.build("kubenet", OPEN)) == ()


TIERS = """
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: guard}
spec:
  tier: Admin
  priority: 10
  subject: {namespaces: {matchLabels: {kubernetes.io/metadata.name: x}}}
  ingress:
  - {action: Accept, from: [{namespaces: {matchLabels: {kubernetes.io/metadata.name: y}}}],
     protocols: [{tcp: {destinationPort: {number: 81}}}]}
  - {action: Pass, from: [{pods: {namespaceSelector: {}, podSelector: {matchLabels: {pod: b}}}}]}
  - {action: Deny, from: [{namespaces: {matchLabels: {kubernetes.io/metadata.name: z}}}]}
---
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: closed}
spec:
  tier: Baseline
  priority: 10
  subject: {namespaces: {matchLabels: {kubernetes.io/metadata.name: x}}}
  egress:
  - {action: Deny, to: [{namespaces: {matchLabels: {kubernetes.io/metadata.name: z}}}]}
"""


@pytest.mark.parametrize(
    ("model", "engine"), [("calico", None), ("azure-cni-transparent", None), ("calico", "calico-nftables")]
)
def test_packets_meet_what_the_tiers_of_the_cluster_mean(model: str, engine: str | None, tmp_path: Path) -> None:
    """Accept, Pass and Deny of the Admin tier before a NetworkPolicy, and the Baseline tier behind it."""
    (tmp_path / "tiers.yaml").write_text(TIERS)
    (tmp_path / "lab.yaml").write_text(
        policy_live.policy_text(model, ALLOWED, engine=engine) + "manifests: tiers.yaml\n"
    )
    lab = lifecycle.up(api.load(tmp_path / "lab.yaml")).lab
    try:
        assert len(lab.kubernetes.cluster_policies) == 2
        found = policy_live.connected(lab, "TCP", 81)
        problems = [text for port in (80, 81) for text in policy_live.not_enforced(lab, "TCP", port)]
    finally:
        lifecycle.down(lab.name)

    assert problems == []
    # allowed by the Admin tier; denied by it; passed on to the NetworkPolicy; denied by the Baseline tier
    flows = ("y/a", "x/b"), ("z/a", "x/b"), ("x/b", "x/a"), ("x/a", "z/a")
    assert [found[one] == "connected" for one in flows] == [True, False, False, False]

"""The rules of Felix and kube-router for a few policies, word by word, and the names that real components gave."""

from __future__ import annotations

from ipaddress import IPv4Network

import pytest

from labctl.core.nft_ruleset import ruleset_text
from labctl.core.resources import Chain, IpSet
from labctl.kubernetes.api.policy_objects import NetworkPolicy, Peer
from labctl.kubernetes.api.selectors import EVERYTHING, Requirement, Selector
from labctl.kubernetes.policies import calico_policies, calico_selectors, calico_tiers, kube_router_policies
from labctl.kubernetes.policies.policy_peers import BlockNets
from labctl.models.lib import calico_rule_hash
from tests.support.golden import Golden
from tests.support.nft_walk import nft_objects_of
from tests.support.policy_cases import DENY_ALL, PolicyCase, block, egress, ingress, ns, pod, tcp
from tests.support.policy_labs import bare_lab, placed, policy_lab

CASE = PolicyCase(
    "golden",
    (
        ingress("a", {**ns("y"), **pod("b")}, ports=[*tcp(80), *tcp("serve-81-tcp"), {"protocol": "UDP", "port": 53}]),
        egress("a", block("10.0.0.0/8", "10.1.0.0/16"), pod("c"), ports=tcp(443)),
        {**ingress("a", {"namespaceSelector": {}}), "policyTypes": ["Ingress", "Egress"], "egress": [{}]},
        DENY_ALL,
    ),
    (),
)
PREFIXES = ("cali-pi", "cali-po", "cali-gi", "cali-go", "cali-tw", "cali-fw", "KUBE-", "FORWARD")


@pytest.mark.parametrize("model", ["azure-cni-transparent", "calico", "kubenet"])
def test_rules_and_sets_of_a_node(model: str, golden: Golden) -> None:
    lab = policy_lab(model, placed(CASE, bare_lab(model)[0]).oracle.policies).lab
    lines = []
    for one in lab.plan:
        if isinstance(one, IpSet) and one.ns == "node1":
            lines += [f"create {one.name} {one.kind}", *(f"add {one.name} {member}" for member in one.members)]
    for one in lab.plan:
        if isinstance(one, Chain) and (one.ns, one.family, one.table) == ("node1", "ip", "filter"):
            lines += [f"-A {one.name} {rule}" for rule in one.rules if one.name.startswith(PREFIXES)]
    golden(f"policies/{model}.txt").check("\n".join(lines) + "\n")


@pytest.mark.parametrize(("model", "engine"), [("calico", "calico-nftables"), ("kubenet", "kube-router-nftables")])
def test_tables_of_nft_of_a_node(model: str, engine: str, golden: Golden) -> None:
    lab = policy_lab(model, placed(CASE, bare_lab(model)[0]).oracle.policies, engine=engine).lab
    golden(f"policies/{engine}.txt").check(ruleset_text(nft_objects_of(lab.plan, "node1")))


@pytest.mark.parametrize(
    ("name", "chain"),
    [
        ("allow-db-access", "cali-pi-_tTE-E7yY40ogArNVgKt"),
        ("haejun-policy", "cali-pi-_Eb-vckmN-lr2eREXQcs"),
    ],
)
def test_a_chain_has_the_name_that_a_real_calico_gave_it(name: str, chain: str) -> None:
    policy = calico_tiers.of_network_policy(NetworkPolicy("default", name))
    assert calico_policies.policy_chain_name(policy, "Ingress") == chain


def test_a_set_has_the_name_that_a_real_calico_gave_it() -> None:
    peer = Peer(Selector((("networking/allow-db-access", "true"),)))
    selector = calico_selectors.peer_selector("default", peer)
    assert calico_selectors.selector_set(selector) == "cali40s:LrVD8vMIGQDyv8Y7sPFB1Ge"


def test_rules_have_the_comments_that_a_real_calico_gave_them() -> None:
    """As a page on the web shows them, of the policy and the set of the tests above."""
    rules = (
        "-m set --match-set cali40s:LrVD8vMIGQDyv8Y7sPFB1Ge src -j MARK --set-xmark 0x10000/0x10000",
        "-m mark --mark 0x10000/0x10000 -j RETURN",
    )
    found = calico_rule_hash.with_hash_comments("cali-pi-_tTE-E7yY40ogArNVgKt", rules)
    assert [one.args[3] for one in found] == ["cali:M4Und37HGrw6jUk8", "cali:sEnlfZagUFRSPRoe"]


@pytest.mark.parametrize(
    ("peer", "selector"),
    [
        (
            Peer(EVERYTHING),
            '(projectcalico.org/namespace == "x" && projectcalico.org/orchestrator == "k8s")',
        ),
        (
            Peer(None, EVERYTHING),
            '(has(projectcalico.org/namespace) && projectcalico.org/orchestrator == "k8s")',
        ),
        (
            Peer(Selector((), (Requirement("pod", "In", ("b", "a")), Requirement("dead", "DoesNotExist")))),
            '(projectcalico.org/namespace == "x" && (projectcalico.org/orchestrator == "k8s" && pod in {"a", "b"}'
            " && !has(dead)))",
        ),
        (
            Peer(None, Selector((("b", "2"), ("a", "1")))),
            '((pcns.a == "1" && pcns.b == "2") && projectcalico.org/orchestrator == "k8s")',
        ),
    ],
)
def test_selectors_in_calico_s_normal_form(peer: Peer, selector: str) -> None:
    assert calico_selectors.peer_selector("x", peer) == selector


def nets(*texts: str) -> BlockNets:
    first, *others = map(IPv4Network, texts)
    return BlockNets(first, tuple(others))


@pytest.mark.parametrize(
    ("blocks", "members"),
    [
        ([nets("10.0.0.0/8", "10.1.0.0/16")], ("10.0.0.0/8", "10.1.0.0/16 nomatch")),
        ([nets("0.0.0.0/0")], ("0.0.0.0/1", "128.0.0.0/1")),
        ([nets("10.0.0.0/30", "10.0.0.1/32"), nets("10.0.0.1/32")], ("10.0.0.0/30",)),
        ([nets("10.0.0.0/30", "10.0.0.1/32"), nets("10.0.0.0/31")], ("10.0.0.0/30",)),
        ([nets("10.0.0.0/31", "10.0.0.1/32"), nets("10.0.0.0/30", "10.0.0.1/32")], ("10.0.0.0", "10.0.0.2/31")),
    ],
)
def test_a_set_of_blocks_has_exactly_their_addresses(blocks: list[BlockNets], members: tuple[str, ...]) -> None:
    assert kube_router_policies.block_members(blocks) == members

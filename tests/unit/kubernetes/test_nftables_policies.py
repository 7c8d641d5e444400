"""Policies in tables of nft: what a change writes, what upstream's forms would get wrong, and Felix's words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from labctl.core.diff import diff
from labctl.core.iptables import rule
from labctl.core.nft_changes import change_script
from labctl.core.resources import Chain, NftObject
from labctl.core.why import reason_of, reason_of_rule
from labctl.kubernetes.api.policy_objects import NetworkPolicy
from labctl.models.lib import calico_nftables
from tests.support.cluster_policy_cases import GRESS, ClusterCase, houses, policy, rules
from tests.support.cluster_policy_labs import house_lab
from tests.support.nft_walk import nft_objects_of
from tests.support.policy_cases import ADDRESSES, PolicyCase, block, ingress, ns, pod, tcp
from tests.support.policy_labs import PolicyLab, bare_lab, placed, policy_lab

ENGINES = [("calico", "calico-nftables"), ("kubenet", "kube-router-nftables")]
KUBE_ROUTER = "ip kube-router-filter-ipv4"


def nft_lab(model: str, engine: str, *specs: Any, labels: Any = None) -> PolicyLab:
    case = placed(PolicyCase("", specs, (), labels=labels or {}), bare_lab(model)[0])
    return policy_lab(model, case.oracle.policies, labels, engine)


def changes(before: PolicyLab, after: PolicyLab, node: str = "node1") -> list[str]:
    """The commands that turn the tables of one lab into those of another."""
    found = diff(*(tuple(nft_objects_of(one.lab.plan, node)) for one in (after, before)))
    return change_script(found).splitlines()


@pytest.mark.parametrize(("model", "engine"), ENGINES)
def test_another_label_of_a_pod_changes_one_element_and_no_rule(model: str, engine: str) -> None:
    spec = ingress("a", pod("b"), ports=tcp(80))
    before = nft_lab(model, engine, spec)
    after = nft_lab(model, engine, spec, labels={"x/c": {"pod": "b"}})
    ip = after.pod("x/c").ips[0]
    (line,) = changes(before, after)

    assert line.startswith("add element ip ")
    assert line.endswith(f"{{ {ip} }}")
    (line,) = changes(after, before)
    assert line.startswith("delete element ip ")


@pytest.mark.parametrize(("model", "engine"), ENGINES)
def test_a_new_policy_leaves_the_chains_of_other_pods_alone(model: str, engine: str) -> None:
    before = nft_lab(model, engine, ingress("a", pod("b")))
    after = nft_lab(model, engine, ingress("a", pod("b")), ingress("a", ns("y")))
    flushed = [line.split()[-1] for line in changes(before, after) if line.startswith("flush chain")]
    own = {chain_of(after, "x/a", engine)}

    assert own <= set(flushed)
    assert not set(flushed) & {chain_of(after, name, engine) for name in ("x/b", "y/a", "z/b")}


def chain_of(lab: PolicyLab, name: str, engine: str) -> str:
    found = lab.pod(name)
    if engine == "calico-nftables":
        return f"filter-cali-tw-{lab._device(found)[0]}"
    marks = (one for one in nft_objects_of(lab.lab.plan, found.node) if one.name.startswith("KUBE-POD-FW-"))
    return next(one.name for one in marks if any(str(found.ips[0]) in entry.split() for entry in one.entries))


def test_a_pod_is_an_element_of_the_verdict_maps() -> None:
    lab = nft_lab("calico", "calico-nftables", ingress("a", pod("b")))
    objects = {one.name: one for one in nft_objects_of(lab.lab.plan, "node1") if one.kind == "map"}
    devices = [lab._device(one)[0] for one in lab.state.pods if one.node == "node1"]

    for side, prefix in (("from", "fw"), ("to", "tw")):
        found = objects[f"filter-cali-{side}-wl-dispatch"]
        assert found.header == ("type ifname : verdict",)
        assert set(found.entries) == {f'"{one}" : goto filter-cali-{prefix}-{one}' for one in devices}


def test_names_are_not_cut_as_in_iptables() -> None:
    (one,) = nft_lab("calico", "calico-nftables", ingress("a")).state.policies
    long = replace(one, name="a-name-that-is-too-long-for-a-chain-of-iptables")
    found = policy_lab("calico", (long,), engine="calico-nftables").lab.plan
    names = {item.name for item in found if isinstance(item, NftObject)}

    assert f"filter-cali-pi-x/knp.default.{long.name}" in names
    assert not [name for name in names if "cali-pi-_" in name]


def test_names_and_comments_fit_into_what_nft_takes() -> None:
    (one,) = nft_lab("calico", "calico-nftables", ingress("a", pod("b"))).state.policies
    found = policy_lab("calico", (replace(one, name="p" * 253),), engine="calico-nftables").lab.plan
    chains = [item for item in found if isinstance(item, NftObject) and item.kind == "chain"]

    assert max(len(item.name) for item in chains) <= 255
    comments = [entry.partition('comment "')[2] for item in chains for entry in item.entries]
    assert max(map(len, comments)) == 128 + 1
    assert [name for item in chains if "filter-cali-pi-_" in (name := item.name)]


def kube_router(*policies: NetworkPolicy) -> dict[str, NftObject]:
    plan = policy_lab("kubenet", policies, engine="kube-router-nftables").lab.plan
    return {one.name: one for one in nft_objects_of(plan, "node1")}


def policy_of_specs(*specs: Any) -> NetworkPolicy:
    """One policy with the ingress rules of all specs."""
    found = placed(PolicyCase("", specs, ()), bare_lab("kubenet")[0]).oracle.policies
    return replace(found[0], ingress=tuple(rule for one in found for rule in one.ingress))


def policy_chain(objects: dict[str, NftObject]) -> NftObject:
    known = ("KUBE-NWPLCY-DEFAULT", "KUBE-NWPLCY-COMMON")
    (found,) = (one for name, one in objects.items() if name.startswith("KUBE-NWPLCY-") and name not in known)
    return found


BUT_B = ingress("a", block("10.0.0.0/8", f"{ADDRESSES['x/b']}/32"))


def test_exceptions_of_a_block_are_a_set_of_their_own() -> None:
    objects = kube_router(policy_of_specs(BUT_B))
    first, second = policy_chain(objects).entries
    exceptions, blocks = (text.split()[2].lstrip("@") for text in (first, second))

    assert " counter return comment " in first
    assert objects[exceptions].entries == (str(policy_lab("kubenet", ()).pod("x/b").ips[0]),)
    assert objects[blocks].entries == ("10.0.0.0/8",)
    assert "flags interval" in objects[blocks].header


def test_exceptions_do_not_end_a_policy_that_has_more_rules() -> None:
    """kube-router returns for an exception, and so skips the later rule that allows the address."""
    written = policy_of_specs(BUT_B, ingress("a", pod("b")))
    lab = policy_lab("kubenet", (written,), engine="kube-router-nftables")

    assert not [text for text in policy_chain(kube_router(written)).entries if " counter return comment " in text]
    assert lab.passes("x/b", "x/a", "TCP", 80)


def test_networks_inside_others_are_left_out_of_a_set_that_would_refuse_them() -> None:
    objects = kube_router(policy_of_specs(ingress("a", block("10.0.0.0/8"), block("10.244.0.0/16"))))
    (entry,) = policy_chain(objects).entries
    assert objects[entry.split()[2].lstrip("@")].entries == ("10.0.0.0/8",)


def test_a_protocol_without_a_port_is_a_match_that_nft_knows() -> None:
    objects = kube_router(policy_of_specs(ingress("a", ports=[{"protocol": "TCP"}])))
    (entry,) = policy_chain(objects).entries
    assert " meta l4proto tcp counter meta mark set " in entry


def test_comments_have_at_most_128_letters() -> None:
    objects = kube_router(replace(policy_of_specs(BUT_B), name="p" * 200))
    texts = [text for one in objects.values() for text in (*one.header, *one.entries) if "comment" in text]

    assert max(len(text.partition('comment "')[2]) for text in texts) == 128 + 1
    assert objects["KUBE-ROUTER-FORWARD"].table == KUBE_ROUTER


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("-m mark --mark 0x0/0x20000 -j cali-x", "meta mark & 0x00020000 == 0x00000000 counter jump filter-cali-x"),
        ("-i cali+ -g cali-x", 'iifname "cali*" counter goto filter-cali-x'),
        ("-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", "ct state established,related counter accept"),
        ("-m conntrack ! --ctstate DNAT -j cali-x", "ct status != dnat counter jump filter-cali-x"),
        ("-j MARK --set-xmark 0x0/0xe0000", "counter meta mark set meta mark & 0xfff1ffff"),
        ("-j MARK --set-xmark 0x40000/0xc0000", "counter meta mark set meta mark & 0xfff7ffff | 0x00040000"),
        ("-p udp -m udp --dport 4789 -j CT --notrack", "udp dport 4789 counter notrack"),
        ("-p tcp -m multiport --dports 80,90:99 -j DROP", "tcp dport { 80, 90-99 } counter drop"),
        ("-p tcp -m set --match-set cali40s:x src -j DROP", "meta l4proto tcp ip saddr @cali40s-x counter drop"),
        ("-m set --match-set cali40n:x dst,dst -j DROP", "ip daddr . meta l4proto . th dport @cali40n-x counter drop"),
        ("-m rpfilter --validmark --invert -j DROP", "fib saddr . mark . iif oif 0 counter drop"),
        (
            "-o tunl0 -m addrtype ! --src-type LOCAL --limit-iface-out -m addrtype --src-type LOCAL -j MASQUERADE"
            " --random-fully",
            'oifname "tunl0" fib saddr . oif type != local fib saddr type local counter masquerade fully-random',
        ),
        ('-m comment --comment "cali:x"', "continue"),
    ],
)
def test_felix_s_rules_in_the_words_of_nft(text: str, printed: str) -> None:
    written = calico_nftables._Writer("filter", "filter-cali-y").entry(rule(text))
    assert written.startswith(f'{printed} comment "cali:')


def test_what_felix_does_not_write_is_an_error() -> None:
    chain = Chain("node1", "filter", "cali-x", (rule("-p tcp -m tcp --tcp-flags SYN SYN -j DROP"),))
    with pytest.raises(ValueError, match="Felix has no match --tcp-flags"):
        list(calico_nftables.in_nftables("node1", (chain,)))
    other = replace(chain, rules=(rule("-j TEE --gateway 10.0.0.1"),))
    with pytest.raises(ValueError, match="Felix has no action TEE"):
        list(calico_nftables.in_nftables("node1", (other,)))


def test_the_digest_of_a_rule_is_of_all_rules_up_to_it() -> None:
    one, other = rule("-j ACCEPT"), rule("-j DROP")
    first = calico_nftables._Writer("filter", "filter-cali-x")
    second = calico_nftables._Writer("filter", "filter-cali-x")
    texts = [first.entry(one), first.entry(other)], [second.entry(other), second.entry(other)]

    assert texts[0][1] != texts[1][1]
    assert texts[1][0] != texts[1][1]


@pytest.mark.parametrize("model", ["calico", "kubenet"])
def test_every_object_and_rule_has_a_reason(model: str) -> None:
    engine = dict(ENGINES)[model]
    spec = ingress("a", {**ns("y"), **pod("b")}, ports=[*tcp(80), *tcp("serve-81-tcp")])
    plan = nft_lab(model, engine, spec, BUT_B).lab.plan
    if model == "calico":
        deny = policy(houses("g"), ingress=rules("from", ("Deny", houses("s"), {}), ("Pass", houses("h"), {})))
        plan += house_lab(model, ClusterCase("", (GRESS, deny), ()), engine).lab.plan
    found = [one for one in plan if isinstance(one, NftObject)]

    assert [one.key for one in found if reason_of(one) is None] == []
    chains = [one for one in found if one.kind == "chain"]
    assert [entry for one in chains for entry in one.entries if reason_of_rule(one, entry) is None] == []
    words = [reason_of_rule(one, entry) for one in chains for entry in one.entries]
    assert not [why for why in words if why is not None and "one rule of iptables" in why.sentence]

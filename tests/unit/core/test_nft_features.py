"""Which features of nftables a plan needs, and the small text that tries each."""

from __future__ import annotations

import pytest

from labctl.core.features import kernel_module, required_features
from labctl.core.nft_features import _SAMPLES, is_nft_feature, nft_features, sample
from labctl.core.nft_objects import base_chain, chain, map_, set_
from labctl.core.nft_references import verify
from labctl.core.nft_script import read_script
from labctl.core.nft_state import Ruleset
from labctl.core.resources import NftObject


@pytest.mark.parametrize(
    ("rule", "feature"),
    [
        ("numgen inc mod 2 vmap { 0 : accept, 1 : drop }", "numgen"),
        ("fib daddr type local accept", "fib"),
        ("ct state new accept", "ct"),
        ("ct count over 20 drop", "ct count"),
        ("add @seen { ip saddr timeout 1m }", "dynamic set"),
        ("flow add @ft", "flowtable"),
        ("dnat to 192.0.2.1", "nat"),
        ("masquerade random", "masquerade"),
        ("limit rate 1/second accept", "limit"),
        ("jhash ip saddr mod 2 vmap { 0 : accept }", "hash"),
        ('meta ibrname "br0" accept', "meta ibrname"),
    ],
)
def test_a_rule_needs_a_feature(rule: str, feature: str) -> None:
    assert list(nft_features([chain("n", "inet t", "c", [rule])])) == [f"nft {feature}"]


@pytest.mark.parametrize("rule", ["jump log", 'comment "fib, ct, log"', "iifname fwd0 accept", "ip saddr @limit drop"])
def test_a_name_is_no_feature(rule: str) -> None:
    assert nft_features([chain("n", "inet t", "c", [rule])]) == {}


def test_an_object_needs_its_kind_and_its_family() -> None:
    objects = (
        base_chain("n", "bridge t", "b", type="filter", hook="forward", priority="0"),
        base_chain("n", "netdev t", "e", type="filter", hook="egress", priority="0", device="eth0"),
        base_chain("n", "inet t", "i", type="filter", hook="ingress", priority="0", device="eth0"),
        set_("n", "inet t", "s", ["192.0.2.1"], type="ipv4_addr"),
        map_("n", "inet t", "m", ["1 : jump c"], type="mark : verdict"),
        NftObject("n", "inet t", "flowtable", "f", ("hook ingress priority filter", "devices = { eth0 }")),
        NftObject("n", "inet t", "quota", "q", ("over 1 mbytes",)),
        NftObject("n", "inet t", "ct helper", "h", ('type "ftp" protocol tcp',)),
    )
    names = ["bridge", "netdev egress", "inet ingress", "flowtable", "quota object", "ct helper ftp"]
    assert list(required_features(objects)) == [f"nft {name}" for name in names]
    assert [kernel_module(f"nft {name}") for name in ("numgen", "masquerade", "ct helper ftp", "bridge")] == [
        *("nft_numgen", "nft_masq"), *("nf_conntrack_ftp", "nf_tables"),
    ]  # fmt: skip


@pytest.mark.parametrize("name", [*_SAMPLES, "ct helper ftp", "ct helper tftp"])
def test_a_sample_is_a_text_that_needs_its_feature(name: str) -> None:
    ruleset = Ruleset()
    read_script(sample(f"nft {name}"), ruleset)
    verify(ruleset)
    assert ruleset.mistakes == []
    objects = [item.resource("n") for item in ruleset.in_order()]
    assert is_nft_feature(f"nft {name}")
    assert f"nft {name}" in nft_features(objects)

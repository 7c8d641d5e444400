"""The masquerade rules of nft, against what the plugin bridge of 1.9.1 wrote for the same containers."""

from __future__ import annotations

from ipaddress import ip_interface

import pytest

from labctl.cni_plugin import nft_rules
from labctl.core.nft_ruleset import parse_ruleset
from labctl.core.resources import NftObject
from tests.support.paths import GOLDEN

WRITTEN = GOLDEN / "cni-plugins-1.9.1"
ADDRESSES = {
    "ipmasq": {"c-one": ["10.244.1.2/24"], "c-two": ["10.244.1.3/24"]},
    "ipmasq-dual-stack": {
        "c-one": ["10.244.1.2/24", "fd00:10:244:1::2/64"],
        "c-two": ["10.244.1.3/24", "fd00:10:244:1::3/64"],
    },
}


def rules_of(case: str, container: str) -> tuple[nft_rules.MasqueradeRule, ...]:
    return nft_rules.rules("kubenet", "eth0", container, map(ip_interface, ADDRESSES[case][container]))


def chain(case: str, name: str) -> NftObject:
    listed = parse_ruleset("", (WRITTEN / f"{case}.txt").read_text())
    return next(item for item in listed if item.name == name)


@pytest.mark.parametrize("case", ADDRESSES)
def test_the_rules_are_those_that_the_plugin_bridge_writes(case: str) -> None:
    ours = [str(rule) for container in ADDRESSES[case] for rule in rules_of(case, container)]
    assert tuple(ours) == chain(case, nft_rules.CHECKS).entries
    assert chain(case, nft_rules.POSTROUTING).entries == nft_rules.POSTROUTING_RULES
    assert chain(case, nft_rules.CHECKS).header == (f'comment "{nft_rules.CHECKS_COMMENT}"',)


def test_a_listing_with_handles_is_read_again() -> None:
    rules = rules_of("ipmasq-dual-stack", "c-one")
    text = "".join(f"{rule} # handle {number}\n" for number, rule in enumerate(rules, 5))
    found = tuple(nft_rules.parse_chain(f"\tchain masq_checks {{ # handle 1\n{text}"))
    assert found == tuple(
        nft_rules.MasqueradeRule(rule.text, rule.comment, number) for number, rule in enumerate(rules, 5)
    )
    assert nft_rules.delete_script(found) == (
        "delete rule inet cni_plugins_masquerade masq_checks handle 5\n"
        "delete rule inet cni_plugins_masquerade masq_checks handle 6\n"
    )


def test_a_host_address_has_no_prefix_length() -> None:
    (four, six) = nft_rules.rules("n", "eth0", "c", map(ip_interface, ("10.9.0.2/32", "fd00::2/128")))
    assert four.text == "ip saddr 10.9.0.2 ip daddr != 10.9.0.2 masquerade"
    assert six.text == "ip6 saddr fd00::2 ip6 daddr != fd00::2 masquerade"


def test_a_long_comment_is_cut_off_where_the_plugin_does() -> None:
    told = nft_rules.comment("kubenet", "eth0", "abcdefghij" * 9)
    assert told == (
        "2471624b9605e900-d39d94dedfcca2e1, net: kubenet, if: eth0, id: "
        "abcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabcde"
    )
    assert len(told) == 128


def test_who_owns_a_rule_is_told_by_its_digests() -> None:
    mine = nft_rules.MasqueradeRule("x masquerade", nft_rules.comment("net", "eth0", "a"), 1)
    other_device = nft_rules.MasqueradeRule("x masquerade", nft_rules.comment("net", "eth1", "a"), 2)
    other_net = nft_rules.MasqueradeRule("x masquerade", nft_rules.comment("net2", "eth0", "a"), 3)
    cut_off = nft_rules.MasqueradeRule("x masquerade", nft_rules.comment("net", "eth0", "a" * 99), 4)
    forged = nft_rules.MasqueradeRule("x masquerade", mine.comment.replace("id: a", "id: b"), 5)
    existing = (mine, other_device, other_net, cut_off, forged)

    assert nft_rules.belonging(existing, nft_rules.attachment_digest("net", "eth0", "a")) == (mine, forged)
    assert nft_rules.attachments(existing, "net") == (("a", "eth0"), ("a", "eth1"))
    assert nft_rules.stale(existing, "net", [("a", "eth0")]) == (other_device, cut_off, forged)
    assert nft_rules.stale(existing, "net", [("a", "eth0"), ("a" * 99, "eth0")]) == (other_device, forged)


def test_what_is_missing_is_told_as_the_commands_that_add_it() -> None:
    listing, wanted = (WRITTEN / "ipmasq.txt").read_text(), rules_of("ipmasq", "c-one")
    assert nft_rules.missing(listing, wanted) == []
    without = listing.replace("10.244.1.2", "10.244.1.9")
    assert nft_rules.missing(without, wanted) == [f"nft add rule {nft_rules.TABLE} masq_checks {wanted[0]}"]
    assert nft_rules.missing(listing.replace("goto masq_checks", "accept"), wanted)[-1].endswith("goto masq_checks")
    assert len(nft_rules.missing("", wanted)) == 1 + 1 + 3

"""What plugins made has a reason: by the shape of the rules, and the plan keeps its own."""

from __future__ import annotations

from dataclasses import replace

from labctl.cni_runtime.observed_state import merge
from labctl.cni_runtime.plugin_reasons import MADE_BY_PLUGINS
from labctl.core.iptables import rule
from labctl.core.nft_ruleset import parse_ruleset
from labctl.core.resources import Chain, Interface, Link, NftObject, Plan
from labctl.core.scenario_types import Lab
from labctl.core.why import KERNEL, RuleByRule
from labctl.explanation.explanation import Explainer, Subject, find_reason
from tests.support.paths import GOLDEN
from tests.support.reasons import problems
from tests.support.samples import ATTACHMENT
from tests.unit.cni_runtime.test_observed_state import MADE, PLAN

OWN = KERNEL.why("It is the plan's own rule.")
IP_MASQ = "CNI-0123456789abcdef01234567"
CHAINS = (
    Chain(
        "node1",
        "nat",
        "POSTROUTING",
        (
            rule("-j RETURN"),
            rule("-j CNI-HOSTPORT-MASQ"),
            rule(f"-s 10.0.0.2/32 -j {IP_MASQ}"),
            rule("-j NOBODY-KNOWS"),
        ),
        "ACCEPT",
    ),
    Chain("node1", "nat", "PREROUTING", (rule("-m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT"),), "ACCEPT"),
    Chain("node1", "nat", "CNI-HOSTPORT-DNAT", (rule("-p tcp -m multiport --dports 8080 -j CNI-DN-0a"),)),
    Chain(
        "node1",
        "nat",
        "CNI-DN-0a",
        (
            rule("-s 10.0.0.0/24 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK"),
            rule("-s 127.0.0.1/32 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK"),
            rule("-p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.0.0.2:80"),
        ),
    ),
    Chain("node1", "nat", "CNI-HOSTPORT-SETMARK", (rule("-j MARK --set-xmark 0x2000/0x2000"),)),
    Chain("node1", "nat", "CNI-HOSTPORT-MASQ", (rule("-m mark --mark 0x2000/0x2000 -j MASQUERADE"),)),
    Chain(
        "node1", "nat", IP_MASQ, (rule("-d 10.0.0.0/24 -j ACCEPT"), rule("! -d 224.0.0.0/4 -j MASQUERADE"))
    ),
    Chain("node1", "filter", "FORWARD", (rule("-j CNI-FORWARD"),), "ACCEPT"),
    Chain(
        "node1",
        "filter",
        "CNI-FORWARD",
        (
            rule("-j CNI-ADMIN"),
            rule("-d 10.0.0.2/32 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"),
            rule("-s 10.0.0.2/32 -j ACCEPT"),
        ),
    ),
    Chain("node1", "filter", "CNI-ADMIN"),
)  # fmt: skip


WRITTEN = GOLDEN / "cni-plugins-1.9.1"
# what plugins wrote with nft, and one table of a plugin that nobody knows
NATIVE = (
    *parse_ruleset("node1", (WRITTEN / "ipmasq-dual-stack.txt").read_text()),
    *parse_ruleset("node1", (WRITTEN / "portmap-dual-stack.txt").read_text()),
    *parse_ruleset("node1", "table inet mine { chain c { accept; } }"),
)


def lab() -> Lab:
    """A lab with a plan that explains itself, and what plugins made and changed in it."""
    own = Chain("node1", "nat", "POSTROUTING", (rule("-j RETURN"),), "ACCEPT")
    own = replace(own, rule_whys=(RuleByRule(own.rules, (OWN,)),))
    planned: Plan = tuple(own if item.key == own.key else replace(item, why=item.why or OWN) for item in PLAN)
    made = [item for item in MADE if not isinstance(item, Chain)]
    return Lab("t", "cni", merge(planned, (*made, *NATIVE, *CHAINS)), (), ())


def test_everything_that_plugins_made_has_a_reason() -> None:
    assert [*problems(lab())] == []


def test_the_rules_of_the_plan_keep_their_reasons_in_a_chain_that_plugins_changed() -> None:
    found = next(item for item in lab().plan if isinstance(item, Chain) and item.name == "POSTROUTING")
    whys = [find_reason(Subject(found, one)) for one in found.rules]
    assert whys[0] == OWN
    assert [why and why.component for why in whys[1:3]] == ["the CNI plugin portmap", "a CNI plugin with ipMasq"]
    assert whys[3] == MADE_BY_PLUGINS
    again = merge(lab().plan, CHAINS)
    assert [*problems(replace(lab(), plan=again))] == []


def test_a_chain_of_the_kernel_is_the_kernels_whoever_uses_it() -> None:
    found = next(item for item in lab().plan if isinstance(item, Chain) and item.name == "PREROUTING")
    assert Explainer(lab()).why(Subject(found)).component == "the Linux kernel (netfilter)"


def test_the_ends_of_a_cable_name_each_other() -> None:
    found = next(item for item in lab().plan if isinstance(item, Link) and item.at == Interface("node1", "veth1"))
    assert Explainer(lab()).why(Subject(found)).sentence.endswith("The other end is eth0 of a.")
    assert ATTACHMENT.pod == "a"


def test_the_rules_of_nft_are_those_of_a_known_plugin() -> None:
    found = lab()
    subjects = [Subject(item, entry) for item in found.plan if isinstance(item, NftObject) for entry in item.entries]
    unknown = [subject for subject in subjects if find_reason(subject) == MADE_BY_PLUGINS]
    assert [(subject.item.table, subject.rule) for subject in unknown] == [("inet mine", "accept")]  # type: ignore[union-attr]
    told = [Explainer(found).why(subject).sentence for subject in subjects]
    assert "It is the host port: packets to port 8080 of node1 go to 10.244.1.2:80 instead" in " ".join(told)

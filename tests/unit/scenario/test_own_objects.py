"""The keys of raw scenarios on top of every model: what they add, what they change, what they may not state again."""

from __future__ import annotations

import pytest

from labctl import models
from labctl.compare.extra_pod import EXTRA_POD, with_extra_pod
from labctl.core.nft_ruleset import ruleset_text
from labctl.core.resources import Address, Chain, IpSet, Link, Netns, NftObject, Sysctl
from labctl.core.scenario_types import Lab
from labctl.core.why import reason_of, reason_of_rule
from labctl.errors import ScenarioError
from labctl.scenario import language, raw_language
from labctl.scenario.definition import define_text, parse_and_compile
from labctl.scenario.json_schema import schema

OTHERS = [name for name in models.model_names() if name != "raw"]
OWN = """
machines: {{admin: {{role: vm}}}}
links:
  - veth: [admin/eth0, {node}/own0]
addresses: {{admin/eth0: 198.18.77.2/24, {node}/own0: 198.18.77.1/24}}
routes: {{admin: default via 198.18.77.1, {node}: 198.18.78.0/24 via 198.18.77.2}}
rules: {{{node}: from 198.18.77.0/24 lookup main pref 7700}}
neighbours: {{admin: 198.18.77.9 lladdr 02:00:00:00:00:09 dev eth0}}
sysctls: {{{node}: {{net.ipv4.conf.own0.rp_filter: 2}}}}
ipsets: {{{node}: {{own: [198.18.77.0/24]}}}}
firewall:
  {node}:
    filter: {{INPUT: [-i own0 -m set --match-set own src -j OWN], OWN: [-p tcp --dport 22 -j DROP]}}
firewall6:
  {node}: {{filter: {{INPUT: [-i own0 -j ACCEPT]}}}}
ebtables:
  {node}: {{filter: {{FORWARD: [-i own0 -j DROP]}}}}
nftables:
  {node}: |
    table inet own {{ chain c {{ type filter hook input priority 10; iif own0 counter drop; }}; }}
checks:
  - {{ping: admin -> {node}/own0, see: {{at: {node}/own0, src: admin}}}}
"""


def machines(model: str) -> tuple[str, str]:
    """The first lines of a scenario of a model, and the name of its first node."""
    outer, inner = models.find_model(model).MACHINES
    name = f"{outer[:-1]}1"
    return f"name: x\nmodel: {model}\n{outer}:\n  {name}: {{{inner}: [a, b]}}\n", name


def lab_of(model: str, text: str = "") -> Lab:
    return parse_and_compile(machines(model)[0] + text, "x.yaml")[1]


@pytest.mark.parametrize("model", [name for name in OTHERS if name != "cni"])
def test_every_model_takes_every_raw_key(model: str) -> None:
    node = machines(model)[1]
    before = lab_of(model)
    lab = lab_of(model, OWN.format(node=node))
    kept = {item.key for item in before.plan}
    added = [item for item in lab.plan if item.key not in kept]
    assert kept <= {item.key for item in lab.plan}
    assert {type(item).__name__ for item in added} >= {
        *("Netns", "Link", "Address", "Route", "Rule", "Neighbour", "Sysctl", "IpSet", "Chain", "NftObject"),
    }  # fmt: skip
    admin = lab.machine("admin")
    assert admin is not None
    assert (admin.role, [str(ip) for ip in admin.addresses]) == ("vm", ["198.18.77.2"])
    there = lab.machine(node)
    assert there is not None
    assert str(there.addresses[-1]) == "198.18.77.1"
    assert [machine.name for machine in lab.machines] == [*(one.name for one in before.machines), "admin"]
    chain = next(
        item for item in lab.plan if isinstance(item, Chain) and item.key[1:] == (node, "ip", "filter", "INPUT")
    )
    why = reason_of_rule(chain, chain.rules[-1])
    assert why is not None
    lines = (machines(model)[0] + OWN).split("\n")
    assert "--match-set own" in lines[(why.source.line or 0) - 1]
    table = next(item for item in added if isinstance(item, NftObject) and item.kind == "table")
    assert reason_of(table) is not None


def changed(model: str, text: str, kind: type) -> list[object]:
    """The objects of one type that the lab has and the model alone has not, as they are."""
    before = lab_of(model).plan
    return [item for item in lab_of(model, text).plan if isinstance(item, kind) and item not in before]


def test_rules_are_put_behind_those_of_the_model_and_its_policy_stays() -> None:
    def forward(text: str = "") -> Chain:
        plan = lab_of("docker-bridge", text).plan
        return next(
            item for item in plan if isinstance(item, Chain) and item.name == "FORWARD" and item.table == "filter"
        )

    model = forward()
    assert model.policy == "DROP"
    more = forward("firewall: {host1: {filter: {FORWARD: [-s 192.0.2.1 -j DROP]}}}\n")
    assert (more.policy, more.rules[:-1], str(more.rules[-1])) == ("DROP", model.rules, "-s 192.0.2.1/32 -j DROP")
    other = forward("firewall: {host1: {filter: {FORWARD: {policy: ACCEPT}}}}\n")
    assert (other.policy, other.rules) == ("ACCEPT", model.rules)


def test_a_pasted_dump_adds_to_the_chains_of_the_model() -> None:
    text = "firewall:\n  host1: |\n    *filter\n    :FORWARD ACCEPT [0:0]\n    :DOCKER-USER - [0:0]\n"
    text += "    -A DOCKER-USER -s 192.0.2.1/32 -j DROP\n    COMMIT\n"
    found = {item.name: item for item in changed("docker-bridge", text, Chain) if isinstance(item, Chain)}
    assert set(found) == {"FORWARD", "DOCKER-USER"}
    assert found["FORWARD"].policy == "ACCEPT"
    assert "-s 192.0.2.1/32 -j DROP" in [str(rule) for rule in found["DOCKER-USER"].rules]


def test_a_sysctl_takes_the_place_of_the_models() -> None:
    name = "net.ipv4.ip_forward"
    assert Sysctl("node1", name, "1") in lab_of("kubenet").plan
    plan = lab_of("kubenet", f"sysctls: {{node1: {{{name}: 0}}}}\n").plan
    assert [item.value for item in plan if isinstance(item, Sysctl) and (item.ns, item.name) == ("node1", name)] == [
        "0"
    ]


def tables(text: str) -> str:
    """The tables of nft on a host of Docker with its nftables, and this on top."""
    lines = "".join(f"    {line}\n" for line in text.splitlines())
    head = (
        "name: x\nmodel: docker-bridge\nhosts:\n  host1: {containers: [c]}\nrelease: 29\nfirewall_backend: nftables\n"
    )
    plan = parse_and_compile(f"{head}nftables:\n  host1: |\n{lines}", "x.yaml")[1].plan
    return ruleset_text(item for item in plan if isinstance(item, NftObject) and item.ns == "host1")


def test_a_text_of_nft_continues_the_tables_of_the_model() -> None:
    added = "flush ruleset\ninsert rule ip docker-bridges filter-FORWARD ip saddr 192.0.2.1 drop\n"
    added += "add rule ip docker-bridges filter-FORWARD counter\nadd table inet own\n"
    before, after = tables("add table inet own").split("\n"), tables(added).split("\n")
    new = [line for line in after if line not in before]
    assert new == ["\t\tip saddr 192.0.2.1 drop", "\t\tcounter"]
    chain = after[after.index("\tchain filter-FORWARD {") :]
    assert chain[2] == "\t\tip saddr 192.0.2.1 drop"
    assert chain[chain.index("\t}") - 1] == "\t\tcounter"


@pytest.mark.parametrize(
    "command",
    [
        "delete table ip docker-bridges",
        "flush chain ip docker-bridges filter-FORWARD",
        "destroy chain ip docker-bridges filter-FORWARD",
        "rename chain ip docker-bridges filter-FORWARD other",
        "flush table ip docker-bridges",
    ],
)
def test_a_text_of_nft_cannot_remove_what_the_model_made(command: str) -> None:
    with pytest.raises(ScenarioError, match="is the model's, and nothing of it can be removed"):
        tables(f"add table inet own\n{command}")


def test_the_namespaces_of_kubernetes_and_further_machines_are_two_things() -> None:
    labels = lab_of("kubenet", "namespaces: {shop: {team: a}}\n")
    assert not [item for item in labels.plan if isinstance(item, Netns) and item.name == "shop"]
    for text in ("namespaces: [shop]\n", "machines: [shop]\n"):
        assert [item for item in lab_of("kubenet", text).plan if isinstance(item, Netns) and item.name == "shop"]
    both = lab_of("docker-bridge", "namespaces: [one]\nmachines: {two: }\n")
    assert [machine.name for machine in both.machines][-2:] == ["one", "two"]


def test_a_bridge_of_the_model_takes_a_port_and_a_rule_takes_its_sets() -> None:
    text = "machines: [x]\nlinks: [{veth: [{at: host1/p0, master: docker0}, x/eth0]}]\n"
    (port, *_) = [
        item for item in changed("docker-bridge", text, Link) if isinstance(item, Link) and item.at.dev == "p0"
    ]
    assert port.master == "docker0"
    assert changed("docker-bridge", "ipsets: {host1: {s: [192.0.2.1]}}\n", IpSet)


def test_a_lab_with_an_extra_pod_keeps_what_is_on_top() -> None:
    definition = define_text("x.yaml", machines("kubenet")[0] + OWN.format(node="node1"))
    extra = with_extra_pod(definition, definition.compiled, "node1")
    assert any(isinstance(item, Address) and item.ns == "admin" for item in extra.plan)
    assert any(item.name == EXTRA_POD for item in extra.machines)


def test_the_schema_has_the_keys_of_every_model_by_reference() -> None:
    found = schema()
    for name in OTHERS:
        properties = found["$defs"][f"model-{name}"]["properties"]
        assert properties["routes"]["$ref"] == "#/$defs/own-routes"
        assert "machines" in properties
    assert found["$defs"]["own-firewall"] == {
        key: value
        for key, value in found["$defs"]["model-raw"]["properties"]["firewall"].items()
        if key != "description"
    }


def test_the_table_of_the_language_names_every_raw_key() -> None:
    assert set(language.OWN_KEYS) == {"machines", *(key.name for key in raw_language.RAW)}

"""The dry parts of a comparison: who is asked, what an answer says, and that nothing is ever guessed."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest

from labctl.checks.evidence import CheckEvidence
from labctl.compare import cost, placement, visibility
from labctl.compare.cell import Cell, absent
from labctl.compare.extra_pod import with_extra_pod
from labctl.compare.measurements import NOT_ASKED, ExtraPod, Measurements, PathMtu, Timings
from labctl.compare.probes import expect_no_answer, probe_checks, probe_result
from labctl.compare.roles import Roles, absence_text, find_roles
from labctl.compare.service_lab import with_services
from labctl.compare.table import NEEDS, ROWS, Row, needs_of, table
from labctl.core.iptables import rule
from labctl.core.resources import Address, Chain, Link, Neighbour, NftObject, Plan, Route, Rule
from labctl.core.scenario_types import Check, Machine
from labctl.errors import UsageError
from labctl.lab import lifecycle
from labctl.packets.trail import Trail
from labctl.report import comparison
from labctl.scenario.definition import define_text
from tests.support import comparison as comparing
from tests.support.comparison import CAST, LAB, MACHINES, SKIPPED, came, facts, lost, port, seen, silent


def answers(those: Measurements) -> dict[str, Cell]:
    made = table([those])
    return {row.key: cell for row, cell in zip(made.rows, made.cells[0], strict=True)}


def without(kind: type, plan: Plan) -> Plan:
    return tuple(item for item in plan if not isinstance(item, kind))


# ---- who is asked --------------------------------------------------------------------------------------


def test_the_parts_are_found_by_roles() -> None:
    assert find_roles(LAB) == CAST


def test_the_first_node_with_two_pods_is_asked() -> None:
    alone = (Machine("z", "pod", (ip_address("10.3.0.2"),), "node0"), Machine("node0", "node"), *MACHINES)
    who = find_roles(replace(LAB, machines=alone))

    assert who is not None
    assert (who.pod, who.same_node_pod, who.other_node_pod, who.other_node) == ("a", "b", "z", "node0")


def test_who_shares_a_namespace_or_has_no_address_is_not_asked() -> None:
    shared = Machine("web", "container", (ip_address("10.9.0.1"),), "node1", netns_of="node1")
    hermit = Machine("hermit", "container", (), "node1")

    assert find_roles(replace(LAB, machines=(shared, hermit, *MACHINES))) == CAST
    assert find_roles(replace(LAB, machines=(shared, hermit))) is None


@pytest.mark.parametrize(
    ("part", "who", "why"),
    [
        ("far", Roles("a", "n1"), "no second node"),
        ("far", Roles("a", "n1", other_node="n2"), "no pod on another node"),
        ("mate", Roles("a", "n1"), "one pod on its node"),
        ("vm", Roles("a", "n1"), "no vm"),
        ("internet", Roles("a", "n1"), "no internet"),
    ],
)
def test_who_is_not_there_is_said(part: str, who: Roles, why: str) -> None:
    assert absence_text(part, who) == why


def test_who_is_not_there_is_not_asked() -> None:
    asked = probe_checks(Roles("c1", "host1", "c2", internet="internet", pods=("c1", "c2")))
    put = [key for key, check in asked.items() if isinstance(check, Check)]

    assert put == ["mate", "own_node", "internet", "from_internet"]
    assert asked["vm"] == asked["from_vm"] == "no vm"
    assert asked["far"] == asked["mate_far"] == asked["other_node"] == "no second node"


# ---- what a probe proves -------------------------------------------------------------------------------

ASK = Check("", "ping", "a", "c")


def evidence(check: Check, answer: Any, **more: Any) -> CheckEvidence:
    replies = (replace(seen("a/eth0", "in", 61, "10.2.0.2"), reply=True),) if answer == "reply" else ()
    return CheckEvidence(check, "a", "c", answer, "said so", Trail(comparing.ROUTED, replies), **more)


@pytest.mark.parametrize("check", [ASK, expect_no_answer(ASK)])
def test_a_reply_is_one_whatever_was_expected(check: Check) -> None:
    assert probe_result(evidence(check, "reply"), ("fail", ("unexpected",))).outcome == "came"


def test_a_reply_counts_only_if_the_request_came_to_whom_it_was_for() -> None:
    short = evidence(expect_no_answer(ASK), "reply")
    elsewhere = replace(short, trail=replace(short.trail, requests=comparing.ROUTED[:3]))

    assert probe_result(elsewhere, ("fail", ())).outcome == "elsewhere"
    assert probe_result(replace(elsewhere, not_receiving={"c": "no canary"}), ("fail", ())).outcome == "inconclusive"
    assert probe_result(evidence(ASK, "reply", lost_frames={"c": 2}), ("fail", ())).outcome == "inconclusive"


def test_silence_counts_only_if_it_was_waited_for_and_proven() -> None:
    assert probe_result(evidence(expect_no_answer(ASK), "timeout"), ("pass", ("dropped",))).outcome == "silent"
    assert probe_result(evidence(expect_no_answer(ASK), "timeout"), ("inconclusive", ())).outcome == "inconclusive"
    assert probe_result(evidence(ASK, "timeout"), ("fail", ())).outcome == "inconclusive"
    assert probe_result(evidence(ASK, "timeout"), ("pass", ())).outcome == "inconclusive"


# ---- what an answer says -------------------------------------------------------------------------------


def test_every_question_about_the_sample_has_its_answer() -> None:
    assert {key: cell.text for key, cell in answers(facts()).items()} == {
        "namespace": "yes",
        "bridge": "br0",
        "subnet": "a range per node, 10.1.0.0/24 and 10.2.0.0/24",
        "gateway": "10.1.0.1, address of br0",
        "peer": "its own address",
        "own_node": "pod",
        "other_node": "node",
        "vm": "node",
        "leaving": "node",
        "internet": "public address",
        "from_vm": "no: it ends in fabric",
        "from_internet": "no: internet has no route to it",
        "same_node": "switched",
        "same_node_ttl": "64",
        "cross_node": "routed by the fabric",
        "cross_node_ttl": "61",
        "beyond": "(no node behind a router)",
        "pod_mtu": "1500",
        "path_mtu": "1500",
        "cluster_ip": "pod",
        "node_port": "node",
        "node_port_local": "no: it ends in fabric",
        "wrong_port": "an ICMP error",
        "node_port_loopback": "answered",
        "ingress_instance": "2 hops, sees node",
        "ingress_ip": "1 hop, sees the load balancer",
        "refusal": "no answer, a timeout",
        "node_objects": "4 links, 3 routes, 1 firewall rule",
        "pod_adds": "1 link",
        "pod_adds_elsewhere": "nothing",
        "round_trip": "1 (about 30 us)",
        "stream": "1 (about 8.0 Gbit/s)",
    }


@pytest.mark.parametrize("row", ROWS, ids=[row.key for row in ROWS])
def test_a_row_needs_what_its_answer_is_made_of(row: Row) -> None:
    """With only what it needs, the answer is the same; without any part of that, it is another."""
    fields = {"extra pod": "extra_pod", "services": "service_probes", "times": "timings"}
    answer = answers(facts())[row.key]
    others = {field: NOT_ASKED for need, field in fields.items() if need not in needs_of(row.key)}

    assert answers(facts(**others))[row.key] == answer
    for need in needs_of(row.key):
        assert answers(facts(**{fields[need]: NOT_ASKED}))[row.key] == absent(NOT_ASKED)
    assert needs_of(row.key) <= NEEDS == fields.keys()


@pytest.mark.parametrize("key", [key for key, asked in comparing.ASKED.items() if not isinstance(asked, str)])
def test_an_answer_whose_evidence_was_lost_is_inconclusive(key: str) -> None:
    check = comparing.ASKED[key].check  # type: ignore[union-attr]
    before = answers(facts())
    after = answers(facts(probe_results={key: lost(check.source, check.target)}))
    changed = {name: cell.state for name, cell in after.items() if cell != before[name]}

    assert changed
    assert set(changed.values()) == {"inconclusive"}
    assert table([facts(probe_results={key: lost(check.source, check.target)})]).inconclusive
    assert not table([facts()]).inconclusive


RESET = replace(seen("a/eth0", "in", 61, "10.2.0.2"), proto="tcp", reply=True)
SYN = seen("node2/eth0", "in", 62)


@pytest.mark.parametrize(
    ("probe", "text", "state"),
    [
        (comparing.connection("refused", SYN, replies=(RESET,)), "a TCP reset", "measured"),
        (comparing.connection("refused", SYN), "an ICMP error", "measured"),
        (comparing.connection("unreachable", SYN), "an ICMP error", "measured"),
        (comparing.connection("reply", SYN), "it is not denied", "measured"),
        (comparing.connection("timeout", SYN), "no answer, a timeout", "measured"),
        (comparing.connection("timeout"), "inconclusive: no packet of the connection was captured", "inconclusive"),
        (comparing.connection("broken", SYN), "inconclusive: the connection ended with broken", "inconclusive"),
        ("the model has no engine", "(the model has no engine)", "absent"),
    ],
)
def test_how_a_denied_connection_ends(probe: Any, text: str, state: str) -> None:
    cell = answers(facts(service_probes={**comparing.SERVED, "denied": probe}))["refusal"]
    assert (cell.text, cell.state) == (text, state)


@pytest.mark.parametrize(
    ("probe", "text", "state"),
    [
        (comparing.connection("refused", SYN), "an ICMP error", "measured"),
        (comparing.connection("refused", SYN, replies=(RESET,)), "a TCP reset", "measured"),
        (comparing.connection("timeout", SYN), "no answer: it ends in node2", "measured"),
        (comparing.connection("reply", SYN), "an answer", "measured"),
        (comparing.connection("timeout"), "inconclusive: no packet of the connection was captured", "inconclusive"),
        ("no range for Services", "(no range for Services)", "absent"),
    ],
)
def test_how_a_connection_to_another_port_of_a_service_ends(probe: Any, text: str, state: str) -> None:
    cell = answers(facts(service_probes={**comparing.SERVED, "wrong_port": probe}))["wrong_port"]
    assert (cell.text, cell.state) == (text, state)


@pytest.mark.parametrize(
    ("answer", "text"), [("reply", "answered"), ("refused", "refused"), ("timeout", "no answer"), ("broken", "broken")]
)
def test_a_node_port_at_loopback_is_answered_or_not(answer: Any, text: str) -> None:
    probes = {**comparing.SERVED, "node_port_loopback": comparing.connection(answer)}
    assert answers(facts(service_probes=probes))["node_port_loopback"].text == text


def test_a_service_that_gave_no_evidence_has_no_answer() -> None:
    lost_one = {**comparing.SERVED, "cluster_ip": comparing.connection("timeout")}
    assert answers(facts(service_probes=lost_one))["cluster_ip"].state == "inconclusive"
    none = answers(facts(service_probes="no Kubernetes"))
    assert {none[key].text for key in ("cluster_ip", "node_port", "node_port_local", "refusal")} == {"(no Kubernetes)"}


def test_an_ingress_that_does_not_work_says_where_or_why() -> None:
    lost_one = comparing.connection("timeout", seen("fabric/lb", "in"))
    probes = {**comparing.SERVED, "ingress_instance": lost_one, "ingress_ip": "refused: no route"}
    found = answers(facts(service_probes=probes))

    assert found["ingress_instance"].text == "no: it ends in fabric"
    assert found["ingress_ip"].text == "(refused: no route)"
    assert answers(facts())["ingress_instance"].counts == {"hops": 2}


@pytest.mark.parametrize(("model", "modes"), [("kubenet", ["instance", "ip"]), ("flannel", ["instance"])])
def test_an_ingress_by_pods_is_left_out_where_pods_are_not_routable(model: str, modes: list[str]) -> None:
    text = f"model: {model}\nnodes: {{n1: {{pods: [a]}}, n2: {{pods: [b]}}}}\n"
    definition = define_text("t.yaml", text)
    roles = find_roles(definition.compiled)
    assert roles is not None
    state = with_services(definition, definition.compiled, roles).kubernetes

    assert [one.name for one in state.http_balancers] == [f"compare-{mode}" for mode in modes]
    assert [one for one in state.problems if one.kind == "Ingress"] == []


def test_the_services_are_put_on_top_of_clusters_only() -> None:
    definition = define_text("t.yaml", "model: docker-bridge\nhosts: {h: {containers: [a, b]}}\n")
    roles = find_roles(definition.compiled)
    assert roles is not None
    with pytest.raises(UsageError, match="no Kubernetes"):
        with_services(definition, definition.compiled, roles)
    alone = define_text("t.yaml", "model: kubenet\nnodes: {n: {pods: [a]}}\n")
    roles = find_roles(alone.compiled)
    assert roles is not None
    with pytest.raises(UsageError, match="no second pod"):
        with_services(alone, alone.compiled, roles)


def test_the_services_and_the_policy_are_in_the_lab_that_is_asked() -> None:
    text = "model: kubenet\nnodes: {node1: {pods: [a, b]}, node2: {pods: [c]}}\nservices: {own: {ports: [80]}}\n"
    definition = define_text("t.yaml", text)
    roles = find_roles(definition.compiled)
    assert roles is not None
    lab = with_services(definition, definition.compiled, roles)
    assert [one.name for one in lab.kubernetes.cluster.services] == ["own", "compare-cluster", "compare-local"]
    assert [one.name for one in lab.kubernetes.policies] == ["compare-policy"]
    assert {str(at.address) for one in lab.kubernetes.cluster.slices for at in one.endpoints} == {"10.244.1.2"}
    assert lab.checks == ()


def test_one_pod_more_keeps_the_services_of_the_scenario() -> None:
    text = "model: kubenet\nnodes: {node1: {pods: [a, b]}}\nservices: {own: {ports: [80]}}\n"
    definition = define_text("t.yaml", text)
    assert with_extra_pod(definition, definition.compiled, "node1").kubernetes is not None


def test_what_nobody_could_be_asked_says_why() -> None:
    nobody = dict.fromkeys(("other_node", "vm", "from_vm", "far", "back"), "no second node")
    those = facts(probe_results=nobody, path_mtu="no second node", timings="no second node", extra_pod="no room")
    found = {key: cell for key, cell in answers(those).items() if cell.state == "absent"}

    assert {key for key in found} == {
        "other_node", "vm", "from_vm", "cross_node", "cross_node_ttl", "beyond", "path_mtu", "round_trip", "stream",
        "pod_adds", "pod_adds_elsewhere",
    }  # fmt: skip
    assert found["vm"].text == "(no second node)"


def test_an_address_is_told_by_whose_it_is() -> None:
    those = facts()
    told = {text: visibility.owner(those, ip_address(text), "vm") for text in
            ("10.1.0.2", "10.9.0.1", "10.1.0.1", "10.9.0.2", "10.2.0.2", "10.9.255.254", "7.7.7.7")}  # fmt: skip

    assert list(told.values()) == ["pod", "node", "node (br0)", "node2", "c", "fabric", "7.7.7.7, which no machine has"]
    assert visibility.owner(those, ip_address("7.7.7.7"), "internet") == "public address"


def test_a_pod_seen_with_another_address_is_not_its_own() -> None:
    masked = came("a", "b", seen("b/eth0", "in", 64, "10.1.0.1"))

    assert answers(facts(probe_results={"mate": masked}))["peer"].text == "node (br0), its own address"


def test_a_peer_that_is_not_reached_is_told() -> None:
    apart = {"mate": silent("a", "b", seen("node1/va", "in"))}

    assert answers(facts(probe_results=apart))["peer"].text == "its own address; a -> b not reached"
    alone = apart | {"far": "no second node", "back": "no second node"}
    assert answers(facts(probe_results=alone))["peer"].text == "no: it ends in node1"
    assert answers(facts(probe_results=apart))["same_node_ttl"] == Cell("(not reached)", "absent")


@pytest.mark.parametrize(
    ("requests", "told"),
    [
        ([seen("node1/va", "in", 64), seen("node1/eth0", "out", 64), seen("c/eth0", "in", 64)], "switched"),
        ([seen("node1/va", "in", 64), seen("node1/eth0", "out", 63), seen("c/eth0", "in", 62)], "routed by the nodes"),
        (
            [seen("node1/eth0", "out", 64, encap="vxlan 42"), seen("c/eth0", "in", 64)],
            "switched, in VXLAN 42, UDP 4789",
        ),
        (
            [seen("node1/va", "in"), seen("node1/eth0", "out", 63, encap="ipip"), seen("c/eth0", "in", 62)],
            "routed by the nodes, in IP in IP",
        ),
        (
            [seen("node1/va", "in"), seen("node1/flannel0", "out", 63), seen("c/eth0", "in", 62)],
            "routed by the nodes, in a tunnel of flannel0 (tun)",
        ),
    ],
)
def test_how_nodes_are_crossed_is_read_off_what_was_seen(requests: list[Any], told: str) -> None:
    vxlan = Link(port("node1/vx0"), "vxlan", options=(("id", "42"), ("dstport", "4789")))
    other = Link(port("node1/vx1"), "vxlan", options=(("id", "43"), ("dstport", "1")))
    tun = Link(port("node1/flannel0"), "tun")
    those = facts(probe_results={"far": came("a", "c", *requests)}, plan=(*comparing.plan(), other, vxlan, tun))

    assert answers(those)["cross_node"].text == told


def test_two_pods_that_go_different_ways_are_both_told() -> None:
    other = came("b", "c", seen("node1/vb", "in"), seen("node1/eth0", "out", 63), seen("c/eth0", "in", 62))
    found = answers(facts(probe_results={"mate_far": other}))

    assert found["cross_node"].text == "routed by the fabric or by the nodes"
    assert found["cross_node_ttl"].text == "61 or 62"


def test_packets_in_several_numbers_of_one_tunnel_are_told_once() -> None:
    shared = Link(port("node1/cilium_vxlan"), "vxlan", options=(("id", "0"), ("dstport", "8472"), ("external", "")))
    one = came("a", "c", seen("node1/eth0", "out", encap="vxlan 12"), seen("c/eth0", "in"))
    two = came("b", "c", seen("node1/eth0", "out", encap="vxlan 34"), seen("c/eth0", "in"))
    bare = came("b", "c", seen("node1/eth0", "out"), seen("c/eth0", "in"))
    plan = (*comparing.plan(), shared)

    found = answers(facts(probe_results={"far": one, "mate_far": two}, plan=plan))["cross_node"].text
    assert found == "switched, in VXLAN 12 or 34, UDP 8472"
    found = answers(facts(probe_results={"far": one, "mate_far": bare}, plan=plan))["cross_node"].text
    assert found == "switched, in VXLAN 12, UDP 8472 or switched"


def test_a_frame_that_a_switch_flooded_is_no_arrival() -> None:
    flooded, real = seen("c/eth0", "in", 63, other=True), seen("c/eth0", "in", 62)

    assert answers(facts(probe_results={"far": came("a", "c", flooded, real)}))["cross_node_ttl"].text == "62"
    assert answers(facts(probe_results={"far": came("a", "c", flooded)}))["cross_node_ttl"].text == "63"


def test_a_stream_that_is_slow_by_far_has_a_ratio_too() -> None:
    slow = table([facts(), facts(timings=Timings(30e-6, 8e7))])

    assert slow.cells[1][-1].text == "about 0.01"


def test_a_flooded_fabric_did_not_forward() -> None:
    flooded = [seen("a/eth0", "out"), seen("node1/va", "in"), seen("fabric/n1", "in"), seen("b/eth0", "in")]
    turned = [*flooded[:3], seen("fabric/n1", "out"), flooded[3]]

    assert answers(facts(probe_results={"mate": came("a", "b", *flooded)}))["same_node"].text == "switched"
    by_way = answers(facts(probe_results={"mate": came("a", "b", *turned)}))["same_node"].text
    assert by_way == "switched, through the fabric"


# ---- what the kernel's state says ----------------------------------------------------------------------


def gateway(state: str, mac: str, *links: Link, settings: dict[str, dict[str, str]] | None = None) -> str:
    entry = Neighbour(port("a/eth0"), ip_address("169.254.1.1"), mac, state)
    route = Route("a", ip_network("0.0.0.0/0"), ip_address("169.254.1.1"), "eth0")
    rest = [
        item
        for item in comparing.plan()
        if not isinstance(item, Neighbour) and getattr(item, "at", None) not in {link.at for link in links}
        if not (isinstance(item, Route) and item.ns == "a")
    ]
    return placement.gateway(facts(plan=(*rest, *links, entry, route), settings=settings or {})).text


def test_how_a_gateway_is_resolved() -> None:
    end = Link(port("node1/va"), "veth", port("a/eth0"), None, 1500, "02:00:00:00:00:0a")
    proxy = {"node1": {"net.ipv4.conf.va.proxy_arp": "1"}}
    mac = "02:00:00:00:00:0a"

    assert gateway("permanent", mac, end) == "169.254.1.1, permanent neighbour entry: the cable's other end"
    assert gateway("reachable", mac, end, settings=proxy) == "169.254.1.1, proxy ARP of the cable's other end"
    assert gateway("reachable", mac, end) == "169.254.1.1, answered with the MAC address of the cable's other end"
    assert gateway("stale", "02:00:00:00:00:01") == "169.254.1.1, answered with the MAC address of br0"
    assert gateway("stale", "02:99:99:99:99:99").endswith("with the MAC address of an unknown device")


def test_a_gateway_that_the_pod_does_not_know_is_inconclusive() -> None:
    found = placement.gateway(facts(plan=without(Neighbour, comparing.plan())))

    assert found.state == "inconclusive"
    assert placement.gateway(facts(plan=without(Route, comparing.plan()))).text == "(no default route)"


def subnet(**addresses: str) -> str:
    changed = {port(f"{name}/eth0"): ip_interface(text) for name, text in addresses.items()}
    plan = tuple(
        replace(item, addr=changed[item.at], connected=None)
        if isinstance(item, Address) and item.at in changed
        else item
        for item in comparing.plan()
    )
    machines = tuple(
        replace(one, addresses=(changed[at].ip,)) if (at := port(f"{one.name}/eth0")) in changed else one
        for one in MACHINES
    )
    return placement.subnet(facts(plan=plan, lab=replace(LAB, machines=machines))).text


def test_whose_range_a_pods_address_is_of() -> None:
    assert subnet(a="10.9.0.7/16") == "the node's own subnet, 10.9.0.0/16"
    assert subnet(a="10.9.0.7/32") == "the node's own subnet, 10.9.0.0/16"
    assert subnet(a="10.1.0.2/32", c="10.1.0.9/32") == "one range over all nodes, 10.1.0.0/24"
    assert subnet(a="10.1.0.2/24", c="10.1.0.2/24") == "the same range on every node, 10.1.0.0/24"
    alone = facts(roles=replace(CAST, other_node_pod=None))
    single = Route("fabric", ip_network("10.1.0.2/32"), None, "n1")
    assert placement.subnet(facts(plan=(*comparing.plan(), single))).text.startswith(
        "a range per node, 10.1.0.0/24 and"
    )
    assert placement.subnet(alone).text == "a range apart from the node's, 10.1.0.0/24"


def test_pods_that_share_a_namespace_are_named() -> None:
    shared = placement.namespaces(facts(netns_inodes=comparing.SPACES | {"b": comparing.SPACES["a"]}))
    hosted = placement.namespaces(facts(netns_inodes=comparing.SPACES | {"b": comparing.SPACES["node1"]}))
    unknown = placement.namespaces(facts(netns_inodes={"a": 1, "b": 2}))

    assert shared.text == "no: a and b share one"
    assert hosted.text == "no: b in node1's"
    assert (unknown.state, unknown.text) == ("inconclusive", "inconclusive: no namespace of c was found")


def test_a_cable_without_a_bridge_and_a_bridge_elsewhere() -> None:
    routed = tuple(replace(item, master=None) if isinstance(item, Link) else item for item in comparing.plan())
    beside = (*MACHINES, Machine("node1-ov", "machine", (), "node1"))
    moved = tuple(
        replace(item, peer=port("node1-ov/v0")) if isinstance(item, Link) and item.at == port("a/eth0") else item
        for item in comparing.plan()
    )
    ends = (Link(port("node1-ov/v0"), "veth", port("a/eth0"), "br9"), Link(port("node1-ov/br9"), "bridge"))
    who = replace(CAST, pods=("a",))

    assert placement.bridge(facts(plan=routed)).text == "none"
    assert placement.bridge(facts(plan=(*moved, *ends), lab=replace(LAB, machines=beside), roles=who)).text == (
        "br9 (in a namespace beside the node)"
    )


def test_what_the_kernel_brings_and_what_is_learned_does_not_count() -> None:
    plan: Plan = (
        Link(port("n/lo"), "loopback"),
        Rule("n", 0, 255),
        Rule("n", 32766, 254, family=6),
        Rule("n", 100, 7),
        Rule("n", 32766, 7, mark=1),
        Neighbour(port("n/eth0"), ip_address("10.0.0.1"), "02:00:00:00:00:01", "reachable"),
        Neighbour(port("n/eth0"), ip_address("10.0.0.2"), "02:00:00:00:00:01"),
        Address(port("n/lo"), ip_interface("127.0.0.1/8")),
        Address(port("n/eth0"), ip_interface("10.0.0.9/32")),
        Address(port("n/eth0"), ip_interface("10.0.0.9/24"), connected=False),
        Address(port("n/eth0"), ip_interface("10.0.0.9/24")),
    )
    found = cost.count(plan, ("n",))

    assert {kind: number for kind, number in found.items() if number} == {"routing rule": 2, "neighbour": 1, "route": 1}


def test_rules_of_nft_count_as_rules_of_iptables_do() -> None:
    plan: Plan = (
        Chain("n", "nat", "POSTROUTING", (rule("-j MASQUERADE"),)),
        NftObject("n", "ip kube-proxy", "table"),
        NftObject("n", "ip kube-proxy", "chain", "services", entries=("accept", "drop")),
        NftObject("n", "ip kube-proxy", "set", "ips", entries=("10.0.0.1", "10.0.0.2", "10.0.0.3")),
        NftObject("other", "ip kube-proxy", "chain", "services", entries=("accept",)),
    )

    assert {kind: number for kind, number in cost.count(plan, ("n",)).items() if number} == {"firewall rule": 3}


def test_what_a_pod_more_adds_elsewhere_is_told_by_roles() -> None:
    grown = (
        *comparing.plan(),
        Route("fabric", ip_network("10.1.0.9/32"), None, "n1"),
        Neighbour(port("node2/eth0"), ip_address("10.1.0.9"), "02:00:00:00:00:09"),
        Link(port("one-more/eth0"), "veth"),
    )
    found = cost.pod_objects_elsewhere(facts(extra_pod=ExtraPod("one-more", "node1", grown, MACHINES)))

    assert found.text == "each other node: 1 neighbour; the fabric: 1 route"
    assert (found.counts["route"], found.counts["neighbour"], found.counts["link"]) == (1, 1, 0)


def test_no_largest_packet_without_a_refusal() -> None:
    unsure = answers(facts(path_mtu=PathMtu(1400, ("1401 bytes: no reply",), proven=False)))["path_mtu"]

    assert unsure.state == "inconclusive"
    assert "1400" not in unsure.text


# ---- the table -----------------------------------------------------------------------------------------


def test_times_are_relative_to_the_first_lab_that_has_them() -> None:
    slow = facts(timings=Timings(45e-6, 4e9), title="slow")
    alone = facts(timings="no second node", title="alone")
    made = table([alone, facts(), slow])
    rows = [row.key for row in made.rows]
    texts = [[column[rows.index(key)].text for column in made.cells] for key in ("round_trip", "stream")]

    assert texts == [
        ["(no second node)", "1 (about 30 us)", "about 1.5"],
        ["(no second node)", "1 (about 8.0 Gbit/s)", "about 0.5"],
    ]
    assert any("relative to kubenet" in line for line in comparison.notes(made))
    assert not any("relative" in line for line in comparison.notes(table([alone])))


def test_few_labs_stand_side_by_side_and_of_many_each_is_a_row() -> None:
    few, many = table([facts()] * 3), table([facts()] * 5)
    (one,) = comparison.sections(few)

    assert len(one.columns) == 4
    assert len(one.rows) == len(ROWS)
    assert len(comparison.sections(few, 100)) == 1
    turned = comparison.sections(many)
    assert [section.title for section in turned] == list(dict.fromkeys(row.group for row in ROWS))
    assert {len(section.rows) for section in turned} == {5}
    assert sum(len(section.columns) - 1 for section in turned) == len(ROWS)
    assert len(comparison.sections(few, 60)) > 1


def test_a_skipped_lab_says_why_and_answers_nothing() -> None:
    made = table([facts(), SKIPPED])

    assert {cell.state for cell in made.cells[1]} == {"skipped"}
    assert "calico: skipped, this kernel lacks ipip, needed for tunnels" in list(comparison.notes(made))
    assert comparison.tally(made).startswith("1 lab measured, 1 skipped in ")
    turned = comparison.sections(table([facts()] * 5 + [SKIPPED]))
    assert all("calico" not in row[0] for section in turned for row in section.rows)


def test_what_was_built_otherwise_is_said() -> None:
    assert (
        "kubenet: approximate, because the kernel lacks vlan: the tenants' VLANs; instead: a veth for each tenant"
    ) in list(comparison.notes(table([facts()])))


def test_the_evidence_names_what_it_is_for() -> None:
    lines = list(comparison.evidence_lines(table([facts()])))

    at = lines.index("kubenet, by another node: node")
    assert lines[at + 1] == "    seen entering node2/eth0: 10.9.0.1 > 10.2.0.2 ttl 62"


def test_a_page_has_tables_that_nothing_breaks() -> None:
    bar = facts(title="a|b")
    lines = list(comparison.markdown(table([bar])))

    assert "|  | a\\|b |" in lines
    assert len([line for line in lines if line.startswith("| ") and line.endswith(" |")]) >= len(ROWS)


@pytest.mark.parametrize(
    ("text", "look"), [("(no vm)", "dim"), ("skipped", "dim"), ("inconclusive: lost", "yellow"), ("pod", "")]
)
def test_what_is_missing_looks_so(text: str, look: str) -> None:
    assert comparison.style(text) == look


@pytest.mark.parametrize(
    ("name", "beyond"), [("flannel", "d"), ("kubenet", None), ("gke-vpc-native", None), ("docker-bridge", None)]
)
def test_who_is_behind_a_router_is_told_by_the_subnets(name: str, beyond: str | None) -> None:
    who = find_roles(lifecycle.compile_definition(lifecycle.define(name)))

    assert who is not None
    assert who.routed_pod == beyond

"""AKS's address plan: the arithmetic of Azure's documentation, and what the models allocate, print and refuse."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

from labctl.core.address_use import AddressUse
from labctl.core.resources import Address, Chain, Route
from labctl.core.scenario_types import Lab
from labctl.errors import ScenarioError
from labctl.models import find_model
from labctl.models.lib import azure_address_plan as plan
from labctl.report.json_documents import plan_document
from labctl.report.up_status import address_use_table
from labctl.scenario.definition import parse_and_compile
from tests.support.paths import ROOT

DYNAMIC, STATIC = "pod-subnet", "pod-subnet-static-block"
TRANSPARENT = "model: azure-cni-transparent\n"


def lab(text: str) -> Lab:
    return parse_and_compile(TRANSPARENT + text, "t.yaml")[1]


def problems(text: str, model: str = TRANSPARENT) -> list[tuple[int, str, str]]:
    with pytest.raises(ScenarioError) as caught:
        parse_and_compile(model + text, "t.yaml")
    return [(one.line, one.what, one.hint) for one in caught.value.problems]


def fabric_routes(built: Lab, node: str) -> list[str]:
    """The fabric's routes to pods at the NIC of a node."""
    return [
        str(item.dst)
        for item in built.plan
        if isinstance(item, Route) and item.ns == "fabric" and item.dev == node and item.via is not None
    ]


# ---- the arithmetic, with the numbers of the documentation ---------------------------------------------------


@pytest.mark.parametrize(
    ("nodes", "max_pods", "needed", "prefix"),
    [(50, 30, 1581, 21), (60, 30, 1891, 21), (8, 30, 279, 23), (7, 30, 248, 24)],  # the first two: "IP address sizing"
)
def test_the_nodes_subnet_holds_every_pod_that_may_come(nodes: int, max_pods: int, needed: int, prefix: int) -> None:
    assert plan.addresses_needed("node-subnet", nodes, max_pods) == plan.AddressCount(needed)
    assert plan.prefix_length_for(needed) == prefix


def test_a_24_holds_eight_nodes_of_30_pods_if_none_is_upgraded() -> None:
    usable = plan.usable_addresses(IPv4Network("10.0.0.0/24"))
    assert usable == 251
    assert plan.addresses_needed("node-subnet", 8, 30, surge=0).node_subnet <= usable
    assert plan.addresses_needed("node-subnet", 9, 30, surge=0).node_subnet > usable


@pytest.mark.parametrize(
    ("pods", "addresses"),
    [(0, 16), (8, 16), (9, 32), (24, 32), (25, 48), (41, 64)],  # 25 pods: the example of 2-scalingmath.md
)
def test_a_node_asks_for_another_batch_when_fewer_than_8_addresses_are_free(pods: int, addresses: int) -> None:
    assert plan.dynamic_addresses(pods, 250) == addresses
    assert addresses - pods >= plan.MIN_FREE
    assert plan.dynamic_addresses(pods - 1, 250) == addresses or pods in (0, 9, 25, 41)


def test_a_node_never_has_more_addresses_than_it_can_use() -> None:
    assert plan.dynamic_addresses(25, 30) == 31
    assert plan.dynamic_addresses(250, 250) == 251
    assert all(pods < plan.dynamic_addresses(pods, most) for most in (10, 30, 110, 250) for pods in range(most + 1))


@pytest.mark.parametrize(("max_pods", "blocks", "wasted"), [(30, 2, 1), (31, 2, 0), (32, 3, 15), (250, 16, 5)])
def test_blocks_of_a_node(max_pods: int, blocks: int, wasted: int) -> None:
    """The first three rows are those of the documentation's table."""
    assert plan.blocks_per_node(max_pods) == blocks
    assert blocks * plan.BLOCK - 1 - max_pods == wasted


def test_a_12_of_blocks_is_a_million_pods_and_no_more_addresses_than_a_network_may_have() -> None:
    subnet = IPv4Network("10.16.0.0/12")
    assert subnet.num_addresses // plan.BLOCK == plan.MAX_VNET_ADDRESSES
    assert plan.usable_blocks(subnet) * plan.BLOCK > 1_000_000
    assert plan.usable_blocks(IPv4Network("10.0.0.0/28")) == 0
    assert plan.prefix_length_for_blocks(21) == 23
    assert plan.usable_blocks(IPv4Network("10.0.0.0/23")) >= 21 > plan.usable_blocks(IPv4Network("10.0.0.0/24"))


@pytest.mark.parametrize(
    ("allocation", "node_subnet", "pod_range"),
    [("overlay", 51, 51 * 256), ("kubenet", 51, 51 * 256), (DYNAMIC, 51, 51 * 31), (STATIC, 51, 51 * 32)],
)
def test_pods_outside_of_the_nodes_subnet(allocation: plan.Allocation, node_subnet: int, pod_range: int) -> None:
    assert plan.addresses_needed(allocation, 50, 30) == plan.AddressCount(node_subnet, pod_range)
    assert plan.addresses_needed(allocation, 50, 30, surge=10).node_subnet == 60
    assert plan.addresses_needed("kubenet", 3, 30, surge=0, node_prefix=26).pod_range == 3 * 64


@pytest.mark.parametrize(
    ("service", "dns", "words"),
    [
        ("10.0.0.0/16", "10.0.0.10", []),
        ("10.0.0.0/13", "10.0.0.10", []),
        ("10.96.0.0/12", "10.96.0.10", ["10.96.0.0/12 is too large"]),
        ("172.30.8.0/24", None, ["overlaps 172.30.0.0/16, which AKS reserves"]),
        ("10.224.8.0/24", None, ["overlaps subnet 10.224.0.0/16"]),
        ("10.0.0.0/16", "10.0.0.1", ["10.0.0.1 is the first address of the Service range"]),
        ("10.0.0.0/16", "10.1.0.10", ["10.1.0.10 is not in the Service range 10.0.0.0/16"]),
    ],
)
def test_what_a_range_of_services_cannot_be(service: str, dns: str | None, words: list[str]) -> None:
    address = None if dns is None else IPv4Address(dns)
    found = plan.service_range_problems(IPv4Network(service), address, {"subnet": IPv4Network("10.224.0.0/16")})
    assert [what for what, _ in found if any(word in what for word in words)] == [what for what, _ in found]
    assert len(found) == len(words)


@pytest.mark.parametrize(
    ("text", "count"),
    [("169.254.7.0/24", 1), ("172.16.0.0/12", 2), ("192.0.2.0/25", 1), ("172.29.0.0/16", 0), ("10.0.0.0/8", 0)],
)
def test_reserved_ranges_and_the_ranges_around_them(text: str, count: int) -> None:
    assert len(plan.reserved_ranges_in(IPv4Network(text))) == count


# ---- the pod subnet in labs --------------------------------------------------------------------------------


def test_dynamic_allocation_gives_a_node_batches_of_single_addresses() -> None:
    built = lab("nodes: {node1: {pods: 9}, node2: {pods: [c]}}\nip_allocation: pod-subnet\n")
    assert fabric_routes(built, "node1") == [f"10.226.0.{number}/32" for number in range(4, 36)]  # two batches
    assert fabric_routes(built, "node2") == [f"10.226.0.{number}/32" for number in range(36, 52)]  # one
    assert str(built.machine("pod1-1").addresses[0]) == "10.226.0.5"  # type: ignore[union-attr]
    assert str(built.machine("c").addresses[0]) == "10.226.0.37"  # type: ignore[union-attr]
    assert [str(built.machine(name).addresses[0]) for name in ("node1", "node2")] == ["10.224.0.4", "10.224.0.5"]  # type: ignore[union-attr]


def test_static_blocks_are_whole_from_the_start() -> None:
    built = lab(
        "nodes: {node1: {pods: [a]}, node2: {pods: [c]}}\nip_allocation: pod-subnet-static-block\nmax_pods: 31\n"
    )
    assert fabric_routes(built, "node1") == ["10.226.0.16/28", "10.226.0.32/28"]
    assert fabric_routes(built, "node2") == ["10.226.0.48/28", "10.226.0.64/28"]
    assert [str(built.machine(name).addresses[0]) for name in "ac"] == ["10.226.0.17", "10.226.0.49"]  # type: ignore[union-attr]
    default = lab("nodes: [node1]\nip_allocation: pod-subnet-static-block\n")
    assert len(fabric_routes(default, "node1")) == 7  # 110 pods, Azure's default


def test_a_node_with_a_pod_subnet_masquerades_nothing_but_requests_to_the_platform() -> None:
    built = lab("nodes: {node1: {pods: [a]}}\nip_allocation: pod-subnet\n")
    nat = {
        item.name: list(map(str, item.rules)) for item in built.plan if isinstance(item, Chain) and item.ns == "node1"
    }
    assert nat["POSTROUTING"] == ["-j SWIFT-POSTROUTING"]
    assert [(rule.split()[3], rule.split()[5], rule.split()[-1]) for rule in nat["SWIFT-POSTROUTING"]] == [
        ("168.63.129.16/32", "udp", "10.224.0.4"),
        ("168.63.129.16/32", "tcp", "10.224.0.4"),
        ("169.254.169.254/32", "tcp", "10.224.0.4"),
    ]
    routes = [item for item in built.plan if isinstance(item, Route) and item.ns == "node1"]
    assert [(str(item.dst), str(item.via)) for item in routes if item.via] == [
        ("0.0.0.0/0", "10.224.0.1"),
        ("10.226.0.0/16", "10.224.0.1"),
    ]
    (address,) = (item for item in built.plan if isinstance(item, Address) and item.ns == "a")
    assert str(address.addr) == "10.226.0.5/16"


def test_a_pod_has_no_address_that_azure_reserves_or_that_belongs_to_another_node() -> None:
    for allocation in (DYNAMIC, STATIC):
        built = lab(
            f"nodes: {{count: 5, pods: 30}}\nip_allocation: {allocation}\nmax_pods: 30\npod_subnet: 10.226.0.0/23\n"
        )
        pods = [machine for machine in built.machines if machine.role == "pod"]
        subnet = IPv4Network("10.226.0.0/23")
        reserved = {subnet[number] for number in (0, 1, 2, 3, -1)}
        assert len({machine.addresses[0] for machine in pods}) == 150
        for machine in pods:
            owners = [
                node
                for node in (f"node{number}" for number in range(1, 6))
                if any(machine.addresses[0] in IPv4Network(prefix) for prefix in fabric_routes(built, node))
            ]
            assert owners == [machine.on]
            assert machine.addresses[0] not in reserved


@pytest.mark.parametrize(
    ("text", "line", "what", "hint"),
    [
        (
            "nodes: {node1: {pods: 20}, node2: {pods: 20}}\nip_allocation: pod-subnet\npod_subnet: 10.226.0.0/26\n", 4,
            "node2 needs 1 more batch of 16 for its 20 pods, but pod_subnet 10.226.0.0/26 has 27 addresses left",
            "64 for 2 nodes + 16 for upgrades = 80, and Azure reserves 5: a /25 is large enough",
        ),
        (
            "nodes: {node1: {pods: 2}, node2: {pods: 20}}\nip_allocation: pod-subnet\npod_subnet: 10.226.0.0/28\n", 4,
            "node1 needs 1 more batch of 16 for its 2 pods, but pod_subnet 10.226.0.0/28 has 11 addresses left",
            "48 for 2 nodes + 16 for upgrades = 64, and Azure reserves 5: a /25 is large enough",
        ),
        (
            "nodes: [node1]\nip_allocation: pod-subnet\npod_subnet: 10.226.0.0/27\n", 4,
            "pod_subnet 10.226.0.0/27 has 11 addresses left for upgrades, and a new node needs 16",
            "16 for 1 node + 16 for upgrades = 32, and Azure reserves 5: a /26 is large enough",
        ),
        (
            "nodes: {count: 2}\nip_allocation: pod-subnet-static-block\npod_subnet: 10.226.0.0/25\n", 4,
            "pod_subnet 10.226.0.0/25 has 6 blocks of /28, but 2 nodes of 110 pods need 21",
            "(2 + 1 for upgrades) x 7 = 21, and the first and the last block have addresses that Azure reserves:"
            " a /23 is large enough",
        ),
        (
            "nodes: [n]\nip_allocation: pod-subnet\npod_subnet: 10.226.0.0/15\n", 4,
            "pod_subnet 10.226.0.0/15 is larger than the /16 that dynamic allocation allows",
            "a /16 has 65536 addresses; use ip_allocation: pod-subnet-static-block, or a smaller range",
        ),
        (
            "nodes: [n]\nip_allocation: pod-subnet\nvm_cidr: 10.226.0.0/16\n", 4,
            "vm_cidr 10.226.0.0/16 overlaps pod_subnet 10.226.0.0/16", "give each a separate range",
        ),
        (
            "nodes: [n]\nip_allocation: pod-subnet\npod_subnet: 10.9.0.0/16\n", 4,
            "pod_subnet 10.9.0.0/16 is not in vnet_cidr 10.224.0.0/12",
            "set vnet_cidr to a range that contains all subnets",
        ),
        (
            "nodes: {count: 7}\nip_allocation: pod-subnet\nsubnet: 10.224.0.0/28\nvm_cidr: 10.225.0.0/16\n", 0, "", "",
        ),
        (
            "nodes: {count: 11}\nip_allocation: pod-subnet\nsubnet: 10.224.0.0/28\n", 4,
            "subnet 10.224.0.0/28 is too small for 11 nodes",
            "11 + 1 for upgrades, and Azure reserves 5: a /27 is large enough; 10 nodes fit in 10.224.0.0/28",
        ),
        (
            "nodes: {node1: {pods: 31}}\nip_allocation: pod-subnet\nmax_pods: 30\n", 2,
            "node1 has 31 pods, but max_pods is 30", "spread them over 2 nodes, or raise max_pods",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_at_its_place(text: str, line: int, what: str, hint: str) -> None:
    if line:
        assert problems(text) == [(line, what, hint)]
    else:
        assert lab(text).plan


def test_a_subnet_of_blocks_may_be_a_12_and_no_larger() -> None:
    text = "nodes: [n]\nip_allocation: pod-subnet-static-block\nvnet_cidr: 10.0.0.0/8\npod_subnet: 10.{}\n"
    assert fabric_routes(lab(text.format("16.0.0/12")), "n")[0] == "10.16.0.16/28"
    assert [what for _, what, _ in problems(text.format("16.0.0/11").replace("10.16", "10.32"))] == [
        "pod_subnet 10.32.0.0/11 is larger than the /12 that static block allocation allows"
    ]


def test_a_virtual_network_is_at_most_an_8() -> None:
    assert [what for _, what, _ in problems("nodes: [n]\nvnet_cidr: 10.0.0.0/7\n")] == [
        "vnet_cidr 10.0.0.0/7 is too large for a virtual network"
    ]


def test_a_pod_subnet_that_nobody_uses_is_not_looked_at() -> None:
    assert lab("nodes: {node1: {pods: [a]}}\npod_subnet: 10.9.0.0/16\n").plan


@pytest.mark.parametrize(("allocation", "most"), [("node-subnet", 30), (DYNAMIC, 110), (STATIC, 110)])
def test_the_maximum_of_pods_is_azures_default(allocation: str, most: int) -> None:
    assert find_model("azure-cni-transparent").Options(ip_allocation=allocation).pods_per_node == most
    assert find_model("azure-cni-transparent").Options(ip_allocation=allocation, max_pods=77).pods_per_node == 77
    assert [what for _, what, _ in problems(f"nodes: {{n: {{pods: {most + 1}}}}}\nip_allocation: {allocation}\n")] == [
        f"n has {most + 1} pods, but max_pods is {most}"
    ]


# ---- the table of addresses --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("model: azure-cni-transparent\n", [("subnet", 65531, [2, 60, 31], 65438)]),
        ("model: azure-cni-bridge\nmax_pods: 10\n", [("subnet", 65531, [2, 20, 11], 65498)]),
        ("model: azure-cni-overlay\n", [("node_cidr", 65531, [2, 1], 65528), ("pod_cidr", 65536, [512], 65024)]),
        (
            "model: kubenet\nnode_prefix: 26\n",
            [("node_cidr", 65531, [2, 1], 65528), ("pod_cidr", 65536, [128], 65408)],
        ),
        (
            "model: azure-cni-transparent\nip_allocation: pod-subnet\n",
            [("subnet", 65531, [2, 1], 65528), ("pod_subnet", 65531, [32, 16, 16], 65467)],
        ),
        (
            "model: azure-cni-transparent\nip_allocation: pod-subnet-static-block\nmax_pods: 15\n",
            [("subnet", 65531, [2, 1], 65528), ("pod_subnet", 65504, [16, 16, 16], 65456)],
        ),
    ],
)
def test_every_model_of_aks_says_how_many_addresses_it_takes(text: str, rows: list[tuple[Any, ...]]) -> None:
    built = parse_and_compile(text + "nodes: {node1: {pods: 9}, node2: {pods: [c]}}\n", "t.yaml")[1]
    found = [(one.option, one.usable, [size for _, size in one.taken], one.left) for one in built.address_use]
    assert found == rows
    assert [row[0] for row in address_use_table(built).rows] == [row[0] for row in rows]
    assert [row["left"] for row in plan_document(built)["addresses"]] == [row[3] for row in rows]


def test_the_table_names_few_nodes_and_counts_many() -> None:
    (_, few) = lab("nodes: {node1: {pods: 9}, node2: {pods: [c]}}\nip_allocation: pod-subnet\n").address_use
    assert [who for who, _ in few.taken] == ["for node1 (2 batches)", "for node2 (1 batch)", "for upgrades"]
    (_, many) = lab("nodes: {count: 7, pods: 9}\nip_allocation: pod-subnet-static-block\n").address_use
    assert many.taken == (("for 7 nodes (7 blocks each)", 784), ("for upgrades", 112))


def test_what_is_left_may_be_nothing() -> None:
    assert AddressUse("subnet", IPv4Network("10.0.0.0/29"), 3, (("nodes", 2), ("for upgrades", 1))).left == 0


# ---- the page ----------------------------------------------------------------------------------------------


def page_rows() -> dict[str, list[str]]:
    """The rows of the table of ways in docs/aks-addresses.md, by Azure's name."""
    lines = (ROOT / "docs/aks-addresses.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("| ")]
    return {row[0]: row for row in rows if len(row) == 9 and "`" in row[1]}


@pytest.mark.parametrize(
    ("name", "allocation"),
    [
        ("Azure CNI Overlay", "overlay"),
        ("Azure CNI Pod Subnet, dynamic allocation", DYNAMIC),
        ("Azure CNI Pod Subnet, static block allocation", STATIC),
        ("Azure CNI Node Subnet", "node-subnet"),
        ("kubenet", "kubenet"),
    ],
)
def test_the_page_has_the_numbers_of_the_arithmetic(name: str, allocation: plan.Allocation) -> None:
    row, limits, needed = page_rows()[name], plan.LIMITS[allocation], plan.addresses_needed(allocation, 50, 30)
    numbers = [int(word.replace(",", "")) for word in re.findall(r"[\d,]*\d", row[8])]
    assert numbers == [one for one in (needed.node_subnet, needed.pod_range) if one]
    assert [int(word) for word in row[3].split(", ")] == [limits.default_max_pods, plan.MAX_MAX_PODS]
    assert int(row[4].replace(",", "")) == limits.max_nodes


# ---- the range of Services ---------------------------------------------------------------------------------

SERVICES = "nodes: {node1: {pods: [a]}}\nservices: {web: {selector: {app: web}, ports: [80]}}\nservice_cidr: "


@pytest.mark.parametrize("model", ["kubenet", "azure-cni-bridge", "azure-cni-transparent", "azure-cni-overlay"])
@pytest.mark.parametrize(
    ("cidr", "words"),
    [
        ("10.96.0.0/12", "the Service range 10.96.0.0/12 is too large"),
        ("172.30.0.0/24", "the Service range 172.30.0.0/24 overlaps 172.30.0.0/16, which AKS reserves"),
        ("10.225.128.0/20", "10.225.128.0/20 overlaps 10.225.0.0/16, the network of vm/eth0"),
    ],
)
def test_aks_refuses_ranges_of_services_at_their_place(model: str, cidr: str, words: str) -> None:
    found = problems(SERVICES + cidr + "\n", f"model: {model}\n")
    assert (4, f"scenario: service_cidr[0]: {words}") in [(line, what) for line, what, _ in found]


@pytest.mark.parametrize(
    ("model", "cidr", "words"),
    [
        ("azure-cni-transparent", "10.230.0.0/20", "overlaps vnet_cidr 10.224.0.0/12"),
        ("azure-cni-bridge", "10.230.0.0/20", "overlaps vnet_cidr 10.224.0.0/12"),
        ("kubenet", "10.244.99.0/24", "overlaps pod_cidr 10.244.0.0/16"),
    ],
)
def test_a_range_of_services_may_not_be_one_that_the_cluster_can_grow_into(model: str, cidr: str, words: str) -> None:
    assert [what.partition(" range ")[2] for _, what, _ in problems(f"{SERVICES}{cidr}\n", f"model: {model}\n")] == [
        f"{cidr} {words}"
    ]


def test_other_models_and_good_ranges_are_not_refused() -> None:
    assert lab(f"{SERVICES}10.0.0.0/16\n").kubernetes is not None
    text = f"model: flannel\n{SERVICES}172.30.0.0/24\n"
    assert parse_and_compile(text, "t.yaml")[1].kubernetes is not None

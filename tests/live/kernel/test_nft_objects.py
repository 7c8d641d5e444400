"""Tables of nft in the kernel: written in one stroke, read back, repaired; beside iptables and beside strangers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from labctl.core import nft_objects as nft
from labctl.core.diff import Change, diff
from labctl.core.iptables import BACKENDS, Backend, rule
from labctl.core.resources import Chain, Interface, Link, Netns, NftObject, Plan, assemble
from labctl.errors import KernelError
from labctl.kernel.firewall import commands
from labctl.kernel.firewall.kernel_spelling import create_devices
from labctl.kernel.host import lab_state, paths
from labctl.kernel.lab_kernel import KernelLab
from labctl.kernel.netlink import dump, messages
from labctl.kernel.netlink.rtnetlink import Channel
from labctl.render.resources import change_lines

pytestmark = pytest.mark.firewall

LAB, NODE = "native", "n"
NAT, FILTER = "ip nat-of-lab", "inet filter-of-lab"
PLAN: Plan = assemble([
    Netns(NODE),
    nft.table(NODE, NAT, comment="the lab's"),
    nft.set_(NODE, NAT, "pods", ("10.0.0.0/24", "10.0.1.7"), type="ipv4_addr", settings=("flags interval",)),
    nft.map_(NODE, NAT, "ports", ("80 : jump web", "443 : drop"), type="inet_service : verdict"),
    nft.base_chain(
        NODE, NAT, "output", ("tcp dport vmap @ports",), type="nat", hook="output", priority="dstnat"
    ),
    nft.chain(NODE, NAT, "web", ("ip saddr @pods tcp dport 80 counter dnat to 10.0.0.2:8080",)),
    nft.base_chain(
        NODE,
        FILTER,
        "forward",
        ('ct state established,related accept comment "answers"', "tcp dport { 22, 80 } accept"),
        type="filter",
        hook="forward",
        priority="filter - 5",
        policy="drop",
    ),
    Chain(NODE, "filter", "FORWARD", (rule("-p tcp -j ACCEPT"),), "DROP"),
])  # fmt: skip


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """The back end of iptables in a lab that has the plan."""
    name: Backend = request.param
    try:
        with opened(name) as kernel:
            kernel.apply(diff(PLAN, ()))
        yield name
    finally:
        with KernelLab(LAB) as kernel:
            kernel.destroy()
        lab_state.remove_files(LAB)
    assert paths.labs() == {}


def opened(backend: Backend) -> KernelLab:
    kernel = KernelLab(LAB)
    kernel.__dict__["backend"] = backend  # there is no record of this lab
    return kernel


def nft_in_node(backend: Backend, script: str) -> str:
    with opened(backend) as kernel:
        done = kernel.thread.run(paths.netns_path(LAB, NODE), commands.run, [commands.find("nft"), "-f", "-"], script)
    assert not done.returncode, done.stderr
    return str(done.stdout)


def differences(backend: Backend) -> tuple[Change, ...]:
    with opened(backend) as kernel:
        return diff(PLAN, kernel.observe(PLAN))


def repair(backend: Backend) -> list[str]:
    """Repair the lab; what was different, as `status` says it."""
    with opened(backend) as kernel:
        changes = diff(PLAN, kernel.observe(PLAN))
        kernel.apply(changes)
    assert differences(backend) == ()
    return [str(line) for change in changes for line in change_lines(change)]


def test_both_firewalls_of_a_namespace_are_as_planned(backend: Backend) -> None:
    assert differences(backend) == ()
    listed = nft_in_node(backend, f"list table {NAT}\n")
    assert 'comment "the lab\'s"' in listed
    assert "80 : jump web" in listed


def test_what_nft_changes_is_told_rule_by_rule_and_repaired(backend: Backend) -> None:
    nft_in_node(
        backend,
        f"flush chain {FILTER} forward\nadd rule {FILTER} forward tcp dport {{ 22, 80 }} accept\n"
        f"delete element {NAT} ports {{ 443 }}\nadd element {NAT} pods {{ 192.0.2.0/24 }}\n",
    )

    assert sorted(repair(backend)) == [
        "extra nft element ip nat-of-lab pods { 192.0.2.0/24 }",
        "missing nft element ip nat-of-lab ports { 443 : drop }",
        'missing nft rule inet filter-of-lab forward ct state established,related accept comment "answers"',
    ]


def test_a_chain_that_is_gone_comes_back_with_the_rules_that_jump_to_it(backend: Backend) -> None:
    nft_in_node(backend, f"delete element {NAT} ports {{ 80 }}\nflush chain {NAT} web\ndelete chain {NAT} web\n")

    assert sorted(repair(backend)) == [
        "missing nft chain ip nat-of-lab web",
        "missing nft element ip nat-of-lab ports { 80 : jump web }",
        "missing nft rule ip nat-of-lab web ip saddr @pods tcp dport 80 counter dnat to 10.0.0.2:8080",
    ]


def test_a_set_of_another_type_is_made_again_under_its_rules(backend: Backend) -> None:
    nft_in_node(
        backend,
        f"flush chain {NAT} web\ndelete set {NAT} pods\nadd set {NAT} pods {{ type ipv4_addr; }}\n"
        f"add element {NAT} pods {{ 10.0.1.7 }}\n"
        f"add rule {NAT} web ip saddr @pods tcp dport 80 counter dnat to 10.0.0.2:8080\n",
    )

    told = repair(backend)
    assert any("nft set ip nat-of-lab pods" in line and "flags interval" in line for line in told)


def test_a_policy_is_repaired_in_place(backend: Backend) -> None:
    nft_in_node(backend, f"add chain {FILTER} forward {{ policy accept; }}\n")

    told = repair(backend)
    assert len(told) == 1
    assert "policy accept" in told[0]


def test_a_strange_table_is_extra_as_a_whole_and_goes(backend: Backend) -> None:
    nft_in_node(backend, "table inet theirs {\nset s {\ntype ipv4_addr\n}\nchain c {\ndrop\n}\n}\n")

    told = repair(backend)
    assert len(told) == 1
    assert told[0].startswith("extra nft table inet theirs")


def test_a_table_that_is_gone_comes_back(backend: Backend) -> None:
    nft_in_node(backend, f"delete table {NAT}\n")

    assert "missing nft table ip nat-of-lab" in repair(backend)


def test_counted_packets_are_no_difference(backend: Backend) -> None:
    rule = "ip saddr @pods tcp dport 80 counter packets 7 bytes 90 dnat to 10.0.0.2:8080"
    nft_in_node(backend, f"flush chain {NAT} web\nadd rule {NAT} web {rule}\n")

    assert differences(backend) == ()


def test_a_refused_text_changes_nothing(backend: Backend) -> None:
    bad = NftObject(NODE, NAT, "chain", "web", (), ("tcp dport 80 jump nowhere",))
    wanted = next(item for item in PLAN if isinstance(item, NftObject) and item.name == "web")

    with opened(backend) as kernel:
        kernel.observe(PLAN)
        with pytest.raises(KernelError, match="cannot write rules of nft in n"):
            kernel.apply([Change(bad, wanted)])

    assert differences(backend) == ()


def test_nft_spells_the_texts_of_a_plan() -> None:
    plan = assemble([Netns(NODE), nft.chain(NODE, NAT, "c", ("tcp dport {80,22} accept", "ip saddr 10.0.0.0/8 drop"))])

    with KernelLab(LAB) as kernel:
        spelled = kernel.kernel_spelling(plan)

    chain = spelled["nft", NODE, NAT, "chain", "c"]
    assert isinstance(chain, NftObject)
    assert chain.entries == ("tcp dport { 22, 80 } accept", "ip saddr 10.0.0.0/8 drop")


def test_devices_that_rules_name_are_made_beside_those_of_modules(fresh: Callable[..., Any]) -> None:
    """Modules for tunnels have devices in every new namespace, from number 2 on."""
    rule = 'iif "eth0" oif { "eth1", "lo" } accept'
    objects = (nft.chain("n", NAT, "c", (rule,)),)

    def work() -> set[str]:
        channel = Channel()
        try:
            taken = Link(Interface("", "tunl0"), "bridge")
            channel.queue(messages.create_link(taken, None, 2, 0, None, lambda dev: 0), taken)
            assert channel.flush() == []
            create_devices(objects)
            return {link.name for link in dump.links(channel)}
        finally:
            channel.close()

    assert {"tunl0", "eth0", "eth1"} <= fresh(work)


@pytest.mark.parametrize(
    ("family", "hook", "name"),
    [
        ("ip", "prerouting", "raw"),
        ("ip", "prerouting", "mangle"),
        ("ip", "prerouting", "dstnat"),
        ("inet", "forward", "filter"),
        ("ip6", "forward", "security"),
        ("ip", "postrouting", "srcnat"),
        ("bridge", "prerouting", "dstnat"),
        ("bridge", "forward", "filter"),
        ("bridge", "output", "out"),
        ("bridge", "postrouting", "srcnat"),
    ],
)
def test_names_of_priorities_mean_what_nft_makes_of_them(family: str, hook: str, name: str) -> None:
    named = nft.base_chain(NODE, f"{family} t", "c", type="filter", hook=hook, priority=name)
    plan = assemble([Netns(NODE), named])

    with KernelLab(LAB) as kernel:
        spelled = kernel.kernel_spelling(plan)[named.key]  # written as a number, read as nft names it

    assert isinstance(spelled, NftObject)
    assert spelled.header == named.header

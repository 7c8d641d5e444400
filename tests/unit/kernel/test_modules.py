"""Which kernel modules a plan needs, and what is undone after loading them; on a machine made of files."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest

from labctl.core.features import kernel_module
from labctl.core.iptables import rule
from labctl.core.resources import Chain, Interface, Link, Netns, NftObject, Sysctl
from labctl.errors import KernelError
from labctl.kernel import leftovers
from labctl.kernel.host import modules

PLAN = (
    Netns("n"),
    Link(Interface("n", "lo"), "loopback"),
    Link(Interface("n", "eth0"), "veth"),
    Link(Interface("n", "br0"), "bridge"),
    Link(Interface("n", "eth0.5"), "vlan"),
    Sysctl("n", "net.ipv4.ip_forward", "1"),
    Chain("n", "nat", "POSTROUTING", (rule("-p tcp --dport 80 -j DNAT --to-destination 1.2.3.4"), rule("-j MINE"))),
    Chain("n", "nat", "MINE", (rule("-m comment --comment '-m x' -j MASQUERADE"),)),
    Chain("n", "filter", "FORWARD", (rule("-j REJECT", "ip6"),), family="ip6"),
)
TABLES = ("ip_tables", "iptable_nat")
EXTENSIONS = ("xt_tcpudp", "xt_nat", "xt_comment", "xt_MASQUERADE")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine that has only veth loaded, and loads whatever it is asked for."""
    (tmp_path / "proc/sys/net/bridge").mkdir(parents=True)
    (tmp_path / "sys/module/veth").mkdir(parents=True)
    (tmp_path / "proc/modules").write_text("veth 1 0 - Live 0x0\n")
    for name in modules.BRIDGE_CALLS:
        (tmp_path / "proc/sys" / name.replace(".", "/")).write_text("1\n")

    def load(names: tuple[str, ...]) -> None:
        with open(tmp_path / "proc/modules", "a") as listed:
            listed.writelines(f"{name} 1 0 - Live 0x0\n" for name in names if not name.startswith("xt_"))

    monkeypatch.setattr(modules, "_modprobe", load)
    monkeypatch.setenv("LABCTL_STATE_DIR", str(tmp_path / "state"))
    return tmp_path


def test_what_a_plan_needs() -> None:
    assert modules.modules_for(PLAN) == (
        "veth", "bridge", "8021q", *TABLES, "ip6_tables", "ip6table_filter", *EXTENSIONS, "ip6t_REJECT",
    )  # fmt: skip


def test_bridged_packets_in_iptables_need_br_netfilter() -> None:
    assert modules.modules_for([Sysctl("n", "net.bridge.bridge-nf-call-iptables", "1")]) == ("br_netfilter",)
    physical = Chain("n", "filter", "FORWARD", (rule("-m physdev --physdev-is-bridged -j ACCEPT"),))
    assert "br_netfilter" in modules.modules_for([physical])
    assert "br_netfilter" not in modules.modules_for(PLAN)
    assert "nft_compat" in modules.modules_for([Chain("n", "filter", "OUTPUT", family="bridge")])


def test_ebtables_has_extensions_of_its_own() -> None:
    rules = ("-p ARP --arp-op Request -j arpreply", "-p IPv4 --ip-dst 10.0.0.5 -j dnat --to-dst 2:0:0:0:0:1", "-j MINE")
    chain = Chain("n", "nat", "PREROUTING", tuple(rule(text, "bridge") for text in rules), family="bridge")
    assert modules.modules_for([chain])[-4:] == ("ebt_arp", "ebt_arpreply", "ebt_ip", "ebt_dnat")


def test_only_what_is_absent_is_asked_for() -> None:
    assert modules.missing_modules(("veth", "ip-tables", "bridge"), {"veth", "ip_tables"}) == ("bridge",)


def test_only_loading_br_netfilter_is_undone() -> None:
    assert modules.sysctls_to_reset({"bridge"}, {"bridge", "br_netfilter"}) == modules.BRIDGE_CALLS
    assert modules.sysctls_to_reset({"br_netfilter"}, {"br_netfilter", "bridge"}) == ()
    assert modules.sysctls_to_reset({"bridge"}, {"bridge", "ip_tables"}) == ()


def test_what_was_loaded_is_said_and_bridges_are_left_alone(machine: Path) -> None:
    said: list[str] = []
    loaded = modules.ensure(PLAN[:3], said.append, machine)
    assert (loaded, said) == ((), [])
    wanted = (Sysctl("n", "net.bridge.bridge-nf-call-iptables", "1"), PLAN[3])
    assert modules.ensure(wanted, said.append, machine) == ("br_netfilter", "bridge")
    assert said[0] == "loaded kernel modules br_netfilter, bridge"
    assert "to 0 on this machine" in said[1]
    assert {path.read_text() for path in (machine / "proc/sys/net/bridge").iterdir()} == {"0\n"}


def test_other_modules_leave_the_bridges_settings(machine: Path) -> None:
    said: list[str] = []
    assert modules.ensure(PLAN, said.append, machine)[:2] == ("8021q", "bridge")
    assert len(said) == 1
    assert {path.read_text() for path in (machine / "proc/sys/net/bridge").iterdir()} == {"1\n"}


def test_a_module_that_puts_a_device_into_every_namespace_is_said_to(machine: Path) -> None:
    said: list[str] = []
    modules.ensure([Link(Interface("n", "tunl0"), "ipip")], said.append, machine)
    assert said[1:] == ["ipip created a device, down, in every network namespace, also in this machine's own"]


def test_modules_that_make_devices_unless_told_otherwise_are_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[list[str]] = []
    monkeypatch.setattr(modules, "_run", called.append)
    modules._modprobe(("veth", "dummy", "ifb", "8021q"))
    assert called == [["-a", "veth", "8021q"], ["dummy", "numdummies=0"], ["ifb", "numifbs=0"]]
    modules._modprobe(("dummy",))
    assert called[3:] == [["dummy", "numdummies=0"]]


def test_a_side_effect_that_cannot_be_undone_is_an_error_with_its_cure(machine: Path) -> None:
    broken = machine / "proc/sys/net/bridge/bridge-nf-call-iptables"
    broken.unlink()
    broken.mkdir()
    with pytest.raises(KernelError, match=r"cannot set net\.bridge\.bridge-nf-call-iptables to 0") as caught:
        modules.ensure([Sysctl("n", "net.bridge.bridge-nf-call-iptables", "1")], lambda text: None, machine)
    assert "sysctl -w net.bridge.bridge-nf-call-iptables=0" in caught.value.hint


def test_a_kernel_without_modules_is_left_alone(tmp_path: Path) -> None:
    assert modules.ensure(PLAN, pytest.fail, tmp_path) == ()


def test_rules_of_the_other_back_end_need_its_modules() -> None:
    chains = [Chain("n", "nat", "POSTROUTING", (rule("-m comment --comment a -j MASQUERADE"),), "ACCEPT")]
    assert modules.modules_for(chains) == ("ip_tables", "iptable_nat", "xt_comment", "xt_MASQUERADE")
    expected = ("nf_tables", "nft_compat", "nft_chain_nat", "xt_comment", "xt_MASQUERADE")
    assert modules.modules_for(chains, "nft") == expected


def tree(machine: Path, *, told: bool = True) -> Path:
    """The machine with modules that it may load; `told` says whether their files are visible."""
    folder = machine / "lib/modules" / os.uname().release
    folder.mkdir(parents=True)
    if told:
        (folder / "modules.dep").write_text("kernel/net/8021q/8021q.ko.xz:\nkernel/net/ip-tables.ko: kernel/x.ko\n")
        (folder / "modules.alias").write_text("# of modules\nalias rtnl-link-vlan 8021q\nalias pci:v0000 other\n")
        (folder / "modules.builtin").write_text("kernel/drivers/net/macvlan.ko\n")
    return machine


def test_which_modules_would_be_loaded_is_read_from_their_files(machine: Path) -> None:
    tree(machine)

    assert modules.loadable_modules(("veth", "macvlan", "vlan", "teleport"), machine) == ()
    assert modules.loadable_modules(("rtnl-link-vlan", "8021q", "ip_tables"), machine) == ("8021q", "ip_tables")
    (machine / "sys/module/8021q").mkdir()
    assert modules.loadable_modules(("rtnl-link-vlan",), machine) == ()


def test_where_the_files_cannot_be_seen_whatever_is_not_there_might_be_loaded(machine: Path) -> None:
    tree(machine, told=False)

    assert modules.loadable_modules(("veth", "rtnl-link-vlan", "8021q"), machine) == ("rtnl_link_vlan", "8021q")
    (machine / "proc/modules").unlink()
    assert modules.loadable_modules(("8021q",), machine) == ()


def test_a_target_may_live_in_the_module_of_its_match() -> None:
    """Stock kernels have no module of the target's own name, and modprobe knows no other."""
    rules = (rule("-j MARK --set-mark 1"), rule("-m connmark --mark 1 -j CONNMARK --restore-mark"))
    chains = [Chain("n", "mangle", "PREROUTING", rules, "ACCEPT")]
    assert modules.modules_for(chains) == ("ip_tables", "iptable_mangle", "xt_mark", "xt_connmark")
    assert kernel_module("-j CONNMARK") == "xt_connmark"


def test_bridges_of_the_machine_are_restored_after_a_kill(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process ends between the loading of br_netfilter and the writing of 0; the next verb writes it."""
    load = modules._modprobe

    def load_and_end(names: tuple[str, ...]) -> None:
        load(names)
        os._exit(9)

    monkeypatch.setattr(modules, "reset_bridge_calls", partial(modules.reset_bridge_calls, machine))
    pid = os.fork()
    if not pid:
        monkeypatch.setattr(modules, "_modprobe", load_and_end)
        modules.load(["br_netfilter"], print, machine)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    assert settings(machine) == {"1"}

    assert leftovers.sweep() == (
        "the loading of br_netfilter was killed; removed what it left: "
        "net.bridge.bridge-nf-call-iptables, net.bridge.bridge-nf-call-ip6tables, net.bridge.bridge-nf-call-arptables"
        " = 1 on this machine",
    )
    assert settings(machine) == {"0"}
    assert leftovers.sweep() == ()


def settings(machine: Path) -> set[str]:
    return {(machine / "proc/sys" / name.replace(".", "/")).read_text().strip() for name in modules.BRIDGE_CALLS}


def test_objects_of_nft_need_nf_tables_and_what_their_rules_use() -> None:
    hook = ("type nat hook postrouting priority srcnat; policy accept;",)
    chain = NftObject("n", "ip t", "chain", "c", hook, ("fib daddr type local counter masquerade",))
    table = NftObject("n", "ip t", "table")

    assert modules.modules_for([table]) == ("nf_tables",)
    assert modules.modules_for([table, chain]) == ("nf_tables", "nft_chain_nat", "nft_fib_inet", "nft_masq")

"""Writing and reading of real firewall tables, by the library and by the tools: both have one result."""

from __future__ import annotations

import ctypes
import os
import shlex
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from labctl.core.diff import Change, diff
from labctl.core.iptables import rule
from labctl.core.iptables_save import edits_by_table, parse_save
from labctl.core.resources import Chain
from labctl.errors import KernelError, MissingError
from labctl.kernel.firewall import chains, commands, iptc_legacy, tools
from labctl.kernel.firewall.iptc_import import _option_entry_bytes
from labctl.kernel.firewall.kernel_spelling import kernel_spelling
from labctl.kernel.namespaces.thread import CLONE_NEWNET, NetnsThread, unshare
from tests.support import kernels
from tests.support.rule_forms import FILTER, MANGLE, NAT, SPELLINGS, TOOLS_ONLY, chains_of, creations

pytestmark = [pytest.mark.kernel, kernels.LEGACY]

T = TypeVar("T")
Run = Callable[..., Any]
ALL = chains_of("nat", NAT) + chains_of("filter", FILTER) + chains_of("mangle", MANGLE)


def shell(command: str) -> str:
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def saved() -> dict[tuple[Any, ...], Chain]:
    """What iptables-legacy-save itself says, parsed without any shaping of ours."""
    return {one.chain.key: one.chain for one in parse_save("n", "ip", shell("iptables-legacy-save -c"))}


def by_key(found: tuple[Chain, ...] | list[Chain]) -> dict[tuple[Any, ...], Chain]:
    return {chain.key: chain for chain in found}


def test_python_iptables_works_here() -> None:
    assert iptc_legacy.library() is not None


@pytest.mark.parametrize("table", ["nat", "filter", "mangle"])
def test_both_ways_of_writing_and_of_reading_agree(fresh: Run, table: str) -> None:
    wanted = tuple(chain for chain in ALL if chain.table == table)
    results = []
    for write in (iptc_legacy.write, lambda changing: tools.write(commands.IPTABLES_LEGACY, "n", changing)):
        assert not fresh(write, edits_by_table(creations(wanted)))
        results.append(
            (fresh(shell, "iptables-legacy-save").splitlines()[1:-1], fresh(iptc_legacy.read_tables, "n", [table]))
        )
        assert by_key(results[-1][1]) == fresh(saved)
        for chain in wanted:
            assert by_key(results[-1][1])[chain.key] == chain
        fresh(unshare, CLONE_NEWNET)
    assert results[0] == results[1]


@pytest.mark.parametrize(("table", "text"), TOOLS_ONLY, ids=[text for _, text in TOOLS_ONLY])
def test_what_python_iptables_does_not_write_is_written_and_read_all_the_same(
    fresh: Run, table: str, text: str
) -> None:
    wanted = Chain("n", table, "FORMS", (rule(text),))
    changing = edits_by_table(creations((wanted,)))
    assert fresh(iptc_legacy.write, changing) == list(changing)
    fresh(chains.write, "n", creations((wanted,)))
    assert fresh(iptc_legacy.read_tables, "n", [table]) is not None
    assert by_key(fresh(chains.read_chains, "n")) == fresh(saved)
    if "CONNMARK" not in text:
        assert by_key(fresh(chains.read_chains, "n"))[wanted.key] == wanted


@pytest.mark.parametrize(("written", "printed"), SPELLINGS, ids=[one for one, _ in SPELLINGS])
def test_the_printed_form_is_the_tools_own(fresh: Run, written: str, printed: str) -> None:
    words = shlex.split(written.replace("-A POSTROUTING ", ""))
    table = "mangle" if "MARK" in words else "nat" if {"MASQUERADE", "SNAT"} & set(words) else "filter"
    targets = [chain for chain in ("X", "DOCKER") if chain in words]
    for command in (*[f"-N {name}" for name in ("FORMS", *targets)], f"-A FORMS {shlex.join(words)}"):
        fresh(shell, f"iptables-legacy -t {table} {command}")
    assert printed in [str(one) for one in fresh(saved)["chain", "n", "ip", table, "FORMS"].rules]


def test_every_text_form_reads_the_same_by_library_and_tool(fresh: Run) -> None:
    text = "*filter\n-A FORWARD -s 10.1.0.1/255.0.255.0 -i + -j ACCEPT\n-A INPUT -p 253 -i e+\nCOMMIT\n"
    fresh(shell, f"printf '{text}' | iptables-legacy-restore")
    assert by_key(fresh(iptc_legacy.read_tables, "n", ["filter"])) == fresh(saved)


def test_a_rule_for_no_interface_at_all_is_read_as_such(fresh: Run) -> None:
    wanted = chains_of("filter", ["! -i + -j ACCEPT", "-i + ! -o + -p udp"])  # older iptables-save leave it out
    fresh(chains.write, "n", creations(wanted))
    assert diff(wanted, fresh(chains.read_chains, "n")) == ()


def test_protocols_are_named_alike_by_library_and_tool(fresh: Run) -> None:
    for start in range(1, 256, 100):
        wanted = chains_of("filter", [f"-p {number}" for number in range(start, min(start + 100, 256))])
        fresh(chains.write, "n", creations(wanted))
        by_library = by_key(fresh(iptc_legacy.read_tables, "n", ["filter"]))
        assert by_library == fresh(saved)
        assert by_library[wanted[0].key] == wanted[0]


@pytest.mark.parametrize("size", [48, 56, 64])
def test_options_are_found_however_much_the_library_keeps_about_each(size: int) -> None:
    names = ctypes.create_string_buffer(b"sport\0dport\0")
    first = ctypes.addressof(names)
    words = (ctypes.c_size_t * 24)()
    words[0], words[size // 8] = first, first + 6
    options = ctypes.cast(words, ctypes.POINTER(ctypes.c_size_t))
    assert _option_entry_bytes(options, 48) == size


def test_options_in_an_unknown_shape_are_left_to_the_tools() -> None:
    with pytest.raises(ValueError, match="not known"):
        _option_entry_bytes(ctypes.cast((ctypes.c_size_t * 24)(1 << 40), ctypes.POINTER(ctypes.c_size_t)), 48)


def test_the_tools_read_what_the_library_reads(fresh: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh(chains.write, "n", creations(ALL))
    by_library = fresh(chains.read_chains, "n")
    monkeypatch.setattr(iptc_legacy, "library", lambda: None)
    assert fresh(chains.read_chains, "n") == by_library
    fresh(unshare, CLONE_NEWNET)
    fresh(chains.write, "n", creations(chains_of("nat", NAT[:2])))
    assert by_key(fresh(chains.read_chains, "n"))[ALL[0].key].rules == ALL[0].rules[:2]


def test_many_rules_are_left_to_the_tools_and_read_the_same(fresh: Run) -> None:
    texts = [f"-s 10.0.{number}.0/24 -j MINE" for number in range(iptc_legacy.MAX_RULES + 1)]
    fresh(chains.write, "n", creations(chains_of("filter", texts)))
    assert fresh(iptc_legacy.read_tables, "n", ["filter"]) is None
    assert diff(chains_of("filter", texts), fresh(chains.read_chains, "n")) == ()


def test_reading_makes_no_table_and_writing_only_its_own(fresh: Run) -> None:
    names = "cat /proc/self/net/ip_tables_names /proc/self/net/ip6_tables_names 2>/dev/null || true"  # a module's
    assert fresh(chains.read_chains, "n") == ()
    assert fresh(shell, names) == ""
    fresh(chains.write, "n", creations(chains_of("nat", ["-j MINE"])))
    fresh(chains.read_chains, "n")
    assert fresh(shell, names) == "nat\n"


def test_small_tables_are_written_and_read_without_starting_a_program(
    fresh: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for starts in ("RunningTool", "RestoreRun", "run"):
        monkeypatch.setattr(tools, starts, lambda *_: pytest.fail("a program was started"))
    assert fresh(chains.read_chains, "n") == ()
    wanted = chains_of("nat", NAT[:4])
    fresh(chains.write, "n", creations(wanted))
    assert diff(wanted, fresh(chains.read_chains, "n")) == ()


def test_changes_leave_the_counters_of_other_chains(fresh: Run) -> None:
    ping = "ip link set lo up; ping -q -c 3 -i 0.01 127.0.0.1"
    quiet, busy = Chain("n", "filter", "INPUT", (rule("-i lo -j ACCEPT"),), "ACCEPT"), Chain("n", "filter", "FORWARD")
    fresh(chains.write, "n", creations((quiet,)))
    fresh(shell, ping)
    for count in (1, chains.MAX_IPTC_RULES + 1):  # by either way of writing
        wanted = Chain("n", "filter", "FORWARD", (rule("-p tcp -j DROP"),) * count, "DROP")
        fresh(chains.write, "n", [Change(wanted, busy)])
        found = {one.chain.name: one for one in fresh(chains.read_chain_counters, "n")}
        assert found["FORWARD"].chain == wanted
        assert found["INPUT"].rule_counters[0][0] >= 6


@pytest.mark.parametrize("few", [chains.MAX_IPTC_RULES, -1], ids=["library", "tools"])
def test_chains_are_replaced_and_deleted_with_what_jumps_to_them(
    fresh: Run, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chains, "MAX_IPTC_RULES", few)
    old = (
        Chain("n", "filter", "FORWARD", (rule("-j OLD"),), "DROP"),
        Chain("n", "filter", "OLD", (rule("-j DEEP"),)),
        Chain("n", "filter", "DEEP", (rule("-j RETURN"),)),
        Chain("n", "filter", "INPUT", (rule("-p tcp -j DROP"),), "DROP"),
        Chain("n", "filter", "KEPT", (rule("-p udp"),)),
    )
    new = (
        Chain("n", "filter", "FORWARD", (rule("-j NEW"),)),
        Chain("n", "filter", "NEW"),
        old[-1],
    )
    fresh(chains.write, "n", creations(old))
    assert diff(old, fresh(chains.read_chains, "n")) == ()
    fresh(chains.write, "n", diff(new, fresh(chains.read_chains, "n")))
    assert diff(new, fresh(chains.read_chains, "n")) == ()
    assert "OLD" not in fresh(shell, "iptables-legacy-save")


def test_ipv6_chains(fresh: Run) -> None:
    texts = ["-s fd00:0:0::/48 ! -o eth0 -j MASQUERADE", "-p icmpv6 --icmpv6-type echo-request -j RETURN", "-j MINE"]
    wanted = [Chain("n", "nat", "FORMS", tuple(rule(text, "ip6") for text in texts), family="ip6")]
    wanted += [Chain("n", "nat", "MINE", family="ip6"), Chain("n", "filter", "FORWARD", (), "DROP", "ip6")]
    both = (*wanted, *chains_of("nat", NAT))
    fresh(chains.write, "n", creations(both))
    assert diff(both, fresh(chains.read_chains, "n")) == ()
    fresh(chains.write, "n", diff(chains_of("nat", NAT[:1]), fresh(chains.read_chains, "n")))
    assert diff(chains_of("nat", NAT[:1]), fresh(chains.read_chains, "n")) == ()


BRIDGE = [
    "-p IPv4 -s 0a:58:0a:f4:00:01 -o veth+ --ip-src 10.244.0.1 -j ACCEPT",
    "-p 0x0800 -s 0A:58:0a:f4:0:1 -o veth+ --ip-src 10.244.0.0/24 -j DROP",
    "-p ARP -i eth0 --arp-op Request --arp-ip-dst 10.0.0.1 -j CONTINUE",
    "-d broadcast ! -i eth0 -j ACCEPT",
    "-p 0x1234 -j RETURN",
    "-j MINE",
]


BRIDGE_NAT = {
    "POSTROUTING": [
        "-s unicast -o eth0 -j snat --to-src 0:d:3a:1:2:3 --snat-arp",
        "-o eth1 -j snat --to-src 2:0:0:0:0:1",
    ],
    "PREROUTING": [
        "-p ARP --arp-op Request --arp-ip-dst 10.0.0.4 -j arpreply --arpreply-mac 2:0:0:0:0:1 --arpreply-target DROP",
        "-p ARP --arp-op 1 -j arpreply --arpreply-mac 02:00:00:00:00:01 --arpreply-target ACCEPT",
        "-p ARP -i eth0 --arp-op Reply -j dnat --to-dst ff:ff:ff:ff:ff:ff --dnat-target ACCEPT",
        "-p IPv4 -i eth0 --ip-dst 10.0.0.5 -j dnat --to-destination 02:00:00:00:00:01",
        "-i az+ -j dnat --to-dst 12:34:56:78:9a:bc --dnat-target CONTINUE",
        "-i az+ -j redirect --redirect-target ACCEPT",
        "-i az+ -j redirect --redirect-target DROP",
    ],
}


def test_bridge_address_translation_is_read_back_as_written(fresh: Run) -> None:
    wanted = tuple(
        Chain("n", "nat", name, tuple(rule(text, "bridge") for text in texts), family="bridge")
        for name, texts in BRIDGE_NAT.items()
    )
    fresh(chains.write, "n", creations(wanted))
    assert diff(wanted, fresh(chains.read_chains, "n")) == ()
    fresh(chains.write, "n", diff((), fresh(chains.read_chains, "n")))
    assert diff((), fresh(chains.read_chains, "n")) == ()


def test_bridge_chains(fresh: Run) -> None:
    def wanted(count: int) -> tuple[Chain, ...]:
        rules = tuple(rule(text, "bridge") for text in BRIDGE[:count])
        return (
            Chain("n", "filter", "OUTPUT", (rule("-j KUBE-DEDUP", "bridge"),), family="bridge"),
            Chain("n", "filter", "KUBE-DEDUP", rules, family="bridge"),
            Chain("n", "filter", "MINE", family="bridge"),
            Chain("n", "filter", "FORWARD", (), "DROP", family="bridge"),
        )

    assert diff((), fresh(chains.read_chains, "n")) == ()
    fresh(chains.write, "n", creations(wanted(99)))
    assert fresh(chains.read_chains, "n") == fresh(
        chains.read_chains, "n", wanted(1)
    )  # seen although the plan does not have it
    assert diff(wanted(99), fresh(chains.read_chains, "n")) == ()
    for target in (wanted(2), wanted(0), wanted(1)[3:], ()):
        fresh(chains.write, "n", diff(target, fresh(chains.read_chains, "n")))
        assert diff(target, fresh(chains.read_chains, "n")) == ()
    assert fresh(shell, "cat /proc/self/net/ip_tables_names") == ""


def test_each_namespace_keeps_its_own_tables_and_none_is_kept_alive() -> None:
    def links() -> int:
        return len(socket.if_nameindex())

    def build(name: str) -> tuple[Chain, ...]:
        unshare(CLONE_NEWNET)
        shell(f"ip link add {name} type veth peer name p netns {os.getpid()}")
        chains.write("n", creations((Chain("n", "nat", name, (rule("-j MASQUERADE"),)),)))
        return tuple(chain for chain in chains.read_chains("n") if chain.policy is None)

    before = links()
    for name in ("one", "two"):
        with NetnsThread() as inside:
            found = inside.run(None, build, name)
            assert [chain.name for chain in found] == [name]
            assert links() == before + 1
        gone = threading.Event()
        for _ in range(500):  # the kernel takes the namespace down in its own time
            if links() == before:
                break
            gone.wait(0.01)
        assert links() == before, "python-iptables keeps the namespace alive"


def test_nothing_is_printed_on_the_process_own_output(fresh: Run, capfd: pytest.CaptureFixture[str]) -> None:
    fresh(chains.write, "n", creations(chains_of("nat", NAT[:3])))
    fresh(iptc_legacy.read_tables, "n", ["nat"])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("chain", "complaint"),
    [
        (
            Chain("node1", "filter", "FORWARD", (rule("-p udp"), rule("-s 10.0.0.1 -j NOSUCH"))),
            "cannot write iptables rule '-A FORWARD -s 10.0.0.1/32 -j NOSUCH' in table filter of node1: "
            "can't find target NOSUCH",
        ),
        (
            Chain("node1", "filter", "FORWARD", (rule("-m nosuch -j DROP"),)),
            "cannot write iptables rule '-A FORWARD -m nosuch -j DROP' in table filter of node1: "
            "can't find match nosuch",
        ),
        (
            Chain("node1", "filter", "FORWARD", (rule("-p tcp --dport banana"),)),
            "cannot write iptables rule '-A FORWARD -p tcp -m tcp --dport banana' in table filter of node1: "
            "invalid port/service `banana' specified",
        ),
        (
            Chain("node1", "filter", "FORWARD", (rule("-p udp"),) * 20 + (rule("-j MASQUERADE"), rule("-p tcp"))),
            "cannot write iptables rule '-A FORWARD -j MASQUERADE' in table filter of node1: Invalid argument",
        ),
        (
            Chain("node1", "filter", "FORWARD", (rule("-j NOSUCH", "ip6"),), family="ip6"),
            "cannot write ip6tables rule '-A FORWARD -j NOSUCH' in table filter of node1: can't find target NOSUCH",
        ),
        (
            Chain("node1", "filter", "FORWARD", (rule("-j NOSUCH", "bridge"),), family="bridge"),
            "cannot write ebtables rule '-A FORWARD -j NOSUCH' in table filter of node1: Chain 'NOSUCH' does not exist",
        ),
        (
            Chain("node1", "filter", "two words"),
            "cannot write table filter in node1: 'two words' is not a valid name for a chain",
        ),
    ],
)
def test_a_refused_rule_is_named_with_its_place_and_cause(fresh: Run, chain: Chain, complaint: str) -> None:
    with pytest.raises(KernelError) as caught:
        fresh(chains.write, "node1", creations((chain,)))
    assert str(caught.value) == complaint
    assert all(not found.rules for found in fresh(chains.read_chains, "node1"))


def test_a_chain_that_others_still_jump_to_cannot_go(fresh: Run) -> None:
    both = chains_of("filter", ["-j MINE"])
    fresh(chains.write, "n", creations(both))
    with pytest.raises(KernelError, match="chain MINE in table filter of n: a rule in another chain still jumps to it"):
        fresh(chains.write, "n", [Change(None, both[1])])


def test_a_table_that_the_kernel_lacks_names_the_fix(fresh: Run) -> None:
    with pytest.raises(MissingError, match="table nosuch in n") as caught:
        fresh(chains.write, "n", creations((Chain("n", "nosuch", "A"),)))
    assert caught.value.hint == "modprobe ip_tables iptable_nat iptable_filter"


def test_missing_tools_are_named_with_the_fix() -> None:
    with pytest.raises(MissingError, match="cannot find iptables-nosuch-save") as caught:
        commands.find("iptables-nosuch-save")
    assert caught.value.hint == "apt install iptables"


def test_what_xtables_makes_of_other_spellings() -> None:
    here = os.readlink("/proc/thread-self/ns/net")
    odd = Chain("n", "filter", "ODD", (rule("-p tcp -m tcp --dport http -j MINE"), rule("-j CONNMARK --save-mark")))
    odd = Chain("n", "mangle", "ODD", odd.rules)
    mine = Chain("n", "mangle", "MINE")
    other = Chain("m", "mangle", "ODD", (rule("-p udp -m udp --dport domain"),))
    found = kernel_spelling([odd, mine, other])
    assert [str(one) for one in found[odd.key].rules] == [
        "-p tcp -m tcp --dport 80 -j MINE",
        "-j CONNMARK --save-mark --nfmask 0xffffffff --ctmask 0xffffffff",
    ]
    assert [str(one) for one in found[other.key].rules] == ["-p udp -m udp --dport 53"]
    assert list(found) == [odd.key, mine.key, other.key]
    assert os.readlink("/proc/thread-self/ns/net") == here
    assert "mangle" not in shell("cat /proc/self/net/ip_tables_names")


def test_a_persons_iptables_shows_the_labs_rules(fresh: Run, tmp_path: Path) -> None:
    fresh(chains.write, "n", creations(chains_of("nat", ["-j MASQUERADE"])))
    folder = commands.make_tool_directory(tmp_path / "bin")
    assert commands.make_tool_directory(tmp_path / "bin") == folder
    path = f"PATH={folder}:$PATH:/usr/sbin:/sbin"
    assert "-A FORMS -j MASQUERADE" in fresh(shell, f"{path} iptables -t nat -S")
    assert "-A FORMS -j MASQUERADE" in fresh(shell, f"{path} iptables-save")
    assert "-P FORWARD ACCEPT" in fresh(shell, f"{path} ip6tables -S")
    assert sorted(os.listdir(folder))[0] == "ip6tables"


@pytest.mark.parametrize("held_file", ["/dev/null", "another-lab"])
def test_no_lock_of_another_program_delays_a_lab(
    fresh: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held_file: str
) -> None:
    import fcntl

    monkeypatch.setattr(commands, "TIMEOUT_S", 5.0)
    many = creations(chains_of("filter", FILTER))
    monkeypatch.setenv("XTABLES_LOCKFILE", str(tmp_path / "another-lab"))
    with open(tmp_path / held_file, "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        fresh(chains.write, "n", many, tmp_path / "own")
    assert (tmp_path / "own").exists()
    assert "-A FORMS" in fresh(shell, "iptables-legacy-save")

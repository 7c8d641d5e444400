"""What people and CI systems read: lines, tables, JUnit, and an output that survives its reader."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from xml.etree import ElementTree

import pytest

from labctl.core import results, text
from labctl.core.diff import Change
from labctl.core.iptables import rule
from labctl.core.node_state import NodeState
from labctl.core.resources import Chain, NftObject, Route
from labctl.core.results import Outcome
from labctl.errors import KernelError
from labctl.report import lists, plain_text, text_layout, up_status
from labctl.report.junit import junit_document
from labctl.report.node_view import NodeView, fidelity_section, fidelity_summary, sections, settings
from labctl.report.table_section import TableSection
from labctl.report.terminal import Terminal
from tests.support import samples

EXACT = replace(samples.LAB, substitute_features=(), plan=samples.PLAN[:10])  # on a kernel that lacks nothing
OTHERWISE = "approximate, because the kernel lacks vlan: the tenants' VLANs; instead: a veth for each tenant"


class Screen(io.StringIO):
    """A stream that claims to be a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def printed(say: object, *args: object, **kwargs: object) -> str:
    out = io.StringIO()
    say(*args, Terminal(out, io.StringIO()), **kwargs)  # type: ignore[operator]
    return out.getvalue()


def test_columns_stand_two_blanks_apart_without_trailing_blanks() -> None:
    section = TableSection("routes", ("destination", "via"), (("default", "10.0.0.1"), ("10.1.0.0/16", "")))

    assert text_layout.align(section) == [
        "routes",
        "  destination  via",
        "  default      10.0.0.1",
        "  10.1.0.0/16",
    ]


def test_words_count_as_english_does() -> None:
    said = [
        text.count(1, "check"),
        text.count(2, "check"),
        text.count(0, "entry"),
        text.count(2, "address"),
    ]

    assert said == ["1 check", "2 checks", "0 entries", "2 addresses"]


def test_a_failed_check_shows_its_evidence_and_a_passed_one_only_when_asked() -> None:
    assert results.evidence_lines(samples.FAILED) == [
        "    expected a reply",
        "    seen: nothing, at node1/eth0",
        "    run manually: ping -c 1 c",
    ]
    assert results.evidence_lines(samples.PASSED) == []
    assert len(results.evidence_lines(samples.PASSED, verbose=True)) == 2
    assert results.evidence_lines(samples.SKIPPED) == ["    tcpdump is not here"]


def test_a_sampled_mesh_says_so_although_it_passes() -> None:
    says = "a sample of 40000 of 999000 pairs: every pair of nodes, every pod as sender and as receiver"
    sampled = replace(samples.FAILED, verdict="pass", evidence=(says, "40000 of 40000 pairs: replied"))

    assert results.evidence_lines(sampled) == [f"    {says}"]
    assert str(sampled).splitlines()[1] == f"    {says}"
    assert results.evidence_lines(sampled, verbose=True)[0] == f"    {says}"
    whole = replace(samples.COUNTS, total=40_000)
    assert results.evidence_lines(replace(sampled, pairs=whole)) == []
    assert says in junit_document(results.Report("big", (sampled,)))


def test_the_last_line_counts_every_verdict() -> None:
    report = samples.report(samples.PASSED, samples.FAILED, samples.UNSURE, samples.SKIPPED)

    assert results.tally(report, 5.751) == "kubenet: 4 checks, 1 passed, 1 failed, 1 inconclusive, 1 skipped in 5.75 s"
    assert results.tally(samples.report(), 0) == "kubenet has no checks"


def test_up_says_who_is_who_and_what_to_try_next() -> None:
    said = printed(up_status.print_up, samples.result(), "labctl")

    assert said.splitlines()[0] == "kubenet is up: 1 namespace, 15 objects in 0.21 s"
    assert re.search(r"^node1 +node +10\.224\.0\.4 10\.244\.0\.1$", said, re.MULTILINE)
    assert re.search(r"^a +pod +node1 +10\.244\.0\.2$", said, re.MULTILINE)
    assert said.endswith(
        "try next\n"
        "  labctl graph\n"
        "  labctl explain node1\n"
        "  labctl shell node1\n"
        "  labctl exec a -- ping -c 3 c\n"
        "  labctl trace a c\n"
        "  labctl check\n"
        "  labctl view\n"
        "  labctl down kubenet\n"
    )


def test_hints_begin_with_the_command_of_this_user_and_name_the_lab() -> None:
    assert up_status.suggestions(samples.LAB, "sudo labctl -l kubenet") == [
        "sudo labctl -l kubenet graph",
        "sudo labctl -l kubenet explain node1",
        "sudo labctl -l kubenet shell node1",
        "sudo labctl -l kubenet exec a -- ping -c 3 c",
        "sudo labctl -l kubenet trace a c",
        "sudo labctl -l kubenet check",
        "sudo labctl -l kubenet view",
        "sudo labctl down kubenet",
    ]


def test_a_second_up_says_that_nothing_was_done_or_what_was_repaired() -> None:
    assert "nothing to do" in printed(up_status.print_up, samples.result(created=False, changes=()), None)
    repaired = printed(up_status.print_up, samples.result(created=False, changes=samples.DRIFT), None)

    assert repaired.startswith("kubenet is repaired: 3 changes in 0.21 s\nnode1\n  removed  address 192.0.2.1/32")
    assert "\n  added    route 10.244.1.0/24" in repaired


def test_a_lab_with_other_objects_of_kubernetes_is_updated_and_not_repaired() -> None:
    result = replace(samples.result(created=False, changes=samples.DRIFT), updated=True)

    assert printed(up_status.print_up, result, None).startswith("kubenet is updated: 3 changes in 0.21 s\nnode1\n")
    assert "updated, 3 changes" in repr(result)


@pytest.mark.parametrize(("dry", "says"), [(False, "is removed"), (True, "would be removed")])
def test_a_replaced_lab_is_told_in_the_summary(dry: bool, says: str) -> None:
    result = replace(samples.result(dry=dry), replaced=True)

    assert printed(up_status.print_up, result, None).startswith(f"the old lab kubenet {says}\nkubenet")


def test_a_long_line_breaks_between_words_and_goes_on_under_its_beginning() -> None:
    assert text_layout.fold_line("    one two three", 11) == ["    one two", "    three"]
    assert text_layout.fold_line("    one two three", 11, 6) == ["    one two", "      three"]
    assert text_layout.fold_line("  \033[31mred\033[0m  two three", 10) == ["  \033[31mred\033[0m  two", "  three"]
    assert text_layout.fold_line("a " + "x" * 30 + " b", 10) == ["a", "x" * 30, "b"]
    assert text_layout.fold_line("short", 10) == ["short"]
    assert text_layout.fold_line("ip netns exec x", 12, 2, " \\") == ["ip netns \\", "  exec x"]


def test_lines_fold_on_a_terminal_and_never_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    screen, pipe, err = Screen(), io.StringIO(), Screen()
    evidence = ["    expected a reply, got none", f"{text.COMMAND_PREFIX}ping -c 1 10.0.0.1"]
    for out in (screen, pipe):
        Terminal(out, err).lines(evidence, fold=6)
    Terminal(pipe, err).print_stderr("labctl: the kernel refused")

    assert pipe.getvalue().splitlines() == evidence
    assert screen.getvalue().splitlines() == [
        "    expected a",
        "      reply, got",
        "      none",
        "    run manually: \\",
        "      ping -c 1 \\",
        "      10.0.0.1",
    ]
    assert err.getvalue().splitlines() == ["labctl: the kernel", "    refused"]


def test_a_table_in_a_pipe_keeps_its_long_cells_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    rule = "-m comment --comment " + "x" * 90 + " -j MASQUERADE"
    out = io.StringIO()
    Terminal(out, Screen()).section(TableSection("nat", ("chain", "rule"), (("POSTROUTING", rule),)))

    assert f"POSTROUTING  {rule}\n" in out.getvalue()


def test_a_dry_run_says_add_and_remove() -> None:
    said = printed(
        up_status.print_up,
        samples.result(dry=True, created=False, changes=samples.DRIFT),
        "labctl",
    )

    assert said.splitlines()[:4] == [
        "kubenet: 3 changes would be made",
        "node1",
        "  remove   address 192.0.2.1/32 dev eth0",
        "  add      route 10.244.1.0/24 via 10.224.0.5 dev eth0",
    ]
    assert "try next" not in said


def test_status_names_every_drifted_object_under_its_namespace() -> None:
    said = printed(lambda *args: up_status.print_status("kubenet", EXACT, samples.DRIFT, *args))

    assert said.splitlines() == [
        "kubenet has drifted: 3 differences",
        "node1",
        "  extra    address 192.0.2.1/32 dev eth0",
        "  missing  route 10.244.1.0/24 via 10.224.0.5 dev eth0",
        "  missing  iptables -t nat -A POSTROUTING -s 10.244.0.0/16 -j MASQUERADE",
    ]


def test_the_number_of_differences_is_that_of_the_lines() -> None:
    rules = (rule("-i lo -j ACCEPT"), rule("-p icmp -j ACCEPT"))
    chain = Chain("node1", "filter", "INPUT", rules, "DROP")
    said = printed(
        lambda *args: up_status.print_status("kubenet", EXACT, (Change(chain, replace(chain, rules=())),), *args)
    )

    assert said.splitlines()[0] == "kubenet has drifted: 2 differences"
    assert sum(line.startswith("  missing") for line in said.splitlines()) == 2


def test_status_without_drift_is_a_sentence() -> None:
    assert printed(lambda *args: up_status.print_status("kubenet", EXACT, (), *args)) == (
        "kubenet: no drift, 10 objects as defined\n"
    )


@pytest.mark.parametrize("drift", [(), samples.DRIFT])
def test_status_says_what_was_built_otherwise(drift: tuple[Change, ...]) -> None:
    said = printed(lambda *args: up_status.print_status("kubenet", samples.LAB, drift, *args))
    assert said.splitlines()[-1] == OTHERWISE


def test_up_says_what_it_built_otherwise_in_a_line() -> None:
    said = printed(lambda out: up_status.print_up(samples.result(), None, out))
    assert said.splitlines()[1] == OTHERWISE
    exact = printed(lambda out: up_status.print_up(replace(samples.result(), lab=EXACT), None, out))
    assert exact.splitlines() == [line for line in said.splitlines() if line != OTHERWISE]


def test_what_a_model_does_otherwise_is_a_line_for_each_grade() -> None:
    assert up_status.fidelity_lines(EXACT) == [
        "approximate: the load balancer",
        "left out: IPv6",
        "needs of the kernel: vlan, for the tenants' VLANs",
    ]
    assert up_status.fidelity_lines(samples.LAB) == up_status.fidelity_lines(EXACT)[:2]


def test_show_counts_the_parts_of_each_grade() -> None:
    assert fidelity_summary(EXACT) == (
        "kubenet has the model kubenet: parts by grade: 1 faithful, 1 approximation, 1 needs, 1 skipped (-v lists them)"
    )
    assert fidelity_summary(replace(EXACT, parts=())) == "kubenet has the model kubenet"


def test_show_says_part_by_part_how_true_a_lab_is() -> None:
    assert fidelity_section(EXACT).rows == (
        ("faithful", "cbr0", ""),
        ("approximation", "the load balancer", "is one SNAT rule"),
        ("needs vlan", "the tenants' VLANs", ""),
        ("skipped", "IPv6", ""),
    )
    assert fidelity_section(samples.LAB).rows[2] == (
        "needs vlan, approximated", "the tenants' VLANs", "instead: a veth for each tenant",
    )  # fmt: skip


def test_lists_say_what_is_approximate() -> None:
    assert [row[1] for row in lists.labs(samples.RUNNING).rows] == ["kubenet (approximate: vlan)", "?"]
    assert lists.scenarios(samples.ENTRIES).rows == (("kubenet", "approximate (1), needs vlan", "a small cluster"),)


def test_commands_by_hand_name_the_namespace_they_are_typed_in() -> None:
    lines = list(up_status.equivalent_commands(samples.result(), lambda node: f"labctl.kubenet.{node}", "/run/labctl"))

    assert lines[:3] == ["", "# ---- the machines: a network namespace for each", "ip netns add labctl.kubenet.node1"]
    assert (
        "ip netns exec labctl.kubenet.node1 iptables-legacy -t nat -A POSTROUTING -s 10.244.0.0/16 -j MASQUERADE"
        in lines
    )


def test_a_repair_by_hand_of_nft_writes_rules_and_elements() -> None:
    chain = NftObject("node1", "ip calico", "chain", "c", entries=("counter drop", "accept"))
    elements = NftObject("node1", "ip calico", "set", "pods", ("type ipv4_addr",), ("10.0.0.1", "10.0.0.2"))
    base = NftObject("node1", "ip calico", "chain", "b", ("type filter hook input priority filter; policy drop;",))
    other = (base.header[0].replace("drop", "accept"),)
    changes = (
        Change(chain, replace(chain, entries=("accept",))),
        Change(elements, replace(elements, entries=("10.0.0.2", "10.0.0.9"))),
        Change(base, replace(base, header=other)),
    )
    result = samples.result(created=False, changes=changes)
    lines = list(up_status.equivalent_commands(result, str, "/run/labctl"))

    assert lines[:-1] == [
        "ip netns exec node1 nft flush chain ip calico c",
        "ip netns exec node1 nft add rule ip calico c 'counter drop'",
        "ip netns exec node1 nft add rule ip calico c accept",
        "ip netns exec node1 nft delete element ip calico pods '{ 10.0.0.9 }'",
        "ip netns exec node1 nft add element ip calico pods '{ 10.0.0.1 }'",
    ]
    assert lines[-1].startswith("# node1: changed nft chain ip calico b: it is type filter")


def test_a_repair_by_hand_refills_a_chain_and_says_what_to_remove() -> None:
    lines = list(
        up_status.equivalent_commands(samples.result(created=False, changes=samples.DRIFT), str, "/run/labctl")
    )

    assert lines == [
        "# node1: extra address 192.0.2.1/32 dev eth0",
        "ip netns exec node1 iptables-legacy -t nat -F POSTROUTING",
        "ip netns exec node1 iptables-legacy -t nat -P POSTROUTING ACCEPT",
        "ip netns exec node1 iptables-legacy -t nat -A POSTROUTING -s 10.244.0.0/16 -j MASQUERADE",
        "ip netns exec node1 iptables-legacy -t nat -A POSTROUTING -j RETURN",
        "",
        "# ---- routes and the rules that select routing tables",
        "# node1: the node with 10.224.0.4, 10.244.0.1",
        "ip netns exec node1 ip route add 10.244.1.0/24 via 10.224.0.5 dev eth0",
    ]


def test_doctor_gives_a_fix_for_what_is_wrong_and_counts() -> None:
    said = printed(lists.print_findings, samples.FINDINGS, "sudo ")

    assert said.splitlines() == [
        "ok       root",
        "warn     neighbour table  it was full",
        "         fix: sudo sysctl -w x=y",
        "missing  ping             not found",
        "         fix: sudo apt-get install iputils-ping",
        "this machine cannot run every lab: 1 thing missing",
    ]


def test_labs_without_a_record_are_listed_too() -> None:
    assert lists.labs(samples.RUNNING).rows[1] == ("lost", "?", "1", "x", "(record lost)")


def test_show_has_a_table_for_every_kind_that_is_there() -> None:
    titles = [section.title for section in sections(samples.VIEW)]

    assert titles == [
        "links", "link options", "bridge ports", "addresses", "routes", "rules", "neighbours", "forwarding entries",
        "iptables -t nat", "iptables -t filter", "nft table inet masq", "connections (conntrack)", "listening sockets",
        "processes", "settings",
    ]  # fmt: skip
    assert sections(NodeView("x", (), NodeState("x"))) == ()


def test_show_has_tables_of_nft_with_what_their_rules_counted() -> None:
    tables = {section.title: section for section in sections(samples.VIEW)}

    assert tables["nft table inet masq"].rows == (
        ("set pods", "", "", "type ipv4_addr { 10.244.0.2 }"),
        ("postrouting", "", "", "type nat hook postrouting priority srcnat; policy accept;"),
        ("", "7", "420", 'oifname "eth0" counter masquerade'),
        ("", "", "", "accept"),
    )


def test_a_route_shows_its_maker_and_its_tunnel() -> None:
    flow = Route("a", IPv4Network("10.0.2.0/24"), dev="flow", table=7, proto=2, encap=(5, IPv4Address("192.0.2.1")))
    (table,) = sections(NodeView("a", (flow,), NodeState("a")))
    assert table.rows == (("10.0.2.0/24", "", "flow", "7", "encap ip id 5 dst 192.0.2.1 proto kernel"),)


def test_show_counts_packets_by_rule_and_drops_empty_columns() -> None:
    tables = {section.title: section for section in sections(samples.VIEW)}

    assert tables["iptables -t nat"].rows == (
        ("POSTROUTING", "9", "900", "policy ACCEPT"),
        ("", "3", "252", "-s 10.244.0.0/16 -j MASQUERADE"),
        ("", "1", "84", "-j RETURN"),
    )
    assert tables["links"].columns == ("device", "kind", "state", "mac", "mtu", "peer")
    assert tables["links"].rows[0][-1] == "fabric/node1"
    assert tables["link options"].rows == (("eth0", "promisc"),)
    assert tables["rules"].rows == (("100", "from 10.244.0.0/24 fwmark 0x1/0xff", "lookup 7"),)
    assert settings(samples.VIEW) == {"net.ipv4.ip_forward": "1"}


def test_every_row_of_show_is_as_long_as_its_head() -> None:
    for section in sections(samples.VIEW):
        assert {len(row) for row in section.rows} == {len(section.columns)}


def test_a_table_fits_its_terminal_and_takes_words_literally() -> None:
    section = TableSection("links", ("device", "more"), (("eth0", "[red]not a colour[/red] " * 8),))
    lines = list(text_layout.draw(section, 60))

    assert max(len(line) for line in lines) <= 60
    assert "[red]" in "".join(lines)
    assert "\033" not in "".join(lines)


def test_junit_counts_and_carries_the_evidence() -> None:
    report = samples.report(samples.PASSED, samples.FAILED, samples.UNSURE, samples.SKIPPED)
    suite = ElementTree.fromstring(junit_document(report))[0]

    assert {name: suite.attrib[name] for name in ("name", "tests", "failures", "errors", "skipped")} == {
        "name": "kubenet", "tests": "4", "failures": "1", "errors": "1", "skipped": "1",
    }  # fmt: skip
    assert [case[0].tag for case in suite] == ["system-out", "failure", "error", "skipped"]
    assert suite[1][0].attrib["message"] == "expected a reply"
    assert "seen: nothing, at node1/eth0" in (suite[1][0].text or "")
    assert suite[1].attrib["classname"] == "labctl.kubenet.model"


def test_junit_takes_any_text() -> None:
    nasty = Outcome(samples.PING, "fail", ('<&"]]> \x1b[31m \x00 \ud800',))
    case = ElementTree.fromstring(junit_document(samples.report(nasty)))[0][0]

    assert case[0].attrib["message"] == r'<&"]]> \x1b[31m \x00 \ud800'


def test_colour_and_marks_are_for_terminals_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert Terminal(Screen(), Screen()).paint("x", "red") == "\033[31mx\033[0m"
    assert Terminal(io.StringIO(), Screen()).paint("x", "red") == "x"
    assert plain_text.symbol("fail", symbols=Terminal(Screen(), Screen()).symbols) == "✘"
    assert plain_text.symbol("fail", symbols=Terminal(io.StringIO(), Screen()).symbols) == "FAIL"
    monkeypatch.setenv("NO_COLOR", "1")
    assert Terminal(Screen(), Screen()).paint("x", "red") == "x"


def test_progress_is_one_line_that_goes_again_and_nothing_in_a_pipe() -> None:
    screen, pipe = Screen(), io.StringIO()
    live, quiet = Terminal(Screen(), screen), Terminal(io.StringIO(), pipe)
    for terminal in (live, quiet):
        terminal.progress("building")
        terminal.line("done")

    assert screen.getvalue() == "\r\033[Kbuilding\r\033[K"
    assert pipe.getvalue() == ""


class Full(io.StringIO):
    """A stream on a full disk."""

    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


class Gone(io.StringIO):
    """A pipe without a reader."""

    def write(self, text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")


def test_a_reader_that_went_away_is_no_error_but_a_full_disk_is() -> None:
    terminal = Terminal(Gone(), io.StringIO())
    terminal.line("one")
    terminal.line("two")

    assert terminal.out is None
    with pytest.raises(KernelError, match="No space left"):
        Terminal(Full(), io.StringIO()).line("one")


@pytest.mark.parametrize("words", ["--help", "list", "list --scenarios", "schema", "plan raw-dual-stack"])
def test_a_closed_pipe_is_silent(words: str) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "labctl", *words.split()], stdout=write, stderr=subprocess.PIPE, text=True
    )
    os.close(write)

    assert (done.returncode, done.stderr) == (0, "")


def test_a_closed_output_is_silent_too() -> None:
    done = subprocess.run(
        ["sh", "-c", '"$0" -m labctl list >&-', sys.executable], stderr=subprocess.PIPE, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("words", ["list", "--help", "up --help", "exec -h", "--version", ""])
def test_a_full_disk_is_told_in_a_sentence(words: str) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "labctl", *words.split()],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )

    assert (done.returncode, done.stderr) == (3, "labctl: cannot write the output: No space left on device\n")


@pytest.mark.parametrize(
    ("hint", "typed"),
    [
        ("modprobe vxlan", "sudo modprobe vxlan"),
        ("apt install iptables; modprobe ip_tables", "sudo apt install iptables; sudo modprobe ip_tables"),
        ("remove the name: umount /run/x && rm /run/x", "remove the name: sudo umount /run/x && sudo rm /run/x"),
        ("br_netfilter was just loaded: run `sysctl -w a=0`", "br_netfilter was just loaded: run `sudo sysctl -w a=0`"),
        ("sudo sysctl -w a=0, or use sudo", "sudo sysctl -w a=0, or use sudo"),
        ("rm is a word, as is modprobe", "rm is a word, as is modprobe"),
    ],
)
def test_machine_commands_in_hints_begin_with_sudo(hint: str, typed: str) -> None:
    assert plain_text.with_sudo(hint, "sudo ") == typed
    assert plain_text.with_sudo(hint, "") == hint


def test_a_node_shows_what_the_kernel_made_itself() -> None:
    tables = {section.title: section for section in sections(samples.VIEW)}

    assert tables["routes"].rows[-1][0] == "10.224.0.0/24"
    assert tables["routes"].rows[-1][-1] == "proto kernel"
    assert tables["bridge ports"].rows == (("veth0", "cbr0", "forwarding", "on", "no"),)
    assert tables["forwarding entries"].rows == (
        ("02:00:00:00:00:05", "veth0", "cbr0", "", "dynamic"),
        ("02:00:00:00:00:03", "eth0", "", "10.224.0.5", "permanent"),
    )
    assert tables["connections (conntrack)"].rows == (
        ("tcp", "10.244.0.2:4711 > 10.96.0.10:80", "10.244.1.2:8080 > 10.244.0.2:4711", "ESTABLISHED"),
        ("icmp", "10.244.0.2 > 10.224.0.5 id 7", "", "replied"),
    )
    assert tables["listening sockets"].rows == (("tcp", "0.0.0.0:80", "web (process 4711)"),)


def test_many_connections_are_counted() -> None:
    state = NodeState("a", flows=samples.STATE.flows[:1] * 60)
    (table,) = sections(NodeView("a", (), state))

    assert len(table.rows) == 51
    assert table.rows[-1][:2] == ("...", "10 more")


@pytest.mark.parametrize(
    ("hint", "typed"),
    [
        ("labctl fix removes it", "sudo labctl -l x fix removes it"),
        (
            "remove it first (labctl down), or use --replace",
            "remove it first (sudo labctl -l x down), or use --replace",
        ),
        ("`labctl list --scenarios` shows the names", "`labctl list --scenarios` shows the names"),
        ("sudo labctl doctor, or labctl --rootless doctor", "sudo labctl doctor, or labctl --rootless doctor"),
        ("labctl could not listen; /opt/labctl exec", "labctl could not listen; /opt/labctl exec"),
    ],
)
def test_verbs_in_hints_that_need_root_are_written_as_typed(hint: str, typed: str) -> None:
    assert plain_text.with_command(hint, "sudo labctl -l x") == typed

"""Text on narrow terminals: an address, a name, a word of a rule is never cut. Lines break between words."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from ipaddress import IPv6Address, IPv6Network, ip_interface
from itertools import pairwise

import pytest

from labctl.core import results
from labctl.core.address_names import AddressNames
from labctl.core.diff import Change
from labctl.core.iptables import rule
from labctl.core.iptables_save import ChainCounters
from labctl.core.lab_results import RunningSummary, UpResult
from labctl.core.node_state import ListeningSocket, NodeState
from labctl.core.observations import Flow
from labctl.core.resources import Address, Chain, Interface, Link, Neighbour, Netns, Route
from labctl.core.results import Outcome
from labctl.core.scenario_types import Check, Lab, Machine
from labctl.packets.decode import Frame
from labctl.render.resources import plan_text
from labctl.report import comparison, lists, text_layout, up_status
from labctl.report.capture_lines import frame_line
from labctl.report.lab_overview import overview, summaries
from labctl.report.node_view import NodeView, fidelity_section, sections
from labctl.report.terminal import Terminal
from labctl.report.trace import lines
from labctl.scenario import catalog
from labctl.tracing.diagnosis import diagnose
from labctl.tracing.result import Cause, Leg, Note, Step, TraceResult, with_command
from tests.support import samples
from tests.support.traces import recording

LONG = "a-machine-with-a-really-long-name-of-52-characters-x"
OTHER = "the-other-machine-with-another-quite-long-name"
IP_A, IP_B = (IPv6Address(f"2001:db8:1234:5678:9abc:def0:1234:{end}") for end in ("abcd", "ef01"))
RULE = (
    f"-s {IP_A}/128 -d {IP_B}/128 -p tcp -m multiport --dports 80,443,8080,8443,9090"
    ' -m comment --comment "no way in" -j DROP'
)
PLAN = (
    Netns(LONG),
    Link(Interface(LONG, "veth0123456789a"), "veth", peer=Interface(OTHER, "eth0"), mtu=1500, mac="02:00:00:00:00:01"),
    Address(Interface(LONG, "veth0123456789a"), ip_interface(f"{IP_A}/64")),
    Neighbour(Interface(LONG, "veth0123456789a"), IP_B, "02:00:00:00:00:02"),
    Route(LONG, IPv6Network(f"{IP_B}/128"), via=IP_A, dev="veth0123456789a", table=4242),
    Chain(LONG, "filter", "KUBE-SVC-ABCDEFGHIJKLMNOP", (rule(RULE, "ip6"),), family="ip6"),
)
STATE = NodeState(
    LONG,
    flows=(Flow(LONG, 6, IP_A, IP_B, 40000, 443, IP_B, IP_A, 8443, 40000, "ESTABLISHED"),),
    connections=1,
    sockets=(ListeningSocket("tcp", IP_A, 65535, (f"{LONG} (process 4711)",)),),
    no_carrier=("veth0123456789a",),
    chains=(ChainCounters(PLAN[-1], ((123456, 12345678),)),),
)
MACHINES = (Machine(LONG, "container", (IP_A, IP_B), on=OTHER), Machine(OTHER, "node", (IP_B,)))
LAB = Lab(f"lab-{OTHER}", "docker-bridge", PLAN, MACHINES, (), "", samples.PARTS)
VIEW = NodeView(LONG, PLAN, STATE)
STORY = TraceResult(
    f"TCP SYN: {LONG} ({IP_A}) -> {OTHER} ([{IP_B}]:8443)",
    (
        Leg(
            "request",
            (
                Step(LONG, ("veth0123456789a", "[br-0123456789ab]"), 1000, f"[{IP_A}]:40000", f"[{IP_B}]:8443", 64,
                     f"vxlan 4242 {IP_A} > {IP_B}", (Note("route", f"{IP_B} via {IP_A} dev veth0123456789a"),)),
                Step("c", ("eth0",), 20000, f"[{IP_A}]:40000", f"[{IP_B}]:8443", 63, "", (Note("filter", RULE),)),
            ),
        ),
    ),
    "lost",
    f"never left {LONG}; it was dropped there on its way to {IP_B}",
    Cause("rule", f"{LONG} drops it: {RULE}", (), (f"labctl exec {LONG} -- ip6tables -t filter -D INPUT {RULE}",)),
    (Note("rule", RULE),),
    (f"labctl exec {LONG} -- ip6tables -t filter -D INPUT {RULE}",),
)  # fmt: skip
OUTCOME = Outcome(
    Check(f"{LONG} reaches {OTHER}", "ping", LONG, OTHER),
    "fail",
    (f"expected a reply from {IP_B}", f"the request was last seen entering {LONG}/veth0123456789a: {IP_A} > {IP_B}"),
    f"sudo labctl capture {LONG}/eth0 {OTHER}/eth0 --seconds 3"
    f" & sleep 1; sudo labctl exec {LONG} -- ping -n -c 1 {IP_B}",
)
CHANGES = (*(Change(item, None) for item in PLAN), Change(None, PLAN[2]))
RUNNING = RunningSummary(LONG, (LONG, OTHER, "c"), "docker-bridge", f"/home/anna/{LONG}/{OTHER}.yaml", ("vlan",), "nft")


class Screen(io.StringIO):
    """A terminal that shows UTF-8 and colours."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def frame() -> Frame:
    payload = b"\x80\x00" + bytes(6)
    header = b"\x60\x00\x00\x00" + len(payload).to_bytes(2, "big") + b"\x3a\x40" + IP_A.packed + IP_B.packed
    return Frame(Interface(LONG, "veth0123456789a"), 0, "in", bytes(12) + b"\x86\xdd" + header + payload, 0x86DD)


PRINTED: dict[str, Callable[[Terminal], None]] = {
    "trace": lambda out: out.lines(
        lines(with_command(STORY, "sudo labctl", "sudo "), out.paint, out.width or 0), fold=12
    ),
    "check": lambda out: out.lines(results.evidence_lines(OUTCOME), fold=6),
    "show": lambda out: [out.section(section) for section in sections(VIEW)] and None,  # type: ignore[func-returns-value]
    "overview": lambda out: out.section(overview(summaries([VIEW], LAB))),
    "fidelity": lambda out: out.section(fidelity_section(LAB)),
    "status": lambda out: up_status.print_status(LAB.name, LAB, CHANGES, out),
    "up": lambda out: up_status.print_up(UpResult(LAB, CHANGES, True, False, 1.0, False), "sudo labctl", out),
    "list": lambda out: out.section(lists.labs([RUNNING])),
    "scenarios": lambda out: out.section(lists.scenarios(catalog.entries())),
    "plan": lambda out: out.lines(plan_text(LAB).splitlines(), fold=6),
    "capture": lambda out: out.lines([frame_line(frame(), AddressNames(()).near(LONG), 16)], fold=17),
    "compare": lambda out: out.section(
        comparison.TableSection("", ("question", LONG, OTHER), (("seen as", f"{IP_A} -> {IP_B}", f"({LONG})"),)),
        style=comparison.style,
    ),
}


# names of first columns: where the columns do not fit side by side, each row begins with its first cell, without a name
HEADS = {"name", "lab", "scenario", "question", "device", "destination", "protocol", "address", "chain", "grade"}


def words_of(text: str) -> list[str]:
    return text_layout.ANSI_COLOUR.sub("", text).split()


@pytest.mark.parametrize("width", [40, 60, 80, 120])
@pytest.mark.parametrize("verb", PRINTED)
def test_no_word_is_cut(monkeypatch: pytest.MonkeyPatch, verb: str, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    screen, pipe = Screen(), io.StringIO()
    for out in (screen, pipe):
        PRINTED[verb](Terminal(out, io.StringIO()))
    shown = text_layout.ANSI_COLOUR.sub("", screen.getvalue()).splitlines()
    words = {word for word in words_of(pipe.getvalue()) if word != "\\"}

    assert words
    assert words - HEADS <= {part for word in words_of(screen.getvalue()) for part in (word, word.rstrip(":"))}
    for line in shown:
        room = max(map(len, line.split()), default=0)
        assert len(line) <= max(width, room + 2 + 2 * line.endswith(" \\")), (
            "only a word wider than the terminal does not fit"
        )


def test_an_address_fits_into_sixty_columns_wherever_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a terminal would break them, so that what is copied from it is an address."""
    monkeypatch.setenv("COLUMNS", "60")
    for verb, show in PRINTED.items():
        screen = Screen()
        show(Terminal(screen, io.StringIO()))
        for line in text_layout.ANSI_COLOUR.sub("", screen.getvalue()).splitlines():
            for found in re.finditer(r"[0-9a-f:]{30,}", line):
                assert found.end() <= 60 or line.lstrip().startswith(found[0]), (verb, line)


def pasted(printed: list[str]) -> Iterator[str]:
    """The commands in a story, as a shell reads them."""
    yield from re.findall(r"sudo labctl (?:.*\\\n)*.*", "\n".join(printed))


def test_a_broken_command_can_be_pasted() -> None:
    import shlex

    story = with_command(STORY, "sudo labctl", "sudo ")
    out = Screen()
    terminal = Terminal(out, io.StringIO())
    terminal.lines(lines(story, terminal.paint, 80), fold=12)
    (command,) = pasted(text_layout.ANSI_COLOUR.sub("", out.getvalue()).splitlines())

    assert "\\\n" in command
    assert shlex.split(command.replace("\\\n", " ")) == shlex.split(story.tries[0])


def test_progress_is_cut_between_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    err = Screen()
    Terminal(io.StringIO(), err).progress(f"tracing a -> {IP_A} through the lab")

    assert err.getvalue() == "\r\033[Ktracing a -> ..."
    assert text_layout.first_words(LONG, 30) == ""


def test_wide_characters_take_two_columns() -> None:
    assert text_layout.text_width("ポッド a") == 8
    assert text_layout.text_width("\033[1mé\033[0m") == 1
    table = comparison.TableSection("", ("say", "x"), (("ポッド", "1"), ("pod", "2")))
    assert text_layout.align(table) == ["say     x", "ポッド  1", "pod     2"]
    assert text_layout.fold_line("ポッド ポッド", 7) == ["ポッド", "ポッド"]


def test_columns_share_the_width_and_narrow_ones_keep_theirs() -> None:
    assert text_layout.fit([5, 100, 50], [5, 10, 10], 65) == [5, 30, 30]
    assert text_layout.fit([5, 10], [5, 10], 80) == [5, 10]
    assert text_layout.fit([50, 60], [45, 60], 80) is None


def test_a_row_that_does_not_fit_becomes_lines_with_the_names_of_its_columns() -> None:
    table = comparison.TableSection("links", ("device", "address"), (("eth0", f"{IP_A}/64"), ("x" * 30, "none")))

    assert list(text_layout.draw(table, 60)) == [
        "links", "eth0", f"  address: {IP_A}/64", "x" * 30, "  address: none",
    ]  # fmt: skip


def test_names_of_scenarios_are_not_broken_and_each_takes_one_or_two_lines() -> None:
    drawn = list(text_layout.draw(lists.scenarios(catalog.entries(), 80), 80))[2:]
    starts = [number for number, line in enumerate(drawn) if not line.startswith(" ")]

    assert max(map(len, drawn)) <= 80
    assert [drawn[number].split(" ")[0] for number in starts] == list(catalog.names())
    assert all(end - start <= 2 for start, end in pairwise([*starts, len(drawn)]))


def test_a_hop_takes_two_lines_if_it_is_wider_than_the_terminal() -> None:
    result = diagnose(recording("drop"))
    hops = [line for line in lines(result) if " ttl " in line]
    width = max(map(len, hops))

    assert all(" us " in line for line in hops)
    narrow = [line for line in lines(result, width=width - 1) if " ttl " in line or " us " in line]
    assert len(narrow) == 2 * len(hops)
    assert max(map(len, narrow)) < width

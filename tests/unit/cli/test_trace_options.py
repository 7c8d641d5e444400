"""`labctl trace`: which words after --listen are its value, and the two packets of --compare."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

import labctl
from labctl.running_lab import Traced
from tests.support import samples
from tests.support.command_line import Run, in_process, pretend_empty_machine

Calls = list[tuple[str, str, dict[str, Any]]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return in_process(capsys)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Calls:
    """The traces that the command line asks for; each is answered with the same result."""
    pretend_empty_machine(monkeypatch, tmp_path)
    made: Calls = []

    def trace(source: str, target: str, **options: Any) -> Traced:
        made.append((source, target, options))
        return Traced(samples.STORY, samples.TRACE)

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(labctl, "trace", trace)
    monkeypatch.setattr("labctl.lab.records.resolve_lab_name", lambda name: "kubenet")
    monkeypatch.setattr("labctl.cli.verbs.trace.recall", lambda *args: None)
    return made


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("a c --tcp 80", False),
        ("a c --tcp 80 --listen", True),
        ("a c --listen --tcp 80", True),
        ("--listen a c --tcp 80", True),
        ("a --listen c --tcp 80", True),
        ("--listen 80 a c --tcp 80", "80"),
        ("a c --listen b:80 --tcp 80", "b:80"),
        ("a c --listen=b:80 --tcp 80", "b:80"),
        ("a --listen b:80 c --tcp 80", "b:80"),
        ("a c --tcp 80 --listen b:99999", "b:99999"),
        ("a --tcp 80 --listen 2001:db8::1", True),
        ("a --tcp 80 --listen ::1", True),
        ("a --tcp 80 --listen node1/eth0", True),
        ("--tcp 80 --listen -- a c", True),
        ("a c --tcp 80 --listen -l kubenet", True),
    ],
)
def test_the_value_of_listen(run: Run, calls: Calls, words: str, expected: bool | str) -> None:
    run("trace", *words.split())

    assert [options["listen"] for _, _, options in calls] == [expected]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("a c --tcp 80 --listen web", "trace: 'web' after --listen is not MACHINE:PORT"),
        ("a c --tcp 80 --listen web:http", "trace: 'web:http' after --listen is not MACHINE:PORT"),
        ("--listen web a c --tcp 80", "trace: 'c' is one word too many"),
        ("a c --tcp 80 web:80 --listen", "trace: 'web:80' is one word too many"),
        ("a --tcp 80 --listen web:80", "trace: missing argument 'DST'"),
        ("a c web --tcp 80", "trace: got unexpected extra argument (web)"),
        ("a c --tcp 80 --sport 0", "trace: invalid value for '--sport': '0' is not a whole number from 1 to 65535"),
        ("a c --tcp 80 --sport x", "trace: invalid value for '--sport': 'x' is not a whole number from 1 to 65535"),
        ("a c --compare a", "trace: option '--compare' requires 2 arguments\n    hint: labctl trace --help"),
    ],
)
def test_a_mistake_is_named(run: Run, calls: Calls, words: str, message: str) -> None:
    code, out, err = run("trace", *words.split())

    assert (code, out, calls) == (2, "", [])
    assert message in err


def test_two_packets_have_the_same_options(run: Run, calls: Calls) -> None:
    code, out, _ = run("trace", "a", "c", "--udp", "53", "--sport", "4000", "--compare", "b", "node1/eth0")

    assert [(source, target) for source, target, _ in calls] == [("a", "c"), ("b", "node1/eth0")]
    assert all((options["udp"], options["sport"]) == (53, 4000) for _, _, options in calls)
    assert code == 1  # the sample is a lost packet
    assert "no difference" in out


def test_two_packets_as_one_document(run: Run, calls: Calls, tmp_path: Path) -> None:
    code, out, _ = run("trace", "a", "c", "--compare", "b", "c", "--json", "--pcap", str(tmp_path / "two.pcapng"))
    document = json.loads(out)

    assert (code, list(document)) == (1, ["lab", "traces", "difference"])
    assert [one["verdict"] for one in document["traces"]] == ["lost", "lost"]
    assert (tmp_path / "two.pcapng").stat().st_size > 0


@pytest.fixture
def drawn(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> Calls:
    """The command line with the lab of the sample trace, in which nothing differs."""
    monkeypatch.setattr("labctl.lab.lifecycle.load_compiled_lab", lambda *_: labctl.load("kubenet").compiled)
    monkeypatch.setattr("labctl.lab.lifecycle.status", lambda *_: ())
    return calls


@pytest.mark.usefixtures("drawn")
def test_a_trace_as_a_picture(run: Run, tmp_path: Path) -> None:
    code, out, err = run("trace", "a", "c", "--as", "svg")

    assert (code, err) == (1 if samples.STORY.verdict != "answered" else 0, "")
    assert out.startswith("<svg ")
    assert "compared with the kernel: no difference" in out
    assert samples.STORY.sentence in out


@pytest.mark.usefixtures("drawn")
@pytest.mark.parametrize(
    ("name", "start"), [("x.svg", "<svg "), ("x.html", "<!doctype"), ("x.txt", samples.STORY.probe)]
)
def test_the_ending_of_the_file_selects_the_format(run: Run, tmp_path: Path, name: str, start: str) -> None:
    _, out, err = run("trace", "a", "c", "-o", str(tmp_path / name))

    assert (out, err) == ("", "")
    assert (tmp_path / name).read_text().startswith(start)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--as svg --json", "--as and --json cannot be used together"),
        ("-o x.svg --json", "-o and --json cannot be used together"),
        ("--as html --compare b c", "--as and --compare cannot be used together"),
        ("-o no/such/folder/x.svg", "cannot write no/such/folder/x.svg"),
    ],
)
def test_mistakes_with_pictures_are_found_before_the_packet_is_sent(
    run: Run, calls: Calls, words: str, message: str
) -> None:
    code, out, err = run("trace", "a", "c", *words.split())

    assert code == 2
    assert message in out + err
    assert calls == []

"""The commands that traces advise run as they are printed, in the lab where the cause was found."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from labctl.lab import lifecycle
from tests.support import forked, trace_end_cases
from tests.support.pasted import paste, programs
from tests.support.trace_cases import CASES as PATH_CASES
from tests.support.trace_cases import LABS as PATH_LABS
from tests.support.trace_cases import Case
from tests.support.traces import TRACES, broken, traced

pytestmark = pytest.mark.firewall

CASES = (*PATH_CASES, *trace_end_cases.CASES)
LABS = PATH_LABS | trace_end_cases.LABS
ADVICE = re.compile(r"^  try       (.*)", re.MULTILINE)
# the answers of a tool that ran, and said what is broken; its exit code is 1 or 2 then
ANSWERS = ("RTNETLINK answers: ", "Error: ")


def advised() -> list[tuple[Case, tuple[str, ...]]]:
    """Each case whose recording advises commands, with these; every command of a lab is there once. The text of a
    recording has them: it is what labctl makes of it, as tests/unit/tracing/test_diagnosis.py holds."""
    found: list[tuple[Case, tuple[str, ...]]] = []
    known: set[tuple[str, str]] = set()
    for case in CASES:
        text = (TRACES / f"{case.name}.txt").read_text()
        new = [line for line in ADVICE.findall(text) if (case.lab, line) not in known]
        known |= {(case.lab, line) for line in new}
        found += [(case, tuple(new))] if new else []
    return found


@pytest.mark.parametrize(("case", "recorded"), advised(), ids=lambda value: getattr(value, "name", ""))
def test_every_advised_command_runs_as_it_is_printed(case: Case, recorded: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "lab.yaml").write_text(LABS[case.lab])
    environment = programs(tmp_path)
    lifecycle.up(lifecycle.define(str(tmp_path / "lab.yaml")))
    try:
        for command in case.breaks:
            broken(case.lab, command)
        told = paste(f"sudo labctl trace {case.probe}", environment)
        printed = ADVICE.findall(told.stdout)
        assert printed or case.listen, told
        for line in dict.fromkeys((*printed, *(f"sudo {text}" for text in recorded))):
            assert line.startswith("sudo labctl "), line
            done = paste(line, environment)
            is_answer = words_of(line) == "ip" and any(answer in done.stderr for answer in ANSWERS)
            assert done.returncode == 0 or is_answer, (line, done.returncode, done.stderr)
    finally:
        lifecycle.down(case.lab)


def words_of(line: str) -> str:
    """The program that a line runs in a node."""
    return line.partition(" -- ")[2].split()[0]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("bridge-port-mtu", None),
        ("overlay-wire-mtu", None),
        ("flannel-wire-mtu", None),
        ("overlay-tunnel-mtu", "too-big"),  # the sender's kernel knows the limit then, and reports it
    ],
)
def test_advice_for_a_bridge_port_helps(name: str, kind: str | None, tmp_path: Path) -> None:
    case = next(one for one in CASES if one.name == name)
    (tmp_path / "lab.yaml").write_text(LABS[case.lab])
    lifecycle.up(lifecycle.define(str(tmp_path / "lab.yaml")))
    try:
        for command in case.breaks:
            broken(case.lab, command)
        _, before = traced(case.lab, case.probe)
        for line in before.tries:
            subprocess.run([forked.labctl_program(), *shlex.split(line)[1:]], check=True)
        _, after = traced(case.lab, case.probe)
    finally:
        lifecycle.down(case.lab)
    assert before.why is not None
    assert before.why.kind == "mtu-black-hole"
    assert (after.why.kind if after.why is not None else None) == kind, after
    assert (after.verdict == "answered") is (kind is None)

"""The commands that traces advise run as they are printed, in the lab where the cause was found."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from labctl.lab import lifecycle
from labctl.tracing.diagnosis import diagnose
from tests.support.trace_cases import CASES, LABS, Case
from tests.support.traces import broken, recording, traced

pytestmark = pytest.mark.firewall

ANSWERS = ("RTNETLINK answers: ", "Error: ", "nft is not installed", "No such file or directory")  # of a tool that ran


def advised() -> list[tuple[Case, str]]:
    """One case for each kind of cause and command; the recordings say which commands are advised."""
    found: dict[tuple[str, ...], tuple[Case, str]] = {}
    for case in CASES:
        why = diagnose(recording(case.name)).why
        for line in why.tries if why is not None else ():
            words = line.partition(" -- ")[2].split()
            flags = [word for word in words if word.startswith("-")]
            found.setdefault((why.kind if why is not None else "", *words[:2], *flags), (case, line))
    return list(found.values())


@pytest.mark.parametrize(("case", "line"), advised(), ids=lambda value: getattr(value, "name", None) or "")
def test_advised_command_runs(case: Case, line: str, tmp_path: Path) -> None:
    (tmp_path / "lab.yaml").write_text(LABS[case.lab])
    lab = lifecycle.define(str(tmp_path / "lab.yaml"))
    lifecycle.up(lab)
    try:
        for command in case.breaks:
            broken(case.lab, command)
        program, *words = shlex.split(line)
        done = subprocess.run([sys.executable, "-m", program, *words], capture_output=True, text=True, check=False)
    finally:
        lifecycle.down(case.lab)
    plain = any(answer in done.stderr for answer in ANSWERS) and words[3:4] in (["ip"], ["nft"])
    assert done.returncode == 0 or plain, (line, done.returncode, done.stderr)


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
            subprocess.run([sys.executable, "-m", *shlex.split(line)], check=True)
        _, after = traced(case.lab, case.probe)
    finally:
        lifecycle.down(case.lab)
    assert before.why is not None
    assert before.why.kind == "mtu-black-hole"
    assert (after.why.kind if after.why is not None else None) == kind, after
    assert (after.verdict == "answered") is (kind is None)

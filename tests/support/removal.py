"""Remove a part of a lab manually: `status` names it, the check that needs it fails, `up` restores it."""

from __future__ import annotations

import subprocess
import time
from dataclasses import replace

from labctl.checks import runner
from labctl.core.scenario_types import Check
from labctl.kernel.firewall import backend
from labctl.kernel.host import paths
from labctl.lab import lifecycle
from labctl.render.resources import change_lines

HASTE = 0.8  # seconds that a check may take which is to fail


def run_in(name: str, node: str, command: str) -> str:
    """What a command says that is run in a machine of a lab; it must succeed."""
    command = command.replace("iptables-legacy", f"iptables-{backend.backend_of(name)}")
    words = ["ip", "netns", "exec", paths.netns_name(name, node), *command.split()]
    return subprocess.run(words, check=True, capture_output=True, text=True, timeout=20).stdout


def verdict(name: str, word: str = "", *own: Check, within: float | None = None) -> tuple[str, list[str]]:
    """What a lab's checks with that word say, or `own` ones, and why."""
    compiled = lifecycle.load_compiled_lab(name)
    asked = tuple(replace(check, within=within or check.within) for check in own or compiled.checks)
    report = runner.run(replace(compiled, checks=asked), word)
    return report.verdict, [text for outcome in report.outcomes for text in outcome.evidence]


def assert_needed(definition: lifecycle.Definition, node: str, command: str, says: str, word: str) -> None:
    """Remove something in `node` by `command`: status reports it, the checks with `word` fail, and `up` restores it."""
    name = lifecycle.compile_definition(definition).name
    compiled = lifecycle.load_compiled_lab(name)
    assert lifecycle.status(name, compiled) == ()
    run_in(name, node, command)
    told = [line for change in lifecycle.status(name, compiled) for line in change_lines(change)]
    assert any(says in line for line in told), told
    found, why = verdict(name, word, within=HASTE)
    assert found == "fail", why
    lifecycle.up(definition)
    assert lifecycle.status(name, compiled) == ()
    deadline = time.monotonic() + 15
    found, why = verdict(name, word)
    while found == "inconclusive" and time.monotonic() < deadline:  # the kernel resolves a failed neighbour again
        found, why = verdict(name, word)
    assert found == "pass", why

"""`--why` of a running lab: what it must not say."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

import labctl
from tests.support import forked

LAB = "reasons"


@pytest.fixture
def lab() -> Iterator[str]:
    labctl.up("kubenet", name=LAB)
    yield LAB
    labctl.down(LAB)


def run(*words: str) -> tuple[int, str]:
    command = [forked.labctl_program(), *words, "-l", LAB]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.usefixtures("lab")
def test_a_hidden_fault_is_not_shown_as_an_object_without_a_reason() -> None:
    assert run("break", "routing-loop", "--hide")[0] == 0

    for verb in (("show", "fabric"), ("trace", "a", "c")):
        code, text = run(*verb, "--why")
        assert (code, f"lab {LAB} has a hidden fault, and `{verb[0]} --why` would give it away" in text) == (2, True)
        assert "Nothing in the definition" not in text
    assert run("show", "fabric")[0] == 0

    assert run("fix")[0] == 0
    assert "It leads packets for 10.244.1.0/24 to node2" in run("show", "fabric", "--why")[1]
    assert run("trace", "a", "c", "--why")[0] == 0

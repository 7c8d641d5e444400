"""scripts/reliability fuzz: a sample of damaged input, and that a broken promise is seen."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.support.paths import ROOT

PARTS = ("fuzz", "fuzz_inputs")


@pytest.fixture(scope="module")
def fuzz() -> Iterator[ModuleType]:
    sys.path.insert(0, str(ROOT / "scripts/reliability.d"))
    yield import_module("fuzz")
    sys.path.remove(str(ROOT / "scripts/reliability.d"))
    for name in PARTS:
        del sys.modules[name]


def test_a_sample_of_each_kind_breaks_no_promise(fuzz: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuzz.main(["--count", "600", "--seed", "sample"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines[:-1]] == [*fuzz.KINDS]
    assert "with seed sample, 0 broke a promise" in lines[-1]
    for line in lines[:-1]:
        assert line.count(", ") >= 1, f"one result only, so the input is too good or too bad: {line}"


def test_an_input_is_the_same_each_time(fuzz: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []

    def draw(chance: random.Random, folder: Path) -> str:
        drawn.append(fuzz.damaged_text(chance, "model: kubenet\nnodes: {a: 3}\n"))
        return "drawn"

    monkeypatch.setitem(fuzz.KINDS, "scenarios", draw)
    for first, count in ((0, 5), (3, 1)):
        fuzz.main(["--kind", "scenarios", "--first", str(first), "--count", str(count)])
    assert len({*drawn[:5]}) > 1
    assert drawn[5] == drawn[3]


def raising(*args: Any) -> str:
    raise RecursionError("too deep")


def slow(*args: Any) -> str:
    until = time.process_time() + 0.05
    while time.process_time() < until:
        pass
    return "slow"


@pytest.mark.parametrize(("broken", "said"), [(raising, "RecursionError: too deep"), (slow, "of processor time")])
def test_a_broken_promise_is_printed_with_what_to_try_again(
    fuzz: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], broken: Any, said: str
) -> None:
    monkeypatch.setattr(fuzz, "SLOW_S", 0.02)
    monkeypatch.setitem(fuzz.KINDS, "packets", broken)
    assert fuzz.main(["--kind", "packets", "--first", "7", "--count", "1", "--seed", "x"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("--- x packets 7: ")
    assert said in out

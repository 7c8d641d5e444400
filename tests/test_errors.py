"""Golden error messages: each tests/errors/NAME.yaml is refused with exactly the text of NAME.txt.

Messages are an interface: people learn from them. After a change that is meant, look at what
`LABCTL_GOLDEN=write pytest tests/test_errors.py` writes, and at the diff.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from labctl.errors import ScenarioError
from labctl.scenario.definition import parse_and_compile
from labctl.scenario.yaml_reader import decode_utf8

ERRORS = Path(__file__).parent / "errors"
CASES = sorted(path.stem for path in ERRORS.glob("*.yaml"))


def refusal(name: str) -> ScenarioError:
    file = f"{name}.yaml"
    with pytest.raises(ScenarioError) as caught:
        parse_and_compile(decode_utf8((ERRORS / file).read_bytes(), file), file)
    return caught.value


@pytest.mark.parametrize("name", CASES)
def test_the_message_is_the_golden_one(name: str) -> None:
    began = time.process_time()
    told = f"{refusal(name)}\n"
    assert time.process_time() - began < 1.0
    golden = ERRORS / f"{name}.txt"
    if os.environ.get("LABCTL_GOLDEN") == "write":
        golden.write_text(told, encoding="utf-8")
    assert told == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", CASES)
def test_every_problem_has_its_place_in_the_file_and_prints_on_its_lines(name: str) -> None:
    lines = (ERRORS / f"{name}.yaml").read_bytes().split(b"\n")
    problems = refusal(name).problems
    assert problems
    for problem in problems:
        assert problem.file == f"{name}.yaml"
        assert 1 <= problem.line <= len(lines)
        assert 1 <= problem.column <= len(lines[problem.line - 1]) + 1
        assert (problem.what + problem.hint).isprintable()
        assert not re.search(r"Traceback|<class|object at 0x|None\b", str(problem))
    assert list(problems) == sorted(problems)


def test_every_golden_text_has_its_file() -> None:
    assert sorted(path.stem for path in ERRORS.glob("*.txt")) == CASES

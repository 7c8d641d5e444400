"""Golden error messages: each tests/golden/errors/SECTION/NAME.yaml is refused with exactly the text of NAME.txt.

Messages are an interface: people learn from them. After an intended change, renew them with
`pytest tests/unit/scenario/test_error_messages.py --update-golden`, and read the difference.
"""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from labctl.errors import ScenarioError
from labctl.scenario.definition import parse_and_compile
from labctl.scenario.yaml_reader import decode_utf8
from tests.support.golden import Golden
from tests.support.paths import GOLDEN

ERRORS = GOLDEN / "errors"
CASES = sorted(path.relative_to(ERRORS).with_suffix("").as_posix() for path in ERRORS.rglob("*.yaml"))


def refusal(name: str) -> ScenarioError:
    path = ERRORS / f"{name}.yaml"
    with pytest.raises(ScenarioError) as caught:
        parse_and_compile(decode_utf8(path.read_bytes(), path.name), path.name)
    return caught.value


@pytest.mark.parametrize("name", CASES)
def test_the_message_is_the_golden_one(name: str, golden: Golden) -> None:
    began = time.process_time()
    told = f"{refusal(name)}\n"
    assert time.process_time() - began < 1.0
    golden(f"errors/{name}.txt").check(told)


@pytest.mark.parametrize("name", CASES)
def test_every_problem_has_its_place_in_the_file_and_prints_on_its_lines(name: str) -> None:
    lines = (ERRORS / f"{name}.yaml").read_bytes().split(b"\n")
    problems = refusal(name).problems
    assert problems
    for problem in problems:
        assert problem.file == f"{Path(name).name}.yaml"
        assert 1 <= problem.line <= len(lines)
        assert 1 <= problem.column <= len(lines[problem.line - 1]) + 1
        assert (problem.what + problem.hint).isprintable()
        assert not re.search(r"Traceback|<class|object at 0x|None\b", str(problem))
    assert list(problems) == sorted(problems)


def test_every_golden_text_has_its_file() -> None:
    texts = sorted(path.relative_to(ERRORS).with_suffix("").as_posix() for path in ERRORS.rglob("*.txt"))
    assert texts == CASES

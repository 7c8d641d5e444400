"""Network lists as container runtimes and network projects ship them: each comes up and is as it claims, or is refused.

The files are in `tests/data/network_lists`. A refusal is one message: what, where, why.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from labctl.checks import runner
from labctl.errors import KernelError, LabError, MissingError
from labctl.kernel.host import lab_state, paths
from labctl.lab import lifecycle
from labctl.scenario.definition import Definition
from tests.support.drift import drift
from tests.support.network_lists import FOLDER, LISTS, REFUSED, UP, scenario_text
from tests.support.plugins import reason_without

pytestmark = pytest.mark.firewall
LAB = "list"


@pytest.fixture(autouse=True)
def plugins_and_no_lab() -> Iterator[None]:
    if reason := reason_without():
        pytest.skip(reason)
    yield
    lifecycle.down(LAB)


def define(tmp_path: Path, name: str, nodes: int) -> Definition:
    file = tmp_path / f"{LAB}.yaml"
    file.write_text(scenario_text(name, nodes))
    return lifecycle.define(str(file), name=LAB)


def tentative_addresses() -> str:
    """The lab's IPv6 addresses that nothing answers for yet."""
    words = ("addr", "show", "scope", "global", "tentative")
    commands = (["ip", "-6", "-n", paths.netns_name(LAB, node), *words] for node in paths.labs()[LAB])
    return "".join(subprocess.run(command, capture_output=True, text=True, check=True).stdout for command in commands)


@pytest.mark.parametrize("name", UP)
def test_the_list_comes_up_keeps_its_claims_and_is_as_it_was_made(tmp_path: Path, name: str) -> None:
    expected = LISTS[name]
    definition = define(tmp_path, name, expected.nodes)
    try:
        lifecycle.up(definition)
    except KernelError as error:
        if not expected.kernel:
            raise
        refusal = error.message
    else:
        refusal = ""
    if refusal:
        assert f"{expected.kernel} ADD of a/eth0 on node1 failed: " in refusal
        assert "operation not supported" in refusal
        assert paths.labs() == {}
        return
    assert tentative_addresses() == ""
    report = runner.run(lifecycle.load_compiled_lab(LAB))
    assert [(one.check.say, one.evidence) for one in report.outcomes if one.verdict not in ("pass", "skip")] == []
    assert {one.check.say.split()[0] for one in report.outcomes if one.verdict == "pass"} == expected.claims
    assert drift(LAB) == []


@pytest.mark.parametrize("name", REFUSED)
def test_the_list_is_refused_in_one_line_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    with pytest.raises(LabError) as caught:
        lifecycle.up(define(tmp_path, name, 1))
    message, *others = str(caught.value).split("\n    hint: ")[0].splitlines()
    assert others == []
    assert LISTS[name].refused in message
    assert isinstance(caught.value, MissingError) == message.startswith("cannot find the CNI plugin")
    assert paths.labs() == {}
    assert lab_state.labs_with_files() == ()


def test_every_file_is_tried() -> None:
    assert {file.name for file in FOLDER.iterdir()} == set(LISTS)

"""The lab of a new model runs: `scripts/new-model` and docs/extending.md, followed to the letter."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.new_model import page_commands, run, with_island


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy in which the page was followed: a new model `island`."""
    return with_island(tmp_path_factory.mktemp("island"))


def test_the_new_lab_runs_and_keeps_the_three_laws(tree: Path) -> None:
    (command,) = (line for line in page_commands() if line.startswith("sudo "))
    try:
        done = run(tree, command)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "island: 5 checks, 5 passed" in done.stdout
    finally:
        run(tree, "./scripts/labctl down --all")
    laws = "from labctl.testing import assert_laws; assert_laws('island')"
    done = run(tree, f'python -c "{laws}"')
    assert done.returncode == 0, done.stderr

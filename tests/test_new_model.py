"""`scripts/new-model` and docs/extending.md, followed to the letter in a copy of the source tree."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

ROOT = next(folder for folder in Path(__file__).resolve().parents if (folder / "pyproject.toml").exists())
PAGE = (ROOT / "docs/extending.md").read_text()
NOT_COPIED = (".git", ".venv", ".ruff_cache", ".mypy_cache", ".pytest_cache", "__pycache__", "build", "*.egg-info")
# the files of tests that know every model and every built-in scenario
TESTS = ("plans", "docs", "errors", "models", "architecture", "schema", "catalog", "modeling", "fit")
SLOW = "docker-overlay or tidies_up"  # they know only other models
LINT = "python -m ruff check --no-cache labctl/models && python -m ruff format --no-cache --check labctl/models"
NEW = {"labctl/models/island.py", "scenarios/island.yaml", "plans/island.txt", "docs/models/island.md"}


def page_commands() -> list[str]:
    """The commands of the page's first section, in their order."""
    section = PAGE.split("\n## 1. ")[1].split("\n## 2. ")[0]
    found = re.findall(r"^```sh\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    return [line for block in found for line in block.splitlines()]


def page_file(name: str) -> str:
    """A file that the page shows."""
    found = re.search(rf"^```\w+\n# {re.escape(name)}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


def copied(folder: Path) -> Path:
    """A copy of the source tree, with an environment that its scripts take for their own."""
    tree = folder / "labctl"
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*NOT_COPIED), symlinks=True)
    programs = folder / "venv/bin"
    programs.mkdir(parents=True)
    (programs / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (programs / "labctl").write_text("import sys\nfrom labctl.cli import main\nsys.exit(main())\n")
    (programs / "sudo").write_text('#!/bin/sh\nexec "$@"\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    (folder / "venv/.labctl-run").touch()
    return tree


def run(tree: Path, command: str) -> subprocess.CompletedProcess[str]:
    """A command line as a person types it in the tree."""
    venv = tree.parent / "venv"
    own = {"LABCTL_VENV": str(venv), "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    environment = {**os.environ, **own, "PATH": f"{venv / 'bin'}:{os.environ['PATH']}:/usr/sbin:/sbin"}
    environment.pop("LABCTL_SUMMARY", None)
    return subprocess.run(
        ["bash", "-c", command], cwd=tree, env=environment, capture_output=True, text=True, check=False
    )


def contents(tree: Path) -> dict[str, str]:
    """Every file of the tree with a digest of its bytes."""
    files = (path for path in tree.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(tree).as_posix(): sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy in which the page was followed: a new model `island`."""
    made = copied(tmp_path_factory.mktemp("island"))
    first = page_commands()[0]
    assert first == "./scripts/new-model island"
    done = run(made, first)
    assert done.returncode == 0, done.stderr
    for name in NEW:
        assert re.search(rf"^wrote .*{re.escape(name)}$", done.stdout, re.MULTILINE), name
    assert "changed docs/README.md" in done.stdout
    return made


def test_the_page_shows_what_the_command_writes(tree: Path) -> None:
    for name in ("labctl/models/island.py", "scenarios/island.yaml"):
        assert (tree / name).read_text() == page_file(name)
    model = (tree / "labctl/models/island.py").read_text()
    assert re.findall(r"^from (labctl\S*)", model, re.MULTILINE) == ["labctl.modeling"]


def test_the_other_commands_of_the_page_work(tree: Path) -> None:
    for command in page_commands()[1:]:
        if not command.startswith("sudo "):
            done = run(tree, command)
            assert (done.returncode, done.stderr) == (0, ""), command
            assert "island" in done.stdout


def test_everything_that_knows_all_models_knows_the_new_one(tree: Path) -> None:
    files = [str(next((tree / "tests").rglob(f"test_{name}.py"))) for name in TESTS]
    words = f"-q -p no:cacheprovider -m 'not root' -k 'not ({SLOW})' {' '.join(files)}"
    done = run(tree, f"python -m pytest {words}")

    assert done.returncode == 0, done.stdout[-4000:]


def test_the_new_files_pass_the_linter_and_the_type_checker(tree: Path) -> None:
    done = run(tree, LINT)
    assert done.returncode == 0, done.stdout
    cache = tree.parent / "mypy"
    done = run(tree, f"python -m mypy --strict --follow-imports silent --cache-dir {cache} labctl/models/island.py")
    assert done.returncode == 0, done.stdout


def test_other_words_for_machines(tree: Path) -> None:
    """A second model, with words of its own, after which nothing is unstable either."""
    assert run(tree, "./scripts/new-model far-away --machines computes,instances").returncode == 0
    plan = run(tree, "./scripts/labctl plan far-away --set computes.compute2.instances=2 --set checks=[]").stdout
    assert "instance2-1  pod" in plan
    assert run(tree, "python scripts/docs.d/pages.py --check").stdout == ""
    done = run(tree, LINT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("kubenet", "there is a model 'kubenet' already"),
        ("pods", "there is a scenario 'pods' already"),
        ("lib", "labctl/models/lib exists already"),
        ("Island", "'Island' is not a name for a model: use a-z, 0-9 and single dashes"),
        ("two_words", "'two_words' is not a name for a model"),
        ("../evil", "'../evil' is not a name for a model"),
        ("import", "'import' is a keyword of Python"),
        ("a" * 41, "the name has 41 characters; at most 40 are possible"),
        ("fine --machines nodes", "MACHINES is not a pair of words"),
        ("fine --machines nodes,checks", "'checks' in MACHINES cannot be a key"),
        ("fine --machines node,pods", "write both words in the plural"),
        ("fine --machines mtu,pods", "'mtu' is an option"),
    ],
)
def test_a_name_or_a_word_that_cannot_be_is_refused(tree: Path, arguments: str, message: str) -> None:
    before = contents(tree)
    done = run(tree, f"./scripts/new-model {arguments}")

    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert contents(tree) == before


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ("sed -i '/models.cni.md/d' docs/README.md", "docs/README.md has no line"),
        ("sed -i 's/ping: a -> b/ping: a -> zzz/' scripts/new-model.d/scenario.yaml.txt", "there is no machine 'zzz'"),
        ("echo 'raise RuntimeError(1)' >> scripts/docs.d/node_commands.py", "RuntimeError"),
    ],
)
def test_if_a_step_fails_everything_is_as_before(tree: Path, tmp_path: Path, spoil: str, message: str) -> None:
    other = tmp_path / "labctl"
    shutil.copytree(tree, other, ignore=shutil.ignore_patterns("traces"))
    shutil.copytree(tree.parent / "venv", tmp_path / "venv")
    assert run(other, spoil).returncode == 0
    before = contents(other)
    done = run(other, "./scripts/new-model half-way")

    assert done.returncode != 0
    assert message in done.stderr
    assert contents(other) == before


@pytest.mark.root
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

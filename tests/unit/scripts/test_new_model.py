"""`scripts/new-model` and docs/extending.md, followed to the letter in a copy of the source tree."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from labctl.scenario import catalog
from tests.support.new_model import PAGE, copy_bytecode, page_commands, run, with_island

# the files of tests that know every model and every built-in scenario
TESTS = (
    "plans", "docs", "error_messages", "models", "architecture", "json_schema", "catalog", "modeling", "fallback",
)  # fmt: skip
# in the name of a test that knows only other models, or reads all code and says nothing else about a new model
OTHERS = (*catalog.names(), "tidies_up", "a_layer_above", "imported_by_itself", "thousand")
LINT = "python -m ruff check --no-cache labctl/models && python -m ruff format --no-cache --check labctl/models"


def page_file(name: str) -> str:
    """A file that the page shows."""
    found = re.search(rf"^```\w+\n# {re.escape(name)}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


def digests(tree: Path) -> dict[str, str]:
    """Every file of the tree with a digest of its bytes."""
    return {str(path): sha256(path.read_bytes()).hexdigest() for path in files(tree)}


def versions(tree: Path) -> dict[str, tuple[int, int, int]]:
    """Every file of the tree with what is new after each write."""
    found = ((path, path.stat()) for path in files(tree))
    return {str(path): (stat.st_ino, stat.st_size, stat.st_mtime_ns) for path, stat in found}


def files(tree: Path) -> Iterator[Path]:
    return (path for path in tree.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy in which the page was followed: a new model `island`."""
    return with_island(tmp_path_factory.mktemp("island"))


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
    paths = [str(next((tree / "tests/unit").rglob(f"test_{name}.py"))) for name in TESTS]
    words = f"-q -p no:cacheprovider -m 'not root' -k 'not ({' or '.join(OTHERS)})' {' '.join(paths)}"
    done = run(tree, f"python -m pytest {words}")

    assert done.returncode == 0, done.stdout[-4000:]


def test_the_new_files_pass_the_linter_and_the_type_checker(tree: Path) -> None:
    done = run(tree, LINT)
    assert done.returncode == 0, done.stdout
    cache = tree.parent / "mypy"
    done = run(tree, f"python -m mypy --strict --follow-imports silent --cache-dir {cache} labctl/models/island.py")
    assert done.returncode == 0, done.stdout


def test_other_words_for_machines(tree: Path) -> None:
    """A second model, with other words for machines, after which generated pages are up to date too."""
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
    before = versions(tree)
    done = run(tree, f"./scripts/new-model {arguments}")

    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert versions(tree) == before


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
    shutil.copytree(tree.parent / "venv", tmp_path / "venv", ignore=shutil.ignore_patterns("pycache"))
    copy_bytecode(other)
    assert run(other, spoil).returncode == 0
    before = digests(other)
    done = run(other, "./scripts/new-model half-way")

    assert done.returncode != 0
    assert message in done.stderr
    assert digests(other) == before

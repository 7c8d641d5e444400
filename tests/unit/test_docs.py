"""The documentation is true: pages are as generated, examples build, links lead to files, commands exist.

A ```yaml block is a scenario.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from labctl import models
from labctl.core.resources import Netns
from labctl.scenario.definition import parse_and_compile
from tests.support.doc_pages import PAGES, Block, agrees, of, relative
from tests.support.paths import ROOT

SYSTEM = ("dev", "etc", "opt", "proc", "run", "sys", "usr", "var")  # what an absolute path may begin with
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")


# ---- generated pages -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def generator() -> Any:
    spec = importlib.util.spec_from_file_location("pages", ROOT / "scripts/docs.d/pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.pages = functools.cache(module.pages)
    return module


def test_generated_pages_are_current(generator: Any) -> None:
    wanted = generator.pages()
    there = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs/models").glob("*.md")}

    assert there == {name for name in wanted if name.startswith("models/")}
    for name, text in wanted.items():
        assert (ROOT / "docs" / name).read_text() == text, f"docs/{name} is not current: run scripts/docs"


def test_the_generator_writes_tells_and_tidies_up(
    generator: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generator, "DOCS", tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models/gone.md").write_text("a model that is no more")

    assert generator.main(["--check"]) == 1
    assert (tmp_path / "models/gone.md").exists()
    assert generator.main([]) == 0
    assert "wrote docs/models/kubenet.md" in capsys.readouterr().out
    assert not (tmp_path / "models/gone.md").exists()
    assert generator.main(["--check"]) == 0
    (tmp_path / "scenario.md").write_text("an older page\n")
    assert generator.main(["--check"]) == 1
    assert "-an older page" in capsys.readouterr().out


# ---- examples ------------------------------------------------------------------------------------------


@pytest.fixture
def example_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The models that pages give as examples, beside the real ones."""
    for block in of("python"):
        if block.file is not None and block.file.startswith("labctl/models/"):
            name = Path(block.file).name
            (tmp_path / name).write_text(block.text)
            monkeypatch.delitem(sys.modules, f"labctl.models.{name.removesuffix('.py')}", raising=False)
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(tmp_path)])


@pytest.mark.parametrize("block", of("yaml"), ids=str)
@pytest.mark.usefixtures("example_models")
def test_an_example_is_a_scenario_with_checks(block: Block) -> None:
    scenario, lab = parse_and_compile(block.text, block.file or "example.yaml")

    assert any(isinstance(item, Netns) for item in lab.plan)
    assert len(lab.machines) > 1
    assert scenario.checks, "a scenario without checks is unfinished"


@pytest.mark.usefixtures("example_models")
def test_the_example_of_a_model_keeps_the_models_contract() -> None:
    examples = [block for block in of("python") if block.file]

    assert examples
    for block in examples:
        model = models.find_model(Path(str(block.file)).stem.replace("_", "-"))
        assert model.__doc__.splitlines()[0].endswith(".")
        assert model.FOLLOWS
        assert len(model.MACHINES) == 2
        assert model.Options()


# ---- links, names, paths -------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_lead_to_files_of_this_tree(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    targets = [target for target in LINK.findall(text) if not target.startswith(("https://", "#"))]
    broken = []
    for target in targets:
        path = (page.parent / target.partition("#")[0]).resolve()
        if not path.is_relative_to(ROOT) or not path.exists():
            broken.append(target)

    assert broken == []


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs/README.md").read_text()
    linked = {(ROOT / "docs" / target).resolve() for target in LINK.findall(index) if "://" not in target}

    assert {relative(page) for page in PAGES if page.parent != ROOT} - {"docs/README.md"} == {
        relative(path) for path in linked if path.is_relative_to(ROOT / "docs")
    }


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_a_page_names_no_place_of_the_machine_it_was_written_on(page: Path) -> None:
    text = page.read_text()
    absolute = re.findall(r"(?<![\w/.:*<>~-])/([a-z]+)/[\w.]", text)
    outside = [path for path in re.findall(r"(?:\.\./)+[\w./-]+", text) if not (page.parent / path).resolve().exists()]

    assert [first for first in absolute if first not in SYSTEM] == []
    assert outside == []
    assert str(ROOT) + "/" not in text


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_files_that_a_page_names_exist(page: Path) -> None:
    named = re.findall(r"`((?:labctl|scripts|tests|docs|scenarios|vagrant)/[\w./-]+)`", page.read_text())

    assert [name for name in named if not (ROOT / name).exists()] == []


def verbs() -> tuple[str, ...]:
    from labctl.cli.app import VERBS

    return VERBS


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_commands_of_a_page_have_verbs_that_exist(page: Path) -> None:
    written = re.findall(r"(?:sudo |[$] |`|\./scripts/)labctl ((?:-l \S+ )?[a-z]+)\b", page.read_text())

    assert {words.split()[-1] for words in written} - set(verbs()) == set()


def test_what_pages_show_of_vagrant_is_what_vagrant_test_does() -> None:
    shown = [line for page in PAGES for line in re.findall(r"^vagrant ssh -c .*?'.*?'", page.read_text(), re.MULTILINE)]
    done = (ROOT / "scripts/vagrant.d/inside").read_text()

    assert set(shown) == {"vagrant ssh -c 'sudo labctl up kubenet --check'"}
    assert "lab='sudo labctl up kubenet --check'\n" in done
    assert 'vagrant ssh -c "$lab"' in done


def test_the_readme_lists_every_verb_in_order() -> None:
    rows = re.findall(r"^\| `labctl ([a-z]+)", (ROOT / "README.md").read_text(), re.MULTILINE)

    assert tuple(dict.fromkeys(rows)) == verbs()


@pytest.mark.parametrize(
    ("page", "real", "same"),
    [
        ("done in 0.12 s", "done in 1.5 s", True),
        ("time=0.05 ms", "time=12.3 ms", True),
        ("     9 us  node1", "    12 us  node1", True),
        ("ttl=61", "ttl=62", False),
        ("one\n...\nfour", "one\ntwo\nthree\nfour", True),
        ("one\n...", "two", False),
        ("one", "one\ntwo", False),
        ("", "", True),
        ("", "an error", False),
    ],
)
def test_a_lying_transcript_is_seen(page: str, real: str, same: bool) -> None:
    assert agrees(page, real) is same


# ---- the causes of a trace --------------------------------------------------------------------------------


def named_kinds(sources: Iterable[str]) -> set[str]:
    """The kinds of causes in the code: the first argument of `Cause(...)`; where that is the name `kind`, what the
    function assigns to it, or is given for the parameter of that name."""
    trees = [ast.parse(source) for source in sources]
    functions = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    places = {one.name: [arg.arg for arg in one.args.args].index("kind") for one in functions if takes_kind(one)}
    places["Cause"] = 0
    found: set[str] = set()
    for function in functions:
        nodes = list(ast.walk(function))
        calls = [one for one in nodes if isinstance(one, ast.Call) and isinstance(one.func, ast.Name)]
        given = [one.args[places[name]] for one in calls if (name := ast.unparse(one.func)) in places]
        assigned = [one.value for one in nodes if isinstance(one, ast.Assign) and ast.unparse(one.targets[0]) == "kind"]
        is_given = "kind" in [ast.unparse(one) for one in given]
        found |= {text for value in (*given, *(assigned if is_given else ())) for text in texts(value)}
    return found


def takes_kind(function: ast.FunctionDef) -> bool:
    return "kind" in [arg.arg for arg in function.args.args]


def texts(value: ast.expr) -> set[str]:
    """The strings that an expression can be."""
    if isinstance(value, ast.IfExp):
        return texts(value.body) | texts(value.orelse)
    return {value.value} if isinstance(value, ast.Constant) and isinstance(value.value, str) else set()


def test_the_page_of_traces_lists_every_cause_once() -> None:
    folder = ROOT / "labctl/tracing"
    kinds = named_kinds(path.read_text() for path in (folder / "drop_reasons.py", *(folder / "causes").glob("*.py")))
    section = (ROOT / "docs/trace.md").read_text().partition("\n## Causes\n")[2].partition("\n## ")[0]
    listed = re.findall(r"^\| `([a-z0-9-]+)` \| \S.* \| \S.* \|$", section, re.MULTILINE)

    assert sorted(listed) == sorted(kinds)


def test_kinds_of_causes_are_found_in_code() -> None:
    source = """
def one(point):
    kind = "closed" if point else "dead"
    return Cause("alone" if point else "other", "x") or Cause(kind, "x") or two(point, "given")
def two(point, kind):
    return Cause(kind, "not a kind")
def three(point):
    kind = "of something else"
    return Cause("alone", kind)
"""

    assert named_kinds([source]) == {"closed", "dead", "alone", "other", "given"}


# ---- the manual page, and completion -------------------------------------------------------------------


def test_the_manual_page_has_every_verb_and_every_option() -> None:
    from labctl.cli.app import verb

    page = (ROOT / "docs/man/labctl.1").read_text().replace("\\-", "-")

    assert tuple(re.findall(r"^\.SS ([a-z]+)$", page, re.MULTILINE)) == verbs()
    for name in verbs():
        command = verb(name)
        section = page.partition(f"\n.SS {name}\n")[2].partition("\n.S")[0]
        shown = [option for option in command.params if not getattr(option, "hidden", True) and option.name != "help"]
        assert [
            one.opts[-1] for one in shown if not re.search(rf"^\.B .*{one.opts[-1]}\b", section, re.MULTILINE)
        ] == []


def test_the_manual_page_is_printed_without_a_warning() -> None:
    words = {"groff": ["groff", "-man", "-ww", "-Tutf8", "-P-c"], "mandoc": ["mandoc", "-W", "warning", "-T", "utf8"]}
    tool = next((words[name] for name in words if shutil.which(name)), None)
    if tool is None:
        pytest.skip("neither groff nor mandoc is here")
    done = subprocess.run([*tool, ROOT / "docs/man/labctl.1"], capture_output=True, text=True, check=False)
    plain = re.sub(r"\x1b\[[\d;]*m|.\x08", "", done.stdout)

    assert (done.returncode, done.stderr) == (0, "")
    assert "sudo labctl exec a -- ping -c 3 c" in plain
    assert 'eval "$(_LABCTL_COMPLETE=bash_source labctl)"' in plain


BASH = """
PATH={folder}:$PATH
. {root}/docs/completion/labctl
compopt() {{ :; }}
ask() {{
  COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
  _labctl_completion labctl
  echo "${{COMPREPLY[*]}}"
}}
ask labctl va
ask labctl up kub
"""


def test_bash_completes_by_the_file(tmp_path: Path) -> None:
    command = tmp_path / "labctl"
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m labctl "$@"\n')
    command.chmod(0o755)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    text = BASH.format(folder=tmp_path, root=ROOT)
    done = subprocess.run(["bash", "-c", text], capture_output=True, text=True, env=environment, check=True)

    assert done.stdout.split("\n")[0] == "validate"
    assert {"kubenet", "kubenet-hostport"} <= set(done.stdout.split("\n")[1].split())


@pytest.mark.parametrize(("shell", "file"), [("zsh", "_labctl"), ("fish", "labctl.fish")])
def test_other_shells_can_read_their_files(shell: str, file: str) -> None:
    path = ROOT / "docs/completion" / file

    assert f"_LABCTL_COMPLETE={shell}_complete" in path.read_text()
    if shell == "zsh":
        assert path.read_text().startswith("#compdef labctl\n")
    if shutil.which(shell) is not None:
        done = subprocess.run([shell, "-n", path], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def test_completion_files_of_another_click_stay(generator: Any, tmp_path: Path) -> None:
    folder = tmp_path / "completion"
    folder.mkdir()
    (folder / "labctl").write_text("# It was made with click 1.0.\nold\n")
    (folder / "labctl.fish").write_text("something else\n")
    files = dict(generator.written(tmp_path))

    assert files["completion/labctl"] == (folder / "labctl").read_text()
    assert files["completion/labctl.fish"] == (ROOT / "docs/completion/labctl.fish").read_text()

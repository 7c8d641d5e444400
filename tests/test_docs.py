"""The documentation is true: pages are as generated, examples build, commands print what is shown, links lead on.

Every ```console block is executed, in the order of its page, in namespaces of its own: `$` begins a
command, the lines after it are its output, times apart; a line `...` stands for any number of lines.
A ```yaml block is a scenario; if its first line is a comment with a file's name, commands find it there.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from labctl import models
from labctl.core.resources import Netns
from labctl.scenario.definition import parse_and_compile

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
SYSTEM = ("dev", "etc", "opt", "proc", "run", "sys", "usr", "var")  # what an absolute path may begin with
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block: its page, the line it begins in, its language and its text."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def file(self) -> str | None:
        """The file's name that the first line gives the block, if it does."""
        named = re.match(r"# ([\w./-]+\.\w+)\n", self.text)
        return named[1] if named else None


def blocks(page: Path) -> Iterator[Block]:
    for found in re.finditer(r"^```(\w+)\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE):
        yield Block(page, page.read_text().count("\n", 0, found.start()) + 1, found[1], found[2])


def of(language: str) -> list[Block]:
    return [block for page in PAGES for block in blocks(page) if block.language == language]


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


# ---- generated pages -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def generator() -> Any:
    spec = importlib.util.spec_from_file_location("pages", ROOT / "scripts/docs.d/pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
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


# ---- transcripts ---------------------------------------------------------------------------------------

IN_A_SANDBOX = """
mount -t tmpfs none /run/netns
mount -t tmpfs none /run/labctl
ip link set lo up
exec "$@"
"""
RUN_EACH = """
import json, subprocess, sys
for command in json.load(sys.stdin):
    done = subprocess.run(["bash", "-c", command], stdin=subprocess.DEVNULL, stdout=-1, stderr=subprocess.STDOUT)
    print(json.dumps(done.stdout.decode()))
"""


@dataclass(frozen=True)
class Shown:
    """A command of a page, and the output that the page shows."""

    block: Block
    command: str
    output: str


def shown(block: Block) -> Iterator[Shown]:
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield Shown(block, command, output)


def without_times(text: str) -> str:
    """A text in which times, how often was tried in them, and how far they stand in are all the same; lines end
    without blanks."""
    text = re.sub(r" *[\d.]+(/[\d.]+)*(?= ?(s|ms|us|probes)\b)", "#", text)
    text = re.sub(r"^\d\d:\d\d:\d\d\.\d{6}", "#", text, flags=re.MULTILINE)  # the clock of a captured frame
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines())


def agrees(page: str, real: str) -> bool:
    """Whether a shown output is the real one; a line `...` stands for any lines."""
    pattern = "".join(
        r"(?:.*\n)*?" if line.strip() == "..." else re.escape(line) + r"\n" for line in without_times(page).splitlines()
    )
    return re.fullmatch(pattern, without_times(real) + "\n" if real.strip() else "") is not None


def prepare(folder: Path, page: Path) -> dict[str, str]:
    """Files and commands that a page's transcript finds where it runs; returns the environment."""
    (folder / "scripts").mkdir()
    (folder / "bin").mkdir()
    script = f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m labctl "$@"\n'
    scripts = {"scripts/labctl": script, "bin/labctl": script, "bin/sudo": '#!/bin/sh\nexec "$@"\n'}
    for name, text in scripts.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    for block in blocks(page):
        if block.language == "yaml" and block.file is not None and "/" not in block.file:
            (folder / block.file).write_text(block.text)
    hidden = ("SUDO_USER", "LABCTL_NETNS_DIR", "LABCTL_STATE_DIR", "COLUMNS")
    own = {"PATH": f"{folder}/bin:{os.environ['PATH']}:/usr/sbin:/sbin", "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8"}
    return {key: value for key, value in os.environ.items() if key not in hidden} | own


@pytest.mark.root
@pytest.mark.parametrize("page", sorted({block.page for block in of("console")}), ids=relative)
def test_commands_print_what_the_page_shows(page: Path, tmp_path: Path) -> None:
    parts = [part for block in blocks(page) if block.language == "console" for part in shown(block)]
    environment = prepare(tmp_path, page)
    words = ["unshare", "-nm", "--propagation", "private", "bash", "-ec", IN_A_SANDBOX, "docs"]
    done = subprocess.run(
        [*words, sys.executable, "-c", RUN_EACH],
        input=json.dumps([part.command for part in parts]),
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=environment,
        check=True,
        timeout=60,
    )
    outputs = [json.loads(line) for line in done.stdout.splitlines()]

    assert parts
    for part, output in zip(parts, outputs, strict=True):
        same = agrees(part.output, output)
        assert same, f"{part.block}: $ {part.command}\n--- shown\n{part.output}--- real\n{output}"


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


# ---- the manual page, and completion -------------------------------------------------------------------


def test_the_manual_page_has_every_verb_and_every_option() -> None:
    from importlib import import_module

    page = (ROOT / "docs/man/labctl.1").read_text().replace("\\-", "-")

    assert tuple(re.findall(r"^\.SS ([a-z]+)$", page, re.MULTILINE)) == verbs()
    for name in verbs():
        command = import_module(f"labctl.cli.verbs.{name}").COMMAND
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
ask labctl v
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

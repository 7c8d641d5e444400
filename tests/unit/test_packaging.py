"""The package, as people get it: wheel, source archive and editable install, each tried from another directory."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import pytest

import labctl

ROOT = Path(labctl.__file__).resolve().parent.parent
SCENARIOS = sorted(path.name for path in (ROOT / "scenarios").glob("*.yaml"))
NAMES = [file.removesuffix(".yaml") for file in SCENARIOS]
EXERCISES = sorted(f"exercises/{path.name}" for path in (ROOT / "scenarios/exercises").glob("*.yaml"))
SHARED = {
    "share/man/man1/labctl.1": "docs/man/labctl.1",
    "share/bash-completion/completions/labctl": "docs/completion/labctl",
    "share/zsh/site-functions/_labctl": "docs/completion/_labctl",
    "share/fish/vendor_completions.d/labctl.fish": "docs/completion/labctl.fish",
}
PARTS = ("labctl", "scenarios", "docs", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md")
TOP = {*PARTS, "README.ja.md", "CONTRIBUTING.md", "SECURITY.md", "findings", "tests", "vagrant", "scripts"}

pytestmark = [
    pytest.mark.skipif(not (ROOT / "pyproject.toml").exists(), reason="not a source tree"),
    pytest.mark.skipif(int(version("setuptools").split(".")[0]) < 77, reason="needs setuptools 77 or newer"),
]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is packaged, so that building leaves nothing in the source tree."""
    copy = tmp_path_factory.mktemp("tree") / "labctl"
    copy.mkdir()
    for name in PARTS:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy / name)
    return copy


def build(kind: str, tree: Path, into: Path) -> Path:
    """Build a wheel or a source archive with the installed setuptools, without the network."""
    into.mkdir(parents=True, exist_ok=True)
    code = f"import setuptools.build_meta as backend, sys; print(backend.build_{kind}(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", code, str(into)], cwd=tree, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return into / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", tree, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sdist", tree, tmp_path_factory.mktemp("sdist"))


def installed(where: Path, *what: str) -> Path:
    """The Python of a new environment that has `what` and sees our dependencies, but not this source tree."""
    venv.create(where, with_pip=False, symlinks=True)
    python = where / "bin" / "python"
    site = next((where / "lib").glob("python*/site-packages"))
    pip = [str(python), "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
    needs = Path(pytest.__file__).parent.parent
    # appended to sys.path, and not as a site directory: its own .pth files stay unread; pip is found there too
    (site / "dependencies.pth").write_text(f"{needs}\n")
    environ = {**os.environ, "PYTHONPATH": str(needs)}
    done = subprocess.run([*pip, *what], capture_output=True, text=True, env=environ, cwd="/")
    assert done.returncode == 0, done.stderr[-2000:]
    return python


PLAN_EACH = """
import sys
from labctl.cli import main
for name in sys.argv[1:]:
    assert main(["plan", name]) == 0, name
print("planned", len(sys.argv) - 1, file=sys.stderr)
"""


def works(python: Path, planned_names: Sequence[str]) -> None:
    """The installed labctl knows its scenarios and can plan these, from a directory that is not ours."""

    def labctl(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([python.parent / "labctl", *words], capture_output=True, text=True, cwd="/")

    listed = labctl("list", "--scenarios")
    assert listed.returncode == 0, listed.stderr
    assert [name for name in NAMES if name not in listed.stdout] == []
    planned = labctl("plan", NAMES[0])
    assert planned.returncode == 0, planned.stderr
    # the others in one process, because a start takes longer than a plan
    words = [python, "-I", "-c", PLAN_EACH, *planned_names]
    all_planned = subprocess.run(words, capture_output=True, text=True, cwd="/")
    assert all_planned.returncode == 0, all_planned.stderr
    assert all_planned.stderr.splitlines()[-1] == f"planned {len(planned_names)}"
    exercises = labctl("exercise", "list", "--json")
    assert exercises.returncode == 0, exercises.stderr
    assert len(json.loads(exercises.stdout)["exercises"]) == len(EXERCISES) > 0
    bad = labctl("validate", "/no/such/file.yaml")
    assert bad.returncode == 2, bad.stderr
    assert "Traceback" not in bad.stderr


def plugs_in(python: Path, folder: Path) -> None:
    """pytest finds the installed plugin by itself, and it works, whoever we are."""
    (folder / "test_it.py").write_text(
        "import labctl, pytest\n"
        "def test_plan(): assert labctl.plan('kubenet')\n"
        "@pytest.mark.lab('kubenet')\ndef test_lab(lab): assert lab['a'].run('ping -c1 c').ok\n"
    )
    (folder / "conftest.py").write_text("import os\nos.geteuid = lambda: 1000\n")
    words = ["-m", "pytest", "-p", "no:cacheprovider", "-W", "error", "--strict-markers", "-rs", str(folder)]
    done = subprocess.run([python, *words], capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed, 1 skipped" in done.stdout
    assert "labctl: labctl.up needs root" in done.stdout
    for without, there in (((), True), (("-p", "no:labctl"), False)):
        words = [python, "-m", "pytest", *without, "--help"]
        options = subprocess.run(words, capture_output=True, text=True, cwd="/")
        assert ("--labctl-evidence=DIR" in options.stdout) is there


def where(python: Path) -> Path:
    code = "import labctl; print(labctl.__file__)"  # -I: where / holds a folder of that name, it is not meant
    return Path(subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, cwd="/", check=True).stdout)


def test_there_are_scenarios() -> None:
    assert {"docker-bridge.yaml", "kubenet.yaml", "azure-cni-transparent.yaml"} <= set(SCENARIOS)


def test_the_wheel_holds_every_package_and_scenario(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "labctl").rglob("*.py")}

    assert modules - names == set(), "pyproject.toml's list of packages is not complete"
    assert {f"labctl/scenarios/{name}" for name in (*SCENARIOS, *EXERCISES)} | {"labctl/py.typed"} <= names
    page = {f"labctl/view/static/{path.name}" for path in (ROOT / "labctl/view/static").glob("*")}
    assert {name for name in names if name.startswith("labctl/view/static/")} == page  # none if it is not built
    assert not [name for name in names if name.startswith("labctl/view/page/")]
    assert not [name for name in names if not name.startswith(("labctl/", "labctl-"))]
    assert {name.partition(".data/data/")[2] for name in names if ".data/" in name} == set(SHARED)
    with zipfile.ZipFile(wheel) as file:
        (entries,) = [name for name in names if name.endswith(".dist-info/entry_points.txt")]
        assert "[pytest11]\nlabctl = labctl.testing.pytest_plugin\n" in file.read(entries).decode()


def test_the_wheel_works_anywhere(wheel: Path, tmp_path: Path) -> None:
    python = installed(tmp_path / "env", str(wheel))

    assert tmp_path in where(python).parents
    works(python, NAMES)
    plugs_in(python, tmp_path)
    for file, source in SHARED.items():
        assert (tmp_path / "env" / file).read_text() == (ROOT / source).read_text()


def checksums(wheel: Path) -> list[tuple[str, int]]:
    """The names of a wheel's files in their order, with the CRC-32 of each."""
    with zipfile.ZipFile(wheel) as file:
        return [(one.filename, one.CRC) for one in file.infolist()]


def test_a_wheel_made_from_the_source_archive_is_the_same(wheel: Path, sdist: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        for member in archive.getmembers():
            assert not member.name.startswith(("/", ".."))
        archive.extractall(tmp_path, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    unpacked = tmp_path / sdist.name.removesuffix(".tar.gz")
    again = build("wheel", unpacked, tmp_path / "again")

    assert checksums(again) == checksums(wheel)


def test_an_editable_install_works_anywhere(tree: Path, tmp_path: Path) -> None:
    python = installed(tmp_path / "env", "-e", str(tree))

    assert where(python).parent.parent == tree
    works(python, ["kubenet", "docker-bridge"])  # its scenarios are the files that tests of the tree plan
    plugs_in(python, tmp_path)


def test_the_top_of_the_repository_holds_only_what_belongs_there() -> None:
    found = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}

    assert found == TOP


def test_every_shared_file_is_linked_from_where_it_is_looked_for() -> None:
    """In Debian's fish this is not /usr/local/share, unless XDG_DATA_DIRS names it."""
    text = (ROOT / "scripts/provision.sh").read_text()
    places = dict(
        line.split() for line in text.partition("places() {\n  cat <<'LIST'\n")[2].partition("LIST")[0].splitlines()
    )

    assert {f"share/{file}" for file in places.values()} == set(SHARED)
    assert places["/etc/fish/completions/labctl.fish"] == "fish/vendor_completions.d/labctl.fish"

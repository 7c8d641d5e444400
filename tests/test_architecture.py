"""The house: who may import what, how large a file may be, and that public things say what they are."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import labctl
from labctl import models

ROOT = Path(labctl.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
LINES = 300  # one idea fits well below this

# a module -> the only places that may import it, as beginnings of a path below labctl/
ONLY_IN = {
    "pyroute2": ("kernel/",),
    "iptc": ("kernel/",),
    "subprocess": ("kernel/",),
    "socket": ("kernel/",),
    "ctypes": ("kernel/",),
    "click": ("cli",),
    "yaml": ("source.py",),
    "rich": ("report/",),
    "pytest": ("pytest_plugin.py", "pytest_labs.py"),
}
# a place -> what it may not import from labctl
NEVER = {
    "kernel/": ("models", "report", "cli", "lab", "source", "parse"),
    "models/": ("kernel", "report", "cli", "lab", "source", "parse"),
    "report/": ("kernel", "models", "cli", "lab"),
}
GROUND = ("plan.py", "diff.py", "xtables.py", "scenario.py", "results.py", "errors.py", "options.py")
HEAVY = ("pyroute2", "iptc", "yaml", "rich")  # imported in functions, where they are used


def imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every absolute module name that is imported anywhere below a node, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module, node.lineno
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def at_import(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """What is imported when the module is: not inside functions, not for the type checker alone."""
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.ClassDef):
            continue
        yield from imports(node)


def place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def within(name: str, module: str) -> bool:
    return name == module or name.startswith(module + ".")


def test_what_touches_the_machine_is_imported_only_where_it_belongs() -> None:
    broken = [
        f"{place(path)}:{line} imports {name}"
        for path in FILES
        for name, line in imports(parsed(path))
        for module, places in ONLY_IN.items()
        if within(name, module) and not place(path).startswith(places)
    ]
    assert broken == []


def test_no_room_looks_into_a_room_above_or_beside_it() -> None:
    broken = [
        f"{place(path)}:{line} imports {name}"
        for path in FILES
        for where, never in NEVER.items()
        if place(path).startswith(where)
        for name, line in imports(parsed(path))
        if any(within(name, f"labctl.{module}") for module in never) and not _own(path, name)
    ]
    assert broken == []


def _own(path: Path, name: str) -> bool:
    """A model may use the shared parts of models, a room its own files."""
    return within(name, f"labctl.{place(path).split('/')[0]}")


def test_the_ground_floor_stands_on_nothing_above_it() -> None:
    rooms = ("kernel", "models", "report", "cli", "lab", "source", "parse", "catalog")
    broken = [
        f"{path} imports {name}"
        for path in GROUND
        for name, _ in imports(parsed(ROOT / path))
        if any(within(name, f"labctl.{room}") for room in rooms)
    ]
    assert broken == []


def test_a_model_never_imports_another_model() -> None:
    named = {name.replace("-", "_") for name in models.names()}
    broken = [
        f"{place(path)}:{line} imports {name}"
        for path in (ROOT / "models").glob("*.py")
        for name, line in imports(parsed(path))
        if name.startswith("labctl.models.") and name.split(".")[2] in named - {path.stem}
    ]
    assert broken == []


def test_heavy_libraries_are_imported_where_they_are_used() -> None:
    broken = [
        f"{place(path)}:{line} imports {name} at once"
        for path in FILES
        for name, line in at_import(parsed(path))
        if any(within(name, heavy) for heavy in HEAVY)
    ]
    assert broken == []


@pytest.mark.parametrize("verb", ["--help", "list --scenarios", "validate nothing.yaml"])
def test_a_quick_verb_loads_no_engine(verb: str) -> None:
    import subprocess

    code = (
        "import sys\nfrom labctl.cli import main\nsys.argv[1:] = " + repr(verb.split()) + "\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('pyroute2', 'iptc', 'asyncio') if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT.parent, check=True)

    assert done.stderr.splitlines()[-1] == "[]"


def test_no_file_outgrows_one_idea() -> None:
    sizes = {place(path): len(path.read_text().splitlines()) for path in FILES}

    assert {name: lines for name, lines in sizes.items() if lines > LINES} == {}


def test_every_file_says_first_what_it_is() -> None:
    silent = [place(path) for path in FILES if path.read_text().strip() and not ast.get_docstring(parsed(path))]
    assert silent == []


def test_public_things_have_docstrings() -> None:
    silent = []
    for path in FILES:
        for node in parsed(path).body:
            if not isinstance(node, (ast.FunctionDef, ast.ClassDef)) or node.name.startswith("_"):
                continue
            if not ast.get_docstring(node):
                silent.append(f"{place(path)}:{node.lineno} {node.name}")
    assert silent == []


@pytest.mark.parametrize("name", models.names())
def test_a_model_opens_with_a_sentence_a_drawing_and_what_it_follows(name: str) -> None:
    model = models.find(name)
    text = inspect.getdoc(model) or ""
    sentence, _, rest = text.partition("\n\n")

    assert sentence.endswith("."), "the first line is one sentence"
    assert "\n" not in sentence
    if name != "raw":  # what a raw scenario builds is drawn by its author
        drawing = [line for line in rest.splitlines() if sum(line.count(sign) for sign in "|+-[") >= 2]
        assert len(drawing) >= 3, "the docstring draws the network"
        assert model.FOLLOWS


def test_every_module_can_be_imported_by_itself() -> None:
    for module in pkgutil.walk_packages([str(ROOT)], "labctl."):
        if not module.name.endswith("__main__"):
            assert importlib.import_module(module.name).__name__ == module.name

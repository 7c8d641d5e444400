"""The architecture: docs/architecture.md is the table of layers, and these tests hold the code to it."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import labctl
from labctl import models

ROOT = Path(labctl.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
PAGE = ROOT.parent / "docs/architecture.md"
LINES = 500  # the most that a file may have; a reviewer asks above 300
TOP = 12  # modules directly in labctl/

# a module -> the only places that may import it, as beginnings of a path below labctl/
ONLY_IN = {
    "pyroute2": ("kernel/",),
    "iptc": ("kernel/",),
    # elsewhere a child is a `Child`, which never waits for the processes that it leaves behind
    "subprocess": (
        "kernel/host/child_process.py",
        "kernel/processes.py",
        "kernel/node_exec/run_command.py",
        "kernel/node_exec/background.py",
    ),
    "concurrent": (),  # imports logging; `thread_pool` has what labctl needs of it
    "socket": ("kernel/", "cni_plugin/node.py"),
    "ctypes": ("kernel/",),
    "click": ("cli/",),
    "yaml": ("scenario/yaml_reader.py",),
    "pytest": ("testing/",),
}
HEAVY = ("pyroute2", "iptc", "yaml")  # imported in functions, where they are used


def layers(inside: str) -> dict[str, tuple[int, str]]:
    """The table of the page below `inside`: package -> its layer and the sentence on it."""
    part = PAGE.read_text().split(inside, 1)[1]
    table = re.search(r"(?:^\|.*\n)+", part, re.MULTILINE)
    assert table is not None
    rows = re.findall(r"^\| (\d+) \| `([\w.]+)` \| (.+) \|$", table[0], re.MULTILINE)
    return {name: (int(layer), sentence) for layer, name, sentence in rows}


LAYERS = layers("## Layers")
KERNEL = layers("Inside `kernel`:")
KUBERNETES = layers("Inside `kubernetes`:")


def modules() -> dict[str, Path]:
    """Every module of labctl by its dotted name."""
    names = (path.relative_to(ROOT.parent).with_suffix("").as_posix().replace("/", ".") for path in FILES)
    return {name.removesuffix(".__init__"): path for name, path in zip(names, FILES, strict=True)}


MODULES = modules()


def statements(tree: ast.AST) -> Iterator[ast.AST]:
    """A node, and every statement below it: also in functions and other blocks, but no expressions."""
    yield tree
    for name in ("body", "orelse", "finalbody", "handlers", "cases"):
        inner = getattr(tree, name, ())
        if isinstance(inner, list):  # the body of a lambda is an expression
            for one in inner:
                yield from statements(one)


def imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every absolute module name that is imported anywhere below a node, with its line."""
    for node in statements(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield (full if full in MODULES else node.module), node.lineno


@cache
def imported(path: Path) -> tuple[tuple[str, int], ...]:
    """What `imports` finds in a file."""
    return tuple(imports(parsed(path)))


def at_import(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """What is imported when the module is: not inside functions, not for the type checker alone."""
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield from imports(node)


def place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def within(name: str, module: str) -> bool:
    return name == module or name.startswith(module + ".")


def package(module: str, table: dict[str, tuple[int, str]], prefix: str) -> str | None:
    """The row of the table that a module belongs to; None for the modules above all rows."""
    rest = module.removeprefix(prefix + ".") if within(module, prefix) and module != prefix else ""
    rows = [row for row in table if within(rest, row)]
    return max(rows, key=len) if rows else None


def upward(table: dict[str, tuple[int, str]], prefix: str) -> list[str]:
    """Every import from a package into one of the same layer or a higher one."""
    found = []
    for name, path in MODULES.items():
        own = package(name, table, prefix)
        for target, line in imported(path):
            other = package(target, table, prefix)
            if own is None or other is None or own == other:
                continue
            if table[other][0] >= table[own][0]:
                found.append(f"{place(path)}:{line} imports {target}: `{other}` is not below `{own}`")
    return found


def test_no_package_imports_from_a_layer_above_or_beside_it() -> None:
    assert upward(LAYERS, "labctl") == []


def test_no_package_of_the_kernel_imports_from_a_layer_above_or_beside_it() -> None:
    assert upward(KERNEL, "labctl.kernel") == []


def test_no_package_of_kubernetes_imports_from_a_layer_above_or_beside_it() -> None:
    assert upward(KUBERNETES, "labctl.kubernetes") == []


def test_the_table_has_every_package_with_its_own_sentence() -> None:
    for table, prefix in ((LAYERS, "labctl"), (KERNEL, "labctl.kernel"), (KUBERNETES, "labctl.kubernetes")):
        below = (name.removeprefix(prefix + ".") for name in MODULES if name.startswith(prefix + "."))
        assert {name.split(".")[0] for name in below} - {"__main__"} == {name.split(".")[0] for name in table}
        for name, (_, sentence) in table.items():
            docstring = ast.get_docstring(parsed(MODULES[f"{prefix}.{name}"])) or ""
            assert " ".join(docstring.split("\n\n")[0].split()) == sentence, f"{prefix}.{name} and {PAGE.name} differ"


def test_the_walks_name_code_that_exists() -> None:
    walks = re.findall(r"`([\w/]+\.py):(\w+)`", PAGE.read_text())
    missing = []
    for file, name in walks:
        path = ROOT / file
        names = {getattr(node, "name", "") for node in ast.walk(parsed(path))} if path.exists() else set()
        if name not in names:
            missing.append(f"{file}:{name}")
    assert len(walks) > 20
    assert missing == []


def test_there_is_no_circle() -> None:
    wanted = {
        name: {target for target, _ in imported(path) if target in MODULES and target != name}
        for name, path in MODULES.items()
    }
    left = dict(wanted)
    while left:
        free = [name for name, targets in left.items() if not targets & left.keys()]
        if not free:
            break
        for name in free:
            del left[name]
    # what is left are the circles, and what depends on them
    assert {name: sorted(targets & left.keys()) for name, targets in left.items()} == {}


def test_there_are_few_modules_on_top() -> None:
    assert len(list(ROOT.glob("*.py"))) <= TOP


def test_what_touches_the_machine_is_imported_only_where_it_belongs() -> None:
    broken = [
        f"{place(path)}:{line} imports {name}"
        for path in FILES
        for name, line in imported(path)
        for module, places in ONLY_IN.items()
        if within(name, module) and not place(path).startswith(places)
    ]
    assert broken == []


def test_a_model_never_imports_another_model() -> None:
    named = {name.replace("-", "_") for name in models.model_names()}
    broken = [
        f"{place(path)}:{line} imports {name}"
        for path in (ROOT / "models").rglob("*.py")
        for name, line in imported(path)
        if name.startswith("labctl.models.") and name.split(".")[2] in named
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


@pytest.mark.parametrize("name", models.model_names())
def test_a_model_opens_with_a_sentence_a_drawing_and_what_it_follows(name: str) -> None:
    model = models.find_model(name)
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


# who calls setns, and for which kind of namespaces: network namespaces are entered in one place only
ENTRANCES = {
    "kernel/host/syscalls.py": "the call itself",
    "kernel/namespaces/entry.py": "network namespaces, with the test that it is not the machine's own",
    "kernel/programs/launcher.py": "the network namespace in which the asking thread is, and a pod's process namespace",
    "kernel/rootless.py": "the user namespace of labs without root, with what belongs to it",
}


def test_network_namespaces_are_entered_in_one_place() -> None:
    """No other module can enter the machine's own namespace by mistake, not even by a program that enters for it."""
    found = {
        path.relative_to(ROOT).as_posix()
        for path in FILES
        if "setns" in path.read_text()
        for node in ast.walk(parsed(path))
        if (isinstance(node, ast.Name) and node.id == "setns")
        or (isinstance(node, ast.Attribute) and node.attr == "setns")
        or (isinstance(node, ast.alias) and node.name == "setns")
    }
    assert found == {*ENTRANCES}
    entering = re.compile(r"""["']nsenter["']|["']ip["'], ["'](-n|-netns|netns)["']""")
    assert [path for path in FILES if entering.search(path.read_text())] == []

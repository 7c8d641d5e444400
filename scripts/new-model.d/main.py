"""Write a new model that works at once, and add it to every list that the tests read. `scripts/new-model` calls this.

Everything is written, or nothing: if a step fails, all files are as they were before.
"""

from __future__ import annotations

import argparse
import importlib
import keyword
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from string import Template
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the tree of this script, not an installed labctl
from labctl import models
from labctl.errors import LabError, ScenarioError
from labctl.render.resources import plan_text
from labctl.scenario import catalog
from labctl.scenario.definition import parse_and_compile
from labctl.scenario.nodes_field import singular
from labctl.scenario.yaml_reader import decode_utf8

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MAX_NAME = 40  # characters
LAST_IN_INDEX = "- [cni](models/cni.md)"  # a new model is listed before this line of docs/README.md


class Refused(Exception):
    """No model can be written: why, for people."""


class Files:
    """The files of the tree that were written, each with its text before, to put it back."""

    def __init__(self) -> None:
        self.before: dict[Path, bytes | None] = {}

    def write(self, path: Path, text: str) -> None:
        """Write a file, unless it has this text already."""
        old = path.read_bytes() if path.exists() else None
        if old == text.encode():
            return
        self.before.setdefault(path, old)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def restore(self) -> None:
        """Put everything back."""
        for path, text in self.before.items():
            if text is None:
                path.unlink(missing_ok=True)
            else:
                path.write_bytes(text)


@contextmanager
def all_or_nothing() -> Iterator[Files]:
    """Files that are put back if anything fails, also Ctrl-C."""
    files = Files()
    try:
        yield files
    except BaseException:
        files.restore()
        raise


def verify_name(name: str) -> str:
    """The name of the model's module. Raises Refused if the name is invalid or exists."""
    module = name.replace("-", "_")
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise Refused(f"{name!r} is not a name for a model: use a-z, 0-9 and single dashes, such as open-stack2")
    if len(name) > MAX_NAME:
        raise Refused(f"the name has {len(name)} characters; at most {MAX_NAME} are possible")
    if keyword.iskeyword(module):
        raise Refused(f"{name!r} is a keyword of Python, so no module can have this name")
    if name in models.model_names():
        raise Refused(f"there is a model {name!r} already")
    if name in catalog.names():
        raise Refused(f"there is a scenario {name!r} already, and the model's first scenario has the model's name")
    for path in (ROOT / "labctl/models" / module, ROOT / f"labctl/models/{module}.py", plans() / f"{name}.txt"):
        if path.exists():
            raise Refused(f"{path.relative_to(ROOT)} exists already")
    return module


def verify_machines(text: str) -> tuple[str, str]:
    """The words for the machines: `nodes,pods`. Raises Refused if they cannot be keys of a scenario file."""
    words = tuple(text.split(","))
    fake = SimpleNamespace(FOLLOWS="", MACHINES=words, PARTS=(), Options=object, compile=print)
    options = {"pod_cidr", "node_cidr", "mtu"} & set(words)
    if problem := models.contract_problem(fake) or (f"{options.pop()!r} is an option" if options else ""):
        raise Refused(f"--machines {text}: {problem}")
    outer, inner = words
    if singular(outer) == outer or singular(inner) == inner:
        raise Refused(f"--machines {text}: write both words in the plural, such as computes,instances")
    return outer, inner


def plans() -> Path:
    """The folder of the golden plans."""
    return next((ROOT / "tests").rglob("kubenet.txt")).parent


def fill(template: str, name: str, machines: tuple[str, str]) -> str:
    """A template of this folder with the model's name and its words for machines."""
    outer, inner = machines
    node = singular(outer)
    values = {"NAME": name, "NODES": outer, "PODS": inner, "NODE": node, "POD": singular(inner)}
    values |= {"FIRST": f"{node}1", "SECOND": f"{node}2", "NODE1": f"{node}1".ljust(16), "NODE2": f"{node}2".ljust(18)}
    return Template((HERE / template).read_text()).substitute(values)


def error_texts() -> Iterator[tuple[Path, str]]:
    """The golden error messages that list the models, with their new texts."""
    for path in sorted((ROOT / "tests").rglob("*.txt")):
        source = path.with_suffix(".yaml")
        if not source.exists() or "the models are" not in path.read_text():
            continue
        try:
            parse_and_compile(decode_utf8(source.read_bytes(), source.name), source.name)
        except ScenarioError as error:
            yield path, f"{error}\n"


def index_with(name: str) -> str:
    """docs/README.md with the new model in its list."""
    text = (ROOT / "docs/README.md").read_text()
    if text.count(LAST_IN_INDEX) != 1:
        raise Refused(f"docs/README.md has no line {LAST_IN_INDEX!r}, before which the model would be listed")
    summary = (models.find_model(name).__doc__ or "").splitlines()[0]
    line = f"- [{name}](models/{name}.md): {summary[0].lower()}{summary[1:]}"
    return text.replace(LAST_IN_INDEX, f"{line}\n{LAST_IN_INDEX}")


def write(files: Files, name: str, module: str, machines: tuple[str, str]) -> None:
    """Write the model and everything that belongs to it."""
    files.write(ROOT / f"labctl/models/{module}.py", fill("model.py.txt", name, machines))
    files.write(ROOT / f"scenarios/{name}.yaml", fill("scenario.yaml.txt", name, machines))
    importlib.invalidate_caches()
    file, text = catalog.find(name)
    files.write(plans() / f"{name}.txt", plan_text(parse_and_compile(text, file)[1]))
    for path, message in list(error_texts()):
        files.write(path, message)
    files.write(ROOT / "docs/README.md", index_with(name))
    sys.path.insert(0, str(ROOT / "scripts/docs.d"))
    pages: Any = importlib.import_module("pages")
    for page, text in pages.pages().items():
        files.write(ROOT / "docs" / page, text)


def next_steps(name: str, module: str) -> str:
    """What is left for a person."""
    golden = next((ROOT / "tests").rglob("test_plans.py")).relative_to(ROOT)
    return f"""
It works: ./scripts/labctl plan {name} --as shell; sudo ./scripts/labctl up {name} --check
Now make it yours (docs/extending.md):
  1. change labctl/models/{module}.py and scenarios/{name}.yaml
  2. renew the golden plan, and read its difference: ./scripts/test {golden} -k {name} --update-golden
  3. renew the pages: ./scripts/docs; and the model's line in docs/README.md
  4. name the model in README.md; add it to docs/comparison.md, with the command in the first line of that page
  5. test everything: sudo ./scripts/test"""


def main(arguments: list[str]) -> int:
    """Write the model; returns the exit code: 2 if the name or the words are refused."""
    parser = argparse.ArgumentParser("new-model", description="Write a new model that works at once.")
    parser.add_argument("name", help="the model's name, such as open-stack")
    parser.add_argument(
        "--machines", default="nodes,pods", metavar="OUTER,INNER", help="its words for machines (default: nodes,pods)"
    )
    chosen = parser.parse_args(arguments)
    try:
        module, machines = verify_name(chosen.name), verify_machines(chosen.machines)
        with all_or_nothing() as files:
            write(files, chosen.name, module, machines)
    except (Refused, LabError) as error:
        print(f"new-model: {error}", file=sys.stderr)
        return 2
    for path, before in files.before.items():
        print(f"{'wrote' if before is None else 'changed'} {path.relative_to(ROOT)}")
    print(next_steps(chosen.name, module))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What has to be translated: the sentences of labctl's code, of the checks of built-in scenarios, and of click."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import yaml
from babel.messages.extract import extract_from_file

from labctl.core.text import count

ROOT = Path(__file__).resolve().parents[2]
KEYWORDS = {"sentence": 1, "sentence_n": 2, "gettext": 1}  # how many templates each function takes
# click has an English text in its code, and asks gettext of Python for it when it prints
CLICK_KEYWORDS = {"_": None, "ngettext": (1, 2)}
CLICK_MODULES = ("core", "decorators", "exceptions", "formatting", "parser", "types")

Message = str | tuple[str, str]  # a template, or those for one and for many


def collect() -> dict[Message, set[str]]:
    """Every message, and the files that have it."""
    found: dict[Message, set[str]] = {}
    for origin, message in (*_of_code(), *_of_scenarios(), *_of_click()):
        found.setdefault(message, set()).add(origin)
    return found


def _of_code() -> Iterator[tuple[str, Message]]:
    """The templates of labctl, from its syntax tree. Before Python 3.12, Babel sees no call inside an f-string."""
    for path in sorted((ROOT / "labctl").rglob("*.py")):
        text = path.read_text()
        if any(f"{name}(" in text for name in (*KEYWORDS, "count")):
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                    for message in _of_call(node, node.func.id):
                        yield str(path.relative_to(ROOT)), message


def _of_call(call: ast.Call, function: str) -> Iterator[Message]:
    """The templates of one call: also the noun of `count(number, "noun")`, which makes both templates."""
    match function, call.args:
        case "count", [_, ast.Constant(value=str(noun))]:
            counted = count(2, noun)
            yield counted.template, counted.many
        case name, arguments if name in KEYWORDS:
            templates = [one.value for one in arguments[: KEYWORDS[name]] if isinstance(one, ast.Constant)]
            if templates and all(templates):
                yield templates[0] if len(templates) == 1 else (templates[0], templates[1])


def _of_scenarios() -> Iterator[tuple[str, Message]]:
    for path in sorted((ROOT / "scenarios").rglob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            for say in sentences_of_checks(document):
                yield str(path.relative_to(ROOT)), say


def sentences_of_checks(document: Any) -> Iterator[str]:
    """What the author of a scenario says about its checks."""
    checks = document.get("checks") if isinstance(document, dict) else None
    for check in checks or ():
        if isinstance(check, dict) and isinstance(check.get("say"), str):
            yield check["say"].strip()


def _of_click() -> Iterator[tuple[str, Message]]:
    """The messages of the installed click. The origin has no path, because that depends on the machine."""
    folder = Path(click.__file__).parent
    for module in CLICK_MODULES:
        for _, message, _, _ in extract_from_file("python", folder / f"{module}.py", CLICK_KEYWORDS):
            if message:
                yield f"click/{module}.py", message

"""The catalogues: each is complete, its placeholders are those of the sentences, and the compiled file is current."""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Iterator
from functools import cache
from string import Formatter
from types import ModuleType

import pytest

from labctl.core.scenario_types import Lab
from labctl.core.sentence import Sentence
from labctl.scenario import catalog
from labctl.scenario.definition import parse_and_compile
from labctl.translation import language
from tests.support.paths import ROOT

FOLDER = ROOT / "scripts/translations.d"
CODES = language.languages()[1:]


@pytest.fixture(scope="module")
def catalogue() -> Iterator[ModuleType]:
    sys.path.insert(0, str(FOLDER))
    try:
        module = importlib.import_module("catalogue")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "collect", cache(module.collect))  # it reads the whole source tree
            yield module
    finally:
        sys.path.remove(str(FOLDER))


def test_there_is_a_catalogue() -> None:
    assert "ja" in CODES


@pytest.mark.parametrize("code", CODES)
def test_the_catalogue_is_complete_and_compiled(catalogue: ModuleType, code: str) -> None:
    assert list(catalogue.problems(code)) == [], "run scripts/translations update, and translate what it lists"


@pytest.mark.parametrize("code", CODES)
def test_the_catalogue_is_as_the_script_writes_it(catalogue: ModuleType, code: str) -> None:
    assert catalogue.po_path(code).read_bytes() == catalogue.po_text(catalogue.updated(code, new_click=False))


@pytest.mark.parametrize(
    ("original", "translation", "is_right"),
    [
        ("{node} has {seconds:g} s", "{seconds:g} 秒 {node}", True),
        ("{node} has {seconds:g} s", "{node} {seconds} 秒", False),
        ("{node} is up", "起動", False),
        ("no value", "{node}", False),
        ("a { alone", "一つの {", True),
        ("a brace", "一つの {", False),
        (("{number} pod", "{number} pods"), ("Pod {number} 個",), True),
        (("one pod", "{number} pods"), ("Pod",), True),
        (("one pod", "{number} pods"), ("Pod {count} 個",), False),
    ],
)
def test_placeholders_agree(
    catalogue: ModuleType, original: str | tuple[str, str], translation: str | tuple[str], is_right: bool
) -> None:
    found = list(catalogue.wrong_placeholders(catalogue.Entry(original, translation)))

    assert (found == []) is is_right


def test_the_sentence_of_every_check_is_translated(catalogue: ModuleType) -> None:
    """Of built-in scenarios, and of what models add to them: a plain text that was put together would stay English."""
    known = set(catalogue.collect())
    plain = [
        f"{name}: {check.say}"
        for name, lab in compiled_scenarios().items()
        for check in lab.checks
        if not isinstance(check.say, Sentence) and check.say not in known
    ]

    assert plain == []


def compiled_scenarios() -> dict[str, Lab]:
    return {name: parse_and_compile(*reversed(catalog.find(name)))[1] for name in catalog.names()}


def test_templates_are_literals_and_get_their_values() -> None:
    """What scripts/translations cannot read stays English, and a template without its value fails when it is said."""
    wrong = []
    for path in sorted((ROOT / "labctl").rglob("*.py")):
        text = path.read_text()
        for call in ast.walk(ast.parse(text)) if any(f"{name}(" in text for name in TEMPLATES) else ():
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in TEMPLATES:
                wrong += [f"{path.name}:{call.lineno} {problem}" for problem in _problems(call)]

    assert wrong == []


TEMPLATES = {"sentence": 1, "sentence_n": 2}  # how many templates the function takes


def _problems(call: ast.Call) -> Iterator[str]:
    assert isinstance(call.func, ast.Name)
    number = TEMPLATES[call.func.id]
    if any(keyword.arg is None for keyword in call.keywords):
        return  # `**words`: a type checker cannot see them either
    values = {str(keyword.arg) for keyword in call.keywords} | ({"number"} if number == 2 else set())
    for template in call.args[:number]:
        if not isinstance(template, ast.Constant) or not isinstance(template.value, str):
            yield "the template is not a literal"
        elif values:
            names = {name.partition(".")[0] for _, name, _, _ in Formatter().parse(template.value) if name is not None}
            if unknown := names - values:
                yield f"no value for {', '.join(sorted(unknown))}"
            if number == 1 and (unused := values - names):
                yield f"no placeholder for {', '.join(sorted(unused))}"

"""The English that users read is plain: no archaic words, no verbs of persons for things.

The test collects every user-facing text: the help of all verbs and options, the keys of the scenario language, the
models' pages and options, the check sentences, the strings of the code (errors, hints, trace sentences, reports), the
pages of docs/ outside code blocks, and the usage texts of scripts/. Each failure names the word, its place and a plain
replacement.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest

import labctl
import labctl.models.lib
from labctl import errors, models
from labctl.cli.app import VERBS, app
from labctl.cli.session import Session
from labctl.core.fidelity import Fidelity
from labctl.scenario import catalog, check_language, json_schema, language
from labctl.scenario.definition import parse_and_compile

ROOT = Path(labctl.__file__).resolve().parents[1]

# a word or phrase (a regular expression between word boundaries, in any case) -> what to write instead
AFTER_OWN = (
    r"(?= *(?:$|[^\w ${]|(?:in|at|on|with|for|and|to|that|which|is|are)\b))"  # "of its own", not "of its own pod"
)
REPLACEMENTS = {
    r"(?<!there )(?:is|are|was|were) no (?!longer|more\b)\w+": "is not a ...",
    r"a ?kin to": "like",
    r"alas|ere|fain|lo and behold|nay|oft|verily": "leave it out",
    r"albeit": "although",
    r"alike": "the same; both ... and",
    r"amid(?:st)?|amongst": "among",
    r"anew": "again",
    r"as it were": "leave it out",
    r"asked of": "asked",
    r"aught|naught|nought": "anything, nothing",
    r"be it|be they": "whether it is",
    r"becomes? of|became of": "happens to",
    r"betrays?|betrayed": "shows",
    r"bids?|bade": "asks",
    r"but for": "except for",
    r"by hand": "manually; the equivalent command",
    r"deaf|mute": "does not receive; sends nothing",
    r"dwells?|dwelt": "is in",
    r"fell(?:s|ed|ing)": "drops, dropped",
    r"for want of": "because there is no",
    r"hears?|heard": "receives, received",
    r"heeds?|heeded": "uses, follows",
    r"hence(?:forth)?": "so",
    r"hither|thither|hitherto": "here, there, until now",
    r"in vain": "without an answer, without success",
    r"knows? nothing of": "does not know",
    r"lends? itself": "is suitable",
    r"lest": "so that ... not",
    r"let be": "left unchanged",
    r"mends?|mended|mending": "repairs, fixes",
    r"nobody|no one": "no machine, no process, no user",
    r"nothing of the kind": "no such thing",
    r"of (?:its|our|their|his|her|my|your|one's) own" + AFTER_OWN: "separate; its",
    r"of old": "earlier",
    r"roads?": "path",
    r"save for|save that": "except for",
    r"sings?|sang|sung": "reports",
    r"so be it": "leave it out",
    r"speaks?|spoke|spoken": "sends, uses",
    r"strays|strayed": "leftover",
    r"tells?|told": "reports, shows, says",
    r"that which|those which|he who": "what; the ones that",
    r"the likes of": "such as",
    r"then(?:ce|ceforth)|thereof|therein|thereby|thereupon|thereto": "from there, of it, in it",
    r"(?:nothing|none|naught) but": "only",
    r"thus": "so",
    r"to that effect": "that says so",
    r"twain": "two",
    r"unto": "to",
    r"upon": "on",
    r"vouch(?:es)?|vouched": "proves",
    r"wants? for|wanting in": "lacks",
    r"wears?|wore|worn|wearing": "has, uses",
    r"whence|whereof|whereby|wherein|whereupon|whither|wherefore": "from where, of which, by which, in which",
    r"whilst": "while",
    r"who is who": "which machine has which address",
    r"whom|whose": "of which; `the X of the Y`",
    r"withal|without more ado|without further ado": "leave it out",
    r"without (?:a|one) word": "silently",
}
PATTERN = re.compile(
    "|".join(rf"(?P<r{number}>\b(?:{word})\b)" for number, word in enumerate(REPLACEMENTS)), re.IGNORECASE
)
ANY_PHRASE = re.compile(rf"\b(?:{'|'.join(REPLACEMENTS)})\b")  # for text in small letters: 40 times as fast

# texts of upstream projects and tools, which stay as they are, each with the reason
QUOTATIONS = {
    "who has {}? tell {}": "the text of an ARP request, as tcpdump prints it",
}


ERROR_CLASSES = {
    name for name, kind in vars(errors).items() if isinstance(kind, type) and kind.__module__ == errors.__name__
}
ERROR_CLASSES |= {"InvalidValue", "Failure"}  # of the scenario language, and of the CNI plugin
DOCUMENTED = (
    "board",
    "core",
    "tracing",
    "models",
    "compare",
    "report",
    "cli",
    "testing",
    "kernel",
    "checks",
    "scenario",
    "cni",
    "cni_runtime",
    "cni_plugin",
    "exercises",
    "packets",
    "lab",
    "render",
    "training",
)


@dataclass(frozen=True)
class Text:
    """One text that a user can read, and where it stands."""

    where: str
    text: str


def refused(text: str) -> Iterator[tuple[str, str]]:
    """The refused phrases of a text, each with its plain replacement. Quotations are not searched."""
    for quotation in QUOTATIONS:
        text = text.replace(quotation, " ")
    text = " ".join(re.sub(r"`[^`]*`", "`code`", text).split())
    if not ANY_PHRASE.search(text.lower()):
        return
    for found in PATTERN.finditer(text):
        assert found.lastgroup is not None
        yield found[0], list(REPLACEMENTS.values())[int(found.lastgroup[1:])]


def complaints(texts: Iterator[Text]) -> list[str]:
    """A line for each refused phrase."""
    return [
        f"{one.where}: {phrase!r}: write: {replacement}\n    {' '.join(one.text.split())[:300]}"
        for one in texts
        for phrase, replacement in refused(one.text)
    ]


# ---- the collections ---------------------------------------------------------------------------------------


def command_texts() -> Iterator[Text]:
    """The help of all verbs and their options."""
    context = click.Context(app, info_name="labctl", obj=Session(()))
    commands = [app, *(app.get_command(context, name) for name in VERBS)]
    for command in commands:
        assert command is not None
        yield Text(f"labctl {command.name}", f"{command.help}\n{command.short_help}")
        for parameter in command.params:
            yield Text(f"labctl {command.name} {parameter.name}", str(getattr(parameter, "help", None) or ""))


def language_texts() -> Iterator[Text]:
    """The keys of the scenario language: what they are, which values they take, their defaults."""
    yield Text("docs/scenario.md", json_schema.reference())
    for key in (*language.common_keys(models.model_names()), *check_language.CHECK.keys, *check_language.SEE.keys):
        yield Text(f"key {key.name}", f"{key.help}; {key.default}; {getattr(key.field_type, 'what', '')}")
    for name in models.model_names():
        model = models.find_model(name)
        groups = [keys for _, keys in json_schema.inner_keys(model)]
        for key in (key for keys in (language.model_keys(model, models.model_names()), *groups) for key in keys):
            yield Text(f"model {name}, key {key.name}", f"{key.help}; {getattr(key.field_type, 'what', '')}")


def model_texts() -> Iterator[Text]:
    """The models' pages: their docstrings, the fidelity of their parts, and the releases that they follow."""
    for name in models.model_names():
        model = models.find_model(name)
        yield Text(f"model {name}, docstring", re.sub(r"(?m)^ .*$", "", inspect.getdoc(model) or ""))
        yield Text(f"model {name}, FOLLOWS", str(model.FOLLOWS))
        yield from (Text(f"model {name}, PARTS", part_text(part)) for part in model.PARTS)
    for module in pkgutil.iter_modules(labctl.models.lib.__path__, "labctl.models.lib."):
        shared: Any = importlib.import_module(module.name)
        yield from (Text(f"{module.name}, PARTS", part_text(part)) for part in getattr(shared, "PARTS", ()))


def part_text(part: Fidelity) -> str:
    return f"{part.aspect}; {part.reason}; {part.substitute}"


def scenario_texts() -> Iterator[Text]:
    """The built-in scenarios: their sentences and comments, and the claims of all checks, also of the models'."""
    for name in catalog.names():
        file, text = catalog.find(name)
        yield Text(f"scenarios/{name}.yaml", text)
        _, lab = parse_and_compile(text, file)
        yield from (Text(f"check of {name}", check.say) for check in lab.checks)
    for name, file in catalog.exercise_files().items():
        yield Text(f"exercise {name}", Path(file).read_text())


def code_texts(folder: Path = ROOT / "labctl") -> Iterator[Text]:
    """All sentences among the string literals of the code, also the literal parts of f-strings: errors, hints,
    progress, trace sentences, reports. Docstrings are not among them."""
    for path in sorted(folder.rglob("*.py")):
        yield from literals(nodes_of(path), path.relative_to(folder.parent).as_posix())


@cache
def nodes_of(path: Path) -> tuple[ast.AST, ...]:
    """The nodes of a module's syntax tree."""
    return tuple(ast.walk(ast.parse(path.read_text())))


def literals(nodes: tuple[ast.AST, ...], where: str, *, words: int = 2) -> Iterator[Text]:
    """The string literals among the nodes of a module that have at least so many words."""
    ignored = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}  # docstrings
    ignored |= {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
    texts = [node for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    short = {id(node) for node in texts if len(str(node.value).split()) < words}
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            parts = (part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
            yield Text(f"{where}:{node.lineno}", "".join(map(str, parts)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in ignored | short:
            yield Text(f"{where}:{node.lineno}", node.value)


def error_texts() -> Iterator[Text]:
    """The messages and hints of labctl's error classes, also the literal parts of f-strings."""
    for path in sorted((ROOT / "labctl").rglob("*.py")):
        for node in nodes_of(path):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ERROR_CLASSES:
                arguments = (*node.args, *(keyword.value for keyword in node.keywords))
                where = f"{path.relative_to(ROOT)}:{node.lineno}"
                parts = [tuple(ast.walk(value)) for value in arguments]
                found = (one for part in parts for one in literals(part, where, words=1))
                yield from (Text(where, one.text) for one in found)


def docstring_texts() -> Iterator[Text]:
    """The docstrings of the packages that other programs and authors of models use."""
    for folder in DOCUMENTED:
        for path in sorted((ROOT / "labctl" / folder).rglob("*.py")):
            for node in nodes_of(path):
                if isinstance(node, (ast.Module, ast.FunctionDef, ast.ClassDef)):
                    where = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}"
                    yield Text(where, ast.get_docstring(node) or "")


def page_texts() -> Iterator[Text]:
    """The pages that people write, outside code blocks. The generated pages have the texts of the other collections."""
    pages = [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "vagrant/README.md",
        *sorted((ROOT / "docs").rglob("*.md")),
    ]
    for page in pages:
        text = page.read_text()
        if "Generated by scripts/docs" in text.partition("\n")[0]:
            continue
        prose = re.sub(r"(?ms)^ *```.*?^ *```$", lambda found: "\n" * found[0].count("\n"), text)
        for block in re.finditer(r"(?:.+\n?)+", prose):
            line = prose.count("\n", 0, block.start()) + 1
            yield Text(f"{page.relative_to(ROOT)}:{line}", block[0])


def script_texts() -> Iterator[Text]:
    """The usage texts and messages of scripts/: the comment at the beginning of each script, what it prints, and the
    docstrings and strings of its Python parts."""
    for path in sorted((ROOT / "scripts").rglob("*")):
        if not path.is_file() or path.suffix in (".pyc", ".c"):
            continue
        where, source = path.relative_to(ROOT).as_posix(), path.read_text()
        if path.suffix == ".py":
            nodes = nodes_of(path)
            yield Text(where, ast.get_docstring(nodes[0]) or "")  # type: ignore[arg-type]
            yield from literals(nodes, where)
            continue
        for number, line in enumerate(source.splitlines(), 1):
            yield Text(f"{where}:{number}", line)


COLLECTIONS = {
    "command line": command_texts,
    "scenario language": language_texts,
    "models": model_texts,
    "scenarios": scenario_texts,
    "errors": error_texts,
    "code": code_texts,
    "docstrings": docstring_texts,
    "pages": page_texts,
    "scripts": script_texts,
}


@cache
def collected(name: str) -> tuple[Text, ...]:
    return tuple(COLLECTIONS[name]())


@pytest.mark.parametrize("name", COLLECTIONS)
def test_what_users_read_is_plain(name: str) -> None:
    texts = collected(name)

    assert sum(bool(one.text.strip()) for one in texts) > 20, "the collection is empty"
    found = complaints(iter(texts))
    assert not found, "\n".join(["these words are hard for many readers:", *found])


def test_phrases_are_in_small_letters() -> None:
    """They are searched in small letters first."""
    assert [phrase for phrase in REPLACEMENTS if phrase.lower() != phrase] == []


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("the pod wears the node's address", "wears"),
        ("a machine whose address is not known", "whose"),
        ("a bridge of its own", "of its own"),
        ("eth0 is no bridge", "is no bridge"),
        ("type it by hand", "by hand"),
        ("it asked\n    in vain", "in vain"),
    ],
)
def test_a_planted_word_is_refused_with_a_plain_replacement(text: str, phrase: str) -> None:
    (complaint,) = complaints(iter([Text("sample:1", text)]))

    assert complaint.startswith(f"sample:1: {phrase!r}: write: ")
    assert complaint.endswith(f"\n    {' '.join(text.split())}")


def test_a_planted_word_is_found_in_the_literal_parts_of_an_f_string() -> None:
    source = 'raise UsageError(f"{name} is no lab", hint="ask nobody")\n'

    found = complaints(literals(tuple(ast.walk(ast.parse(source))), "sample.py"))

    assert [line.partition(": write")[0] for line in found] == ["sample.py:1: 'is no lab'", "sample.py:1: 'nobody'"]


@pytest.mark.parametrize(
    "text",
    [
        "there is no lab",
        "a node sees the address of its own pod",
        "it no longer runs",
        "the field `whose`",
        "who has {}? tell {}",
    ],
)
def test_plain_sentences_code_and_quotations_pass(text: str) -> None:
    assert list(refused(text)) == []


@pytest.mark.parametrize("quotation", QUOTATIONS)
def test_every_quotation_is_still_used(quotation: str) -> None:
    assert QUOTATIONS[quotation], "give the reason"
    texts = (one.text for name in COLLECTIONS for one in collected(name))
    assert any(quotation in " ".join(text.split()) for text in texts), "remove the quotation"

"""JSON text as a document with positions: what is read, and what is refused where."""

from __future__ import annotations

import json

import pytest

from labctl.errors import ScenarioError
from labctl.scenario.document import Map, Reader, Seq, Text
from labctl.scenario.json_reader import parse_json

# -- JSON with places ------------------------------------------------------------------------------------


def plain(node: Text | Seq | Map) -> object:
    if isinstance(node, Map):
        return {key.value: plain(value) for key, value in node.items}
    if isinstance(node, Seq):
        return [plain(item) for item in node.items]
    return json.loads(node.value) if node.plain else node.value


@pytest.mark.parametrize(
    "text",
    ['{"a": [1, -2.5e3, true, false, null, "x\\n\\u00e9\\ud83d\\ude00"], "b": {}, "c": []}', "  3 ", '"x"', "[[[]]]"],
)
def test_json_is_read_as_json_is(text: str) -> None:
    assert plain(parse_json(text, "f", Reader())) == json.loads(text)


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        ("{", (1, 2), "a '}' is missing at the end"),
        ('{"a" 1}', (1, 6), "a ':' is missing after the key 'a'"),
        ("{'a': 1}", (1, 2), "a key cannot begin with"),
        ('{"a": 01}', (1, 8), "',' or '}' is missing before '1'"),
        ('{"a": nope}', (1, 7), "a value cannot begin with 'n'"),
        ("[1,\n 2,\n]", (3, 1), "a value cannot begin with ']'"),
        ('["a\nb"]', (1, 4), "invalid control character"),
        ('["a', (1, 2), "unterminated string"),
        ('["\\q"]', (1, 3), "invalid \\escape"),
        ("1 2", (1, 3), "more text after the end"),
        ("[" * 100, (1, 66), "nested more than 64 levels deep"),
    ],
)
def test_what_is_no_json_is_told_with_its_place(text: str, place: tuple[int, int], what: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        parse_json(text, "f", Reader())
    problem = caught.value.problems[0]
    assert (problem.line, problem.column) == place
    assert what in problem.what
    with pytest.raises(ValueError, match=r"."):
        json.loads(text)


def test_a_key_written_twice_is_noted() -> None:
    reader = Reader()
    parse_json('{"a": 1,\n"a": 2}', "f", reader)
    assert [str(problem) for problem in reader.problems] == ["f:2:1: 'a' is written twice"]

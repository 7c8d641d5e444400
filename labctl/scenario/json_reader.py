"""Read JSON into the same tree as YAML. Every value has its line and column.

The reader is strict, as the readers of CNI plugins are: it accepts only JSON, and reports where a text is not JSON.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import NoReturn

from labctl.scenario.document import Map, Position, Reader, Seq, Text, TreeNode, fail, quote_text

MAX_DEPTH = 64
_BLANK = re.compile(r"[ \t\n\r]*")
_BARE = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?|true|false|null")


def parse_json(text: str, file: str, reader: Reader, fixed_position: Position | None = None) -> TreeNode:
    """Read a JSON text. Duplicate keys are reported to `reader`. If the text is itself a value in a file, `start` is
    the position of that value: every node gets it, and messages add the line and column within the text.

    Raises ScenarioError at the first error.
    """
    scanner = _Scanner(text, file, reader, fixed_position)
    node = scanner.value(0)
    scanner.blank()
    if scanner.index < len(text):
        scanner.raise_error("more text after the end of the value")
    return node


class _Scanner:
    def __init__(self, text: str, file: str, reader: Reader, fixed_position: Position | None) -> None:
        self.text, self.file, self.reader, self.fixed_position = text, file, reader, fixed_position
        self.index = 0
        self.line_starts = [0, *(found.end() for found in re.finditer("\n", text))]

    def blank(self) -> str:
        """Skip white space. Return the next character, "" at the end."""
        found = _BLANK.match(self.text, self.index)
        self.index = found.end() if found is not None else self.index
        return self.text[self.index : self.index + 1]

    def value(self, depth: int) -> TreeNode:
        if depth > MAX_DEPTH:
            self.raise_error(f"nested more than {MAX_DEPTH} levels deep")
        sign, start = self.blank(), self.position()
        if sign == "{":
            return self._map(start, depth)
        if sign == "[":
            return self._list(start, depth)
        if sign == '"':
            return Text(start, self._string(), False)
        found = _BARE.match(self.text, self.index)
        if found is None:
            self.raise_error(
                f"a value cannot begin with {quote_text(sign)}" if sign else "a value is missing at the end"
            )
        self.index = found.end()
        return Text(start, found[0], True)

    def position(self) -> Position:
        if self.fixed_position is not None:
            return self.fixed_position
        line = bisect_right(self.line_starts, self.index)
        return Position(self.file, line, self.index - self.line_starts[line - 1] + 1)

    def raise_error(self, what: str, hint: str = "") -> NoReturn:
        if self.fixed_position is not None:
            before = self.text[: self.index]
            column = self.index - (before.rfind("\n") + 1) + 1
            what = f"{what} (line {before.count(chr(10)) + 1}, column {column} of the text)"
        fail(self.position(), f"this is not valid JSON: {what}", hint)

    def _string(self) -> str:
        try:
            found, end = scanstring(self.text, self.index + 1, True)
        except ValueError as error:
            position = getattr(error, "pos", self.index)
            self.index = min(position, len(self.text))
            self.raise_error(str(getattr(error, "msg", error)).rstrip(": at").lower() or "a string is not closed")
        self.index = end
        return str(found)

    def _map(self, start: Position, depth: int) -> Map:
        self.index += 1
        items: dict[str, tuple[Text, TreeNode]] = {}
        while (sign := self.blank()) != "}" or items:
            if sign != '"':
                self.raise_error(*_missing_key_message(sign, bool(items)))
            key = Text(self.position(), self._string(), False)
            if self.blank() != ":":
                self.raise_error(f"a ':' is missing after the key {quote_text(key.value)}")
            self.index += 1
            node = self.value(depth + 1)
            if key.value in items:
                self.reader.add_problem(key, f"{quote_text(key.value)} is written twice")
            items[key.value] = (key, node)
            if self._is_last("}"):
                return Map(start, tuple(items.values()))
        self.index += 1
        return Map(start)

    def _list(self, start: Position, depth: int) -> Seq:
        self.index += 1
        items: list[TreeNode] = []
        if self.blank() == "]":
            self.index += 1
            return Seq(start)
        while True:
            items.append(self.value(depth + 1))
            if self._is_last("]"):
                return Seq(start, tuple(items))

    def _is_last(self, end: str) -> bool:
        sign = self.blank()
        if sign not in (end, ","):
            self.raise_error(f"',' or '{end}' is missing" + (f" before {quote_text(sign)}" if sign else " at the end"))
        self.index += 1
        return sign == end


def _missing_key_message(sign: str, after_comma: bool) -> tuple[str, str]:
    if sign == "}" and after_comma:
        return "a comma before the '}'", "JSON allows no comma after the last entry"
    if not sign:
        return "a '}' is missing at the end", ""
    return f"a key cannot begin with {quote_text(sign)}", "JSON keys are in double quotes"

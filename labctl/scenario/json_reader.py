"""Read JSON into the same tree as YAML. Every value has its line and column.

The reader is strict, as the readers of CNI plugins are: it accepts only JSON, and reports where a text is not JSON.
"""

from __future__ import annotations

import re
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import NoReturn

from labctl.scenario.document import Map, Node, Place, Reader, Seq, Text, fail, show

MAX_DEPTH = 64
_BLANK = re.compile(r"[ \t\n\r]*")
_BARE = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?|true|false|null")


def parse_json(text: str, file: str, reader: Reader, start: Place | None = None) -> Node:
    """Read a JSON text. Duplicate keys are reported to `reader`. If the text is itself a value in a file, `start` is
    the position of that value: every node gets it, and messages add the line and column within the text.

    Raises ScenarioError at the first error.
    """
    scanner = _Scanner(text, file, reader, start)
    node = scanner.value(0)
    scanner.blank()
    if scanner.at < len(text):
        scanner.wrong("more text after the end of the value")
    return node


class _Scanner:
    def __init__(self, text: str, file: str, reader: Reader, start: Place | None) -> None:
        self.text, self.file, self.reader, self.start = text, file, reader, start
        self.at = 0

    def blank(self) -> str:
        """Skip white space. Return the next character, "" at the end."""
        found = _BLANK.match(self.text, self.at)
        self.at = found.end() if found is not None else self.at
        return self.text[self.at : self.at + 1]

    def value(self, depth: int) -> Node:
        if depth > MAX_DEPTH:
            self.wrong(f"nested more than {MAX_DEPTH} levels deep")
        sign, place = self.blank(), self.place()
        if sign == "{":
            return self._map(place, depth)
        if sign == "[":
            return self._list(place, depth)
        if sign == '"':
            return Text(place, self._string(), False)
        found = _BARE.match(self.text, self.at)
        if found is None:
            self.wrong(f"a value cannot begin with {show(sign)}" if sign else "a value is missing at the end")
        self.at = found.end()
        return Text(place, found[0], True)

    def place(self) -> Place:
        if self.start is not None:
            return self.start
        before = self.text[: self.at]
        return Place(self.file, before.count("\n") + 1, self.at - (before.rfind("\n") + 1) + 1)

    def wrong(self, what: str, hint: str = "") -> NoReturn:
        if self.start is not None:
            before = self.text[: self.at]
            column = self.at - (before.rfind("\n") + 1) + 1
            what = f"{what} (line {before.count(chr(10)) + 1}, column {column} of the text)"
        fail(self.place(), f"this is not valid JSON: {what}", hint)

    def _string(self) -> str:
        try:
            found, end = scanstring(self.text, self.at + 1, True)
        except ValueError as error:
            position = getattr(error, "pos", self.at)
            self.at = min(position, len(self.text))
            self.wrong(str(getattr(error, "msg", error)).rstrip(": at").lower() or "a string is not closed")
        self.at = end
        return str(found)

    def _map(self, place: Place, depth: int) -> Map:
        self.at += 1
        items: dict[str, tuple[Text, Node]] = {}
        while (sign := self.blank()) != "}" or items:
            if sign != '"':
                self.wrong(*_no_key(sign, bool(items)))
            key = Text(self.place(), self._string(), False)
            if self.blank() != ":":
                self.wrong(f"a ':' is missing after the key {show(key.value)}")
            self.at += 1
            node = self.value(depth + 1)
            if key.value in items:
                self.reader.problem(key, f"{show(key.value)} is written twice")
            items[key.value] = (key, node)
            if self._closed("}"):
                return Map(place, tuple(items.values()))
        self.at += 1
        return Map(place)

    def _list(self, place: Place, depth: int) -> Seq:
        self.at += 1
        items: list[Node] = []
        if self.blank() == "]":
            self.at += 1
            return Seq(place)
        while True:
            items.append(self.value(depth + 1))
            if self._closed("]"):
                return Seq(place, tuple(items))

    def _closed(self, end: str) -> bool:
        sign = self.blank()
        if sign not in (end, ","):
            self.wrong(f"',' or '{end}' is missing" + (f" before {show(sign)}" if sign else " at the end"))
        self.at += 1
        return sign == end


def _no_key(sign: str, after_comma: bool) -> tuple[str, str]:
    if sign == "}" and after_comma:
        return "a comma before the '}'", "JSON allows no comma after the last entry"
    if not sign:
        return "a '}' is missing at the end", ""
    return f"a key cannot begin with {show(sign)}", "JSON keys are in double quotes"

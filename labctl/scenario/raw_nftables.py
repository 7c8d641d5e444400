"""Make the objects of nft of a scenario's `nftables:`; every mistake with its place in the file.

Texts are read by `labctl.core.nft_script`. The structured form is written down in the same words, so that both are
verified by the same code.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from labctl.core.nft_references import device_names, verify
from labctl.core.nft_ruleset import one_line
from labctl.core.nft_script import read_script
from labctl.core.nft_state import BEFORE, Line, Ruleset, ScriptObject, add_header, rule_line
from labctl.core.nft_tokens import Token, joined, tokens
from labctl.core.resources import NftObject
from labctl.core.why import RuleByRule
from labctl.scenario.document import Position, Reader, Text, quote_text
from labctl.scenario.field_types import Located
from labctl.scenario.raw_symbols import stated

_NAMED = (("counters", "counter"), ("quotas", "quota"), ("limits", "limit"), ("ct_helpers", "ct helper"))
_FOLDED = "write | after the key, which keeps the lines, not >"
CheckDevice = Callable[[str, Position], object]  # records a problem at this place, if there is no such device


class NftablesParser:
    """Makes the objects of one machine from all that its `nftables` says."""

    def __init__(self, ns: str, reader: Reader, present: Sequence[NftObject] = ()) -> None:
        self.ns, self.reader, self.ruleset = ns, reader, Ruleset()
        for item in present:
            self.ruleset.keep(item)
        self._sources: list[tuple[int, Text]] = []  # the texts, and what is added to the offsets in each
        self._line_starts: dict[int, list[int]] = {}  # the offsets at which the lines of each text begin, once asked
        self._end = 0

    def objects(self, parts: Sequence[Located], check_device: CheckDevice) -> Iterator[NftObject]:
        """The objects. Problems are recorded."""
        for part in parts:
            if isinstance(part.value, Text):
                read_script(part.value.value, self.ruleset, self._register(part.value))
            else:
                for table, body in part.value:
                    self._table(table, body.value)
        stated_objects = any(item.present is None or _grew(item) for item in self.ruleset.objects.values())
        if not any(part.value for part in parts) or not (stated_objects or self.ruleset.mistakes):
            self._report_empty(parts)
        verify(self.ruleset)
        self._report()
        for item in self.ruleset.in_order():
            if item.present is None or _grew(item):
                self._check_devices(item, check_device)
                yield self._made(item)

    def _made(self, item: ScriptObject) -> NftObject:
        """The object, with the reasons of its lines: their places in the file, or those of the model."""
        made = item.resource(self.ns)
        own = {line.text: stated(self.position(line.at)) for line in reversed(item.entries) if line.at != BEFORE}
        whys = (RuleByRule(tuple(own), tuple(own.values())),) if own else ()
        before = item.present
        why = stated(self.position(item.at)) if before is None else before.why
        return replace(made, why=why, rule_whys=whys if before is None else (*whys, *before.rule_whys))

    def position(self, at: int, word: str = "") -> Position:
        """Where an offset stands in the file, or the first of these words after it."""
        base, node = self._sources[bisect_right(self._sources, at, key=lambda pair: pair[0]) - 1]
        offset = at - base
        if word:
            offset = max(offset, node.value.find(word, offset))
        if node.start is None or not 0 <= offset <= len(node.value):
            return node.position
        begins = self._line_starts.get(base)
        if begins is None:
            begins = [0, *(match.end() for match in re.finditer("\n", node.value))]
            self._line_starts[base] = begins
        number = bisect_right(begins, offset) - 1
        return Position(node.start.file, node.start.line + number, node.start.column + offset - begins[number])

    # -- places

    def _register(self, node: Text) -> int:
        base, self._end = self._end, self._end + len(node.value) + 1
        self._sources.append((base, node))
        return base

    def _report(self) -> None:
        mistakes = [one for one in self.ruleset.mistakes if one.at != BEFORE]
        for one in sorted(mistakes, key=lambda mistake: mistake.at):
            _, node = self._sources[bisect_right(self._sources, one.at, key=lambda pair: pair[0]) - 1]
            folded = node.start is None and not node.plain and "\n" not in node.value.strip()
            self.reader.add_problem(
                self.position(one.at, one.word), f"nftables: {one.what}", _FOLDED if folded else one.hint
            )

    def _report_empty(self, parts: Sequence[Located]) -> None:
        for part in parts[:1]:
            self.reader.add_problem(part.at, "nftables: this makes no table", "such as table inet filter { ... }")

    def _check_devices(self, item: ScriptObject, check: CheckDevice) -> None:
        """Verify the devices that the kernel keeps by their numbers: they must exist when the rule is made."""
        lines = [line for line in (*item.header, *item.entries) if line.at != BEFORE]
        for line in lines if item.kind in ("chain", "flowtable") else ():
            for name in device_names(line.text):
                check(name, self.position(line.at, name))

    # -- the structured form

    def _table(self, name: Located, body: dict[str, Located]) -> None:
        at = self._place(name.at)
        table = self.ruleset.add(name.value, "table", "", at)
        for key in ("comment", "flags"):
            if key in body:
                self._header(table, key, body[key])
        for key, kind in _NAMED:
            for one in body[key].value if key in body else ():
                named, text = one if isinstance(one, tuple) else (one, None)
                item = self._object(name.value, kind, named)
                if text is not None:
                    item.header += self._lines(text.value)
        for key, make in (
            *(("sets", self._set), ("maps", self._set)), *(("flowtables", self._flowtable), ("chains", self._chain)),
        ):  # fmt: skip
            for named, about in body[key].value if key in body else ():
                make(self._object(name.value, key[:-1], named), about.value)

    def _object(self, table: str, kind: str, name: Located) -> ScriptObject:
        return self.ruleset.add(table, kind, name.value, self._place(name.at))

    def _chain(self, item: ScriptObject, body: dict[str, Located]) -> None:
        if "type" in body or "hook" in body:
            words = []
            for key in ("type", "hook"):
                if key not in body:
                    at = next(iter(body.values())).key
                    self.reader.add_problem(at, f"nftables: the chain {item.name} has no {key}", "write type and hook")
                    return
                words += [key, body[key].value.value]
            if "device" in body:
                names = [one.value.value for one in body["device"].value]
                words += [f'device "{names[0]}"' if len(names) == 1 else f"devices = {{ {', '.join(names)} }}"]
            words += ["priority", body["priority"].value.value if "priority" in body else "filter"]
            add_header(item, Line(" ".join(words), self._register(body["type"].value)), self.ruleset)
        for key in ("priority", "device"):
            if key in body and "hook" not in body:
                self.reader.add_problem(body[key].key, f"nftables: {key} is for a chain with type and hook")
        for key in ("policy", "comment"):
            if key in body:
                self._header(item, key, body[key])
        for row in body["rules"].value if "rules" in body else ():
            self._rule(item, row.value)

    def _rule(self, chain: ScriptObject, node: Text) -> None:
        base = self._register(node)
        found = self._tokens(node.value, base)
        depth = 0
        for token in found:
            depth += (token.text == "{") - (token.text == "}")
            if depth < 0 or (token.text == ";" and not depth):
                self.ruleset.refuse(token.at, f"{token.text!r} cannot be in a rule", "write an entry for each rule")
                return
            if token.text.startswith("$"):
                self.ruleset.refuse(token.at, f"{token.text} has no value here", "write the value, or use an alias")
                return
        if depth:
            self.ruleset.refuse(base, "this brace is not closed", "add a }", "{")
        elif found and (line := rule_line(found, self.ruleset)) is not None:
            chain.entries.append(line)
        elif not found:
            self.ruleset.refuse(base, f"{quote_text(node.value)} is not a rule", "such as tcp dport 22 accept")

    def _set(self, item: ScriptObject, body: dict[str, Located]) -> None:
        for key in ("type", "typeof", "policy", "size", "timeout", "gc_interval", "comment"):
            if key in body:
                self._header(item, key.replace("_", "-"), body[key])
        if "flags" in body and body["flags"].value:
            names = [one.value.value for one in body["flags"].value]
            item.header.append(Line(f"flags {','.join(names)}", self._register(body["flags"].value[0].value)))
        for key in ("counter", "auto_merge"):
            if key in body and body[key].value:
                item.header.append(Line(key.replace("_", "-"), self._place(body[key].at)))
        for row in body["elements"].value if "elements" in body else ():
            if isinstance(row, Located):
                item.entries += self._lines(row.value)
            else:
                key_node, value = row
                item.entries += self._lines(key_node, "" if value is None else value.value)

    def _flowtable(self, item: ScriptObject, body: dict[str, Located]) -> None:
        hook = body["hook"].value.value if "hook" in body else "ingress"
        priority = body["priority"].value.value if "priority" in body else "filter"
        at = item.at
        item.header.append(Line(f"hook {hook} priority {priority}", at))
        if "devices" in body:
            rows = body["devices"].value
            names = ", ".join(one.value.value for one in rows)
            item.header.append(Line(f"devices = {{ {names} }}", self._register(rows[0].value) if rows else at))
        if "counter" in body and body["counter"].value:
            item.header.append(Line("counter", at))
        if "flags" in body:
            self._header(item, "flags", body["flags"])

    def _header(self, item: ScriptObject, key: str, value: Located) -> None:
        node = value.value
        text = node.value if isinstance(node, Text) else str(node)
        if key == "comment":
            text = '"' + text.replace('"', "'") + '"'
        at = self._register(node) if isinstance(node, Text) else self._place(value.at)
        add_header(item, Line(f"{key} {' '.join(text.split())}", at), self.ruleset)

    def _lines(self, node: Text, value: str = "") -> list[Line]:
        """A line of the structured form in nft's spacing."""
        base = self._register(node)
        found = self._tokens(f"{node.value} : {value}" if value else node.value, base)
        return [Line(one_line(joined(found)), base)]

    def _tokens(self, text: str, base: int) -> list[Token]:
        found, _, unclosed = tokens(text, base)
        for error in unclosed:
            self.ruleset.refuse(error.at, error.what, error.hint)
        return found

    def _place(self, at: Position) -> int:
        """An offset for a place in the file that no text has."""
        return self._register(Text(at, "", True, at))


def _grew(item: ScriptObject) -> bool:
    """Whether a text added to an object that was there."""
    return any(line.at != BEFORE for line in (*item.header, *item.entries))

"""Read a text in nft's language as `nft -f` does: what a namespace would have after it. Pure, no program is called.

The text may be what `nft list ruleset` printed, a file such as /etc/nftables.conf, or commands (`add rule ...`). The
commands are carried out one after the other on a ruleset that is empty at first. What a rule says is not understood
beyond its words: nft itself reads it when the lab is built.

Follows nftables 1.1.3 (src/parser_bison.y, nft(8)).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from labctl.core.names import did_you_mean
from labctl.core.nft_ruleset import FAMILIES, KINDS, WITH_ELEMENTS, one_line
from labctl.core.nft_state import IPTABLES_HINT, Line, Ruleset, ScriptObject, add_header, missing, rule_line
from labctl.core.nft_tokens import TextError, Token, TokenReader, joined, split_list, tokens, with_values
from labctl.core.text import count

_VERBS = ("add", "create", "insert", "delete", "destroy", "replace", "rename", "flush")
_SILENT = {"list", "reset", "monitor", "export", "import", "describe"}  # commands that write no rules
_NAME = re.compile(r"[A-Za-z_][\w./\\-]*")
_OLD_EXTENSION = re.compile(r"# *(xt_\w+|match \S+|target \S+)")
KIND_WORDS = (
    "table", "chain", "set", "map", "flowtable", "counter", "quota", "limit", "secmark", "synproxy", "ct",
)  # fmt: skip
_WORDS = {"ct": "ct helper, ct timeout or ct expectation"}


def read_script(text: str, into: Ruleset, base: int = 0) -> None:
    """Carry out the commands of a text. Mistakes are added to `into`. Places are offsets in the text, plus `base`."""
    found, comments, unclosed = tokens(text, base)
    for error in unclosed:
        into.refuse(error.at, error.what, error.hint)
    for comment in comments:
        if old := _OLD_EXTENSION.match(comment.text):
            what = f"nft printed an expression of iptables as a comment ({old[1]})"
            into.refuse(comment.at, f"{what}, so the rule is not whole", IPTABLES_HINT)
    _Reader(found, base + len(text), into).read()


class _Reader:
    """Carries out the statements of one text."""

    def __init__(self, found: Sequence[Token], end: int, into: Ruleset) -> None:
        self.tokens, self.into = TokenReader(found, end), into
        self.values: dict[str, list[Token]] = {}

    def read(self) -> None:
        while (token := self.tokens.skip_ends()) is not None:
            try:
                self._command(token)
            except TextError as error:
                self.into.refuse(error.at, error.what, error.hint)
                self.tokens.skip_statement()
                if (following := self.tokens.next) is not None and following.text == "}":
                    self.tokens.take()

    # -- commands

    def _command(self, first: Token) -> None:
        if first.text in ("define", "redefine", "undefine"):
            self._define()
        elif first.text == "include":
            what = "include names another file, and a scenario is one text"
            raise TextError(first.at, what, "paste the text of that file here")
        elif first.text in ("nft", "sudo"):
            hint = "leave out the word nft and the shell's quotes and backslashes"
            raise TextError(first.at, "this is a command of the shell", hint)
        elif first.text in _SILENT:
            raise TextError(first.at, f"{first.text} changes no rules", "leave this line out")
        elif first.text in _VERBS:
            self.tokens.take()
            self._change(first)
        elif first.text in KIND_WORDS or first.text in ("rule", "element"):
            self._add(first, "add")
        else:
            hint = did_you_mean(first.text, (*_VERBS, *KIND_WORDS, "define")) or "such as table inet filter { ... }"
            raise TextError(first.at, f"{_quoted(first.text)} is not a command of nft", hint)

    def _define(self) -> None:
        verb, name = self.tokens.take(), self._word("a name")
        if name.text == "=":
            raise TextError(name.at, "the name is missing", "such as define LAN = 192.0.2.0/24")
        if verb.text == "undefine":
            if self.values.pop(name.text, None) is None:
                raise TextError(name.at, f"{name.text} is not defined", did_you_mean(name.text, self.values))
            return
        if verb.text == "define" and name.text in self.values:
            raise TextError(name.at, f"{name.text} is defined twice", "write redefine")
        equals = self._word("=")
        if equals.text != "=":
            raise TextError(equals.at, "a = is missing", f"such as define {name.text} = 192.0.2.0/24")
        value = with_values(self.tokens.statement(), self.values)
        if not value:
            raise TextError(equals.at, f"{name.text} has no value")
        self.values[name.text] = value

    def _change(self, verb: Token) -> None:
        what = self.tokens.next
        if what is None or what.is_end:
            raise TextError(verb.at, f"{verb.text} what?", "such as add rule inet filter input accept")
        if verb.text in ("add", "create"):
            self._add(what, verb.text)
        elif verb.text in ("insert", "replace"):
            if what.text != "rule":
                raise TextError(
                    what.at, f"{verb.text} is for rules", f"such as {verb.text} rule inet filter input accept"
                )
            self._add(what, verb.text)
        elif verb.text == "flush":
            self._flush(what)
        elif verb.text == "rename":
            self._rename(what)
        else:
            self._delete(what, must_exist=verb.text == "delete")

    def _add(self, what: Token, verb: str) -> None:
        kind = self._kind(("rule", "element"))
        table = self._table(kind == "table")
        if kind == "table":
            if verb == "create" and (table, "table", "") in self.into.objects:
                raise TextError(what.at, f"the table {table} exists already", "write add table")
            item = self.into.add(table, "table", "", what.at)
            if (opened := self._opening()) is not None:
                self._table_block(item)
                self._close(opened)
            self._require_end()
            return
        if kind == "rule":
            self._rule(table, verb)
            return
        if kind == "element":
            self._elements(table, verb)
            return
        name = self._name(kind)
        if self.into.find(table, "table", "", name.at) is None:
            self.tokens.skip_statement()
            return
        if verb == "create" and (table, kind, name.text) in self.into.objects:
            raise TextError(name.at, f"the {kind} {name.text} exists already", f"write add {kind}")
        self._object(table, kind, name)
        self._require_end()

    def _object(self, table: str, kind: str, name: Token) -> None:
        """An object and its block, or (of a counter, limit, quota) what stands behind its name."""
        item = self.into.add(table, kind, name.text, name.at)
        if (opened := self._opening()) is not None:
            self._block(item)
            self._close(opened)
        elif rest := self._statement():
            add_header(item, Line(one_line(joined(rest)), rest[0].at), self.into)

    def _flush(self, what: Token) -> None:
        if what.text == "ruleset":
            self.tokens.take()
            family = self._statement()
            for key, item in list(self.into.objects.items()):
                if item.present is None and (not family or key[0].startswith(f"{family[0].text} ")):
                    self.into.objects.pop(key)
            return
        kind = self._kind(())
        table = self._table(kind == "table")
        if kind == "table":
            chains = [item for item in self.into.objects.values() if (item.table, item.kind) == (table, "chain")]
            self.into.find(table, "table", "", what.at)
        else:
            name = self._name(kind)
            found = self.into.find(table, kind, name.text, name.at)
            chains = [] if found is None else [found]
        for chain in chains:
            if self.into.may_lose(chain, what.at):
                chain.entries.clear()
        self._require_end()

    def _rename(self, what: Token) -> None:
        kind, table = self._kind(()), self._table()
        if kind != "chain":
            raise TextError(what.at, f"nft renames chains only, no {kind}")
        name, new = self._name(kind), self._name(kind)
        item = self.into.find(table, kind, name.text, name.at)
        if item is not None and self.into.may_lose(item, name.at):
            self.into.remove(table, kind, name.text)
            item.name = new.text
            self.into.objects[table, kind, new.text] = item

    def _delete(self, what: Token, must_exist: bool) -> None:
        kind = self._kind(("rule", "element"))
        if kind == "rule":
            hint = "leave the rule out where it is added"
            raise TextError(what.at, "a rule is deleted by its handle, and rules of a plan have none", hint)
        table = self._table(kind == "table")
        if kind == "element":
            self._delete_elements(table, must_exist)
            return
        name = self._name(kind) if kind != "table" else None
        key = (table, kind, name.text if name is not None else "")
        if key in self.into.objects:
            if self.into.may_lose(self.into.objects[key], (name or what).at):
                self.into.remove(*key)
        elif must_exist:
            at = (name or what).at
            text, hint = missing(self.into.objects, *key)
            self.into.refuse(at, text, hint if "mean" in hint else f"write destroy {kind}, which needs none")
        self._statement()

    # -- rules and elements

    def _rule(self, table: str, verb: str) -> None:
        name = self._name("chain")
        found = self._statement()
        chain = self.into.find(table, "chain", name.text, name.at)
        if chain is None:
            return
        place = len(chain.entries) if verb == "add" else 0
        if verb == "replace" or (found and found[0].text in ("handle", "position")):
            at = found[0].at if found else name.at
            raise TextError(at, "rules of a plan have no handles", "write index NUMBER, which counts from 0")
        if found and found[0].text == "index":
            number = found[1].text if len(found) > 1 else ""
            if not number.isdigit() or int(number) >= len(chain.entries):
                what = f"the chain {name.text} has no rule with the index {number or '?'}"
                raise TextError(found[0].at, what, f"it has {count(len(chain.entries), 'rule')} so far, counted from 0")
            place = int(number) + (verb == "add")
            found = found[2:]
        if not found:
            raise TextError(name.at, "the rule is missing", "such as tcp dport 22 accept")
        if (line := rule_line(found, self.into)) is not None:
            chain.entries.insert(place, line)

    def _elements(self, table: str, verb: str) -> None:
        name = self._name("set")
        found = self._statement()
        item = self._set(table, name)
        if item is None:
            return
        for line in self._element_lines(found, name):
            if verb == "create" and any(one.text == line.text for one in item.entries):
                self.into.refuse(line.at, f"{item.name} has {_quoted(line.text)} already", "write add element")
            item.entries.append(line)

    def _delete_elements(self, table: str, must_exist: bool) -> None:
        name = self._name("set")
        found = self._statement()
        item = self._set(table, name)
        if item is None:
            return
        for line in self._element_lines(found, name) if self.into.may_lose(item, name.at) else ():
            left = [one for one in item.entries if _key(one.text) != _key(line.text)]
            if must_exist and len(left) == len(item.entries):
                hint = did_you_mean(line.text, [_key(one.text) for one in item.entries])
                self.into.refuse(line.at, f"{item.name} has no element {_quoted(line.text)}", hint)
            item.entries[:] = left

    def _set(self, table: str, name: Token) -> ScriptObject | None:
        kind = "map" if (table, "map", name.text) in self.into.objects else "set"
        return self.into.find(table, kind, name.text, name.at)

    def _element_lines(self, found: Sequence[Token], name: Token) -> list[Line]:
        if len(found) < 2 or found[0].text != "{" or found[-1].text != "}":
            raise TextError(found[0].at if found else name.at, "elements stand in braces", "such as { 192.0.2.1 }")
        return [Line(one_line(joined(one)), one[0].at) for one in split_list(found[1:-1])]

    # -- blocks

    def _table_block(self, table: ScriptObject) -> None:
        while (token := self.tokens.skip_ends()) is not None and token.text != "}":
            try:
                self._in_table(table, token)
            except TextError as error:
                self.into.refuse(error.at, error.what, error.hint)
                self.tokens.skip_statement()

    def _in_table(self, table: ScriptObject, first: Token) -> None:
        if first.text in ("define", "redefine", "undefine"):
            self._define()
        elif first.text in ("comment", "flags"):
            line = self._statement()
            add_header(table, Line(one_line(joined(line)), line[0].at), self.into)
        elif first.text in KIND_WORDS and first.text != "table":
            kind = self._kind(())
            self._object(table.table, kind, self._name(kind))
            self._require_end()
        else:
            hint = did_you_mean(first.text, (*KIND_WORDS, "comment", "flags"))
            hint = hint or "a table has chain, set, map, counter, flowtable, ..., each with its name and { ... }"
            raise TextError(first.at, f"{_quoted(first.text)} cannot stand in a table", hint)

    def _block(self, item: ScriptObject) -> None:
        if item.kind in WITH_ELEMENTS:
            kept = [line for line in item.header if not line.text.startswith("comment ")]
            item.header[:] = kept
        while (token := self.tokens.skip_ends()) is not None and token.text != "}":
            try:
                self._in_block(item, token)
            except TextError as error:
                self.into.refuse(error.at, error.what, error.hint)
                self.tokens.skip_statement()

    def _in_block(self, item: ScriptObject, first: Token) -> None:
        if first.text in ("define", "redefine", "undefine"):
            self._define()
            return
        found = self._statement()
        words = [token.text for token in found]
        if not words:
            raise TextError(first.at, f"{_quoted(first.text)} cannot stand here")
        if item.kind in WITH_ELEMENTS and words[0] == "elements":
            if words[1:2] != ["="]:
                raise TextError(first.at, "a = is missing", "such as elements = { 192.0.2.1 }")
            item.entries += self._element_lines(found[2:], found[1])
        elif item.kind != "chain" or words[:1] in (["type"], ["policy"]) or _is_comment(words) or words[0] == "devices":
            add_header(item, Line(one_line(joined(found)), found[0].at), self.into)
        elif (line := rule_line(found, self.into)) is not None:
            item.entries.append(line)

    # -- words

    def _statement(self) -> list[Token]:
        return with_values(self.tokens.statement(), self.values)

    def _word(self, what: str) -> Token:
        token = self.tokens.next
        if token is None or token.is_end or token.text in ("{", "}", ","):
            end = token.at if token is not None else self.tokens.end
            raise TextError(end, f"{what} is missing")
        (found,) = with_values([self.tokens.take()], self.values)[:1]
        return found

    def _kind(self, others: Sequence[str]) -> str:
        word = self._word("what to change")
        if word.text in others or word.text in KINDS or word.text == "table":
            return word.text
        if word.text == "ct":
            second = self._word(_WORDS["ct"])
            if f"ct {second.text}" in KINDS:
                return f"ct {second.text}"
            hint = did_you_mean(second.text, [one[3:] for one in KINDS if one.startswith("ct ")]) or _WORDS["ct"]
            raise TextError(second.at, f"there is no object ct {second.text}", hint)
        hint = did_you_mean(word.text, (*KIND_WORDS, *others)) or f"one of {', '.join((*KIND_WORDS, *others))}"
        raise TextError(word.at, f"{_quoted(word.text)} is not an object of nft", hint)

    def _table(self, of_table: bool = False) -> str:
        """A family and a name; `of_table` is whether they are the last words of a command."""
        first = self._word("the name of a table")
        if first.text in FAMILIES:
            second = self.tokens.next
            if second is not None and not second.is_end and second.text not in ("{", "}"):
                return f"{first.text} {self._checked_name(self._word('the name of a table'), 'table').text}"
            raise TextError(first.at, f"the name of a table is missing after {first.text}")
        second = self.tokens.next
        hint = did_you_mean(first.text, FAMILIES)
        meant = of_table or (hint and (f"ip {first.text}", "table", "") not in self.into.objects)
        if second is not None and _NAME.fullmatch(second.text) and meant:
            hint = hint or f"the families are {', '.join(FAMILIES)}"
            raise TextError(first.at, f"there is no family {_quoted(first.text)}", hint)
        return f"ip {self._checked_name(first, 'table').text}"

    def _name(self, kind: str) -> Token:
        return self._checked_name(self._word(f"the name of a {kind}"), kind)

    def _checked_name(self, token: Token, kind: str) -> Token:
        name = Token(token.text.strip('"'), token.at)
        if not _NAME.fullmatch(name.text):
            hint = "letters, digits and _ . / -, a letter or _ first"
            raise TextError(token.at, f"{_quoted(name.text)} cannot be the name of a {kind}", hint)
        if len(name.text) > 127:
            raise TextError(token.at, f"this name has {len(name.text)} characters, 127 are possible")
        return name

    def _opening(self) -> Token | None:
        """The brace that opens a block, if it is next."""
        token = self.tokens.next
        return self.tokens.take() if token is not None and token.text == "{" else None

    def _close(self, opened: Token) -> None:
        if (token := self.tokens.next) is None or token.text != "}":
            raise TextError(opened.at, "this brace is not closed")
        self.tokens.take()

    def _require_end(self) -> None:
        token = self.tokens.next
        if token is not None and not token.is_end and token.text != "}":
            raise TextError(token.at, f"{_quoted(token.text)} is too much here", "a new statement is in a new line")


def _is_comment(words: Sequence[str]) -> bool:
    return len(words) == 2 and words[0] == "comment" and words[1].startswith('"')


def _key(element: str) -> str:
    """An element without its options and the value that a map has for it."""
    return re.split(r" (?:: |timeout |comment |counter\b|expires )", element, maxsplit=1)[0]


def _quoted(text: str) -> str:
    shown = text if len(text) <= 40 else f"{text[:37]}..."
    return repr(shown)

"""The words of a text in nft's language, each with its place: comments and line continuations are gone. Pure.

Follows the lexical rules of nftables 1.1.3 (src/scanner.l): `#` begins a comment everywhere outside quotes, a backslash
at the end of a line continues it, `$NAME` stands for the value of a `define`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from labctl.core.names import did_you_mean

_TOKEN = re.compile(
    r"""(?P<blank>[ \t\r\f\v]+|\\\n)|(?P<comment>\#[^\n]*)|(?P<newline>\n)|(?P<string>"[^"\n]*"?)"""
    r"""|(?P<mark>[{};,])|(?P<word>(?:\\(?!\n)|[^\s{};,"\#\\])+)"""
)
_VARIABLE = re.compile(r"\$(\w+)")


@dataclass(frozen=True, slots=True)
class Token:
    """A word, a quoted string, or one of `{ } ; ,` and the end of a line. `spaced` is whether a blank is before it."""

    text: str
    at: int
    spaced: bool = False

    @property
    def is_end(self) -> bool:
        """Whether it ends a statement."""
        return self.text in (";", "\n")


class TextError(ValueError):
    """What is wrong at one place of the text, and a hint. `at` is the offset."""

    def __init__(self, at: int, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.at, self.what, self.hint = at, what, hint


def tokens(text: str, base: int = 0) -> tuple[list[Token], list[Token], list[TextError]]:
    """The tokens of a text, its comments, and the quotes that are not closed. `base` is added to all offsets."""
    found: list[Token] = []
    comments: list[Token] = []
    unclosed: list[TextError] = []
    spaced = False
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup
        if kind == "blank":
            spaced = True
            continue
        if kind == "comment":
            comments.append(Token(match[0], base + match.start()))
            continue
        if kind == "string" and (len(match[0]) < 2 or not match[0].endswith('"')):
            hint = 'nft quotes with "..." in one line'
            unclosed.append(TextError(base + match.start(), "a quote is not closed", hint))
        found.append(Token(match[0], base + match.start(), spaced))
        spaced = kind == "newline"
    return found, comments, unclosed


def joined(parts: Sequence[Token]) -> str:
    """Tokens as one line, spaced as nft prints it: `{ 80, 443 }`, but `established,related` outside of braces."""
    line, depth, before = "", 0, ""
    for token in parts:
        if token.text == "\n":
            continue
        if token.text == "}":
            depth -= 1
        if before and token.text != "," and (
            token.spaced or "{" in (before, token.text) or "}" in (before, token.text) or (before == "," and depth)
        ):  # fmt: skip
            line += " "
        line += token.text
        depth += token.text == "{"
        before = token.text
    return line


def with_values(parts: Sequence[Token], values: Mapping[str, Sequence[Token]]) -> list[Token]:
    """The tokens with the values of `$NAME` in their places; a set in a set is a part of it.

    Raises TextError for a name without a value.
    """
    found: list[Token] = []
    depth = 0
    for token in parts:
        depth += (token.text == "{") - (token.text == "}")
        if "$" not in token.text or token.text.startswith('"'):
            found.append(token)
            continue
        end, spaced = 0, token.spaced
        for match in _VARIABLE.finditer(token.text):
            if match[1] not in values:
                hint = did_you_mean(match[1], values, quote=lambda name: f"${name}") or f"write define {match[1]} = ..."
                raise TextError(token.at + match.start(), f"${match[1]} is not defined", f"{hint}")
            if before := token.text[end : match.start()]:
                found.append(Token(before, token.at + end, spaced))
                spaced = False
            value = values[match[1]]
            value = value[1:-1] if depth and value[0].text == "{" and value[-1].text == "}" else value
            for number, part in enumerate(value):
                found.append(Token(part.text, token.at, spaced if number == 0 else part.spaced))
            end, spaced = match.end(), False
        if rest := token.text[end:]:
            found.append(Token(rest, token.at + end, spaced))
    return found


class TokenReader:
    """Reads tokens one after the other."""

    def __init__(self, found: Sequence[Token], end: int) -> None:
        self._tokens, self._next, self.end = found, 0, end

    @property
    def next(self) -> Token | None:
        """The next token, which stays the next one; None at the end."""
        return self._tokens[self._next] if self._next < len(self._tokens) else None

    def take(self) -> Token:
        """The next token. There must be one."""
        token = self._tokens[self._next]
        self._next += 1
        return token

    def skip_ends(self) -> Token | None:
        """Skip blank lines and semicolons; the next token after them."""
        while (token := self.next) is not None and token.is_end:
            self._next += 1
        return self.next

    def statement(self, stop: Callable[[Token], bool] = lambda token: False) -> list[Token]:
        """The tokens up to the end of the statement, which is left out: a semicolon or the end of a line outside of
        braces, a closing brace of the block around it, or a token at which `stop` says so."""
        found: list[Token] = []
        depth = 0
        opened: list[Token] = []
        while (token := self.next) is not None:
            if depth == 0 and (token.is_end or token.text == "}" or stop(token)):
                return found
            self._next += 1
            if token.text == "{":
                opened.append(token)
            elif token.text == "}":
                opened.pop()
            depth = len(opened)
            if token.text == "\n":
                continue
            found.append(token)
        if opened:
            raise TextError(opened[-1].at, "this brace is not closed")
        return found

    def skip_statement(self) -> None:
        """Skip to the end of the statement, after a mistake in it: also blocks in it."""
        depth = 0
        while (token := self.next) is not None:
            if depth == 0 and (token.is_end or token.text == "}"):
                return
            self._next += 1
            depth += (token.text == "{") - (token.text == "}")


def split_list(parts: Sequence[Token]) -> Iterator[list[Token]]:
    """The elements of what is between the braces of a set: split at the commas, nested sets as if they were not."""
    depth = 0
    kept: list[Token] = []
    for token in (*parts, Token(",", 0)):
        if token.text == "," and depth == 0:
            if kept and kept[0].text == "{" and kept[-1].text == "}":
                yield from split_list(kept[1:-1])
            elif kept:
                yield kept
            kept = []
            continue
        depth += (token.text == "{") - (token.text == "}")
        kept.append(token)

"""The output of a verb: tables, colour and progress on a terminal, plain text in a pipe.

A closed pipe (`labctl status | head -1`) is not an error: the rest of the output is dropped silently and
the verb continues to its end, so that a closed pipe never interrupts a build.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TextIO

from labctl.core.sentence import Sentence
from labctl.core.text import COMMAND_PREFIX
from labctl.errors import KernelError
from labctl.report.text_layout import ANSI_COLOUR, align, draw, first_words, fold_line
from labctl.translation.language import ORIGINAL, current_language, gettext

if TYPE_CHECKING:
    from labctl.report.table_section import TableSection

# a line with a command, which can be pasted into a shell also if it is broken
_VERBS = "up|down|check|exec|shell|trace|fix|explain|exercise"
_LABCTL = rf"(sudo )?labctl( --rootless| -l [\w-]+)* ({_VERBS}) "
IS_COMMAND = re.compile(rf" *(run manually: |(try +|try: |fix: |next: )?{_LABCTL}|ip netns exec )")
IS_COMMAND_IN_LANGUAGE = re.compile(rf" *(\S+: *)?({_LABCTL}|ip netns exec )")  # in another language than English
COLOURS = {"green": "32", "red": "31", "yellow": "33", "dim": "2", "bold": "1"}


class Terminal:
    """Standard output and error of one run. `tty` is whether standard output is a terminal."""

    def __init__(self, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self.out: TextIO | None = sys.stdout if out is None else out
        self.err: TextIO | None = sys.stderr if err is None else err
        self.tty = _is_tty(self.out)
        self.shows_progress = _is_tty(self.err)
        self._progress_shown = False
        is_wanted = self.tty and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
        self.colour = is_wanted or bool(os.environ.get("FORCE_COLOR"))
        self.symbols = self.tty and "utf" in (getattr(self.out, "encoding", "") or "").lower()
        for stream in (self.out, self.err):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")

    def line(self, text: str = "") -> None:
        """Print one line on standard output. Raises KernelError if that fails, except for a closed pipe."""
        self.clear()
        self._write(in_language(text) + "\n")

    def can_encode(self, text: str) -> bool:
        """Whether the encoding of standard output has every character of a text. `line` replaces all others."""
        try:
            text.encode(getattr(self.out, "encoding", None) or "utf-8")
        except UnicodeEncodeError:
            return False
        return True

    def lines(self, texts: Iterable[str], *, fold: int | None = None) -> None:
        """Print several lines on standard output. With `fold`, lines too long for a terminal are broken between
        words, and the next lines are indented by at least `fold` spaces. Lines in a pipe are not broken."""
        for text in map(in_language, texts):
            for line in [text] if fold is None or not self.tty else self._fold(text, fold):
                self.line(line)

    def commands(self, texts: Iterable[str]) -> None:
        """Print commands for a shell on standard output, broken only where they can still be pasted. A command of
        several lines is not broken."""
        for text in texts:
            self.lines([text], fold=4 if _is_command(text) and "\n" not in text else None)

    def _fold(self, text: str, indent: int) -> list[str]:
        return fold_line(text, _columns(), indent, " \\" if _is_command(ANSI_COLOUR.sub("", text)) else "")

    @property
    def width(self) -> int | None:
        """The columns of the terminal; None in a pipe, where lines are not broken."""
        return _columns() if self.tty else None

    def section(self, section: TableSection, style: Callable[[str], str] = lambda _: "") -> None:
        """Print a table: drawn on a terminal, aligned columns in a pipe. `style` returns the colour of a cell on a
        terminal, "" for none."""
        section = section_in_language(section)
        if self.width is None:
            self.lines(align(section))
        else:
            self.lines(draw(section, self.width, self.paint, style, "─" if self.symbols else "-"))

    def paint(self, text: str, colour: str) -> str:
        """The text in a colour, if colours are on."""
        return f"\033[{COLOURS[colour]}m{text}\033[0m" if self.colour else text

    def progress(self, text: str) -> None:
        """Show the current work in one line, which the next one overwrites. Only if standard error is a terminal."""
        if self.shows_progress and self.err is not None:
            self.err.write(f"\r\033[K{first_words(in_language(text), _columns() - 1)}")
            self.err.flush()
            self._progress_shown = True

    def clear(self) -> None:
        """Erase the progress line."""
        if self._progress_shown and self.err is not None:
            self._progress_shown = False
            self.err.write("\r\033[K")
            self.err.flush()

    def print_stderr(self, text: str, *, fold: bool = True) -> None:
        """Print a message on standard error; with `fold`, broken between words if that is a terminal. If standard error
        is closed too, the message is dropped."""
        self.clear()
        text = in_language(text)
        if fold and _is_tty(self.err):
            text = "\n".join(line for one in text.splitlines() for line in self._fold(one, 4))
        try:
            if self.err is not None:
                self.err.write(text + "\n")
                self.err.flush()
        except OSError:
            self.err = None

    def flush(self) -> None:
        """Write the buffered output. Raises KernelError as `line` does."""
        self._write("")

    def _write(self, text: str) -> None:
        if self.out is None:
            return
        try:
            self.out.write(text)
            self.out.flush()
        except BrokenPipeError:
            self.discard_output()
        except OSError as error:
            hung_up = error.errno == errno.EIO and self.tty
            self.discard_output()
            if hung_up:
                return
            raise KernelError(f"cannot write the output: {error.strerror}", errno=error.errno or 0) from error

    def discard_output(self) -> None:
        """Drop all further output, also that in Python's buffer when the process ends."""
        stream, self.out, self.tty = self.out, None, False
        try:
            devnull = os.open(os.devnull, os.O_WRONLY)
            os.dup2(devnull, stream.fileno() if stream is not None else 1)
            os.close(devnull)
        except (OSError, ValueError):
            pass  # in tests, the stream has no file descriptor


def _is_command(text: str) -> bool:
    if text.isascii():
        return IS_COMMAND.match(text) is not None
    return text.startswith(gettext(COMMAND_PREFIX)) or IS_COMMAND_IN_LANGUAGE.match(text) is not None


def in_language(text: str) -> str:
    """A sentence in the language in use; every other text as it is."""
    return gettext(text) if isinstance(text, Sentence) else text


def section_in_language(section: TableSection) -> TableSection:
    """A table with its title and its columns in the language in use, and with each cell that is a sentence."""
    if current_language() == ORIGINAL:
        return section
    from dataclasses import replace

    columns = tuple(map(gettext, section.columns))
    rows = tuple(tuple(map(in_language, row)) for row in section.rows)
    return replace(section, title=gettext(section.title), columns=columns, rows=rows)


def _is_tty(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False


def _columns() -> int:
    import shutil

    return shutil.get_terminal_size((80, 24)).columns

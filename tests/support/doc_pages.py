"""The pages of the documentation, their fenced blocks, and the commands with the output that they show."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.paths import ROOT

PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


@dataclass(frozen=True)
class Block:
    """A fenced block: its page, the line it begins in, its language and its text."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def file(self) -> str | None:
        """The file's name that the first line gives the block, if it does."""
        named = re.match(r"# ([\w./-]+\.\w+)\n", self.text)
        return named[1] if named else None


def blocks(page: Path) -> Iterator[Block]:
    for found in re.finditer(r"^```(\w+)\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE):
        yield Block(page, page.read_text().count("\n", 0, found.start()) + 1, found[1], found[2])


def of(language: str) -> list[Block]:
    return [block for page in PAGES for block in blocks(page) if block.language == language]


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@dataclass(frozen=True)
class Shown:
    """A command of a page, and the output that the page shows."""

    block: Block
    command: str
    output: str


def shown(block: Block) -> Iterator[Shown]:
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield Shown(block, command, output)


def without_times(text: str) -> str:
    """A text in which times, how often was tried in them, and how far they stand in are all the same; lines end
    without blanks."""
    text = re.sub(r" *[\d.]+(/[\d.]+)*(?= ?(s|ms|us|probes)\b)", "#", text)
    text = re.sub(r"^\d\d:\d\d:\d\d\.\d{6}", "#", text, flags=re.MULTILINE)  # the clock of a captured frame
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines())


def agrees(page: str, real: str) -> bool:
    """Whether a shown output is the real one; a line `...` stands for any lines."""
    pattern = "".join(
        r"(?:.*\n)*?" if line.strip() == "..." else re.escape(line) + r"\n" for line in without_times(page).splitlines()
    )
    return re.fullmatch(pattern, without_times(real) + "\n" if real.strip() else "") is not None

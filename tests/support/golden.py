"""Golden files: expected texts in tests/golden. `pytest --update-golden` renews those of the tests that run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path

import pytest

OPTION = "--update-golden"


@dataclass(frozen=True)
class GoldenFile:
    """One file, and whether this run of pytest renews it."""

    path: Path
    update: bool

    def check(self, text: str) -> None:
        """Fail with the difference if the text is not that of the file; with the option, renew the file instead."""
        self.record(text)
        expected = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        if text != expected:
            lines = unified_diff(expected.splitlines(), text.splitlines(), str(self.path), "this run", lineterm="")
            shown = "\n".join(lines) or "the texts differ only in their line ends"
            pytest.fail(f"{shown}\n\nif the change is intended, run this test again with {OPTION}", pytrace=False)

    def record(self, text: str) -> None:
        """Write the file if the option asks for that; for texts that no two runs have in common."""
        if self.update:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(text, encoding="utf-8")


Golden = Callable[[str], GoldenFile]  # the fixture `golden`: a path below tests/golden -> the file

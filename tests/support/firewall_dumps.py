"""The scenarios with pasted firewalls: one for each system, in tests/golden/dumps."""

from __future__ import annotations

from tests.support.paths import GOLDEN

DUMPS = {path.stem: path for path in sorted((GOLDEN / "dumps").glob("*.yaml"))}

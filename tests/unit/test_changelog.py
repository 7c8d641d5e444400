"""The version of the package is the newest release in CHANGELOG.md."""

from __future__ import annotations

import re
from datetime import date

import labctl
from tests.support.paths import ROOT

HEADINGS = re.findall(r"(?m)^## (.+)$", (ROOT / "CHANGELOG.md").read_text())
RELEASE = re.compile(r"\[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)")


def releases() -> list[tuple[tuple[int, ...], date]]:
    """The version and date of every released heading, in the order of the file."""
    found = [RELEASE.fullmatch(heading) for heading in HEADINGS if heading != "[Unreleased]"]
    assert all(found), f"a heading is not `## [X.Y.Z] - DATE`: {HEADINGS}"
    return [(tuple(map(int, one[1].split("."))), date.fromisoformat(one[2])) for one in found if one is not None]


def test_the_version_is_the_newest_release() -> None:
    newest = ".".join(map(str, releases()[0][0]))

    assert labctl.__version__ == newest


def test_unreleased_changes_come_first() -> None:
    assert HEADINGS[0] == "[Unreleased]"
    assert HEADINGS.count("[Unreleased]") == 1


def test_releases_are_in_order_the_newest_first() -> None:
    assert releases() == sorted(releases(), reverse=True)
    assert len({version for version, _ in releases()}) == len(releases())


def test_a_release_has_each_kind_of_change_in_one_list() -> None:
    for part in re.split(r"(?m)^## ", (ROOT / "CHANGELOG.md").read_text())[1:]:
        kinds = re.findall(r"(?m)^### (.+)$", part)
        assert len(kinds) == len(set(kinds)), part.partition("\n")[0]

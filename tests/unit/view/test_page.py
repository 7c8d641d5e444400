"""The page of `labctl view`: its unit tests in TypeScript, its packages, its texts, and its size once it is built.

`scripts/build-view` installs its packages and builds it; before that, the tests that need them are skipped.
`scripts/test` calls it first.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.unit.test_plain_english import Text, complaints

PAGE = ROOT / "labctl" / "view" / "page"
STATIC = ROOT / "labctl" / "view" / "static"
PACKAGES = Path(os.environ.get("LABCTL_VIEW_BUILD", f"{sys.prefix}-view"))
MAX_COMPRESSED_BYTES = 100_000
FILES = {"index.html", "view.js", "view.css", "third-party-licenses.txt"}
# addresses that are names, or are in a licence: none is loaded
NAMES = {"http://www.w3.org", "https://preactjs.com"}


def built(name: str) -> str:
    if not (STATIC / name).is_file():
        pytest.skip("the page is not built: scripts/build-view builds it")
    return (STATIC / name).read_text()


def test_the_unit_tests_of_the_page_pass() -> None:
    if not (PACKAGES / "node_modules").is_dir():
        pytest.skip("the packages of the page are not installed: scripts/build-view installs them")
    environment = {**os.environ, "LABCTL_VIEW_BUILD": str(PACKAGES)}
    run = subprocess.run(
        [ROOT / "scripts" / "build-view", "--test"], capture_output=True, text=True, env=environment, timeout=300
    )
    assert run.returncode == 0, run.stdout[-5000:] + run.stderr[-5000:]
    counted = re.search(r"^# pass (\d+)$", run.stdout, re.MULTILINE)
    assert counted is not None, run.stdout[-2000:]
    assert int(counted[1]) >= 30


def test_packages_have_exact_versions_and_come_from_the_public_registry() -> None:
    package = json.loads((PAGE / "package.json").read_text())
    wanted = {**package["dependencies"], **package["devDependencies"]}
    assert [name for name, version in wanted.items() if not re.fullmatch(r"\d+\.\d+\.\d+", version)] == []
    locked = json.loads((PAGE / "package-lock.json").read_text())["packages"]
    assert {name: locked[f"node_modules/{name}"]["version"] for name in wanted} == wanted
    others = {name: one for name, one in locked.items() if name}
    assert [name for name, one in others.items() if not one["resolved"].startswith("https://registry.npmjs.org/")] == []
    assert [name for name, one in others.items() if not one.get("integrity")] == []


def test_the_page_contains_one_package_with_its_licence() -> None:
    version = json.loads((PAGE / "package.json").read_text())["dependencies"]["preact"]
    licences = built("third-party-licenses.txt")
    assert re.findall(r"^view.js contains (.*):$", licences, re.MULTILINE) == [
        f"preact {version} (MIT, https://preactjs.com)"
    ]
    assert "Permission is hereby granted" in licences


def test_the_texts_of_the_page_are_plain() -> None:
    lines = (PAGE / "src" / "texts.ts").read_text().splitlines()
    found = [
        Text(f"texts.ts:{number}", text)
        for number, line in enumerate(lines, 1)
        for text in re.findall(r'"([^"]*)"|`([^`]*)`', line)
        for text in text
        if text
    ]
    assert len(found) > 150
    assert complaints(iter(found)) == []


def test_texts_are_only_in_the_table_of_texts() -> None:
    """A text between two tags, or a label, in a component would not be translated."""
    pattern = re.compile(r">\s*([A-Za-z][a-z]+(?: [a-z]+)*)\s*</|(?:aria-label|title|placeholder|alt)=\"([^\"]+)\"")
    allowed = {"labctl", "icmp", "NAT"}  # names
    found = [
        f"{path.name}: {match[0]}"
        for path in sorted(PAGE.glob("src/**/*.tsx"))
        for match in pattern.finditer(path.read_text())
        if (match[1] or match[2]) not in allowed
    ]
    assert found == []


def test_the_built_page_is_small() -> None:
    built("index.html")
    assert {path.name for path in STATIC.iterdir()} == FILES
    size = sum(len(gzip.compress(path.read_bytes())) for path in STATIC.iterdir())
    assert size < MAX_COMPRESSED_BYTES


def test_the_built_page_loads_nothing_from_the_network() -> None:
    texts = {name: built(name) for name in sorted(FILES)}
    addresses = {match for text in texts.values() for match in re.findall(r"https?://[\w.-]+", text)}
    assert addresses <= NAMES
    assert re.findall(r"@import|url\((?!data:)", texts["view.css"]) == []
    assert re.findall(r'(?:src|href)="([^"]*)"', texts["index.html"]) == ["data:,", "view.css", "view.js"]


def test_the_lines_that_an_export_replaces_are_in_the_page() -> None:
    index = (PAGE / "src" / "index.html").read_text()
    for line in (
        "<!-- labctl-state -->",
        '<link rel="stylesheet" href="view.css">',
        '<script type="module" src="view.js"></script>',
    ):
        assert index.count(line) == 1, line

"""The parts of scripts/reliability: what is counted, when a child is killed, what counts as growth, what is left."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.paths import ROOT

PARTS = ("kill_points", "page", "sandbox_state", "soak", "tracer", "verbs")


@pytest.fixture(scope="module")
def parts() -> Iterator[dict[str, ModuleType]]:
    """The modules of the script; other scripts have modules of these names, too."""
    before = {name: sys.modules.pop(name) for name in PARTS if name in sys.modules}
    sys.path.insert(0, str(ROOT / "scripts/reliability.d"))
    yield {name: import_module(name) for name in PARTS}
    sys.path.remove(str(ROOT / "scripts/reliability.d"))
    for name in PARTS:
        del sys.modules[name]
    sys.modules.update(before)


@pytest.fixture
def tracer(parts: dict[str, ModuleType]) -> ModuleType:
    if reason := parts["tracer"].unsupported():
        pytest.skip(reason)
    return parts["tracer"]


def make_two(folder: Path) -> int:
    """Two operations, with a question and output between them."""
    (folder / "first").mkdir()
    os.write(1, f"{sorted(os.listdir(folder))}\n".encode())
    (folder / "second").mkdir()
    return 5


def test_operations_are_counted_and_questions_are_not(tracer: ModuleType, tmp_path: Path) -> None:
    found = tracer.run(lambda: make_two(tmp_path))

    assert (found.operations, found.killed, found.code, found.output) == (["mkdir", "mkdir"], False, 5, "['first']\n")


@pytest.mark.parametrize(("point", "made"), [(1, []), (2, ["first"]), (3, ["first", "second"])])
def test_the_child_is_killed_before_the_operation(
    tracer: ModuleType, tmp_path: Path, point: int, made: list[str]
) -> None:
    found = tracer.run(lambda: make_two(tmp_path), point)

    assert sorted(path.name for path in tmp_path.iterdir()) == made
    assert (found.killed, found.code) == ((True, -signal.SIGKILL) if point < 3 else (False, 5))


def test_the_threads_of_a_child_count(tracer: ModuleType, tmp_path: Path) -> None:
    def work() -> int:
        import threading

        for name in ("a", "b"):
            thread = threading.Thread(target=(tmp_path / name).mkdir)
            thread.start()
            thread.join()
        return 0

    whole = tracer.run(work)
    assert whole.operations.count("mkdir") == 2
    for path in tmp_path.iterdir():
        path.rmdir()
    second = [number for number, name in enumerate(whole.operations, 1) if name == "mkdir"][1]
    assert tracer.run(work, second).killed
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("count", "points", "numbers"),
    [(4, None, [1, 2, 3, 4]), (4, 9, [1, 2, 3, 4]), (9, 3, [1, 5, 9]), (9, 1, [1]), (0, 3, [])],
)
def test_points_are_spread_evenly(
    parts: dict[str, ModuleType], count: int, points: int | None, numbers: list[int]
) -> None:
    assert parts["kill_points"].spread(count, points) == numbers


def rows(memory: list[int], mounts: list[int]) -> list[dict[str, int]]:
    pairs = zip(memory, mounts, strict=True)
    return [
        {"cycle": number, "seconds": number, "memory kB": kilobytes, "mounts": mounted, "slab net_namespace": number}
        for number, (kilobytes, mounted) in enumerate(pairs)
    ]


@pytest.mark.parametrize(
    ("memory", "mounts", "grown"),
    [
        ([100, 900, 1000, 1001, 1002, 1003, 1004, 1005, 1004, 1006], [5] * 10, []),
        ([*range(1000, 3000, 200)], [5] * 10, ["memory kB: 1400 after the warm-up, 2600 at the end"]),
        ([1000] * 10, [5, 5, 5, 5, 5, 5, 5, 5, 6, 6], ["mounts: 5 after the warm-up, 6 at the end"]),
        ([1000] * 10, [5, 5, 5, 5, 5, 5, 5, 5, 6, 5], []),  # a moment is no growth
    ],
)
def test_growth_is_what_is_more_at_the_end(
    parts: dict[str, ModuleType], memory: list[int], mounts: list[int], grown: list[str]
) -> None:
    assert list(parts["soak"].growth(rows(memory, mounts))) == grown


def test_states_differ_by_what_is_left_and_what_is_missing(parts: dict[str, ModuleType]) -> None:
    state = parts["sandbox_state"].SandboxState
    before = state(("x/a", "x/b"), ("/run tmpfs",), (), ("sleep 1",), (), (), 9)
    after = state(("x/a",), ("/run tmpfs", "/run tmpfs"), ("x.lock",), ("sleep 1",), (), (), 8)

    assert after.difference(before) == ["namespaces: missing x/b", "mounts: left /run tmpfs", "files: left x.lock"]
    assert before.difference(before) == []


def test_a_section_of_the_page_is_replaced_and_the_rest_stays(
    parts: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = parts["page"]
    monkeypatch.setattr(page, "PAGE", tmp_path / "page.md")
    page.PAGE.write_text("a\n\n<!-- kill: by hand -->\n\nold\n\n<!-- end of kill -->\n\nb\n")
    row = {"lab": "x", "verb": "up", "point": 1, "total": 3, "operation": "mount", "killed": True, "problems": []}
    sampled = {**row, "verb": "down", "total": 9}

    page.write_kills([row, {**row, "point": 2, "problems": ["mounts: left /run"]}, {**row, "killed": False}, sampled])

    text = page.PAGE.read_text()
    assert text.startswith("a\n\n<!-- kill: by hand -->\n")
    assert text.endswith("<!-- end of kill -->\n\nb\n")
    assert "old" not in text
    assert ": 3 kills, 1 after which something was wrong.\n" in text
    assert "| `x` | 2 | 1 of 9 | 3 |" in text
    assert "- `x` `up` 2: mounts: left /run" in text
    with pytest.raises(ValueError, match="has no section soak"):
        page.replace_section("soak", "")


def test_every_section_of_the_page_can_be_written_again(parts: dict[str, ModuleType]) -> None:
    text = (ROOT / "docs/reliability.md").read_text()
    assert all(f"<!-- {name}: " in text and f"<!-- end of {name} -->" in text for name in parts["page"].SECTIONS)

"""scripts/vm-test: the commands of a virtual machine, and how its console is read. No machine is started."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import pytest

from tests.support.paths import ROOT


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The modules of scripts/vm.d by name, imported as the script does; other scripts have a module `main`, too."""
    names = ("machine", "orders", "main")
    kept = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    monkeypatch.syspath_prepend(str(ROOT / "scripts/vm.d"))
    made = {name: import_module(name) for name in names}
    for name in names:
        del sys.modules[name]
    sys.modules.update(kept)
    return made


def test_a_console_tells_how_each_step_ended(parts: dict[str, Any]) -> None:
    run = parts["machine"].Run()
    for line in (
        "noise", "@vm up 6.1.0", "@vm begin up kubenet --check", "kubenet is up", "@vm end 0 2500 up kubenet --check",
        "@vm begin tests", "tests: 2 passed, 1 failed", "@vm end 1 1000 tests", "@vm rc=1",
    ):  # fmt: skip
        run.hear(line)
    system = parts["main"].SYSTEMS[0]
    told = [line for step in run.steps for line in parts["main"].step_lines(system, step, False)]

    assert (run.kernel, run.code, run.good) == ("6.1.0", 1, False)
    assert told == [
        "vm 6.1: up kubenet --check: good, 2 s", "tests: 2 passed, 1 failed",
        "vm 6.1: tests: FAILED with exit code 1 (2 passed, 1 failed), 1 s",
    ]  # fmt: skip


@pytest.mark.parametrize("lines", [("@vm up 6.1.0",), ("@vm up 6.1.0", "@vm kernel BUG: bad", "@vm rc=0")])
def test_a_machine_that_ends_early_or_complains_is_no_success(parts: dict[str, Any], lines: tuple[str, ...]) -> None:
    run = parts["machine"].Run()
    for line in lines:
        run.hear(line)

    assert not run.good


def test_an_order_has_the_labs_their_laws_and_what_depends_on_a_kernel(parts: dict[str, Any]) -> None:
    orders, labs = parts["orders"], ["kubenet", "calico-ipip"]
    for order in (orders.ordinary(ROOT, labs), orders.no_legacy(labs)):
        (tests,) = (step for step in order if step.name == "tests")
        assert [step.name for step in order if step.name.startswith("up ")] == [f"up {lab} --check" for lab in labs]
        assert all(f"test_the_three_laws[{lab}]" in tests.command for lab in labs)
    named = [word.partition("::")[0] for word in orders.NFT]

    assert [name for name in named if not (ROOT / name).exists()] == []
    assert {
        "tests/live/lab/test_laws.py",
        "tests/live/kernel/test_link_kinds.py",
        "tests/live/kernel/test_firewall.py",
    } <= set(orders.marked(ROOT))


def test_a_machine_without_room_says_so(parts: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts["main"], "_free_memory", lambda: 1900)

    with pytest.raises(parts["main"].Cannot, match="needs 2560 MiB of free memory, and 1900 are free"):
        parts["main"]._tools()

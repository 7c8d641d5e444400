"""The pytest plugin without root: skips, mistakes in marks, and what its import costs."""

from __future__ import annotations

import re

import pytest

from labctl import running_lab
from labctl.kernel.host import paths
from labctl.testing import laws
from tests.support.pytest_suites import nothing_left, run

pytest_plugins = ["pytester"]
__all__ = ["nothing_left"]  # a fixture that every test uses


SKIPPING = """
import os, pytest, labctl
from labctl.testing import assert_laws

@pytest.mark.lab("kubenet")
def test_mark(lab):
    assert 0

def test_factory(session_labs):
    session_labs("kubenet")

def test_laws():
    assert_laws("kubenet")

def test_verb():
    labctl.up("kubenet")

def test_pure():
    assert labctl.plan("kubenet")
"""
USER = "import os\nos.geteuid = lambda: 1000\n"


def test_without_root_tests_of_labs_are_skipped_and_the_reason_is_printed(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(USER)
    for options in ((), ("-n2",)):
        done = run(pytester, SKIPPING, *options)
        done.assert_outcomes(passed=1, skipped=4)
        reason = f"labctl: labctl.up needs root ({running_lab.ROOT_HINT})"
        assert done.stdout.str().count(f"{reason}: 4 tests skipped") == 1
        assert done.ret == 0


def test_labs_can_be_required(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(USER)
    for options in (("--labctl-require",), ("-o", "labctl_require=true")):
        done = run(pytester, SKIPPING, *options)
        counts = done.parseoutcomes()
        assert counts["passed"] == 1
        assert counts.get("failed", 0) + counts.get("errors", 0) == 4
        assert "skipped" not in counts
        assert "labctl.up needs root" in done.stdout.str()


MISTAKEN = """
import pytest

def test_a(lab): pass

@pytest.mark.lab("kubnet")
def test_b(lab): pass

@pytest.mark.lab("kubenet", scop="module")
def test_c(lab): pass

@pytest.mark.lab("kubenet", set={"rooting": "host"})
def test_d(lab): pass

@pytest.mark.lab("kubenet", firewall="ipfw")
def test_e(lab): pass
"""


def test_a_mistake_in_a_mark_is_explained_and_nothing_else_is_shown(pytester: pytest.Pytester) -> None:
    done = run(pytester, MISTAKEN)

    done.assert_outcomes(errors=5)
    text = done.stdout.str()
    assert 'write @pytest.mark.lab("kubenet")' in text
    assert "did you mean kubenet?" in text
    assert "the mark lab has no argument scop: it has scenario, set, approximate, firewall, name, scope\n" in text
    assert "did you mean 'routing'?" in text
    assert "there is no firewall 'ipfw'" in text
    assert not re.search(r"\.py:\d", text), "labctl's own lines were shown"


@pytest.mark.parametrize(
    "suite", ["def test_it(): pass", "def test_it(): assert 0", "import labctl\ndef test_it(): pass"]
)
def test_unused_it_loads_nothing(pytester: pytest.Pytester, suite: str) -> None:
    pytester.makeconftest("""
import sys
def pytest_unconfigure():
    heavy = ("pyroute2", "iptc", "click", "yaml")
    heavy += ("labctl.api", "labctl.errors", "labctl.core.resources", "labctl.running_lab")
    print("LOADED", [name for name in heavy if name in sys.modules])
""")
    assert "LOADED []" in run(pytester, suite, "-s").stdout.str()


def test_names_are_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw7")
    first = laws.unused_lab_name("a-scenario-with-a-rather-long-name")
    taken = f"{first.rpartition('-')[0]}-{int(first.rpartition('-')[2]) + 1}"
    monkeypatch.setattr(paths, "labs", lambda: {taken: ()})
    second = laws.unused_lab_name("a-scenario-with-a-rather-long-name")

    stem, _, number = first.rpartition("-")
    assert re.fullmatch(r"a-scenario-with-a-rather-gw7-\d+", stem)
    assert second == f"{stem}-{int(number) + 2}"

"""Small test suites, run with labctl's pytest plugin in a process of their own."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import entry_points

import pytest

import labctl
from labctl.kernel.host import lab_state, paths
from tests.support import forked

INSTALLED = any(point.name == "labctl" for point in entry_points(group="pytest11"))
# where labctl is installed, pytest finds it by itself
PLUGIN = () if INSTALLED else ("-p", "labctl.testing.pytest_plugin")
# plugins of other projects, which cost more to start than a suite to run; the example project runs with them
OTHERS = ("-p", "no:hypothesispytest", "-p", "no:anyio")
STRICT = (*PLUGIN, *OTHERS, "-W", "error", "-p", "no:cacheprovider", "--strict-markers", "-rs")


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Whatever the suites did, no lab and no record outlives them."""
    with pytest.MonkeyPatch.context() as patch:  # and not the tests' own, which is undone before we look
        patch.delenv("PYTEST_XDIST_WORKER", raising=False)  # which we may be ourselves
        yield
    left = (*paths.labs(), *lab_state.labs_with_files())
    for name in paths.labs():
        labctl.down(name)
    assert left == ()


def run(pytester: pytest.Pytester, suite: str, *options: str) -> pytest.RunResult:
    """A suite of one file, run in a new Python."""
    pytester.makepyfile(test_suite=suite)
    return pytester.runpytest_subprocess(*STRICT, *options)


def run_forked(pytester: pytest.Pytester, suite: str, *options: str) -> pytest.RunResult:
    """The same, in a process that has imported labctl and pytest already; for root. Where the plugin is installed,
    pytest rewrites all of labctl when it imports it, which needs a new Python."""
    if INSTALLED:
        return run(pytester, suite, *options)
    pytester.makepyfile(test_suite=suite)
    base = pytester.mkdir(f"runpytest-{len(list(pytester.path.glob('runpytest-*')))}")
    return pytester.run(forked.pytest_program(), f"--basetemp={base}", *STRICT, *options)

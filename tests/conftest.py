"""What all tests share: the option for golden files, the marker `root`, and the proof of the sandbox.

Every test in tests/live and tests/fidelity has the marker `root`: it makes namespaces, links and firewall rules. It
runs only as root and only where `scripts/test` made private network and mount namespaces; elsewhere it is skipped, with
the reason.
"""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Generator, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.support import forked, schedule
from tests.support.golden import OPTION, Golden, GoldenFile
from tests.support.paths import GOLDEN, ROOT

# No example fails because the machine is busy, and a run without a change has the result of the last one.
settings.register_profile("same", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
# New examples in each run: `--hypothesis-profile random`, by hand.
settings.register_profile("random", settings.get_profile("same"), derandomize=False)
settings.load_profile("same")

TESTS = ROOT / "tests"
WITH_ROOT = ("live", "fidelity")
SANDBOX = "LABCTL_SANDBOX"
OUTER = "LABCTL_OUTER_NETNS"
GC_THRESHOLD = 50_000  # new objects between two searches for unused cycles


def reason_to_skip() -> str | None:
    """Why tests of real namespaces cannot run here; None if they can."""
    if os.geteuid() != 0:
        return "needs root: run `sudo ./scripts/test`"
    if os.environ.get(SANDBOX) != "1" and not is_sandbox():
        return "needs a sandbox of namespaces: run it by ./scripts/test"
    return None


def is_sandbox() -> bool:
    """Whether labs made here stay here: separate mounts, and a network that is not the outer one and leads nowhere."""
    outer = os.environ.get(OUTER)
    if outer is not None and outer == os.readlink("/proc/self/ns/net"):
        return False
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    private = {line.split()[4] for line in mounts if " - tmpfs " in line and "shared:" not in line}
    routes = Path("/proc/self/net/route").read_text().splitlines()[1:]
    return {"/run/netns", "/run/labctl"} <= private and not routes


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(OPTION, action="store_true", help="Write the golden files of the tests that run.")


def pytest_configure() -> None:
    """Receive signals as the programs of a terminal do: in the background of a shell, or under nohup, some are ignored,
    and what is started here would inherit that. labctl speaks English, whatever the locale is.

    Thousands of tests are collected, and stay: with Python's threshold, the garbage collector looks at them so often
    that the collection takes twice as long."""
    gc.set_threshold(GC_THRESHOLD)
    os.environ["LABCTL_LANG"] = "en"
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if reason_to_skip() is None:  # what learners reach in tests ends with the sandbox
        os.environ.setdefault("LABCTL_PROGRESS_DIR", "/run/labctl")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each unit of tests to one worker, in the order of the collection."""
    from xdist.scheduler import LoadScopeScheduling

    class Units(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return schedule.unit_of(nodeid)

    config.option.loadscopereorder = False
    return Units(config, log)


@cache
def top_folder(path: Path) -> str:
    """The folder below tests/ that a file is in; "" for another file."""
    return path.relative_to(TESTS).parts[0] if TESTS in path.parents else ""


@pytest.hookimpl(wrapper=True)
def pytest_pycollect_makeitem(collector: pytest.Collector) -> Generator[None, Any, Any]:
    """The folder of a test decides whether it needs root: mark it by that, and refuse the marker elsewhere."""
    made = yield
    for item in made if isinstance(made, list) else [made]:
        if not isinstance(item, pytest.Item):
            continue
        if (top := top_folder(item.path)) in WITH_ROOT:
            item.add_marker(pytest.mark.root)
            if top == "fidelity":
                item.add_marker(pytest.mark.firewall)
        elif item.get_closest_marker("root") is not None:
            raise collector.CollectError(
                f"{item.name} needs root: move it to tests/live, where every test is marked so"
            )
    return made


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests with root where they cannot run; otherwise run them last, so that a plain mistake shows first. Workers
    begin with what takes long."""
    reason = reason_to_skip()
    for item in items:
        if item.get_closest_marker("root") is None:
            continue
        if reason is not None:
            item.add_marker(pytest.mark.skip(reason=reason))
        else:
            item.fixturenames.insert(0, "sandbox")  # type: ignore[attr-defined]
    items.sort(key=lambda item: item.get_closest_marker("root") is not None)
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: schedule.rank(item.nodeid))


def pytest_collection_finish() -> None:
    """Thousands of tests stay in memory to the end: the garbage collector need not look at them again and again."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    forked.stop()


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """`golden("plans/kubenet.txt").check(text)`: the text must be that of the file in tests/golden."""
    update = bool(request.config.getoption(OPTION))
    return lambda path: GoldenFile(GOLDEN / path, update)


@pytest.fixture(scope="session")
def sandbox() -> Iterator[None]:
    """Prove, before the first test with root, that it cannot touch the machine's own network or its labs."""
    if not is_sandbox():
        pytest.exit("this is the machine's own network or its own /run/netns: run the tests by ./scripts/test", 4)
    here = os.readlink("/proc/self/ns/net")
    yield
    assert os.readlink("/proc/self/ns/net") == here, "a test moved the test process to another namespace"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Leave the counts for scripts/test, which prints them again at the very end."""
    path = os.environ.get("LABCTL_SUMMARY")
    if path:
        parts, _ = terminalreporter.build_summary_stats_line()
        Path(path).write_text(", ".join(text for text, _ in parts))

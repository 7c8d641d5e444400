"""What all tests share: which of them may run here, and the proof that a wet test is inside a sandbox.

Tests marked `root` make namespaces, links and firewall rules. They run only as root and only where
`scripts/test` made private network and mount namespaces; anywhere else they are skipped, and say so.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SANDBOX = "LABCTL_SANDBOX"
OUTER = "LABCTL_OUTER_NETNS"


def reason_to_skip() -> str | None:
    """Why tests of real namespaces cannot run here; None if they can."""
    if os.geteuid() != 0:
        return "needs root: run `sudo ./scripts/test`"
    if os.environ.get(SANDBOX) != "1" and not is_sandbox():
        return "needs a sandbox of namespaces: run it by ./scripts/test"
    return None


def is_sandbox() -> bool:
    """Whether labs made here stay here: places of our own, and a network, not the outer one, that leads nowhere."""
    outer = os.environ.get(OUTER)
    if outer is not None and outer == os.readlink("/proc/self/ns/net"):
        return False
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    private = {line.split()[4] for line in mounts if " - tmpfs " in line and "shared:" not in line}
    routes = Path("/proc/self/net/route").read_text().splitlines()[1:]
    return {"/run/netns", "/run/labctl"} <= private and not routes


def pytest_configure() -> None:
    """Hear signals as a terminal's programs do: in a shell's background, or under nohup, some are ignored, and what
    is started here would inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def together(nodeid: str) -> str:
    """What one worker runs by itself where several share the tests: a file, for its fixtures are its own; all that
    starts Docker, which is one on a machine."""
    file = nodeid.partition("::")[0]
    return "fidelity" if "/fidelity/" in file else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Hand out tests to workers so that what is to be together is."""
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return together(nodeid)

    return Together(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip wet tests where they cannot run; else run them last, so that a plain mistake shows first."""
    reason = reason_to_skip()
    for item in items:
        if item.get_closest_marker("root") is None:
            continue
        if reason is not None:
            item.add_marker(pytest.mark.skip(reason=reason))
        else:
            item.fixturenames.insert(0, "sandbox")  # type: ignore[attr-defined]
    items.sort(key=lambda item: item.get_closest_marker("root") is not None)


@pytest.fixture(scope="session")
def sandbox() -> Iterator[None]:
    """Prove, before the first wet test, that it cannot touch the machine's own network or its labs."""
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

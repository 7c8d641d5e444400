"""The pytest plugin: labs as fixtures, one for a test, a module or a session, and evidence for tests that fail.

    @pytest.mark.lab("kubenet", set={"routing": "host"}, scope="module")
    def test_pods_meet(lab):
        assert lab["a"].run("ping -c1 c").ok

Without root, or where the kernel lacks what a scenario needs, such a test is skipped, and why is printed. Loading
this costs nothing: what works on labs is imported by the first test that wants one. docs/api.md is its manual.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from labctl.testing import assert_laws as assert_laws

if TYPE_CHECKING:
    from labctl.api import Sets, Source
    from labctl.live import RunningLab
    from labctl.recorder import Recorder

FACTORIES = {"function": "labs", "module": "module_labs", "session": "session_labs"}  # the fixture of each scope
SKIPPED = "labctl: "  # how the reason begins


class Labs:
    """A factory of labs, which go down when its scope ends. Each has a name that no other test or worker has."""

    def __init__(self, config: pytest.Config, folder: Path) -> None:
        self._config, self._folder = config, folder
        self._labs: dict[str, tuple[RunningLab, Recorder | None]] = {}
        self._shared: dict[str, RunningLab] = {}
        self._troubles: dict[str, str] = {}

    def __call__(
        self, scenario: Source, *, name: str | None = None, set: Sets | None = None, approximate: bool = False
    ) -> RunningLab:
        """Bring a lab up, as `labctl.up` does; `name` is its name, if it is to be a certain one."""
        import labctl
        from labctl.testing import fresh_name

        definition = labctl.load(scenario, name=name, set=set, approximate=approximate)
        if name is None:
            definition = labctl.load(definition, name=fresh_name(definition.name))
        lab = labctl.up(definition, approximate=approximate)
        self._labs[lab.name] = (lab, None)
        self.record(lab)
        return lab

    def shared(self, scenario: Source, **how: Any) -> RunningLab:
        """The lab that was made of the same here before, or a new one."""
        key = repr((scenario, sorted(how.items())))
        if key not in self._shared:
            self._shared[key] = self(scenario, **how)
        return self._shared[key]

    def __iter__(self) -> Iterator[RunningLab]:
        return iter([lab for lab, _ in self._labs.values()])

    def record(self, lab: RunningLab) -> None:
        """Keep its packets from now on, if that is wanted and not done already."""
        from labctl.errors import LabError
        from labctl.recorder import recorder

        if self._labs[lab.name][1] is None and _packets(self._config):
            try:
                self._labs[lab.name] = (lab, recorder(lab))
            except LabError as error:  # no reason for a test to fail
                self._troubles[lab.name] = f"no packets: {error.message}"

    def forget(self, lab: RunningLab) -> None:
        """Let go of its packets."""
        recorder = self._labs[lab.name][1]
        self._labs[lab.name] = (lab, None)
        if recorder is not None:
            recorder.close()

    def evidence(self, lab: RunningLab, test: str) -> str:
        """Keep what is known of a lab for a test that failed; returns what to say of it."""
        from labctl.recorder import keep

        lines = [self._troubles[lab.name]] if lab.name in self._troubles else []
        folder = self._folder / re.sub(r"[^\w.-]+", "-", test).strip("-")[-120:]
        try:
            lines.extend(keep(folder, lab, self._labs[lab.name][1]))
        except Exception as error:  # the test's own failure is what matters
            lines.append(f"no more evidence: {type(error).__name__}: {error}")
        return "\n".join(lines)

    def close(self) -> None:
        """Take all of them down, whatever became of each."""
        errors = []
        for lab in self:
            self.forget(lab)
            try:
                lab.down()
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]


ALIVE = pytest.StashKey[dict[str, Labs]]()  # the factories that are there, by the name of their fixture


# ---- fixtures --------------------------------------------------------------------------------------------


@pytest.fixture
def labs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Labs]:
    """Makes labs for this test: `labs("kubenet", set={...})`. They go down when it ends."""
    yield from _factory("labs", request, tmp_path_factory)


@pytest.fixture(scope="module")
def module_labs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Labs]:
    """Makes labs for the tests of a module, for fixtures of your own. They go down with it."""
    yield from _factory("module_labs", request, tmp_path_factory)


@pytest.fixture(scope="session")
def session_labs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Labs]:
    """Makes labs for all tests (of one worker, under pytest-xdist). They go down at the very end."""
    yield from _factory("session_labs", request, tmp_path_factory)


@pytest.fixture
def lab(request: pytest.FixtureRequest) -> RunningLab:
    """The running lab that the mark asks for: `@pytest.mark.lab(SCENARIO, set=..., approximate=..., scope=...)`.

    `scope` is "function" (the default), "module" or "session". A parameter (`indirect=True`) goes before the scenario.
    """
    mark = request.node.get_closest_marker("lab")
    words: tuple[Any, ...] = mark.args if mark is not None else ()
    how = dict(mark.kwargs) if mark is not None else {}
    scope = how.pop("scope", "function")
    scenario = getattr(request, "param", words[0] if len(words) == 1 else how.pop("scenario", None))
    if scenario is None or len(words) > 1 or scope not in FACTORIES:
        raise pytest.UsageError(f'lab: write @pytest.mark.lab("kubenet"), scope one of {", ".join(FACTORIES)}')
    factory: Labs = request.getfixturevalue(FACTORIES[scope])
    return factory.shared(scenario, **how)


def _factory(name: str, request: pytest.FixtureRequest, temporary: pytest.TempPathFactory) -> Iterator[Labs]:
    config = request.config
    given = config.getoption("labctl_evidence") or config.getini("labctl_evidence")
    folder = config.invocation_params.dir / given if given else temporary.getbasetemp() / "labctl"
    factory = Labs(config, folder)
    config.stash[ALIVE][name] = factory
    try:
        yield factory
    finally:
        del config.stash[ALIVE][name]
        factory.close()


# ---- hooks -----------------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of the command line, and of pytest's configuration file."""
    group = parser.getgroup("labctl", "labs of real network namespaces (labctl)")
    group.addoption("--labctl-evidence", metavar="DIR", help="Keep what failed tests leave of their labs in DIR.")
    group.addoption("--labctl-require", action="store_true", help="Fail, rather than skip, where labs cannot be built.")
    group.addoption("--labctl-no-packets", action="store_true", help="Do not record the packets of labs.")
    parser.addini("labctl_evidence", "the folder for what failed tests leave of their labs", default="")
    parser.addini("labctl_require", "fail, rather than skip, where labs cannot be built", "bool", default=False)
    parser.addini("labctl_packets", "record the packets of labs, for tests that fail", "bool", default=True)


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known."""
    config.addinivalue_line("markers", "lab(scenario, set={}, approximate=False, scope='function'): a lab, as `lab`")
    config.stash[ALIVE] = {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    """A lab that cannot be built here skips the test."""
    return (yield from _skipping(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Record the labs that the test uses."""
    for factory, lab in _used(item):
        factory.record(lab)
    return (yield from _skipping(item))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Give a failing test what is known of its labs."""
    report = yield
    if call.when != "teardown":
        for factory, lab in _used(item):
            if report.failed:
                report.sections.append((f"labctl: {lab.name}", factory.evidence(lab, item.nodeid)))
            if call.when == "call" or not report.passed:
                factory.forget(lab)
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say why tests were skipped."""
    reasons: dict[str, int] = {}
    for report in terminalreporter.stats.get("skipped", ()):
        text = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
        found = text.removeprefix("Skipped: ")
        if found.startswith(SKIPPED):
            reasons[found] = reasons.get(found, 0) + 1
    for reason, number in reasons.items():
        terminalreporter.write_line(f"{reason}: {number} test{'' if number == 1 else 's'} skipped", yellow=True)


def _skipping(item: pytest.Item) -> Generator[None, object, object]:
    """What the hook returns; a MissingError of labctl's becomes a skip, unless labs are required."""
    try:
        return (yield)
    except Exception as error:
        known = sys.modules.get("labctl.errors")  # nobody raised what nobody loaded
        require = item.config.getoption("labctl_require") or item.config.getini("labctl_require")
        if known is None or require or not isinstance(error, known.MissingError):
            raise
        hint = f" ({error.hint})" if error.hint else ""
        pytest.skip(f"{SKIPPED}{error.message}{hint}")


def _used(item: pytest.Item) -> list[tuple[Labs, RunningLab]]:
    """The labs that a test can see: of the factories among its fixtures, and those that fixtures returned."""
    values = [value for value in getattr(item, "funcargs", {}).values() if type(value).__name__ == "RunningLab"]
    names = getattr(item, "fixturenames", ())
    return [
        (factory, lab)
        for name, factory in item.config.stash[ALIVE].items()
        for lab in factory
        if name in names or any(value is lab for value in values)
    ]


def _packets(config: pytest.Config) -> bool:
    return bool(config.getini("labctl_packets")) and not config.getoption("labctl_no_packets")

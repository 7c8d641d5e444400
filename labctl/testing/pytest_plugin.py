"""The pytest plugin: labs as fixtures for a test, a module or a session, and evidence for failed tests.

    @pytest.mark.lab("kubenet", set={"routing": "host"}, scope="module")
    def test_pods_meet(lab):
        assert lab["a"].run("ping -c1 c").ok

Without root, or if the kernel lacks a feature that a scenario needs, such a test is skipped, and the reason is printed.
Loading the plugin is cheap: the modules that build labs are imported by the first test with a lab. See docs/api.md.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from labctl.core import result_log
from labctl.testing.factory import Labs
from labctl.testing.results import TestResults

if TYPE_CHECKING:
    from typing import TypeGuard

    from labctl.errors import MissingError
    from labctl.running_lab import RunningLab

FACTORIES = {"function": "labs", "module": "module_labs", "session": "session_labs"}  # the fixture of each scope
MARKER_ARGUMENTS = ("scenario", "set", "approximate", "firewall", "name", "scope")  # the arguments of the mark
SKIP_PREFIX = "labctl: "  # the prefix of the reason of a skip


ACTIVE_FACTORIES = pytest.StashKey[dict[str, Labs]]()  # the existing factories, by the name of their fixture
CLOSING_FACTORIES = pytest.StashKey["list[Labs] | None"]()  # factories with a scope that ended in the current teardown
RESULTS = pytest.StashKey[TestResults]()  # the checks and traces of the current test
TEARDOWN_EVIDENCE = pytest.StashKey[list[tuple[str, str]]]()  # of the labs of a test with a failed teardown


# ---- fixtures --------------------------------------------------------------------------------------------


@pytest.fixture
def labs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Labs]:
    """Makes labs for this test: `labs("kubenet", set={...})`. They are removed when the test ends."""
    yield from _factory("labs", request, tmp_path_factory)


@pytest.fixture(scope="module")
def module_labs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Labs]:
    """Makes labs for the tests of a module, for your own fixtures. They are removed when the module ends."""
    yield from _factory("module_labs", request, tmp_path_factory)


@pytest.fixture(scope="session")
def session_labs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Labs]:
    """Makes labs for all tests (of one worker, under pytest-xdist). They are removed when the session ends."""
    yield from _factory("session_labs", request, tmp_path_factory)


@pytest.fixture
def lab(request: pytest.FixtureRequest) -> RunningLab:
    """The running lab of the mark: `@pytest.mark.lab(SCENARIO, set=..., firewall=..., scope=...)`.

    `scope` is "function" (the default), "module" or "session"; the other arguments are those of `labctl.up`. A
    parameter (`indirect=True`) replaces the scenario. A mistake fails the test with a message, without a traceback.
    """
    marker = request.node.get_closest_marker("lab")
    arguments: tuple[Any, ...] = marker.args if marker is not None else ()
    options = dict(marker.kwargs) if marker is not None else {}
    if unknown := [name for name in options if name not in MARKER_ARGUMENTS]:
        pytest.fail(f"the mark lab has no argument {unknown[0]}: it has {', '.join(MARKER_ARGUMENTS)}", pytrace=False)
    scope = options.pop("scope", "function")
    scenario = getattr(request, "param", arguments[0] if len(arguments) == 1 else options.pop("scenario", None))
    if scenario is None or len(arguments) > 1 or scope not in FACTORIES:
        scopes = ", ".join(FACTORIES)
        pytest.fail(f'lab: write @pytest.mark.lab("kubenet"), scope one of {scopes}', pytrace=False)
    factory: Labs = request.getfixturevalue(FACTORIES[scope])
    from labctl.errors import LabError

    try:
        return factory.get_or_start(scenario, **options)
    except LabError as error:
        if _is_skip_reason(error, request.config):
            raise
        mistake = f"labctl: {error}"
    pytest.fail(mistake, pytrace=False)


def _factory(name: str, request: pytest.FixtureRequest, temporary: pytest.TempPathFactory) -> Iterator[Labs]:
    config = request.config
    folder_name = config.getoption("labctl_evidence") or config.getini("labctl_evidence")
    folder = config.invocation_params.dir / folder_name if folder_name else temporary.getbasetemp() / "labctl"
    factory = Labs(config, folder)
    config.stash[ACTIVE_FACTORIES][name] = factory
    try:
        yield factory
    finally:
        del config.stash[ACTIVE_FACTORIES][name]
        if (closing := config.stash.get(CLOSING_FACTORIES, None)) is None:  # after an interrupt, no test is torn down
            factory.close()
        else:
            closing.append(factory)


# ---- hooks -----------------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of the command line, and of pytest's configuration file."""
    group = parser.getgroup("labctl", "labs of real network namespaces (labctl)")
    group.addoption("--labctl-evidence", metavar="DIR", help="Write the evidence of failed tests' labs to DIR.")
    group.addoption("--labctl-require", action="store_true", help="Fail instead of skip where labs cannot be built.")
    group.addoption("--labctl-no-packets", action="store_true", help="Do not record the packets of labs.")
    parser.addini("labctl_evidence", "the folder for the evidence of failed tests' labs", default="")
    parser.addini("labctl_require", "fail instead of skip where labs cannot be built", "bool", default=False)
    parser.addini("labctl_packets", "record the packets of labs, as evidence for failed tests", "bool", default=True)


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark."""
    config.addinivalue_line("markers", "lab(scenario, set={}, approximate=False, scope='function'): a lab, as `lab`")
    config.stash[ACTIVE_FACTORIES] = {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Keep the last checks and traces while the test runs, with its fixtures."""
    results = item.config.stash[RESULTS] = TestResults()
    result_log.LISTENERS.append(results.add)
    try:
        return (yield)
    finally:
        result_log.LISTENERS.remove(results.add)
        del item.config.stash[RESULTS]


def pytest_assertrepr_compare(config: pytest.Config, op: str, left: object, right: object) -> list[str] | None:
    """Say which check or trace has the verdict that an assertion compares."""
    results = config.stash.get(RESULTS, None)
    return None if results is None else results.comparison(op, left, right)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    """Skip the test if its lab cannot be built here."""
    __tracebackhide__ = True
    return (yield from _skip_if_unsupported(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Record the labs that the test uses."""
    __tracebackhide__ = True
    for factory, lab in _labs_of(item):
        factory.start_recording(lab)
    return (yield from _skip_if_unsupported(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    """Remove the labs at the end of their scope, after all fixtures, so that there is evidence if a fixture failed."""
    __tracebackhide__ = True
    used_labs = _labs_of(item)
    closing = item.config.stash[CLOSING_FACTORIES] = []
    try:
        return (yield)
    except (Exception, pytest.fail.Exception):
        item.stash[TEARDOWN_EVIDENCE] = _report_sections(item, used_labs)
        raise
    finally:
        item.config.stash[CLOSING_FACTORIES] = None
        for factory, lab in used_labs:
            factory.stop_recording(lab)
        for factory in closing:
            factory.close()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the evidence of the labs to a failed test's report."""
    report = yield
    if report.failed:
        teardown_sections = item.stash.get(TEARDOWN_EVIDENCE, [])
        report.sections.extend(teardown_sections if call.when == "teardown" else _report_sections(item, _labs_of(item)))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print why tests were skipped."""
    reasons: dict[str, int] = {}
    for report in terminalreporter.stats.get("skipped", ()):
        text = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
        found = text.removeprefix("Skipped: ")
        if found.startswith(SKIP_PREFIX):
            reasons[found] = reasons.get(found, 0) + 1
    for reason, number in reasons.items():
        terminalreporter.write_line(f"{reason}: {number} test{'' if number == 1 else 's'} skipped", yellow=True)


def _skip_if_unsupported(item: pytest.Item) -> Generator[None, object, object]:
    """Run the hook; a MissingError of labctl becomes a skip, unless labs are required."""
    __tracebackhide__ = True
    try:
        return (yield)
    except Exception as error:
        if _is_skip_reason(error, item.config):
            hint = f" ({error.hint})" if error.hint else ""
            pytest.skip(f"{SKIP_PREFIX}{error.message}{hint}")
        raise


def _is_skip_reason(error: Exception, config: pytest.Config) -> TypeGuard[MissingError]:
    """Whether an error is a reason to skip a test."""
    errors = sys.modules.get("labctl.errors")  # if this module was never imported, the error is not labctl's
    require = config.getoption("labctl_require") or config.getini("labctl_require")
    return errors is not None and not require and isinstance(error, errors.MissingError)


def _report_sections(item: pytest.Item, labs: list[tuple[Labs, RunningLab]]) -> list[tuple[str, str]]:
    """What a failed test's checks and traces found, and the evidence of its labs: pairs of a heading and a text."""
    results = item.config.stash.get(RESULTS, None)
    sections = [] if results is None else list(results.sections())
    return sections + [(f"labctl: {lab.name}", factory.save_evidence(lab, item.nodeid)) for factory, lab in labs]


def _labs_of(item: pytest.Item) -> list[tuple[Labs, RunningLab]]:
    """The labs of a test: those of the factories among its fixtures, and those that its fixtures returned."""
    values = [value for value in getattr(item, "funcargs", {}).values() if type(value).__name__ == "RunningLab"]
    names = getattr(item, "fixturenames", ())
    return [
        (factory, lab)
        for name, factory in item.config.stash[ACTIVE_FACTORIES].items()
        for lab in factory
        if name in names or any(value is lab for value in values)
    ]

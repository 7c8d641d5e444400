"""The scenarios of docs/scenario.md that have a name are built, their checks pass, and the labs have no drift."""

from __future__ import annotations

import re

import pytest

from labctl.checks import runner
from labctl.core.features import required_features
from labctl.core.iptables import BACKENDS, Backend
from labctl.lab import lifecycle
from labctl.scenario.definition import define_text
from tests.support import kernels
from tests.support.drift import drift
from tests.support.paths import ROOT

pytestmark = pytest.mark.kernel
BLOCKS = re.findall(r"(?ms)^```yaml\n(name: .*?)^```", (ROOT / "docs" / "scenario.md").read_text())
SCENARIOS = {text.partition("\n")[0].removeprefix("name: "): text for text in BLOCKS}


def test_there_are_scenarios() -> None:
    assert {"pasted", "native", "native-tables", "plus-mine", "same-range"} <= set(SCENARIOS)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_documented_scenario_is_as_it_says(name: str, backend: Backend) -> None:
    if reason := kernels.backend_problem(backend):
        pytest.skip(reason)
    definition = define_text("x.yaml", SCENARIOS[name], f"docs-{name}", firewall=backend)
    if reason := kernels.missing_text(tuple(required_features(definition.compiled.plan))):
        pytest.skip(reason)
    lifecycle.up(definition)
    try:
        report = runner.run(lifecycle.load_compiled_lab(definition.name))
        assert [(one.check.say, one.evidence) for one in report.outcomes if one.verdict != "pass"] == []
        assert report.outcomes
        assert drift(definition.name) == []
        assert lifecycle.up(definition).changes == ()
    finally:
        lifecycle.down(definition.name)

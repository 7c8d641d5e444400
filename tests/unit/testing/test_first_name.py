"""`labctl.pytest_plugin`, the first name of the pytest plugin, which the manual once gave to test suites."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SUITE = """
from labctl.pytest_plugin import Labs, assert_laws
from labctl import testing

def test_plugin(pytestconfig, labs, session_labs):
    assert (Labs, assert_laws) == (testing.Labs, testing.assert_laws)
    assert isinstance(labs, Labs) and isinstance(session_labs, Labs)
    assert pytestconfig.getoption("labctl_require") is True
"""


def test_a_suite_may_use_the_first_name_of_the_plugin(tmp_path: Path) -> None:
    (tmp_path / "test_suite.py").write_text(SUITE)
    options = ("-q", "-p", "no:cacheprovider", "-p", "no:labctl", "-p", "labctl.pytest_plugin", "--labctl-require")
    done = subprocess.run([sys.executable, "-m", "pytest", *options, str(tmp_path)], capture_output=True, text=True)
    assert "1 passed" in done.stdout, done.stdout + done.stderr

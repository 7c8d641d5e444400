"""The first name of `labctl.testing.pytest_plugin`. Test suites that import it, or name it after `-p`, still work."""

from __future__ import annotations

from labctl.testing import Labs as Labs
from labctl.testing import assert_laws as assert_laws
from labctl.testing.pytest_plugin import *  # noqa: F403 - its hooks and fixtures

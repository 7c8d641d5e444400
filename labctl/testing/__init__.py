"""labctl for test suites: the pytest plugin, labs as fixtures, the three laws.

pytest imports this package in every run, so a name loads its module when it is first asked for.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from labctl.testing.factory import Labs as Labs
    from labctl.testing.laws import assert_laws as assert_laws

__all__ = ["Labs", "assert_laws"]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        modules = {"Labs": "factory", "assert_laws": "laws"}
        if name not in modules:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(f"labctl.testing.{modules[name]}"), name)

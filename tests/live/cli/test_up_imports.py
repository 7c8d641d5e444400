"""What `labctl up` of the default kubenet imports. Imports are most of its time: what only other verbs, other scenarios
or errors need stays out. Modules and classes are counted here, not their time, which depends on the machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from labctl.kernel.firewall import backend
from labctl.lab import lifecycle
from tests.support.imported import Imported, imported_by

LAB = "upimports"
NOT_IMPORTED = (
    # of Python and of others
    "concurrent", "hashlib", "rich",
    # other verbs and errors
    "labctl.checks", "labctl.compare", "labctl.drawing", "labctl.faults", "labctl.lab.break_fix", "labctl.tracing",
    # what this lab does not have
    "labctl.cni", "labctl.cni_runtime.invocation", "labctl.cni_runtime.observed_state", "labctl.core.observations",
    "labctl.kernel.cni", "labctl.kubernetes", "labctl.lab.built_record", "labctl.lab.fault_records",
    "labctl.render.resources", "labctl.scenario.manifests.inline",
)  # fmt: skip
MAX_MODULES = 160  # of labctl
MAX_ALL_MODULES = 390
MAX_DATACLASSES = 98


@pytest.fixture(scope="module")
def seen() -> Iterator[Imported]:
    """What a new process imports for it: its modules and its dataclasses."""
    if backend.choose(backend.requested_backend(None), lambda _: None) != "legacy":
        pytest.skip("the nft back end imports more")
    try:
        yield imported_by(["up", "kubenet", "--name", LAB], "is up")
    finally:
        lifecycle.down(LAB)


def test_it_imports_nothing_that_only_others_need(seen: Imported) -> None:
    assert seen.below(NOT_IMPORTED) == [], "import them in the function that needs them"


def test_it_imports_few_modules_and_dataclasses(seen: Imported) -> None:
    assert len(seen.of_labctl) <= MAX_MODULES, (
        "`up` got slower: import in the function that needs it, or raise the number"
    )
    assert len(seen.modules) <= MAX_ALL_MODULES, "`up` got slower: a library was imported"
    assert len(seen.dataclasses) <= MAX_DATACLASSES, "keep the classes that it uses in a module"

"""What a trace of a delivered packet imports. Imports are most of its time: what only other verbs, other back ends or
lost packets need stays out. Modules are counted here, and not their time: a count does not depend on the machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from labctl.kernel.firewall import backend
from labctl.lab import lifecycle
from tests.support.imported import Imported, imported_by

LAB = "trace-imports"
NOT_IMPORTED = (
    # of Python and of others
    "concurrent", "hashlib", "iptc", "logging", "pyroute2", "rich", "secrets", "shutil",
    # other verbs
    "labctl.cni", "labctl.compare", "labctl.core.diff", "labctl.core.mesh_pairs", "labctl.core.node_state",
    "labctl.core.results", "labctl.drawing", "labctl.faults", "labctl.kernel.apply", "labctl.lab.lifecycle",
    "labctl.packets.pcapng", "labctl.packets.trail", "labctl.render", "labctl.testing",
    # what this lab does not have
    "labctl.kernel.netlink.ipset", "labctl.kubernetes", "labctl.scenario.connections_field",
    "labctl.scenario.manifests.inline",
    # lost packets
    "labctl.kernel.namespaces.late_answers", "labctl.tracing.causes", "labctl.tracing.loss",
    "labctl.tracing.silence", "labctl.tracing.tunnel_path",
)  # fmt: skip
MAX_MODULES = 182  # of labctl
MAX_DATACLASSES = 135


@pytest.fixture(scope="module")
def seen() -> Iterator[Imported]:
    """What a trace on the default kubenet imports: its modules and its dataclasses."""
    lifecycle.up(lifecycle.define("kubenet", LAB))
    try:
        yield imported_by(["trace", "a", "c", "-l", LAB], "OK  answered")
    finally:
        lifecycle.down(LAB)


def test_it_imports_nothing_that_only_others_need(seen: Imported) -> None:
    others = NOT_IMPORTED + (("labctl.kernel.rule_trace.nft_trace",) if backend.backend_of(LAB) == "legacy" else ())
    assert seen.below(others) == [], "import them in the function that needs them"


def test_it_imports_few_modules_and_dataclasses(seen: Imported) -> None:
    assert len(seen.of_labctl) <= MAX_MODULES, (
        "a trace got slower: import in the function that needs it, or raise the number"
    )
    assert len(seen.dataclasses) <= MAX_DATACLASSES, "a trace got slower: keep the classes that it uses in a module"

"""What a trace of a delivered packet imports. Imports are most of its time: what only other verbs, other back ends or
lost packets need stays out. Modules are counted here, and not their time: a count does not depend on the machine."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from labctl.kernel.firewall import backend
from labctl.lab import lifecycle
from tests.support.paths import ROOT

LAB = "trace-imports"
CODE = """
import dataclasses, json, sys
from labctl.cli import main
code = main(["trace", "a", "c", "-l", sys.argv[1]])
modules = [module for name, module in sys.modules.items() if name.startswith("labctl")]
classes = {str(one) for module in modules for one in vars(module).values()
           if isinstance(one, type) and dataclasses.is_dataclass(one)}
print(json.dumps({"code": code, "modules": sorted(sys.modules), "dataclasses": sorted(classes)}), file=sys.stderr)
"""
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
MAX_MODULES = 181  # of labctl
MAX_DATACLASSES = 142


@pytest.fixture(scope="module")
def seen() -> Iterator[dict[str, list[str]]]:
    """What a trace on the default kubenet imports: its modules and its dataclasses."""
    lifecycle.up(lifecycle.define("kubenet", LAB))
    try:
        done = subprocess.run([sys.executable, "-c", CODE, LAB], cwd=ROOT, capture_output=True, text=True, timeout=60)
        found = json.loads(done.stderr.splitlines()[-1])
        assert (done.returncode, found["code"], "OK  answered" in done.stdout) == (0, 0, True)
        yield found
    finally:
        lifecycle.down(LAB)


def test_it_imports_nothing_that_only_others_need(seen: dict[str, list[str]]) -> None:
    others = NOT_IMPORTED + (("labctl.kernel.rule_trace.nft_trace",) if backend.backend_of(LAB) == "legacy" else ())
    beside = [name for name in seen["modules"] for other in others if f"{name}.".startswith(f"{other}.")]
    assert beside == [], "import them in the function that needs them"


def test_it_imports_few_modules_and_dataclasses(seen: dict[str, list[str]]) -> None:
    ours = [name for name in seen["modules"] if name.split(".")[0] == "labctl"]
    assert len(ours) <= MAX_MODULES, "a trace got slower: import in the function that needs it, or raise the number"
    assert len(seen["dataclasses"]) <= MAX_DATACLASSES, "a trace got slower: keep the classes that it uses in a module"

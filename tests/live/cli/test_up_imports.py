"""What `labctl up` of the default kubenet imports. Imports are most of its time: what only other verbs, other scenarios
or errors need stays out. Modules and classes are counted here, not their time, which depends on the machine."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from labctl.kernel.firewall import backend
from labctl.lab import lifecycle
from tests.support.paths import ROOT

LAB = "upimports"
CODE = """
import json, sys
from labctl.cli import main
code = main(["up", "kubenet", "--name", sys.argv[1]])
modules = [module for name, module in sys.modules.items() if name.startswith("labctl")]
classes = {str(one) for module in modules for one in vars(module).values()
           if isinstance(one, type) and "__dataclass_fields__" in one.__dict__}
print(json.dumps({"code": code, "modules": sorted(sys.modules), "dataclasses": sorted(classes)}), file=sys.stderr)
"""
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
MAX_DATACLASSES = 115


@pytest.fixture(scope="module")
def seen() -> Iterator[dict[str, list[str]]]:
    """What a new process imports for it: its modules and its dataclasses."""
    if backend.choose(backend.requested_backend(None), lambda _: None) != "legacy":
        pytest.skip("the nft back end imports more")
    try:
        done = subprocess.run([sys.executable, "-c", CODE, LAB], cwd=ROOT, capture_output=True, text=True, timeout=60)
        found = json.loads(done.stderr.splitlines()[-1])
        assert (done.returncode, found["code"], "is up" in done.stdout) == (0, 0, True)
        yield found
    finally:
        lifecycle.down(LAB)


def test_it_imports_nothing_that_only_others_need(seen: dict[str, list[str]]) -> None:
    beside = [name for name in seen["modules"] for other in NOT_IMPORTED if f"{name}.".startswith(f"{other}.")]
    assert beside == [], "import them in the function that needs them"


def test_it_imports_few_modules_and_dataclasses(seen: dict[str, list[str]]) -> None:
    ours = [name for name in seen["modules"] if name.split(".")[0] == "labctl"]
    assert len(ours) <= MAX_MODULES, "`up` got slower: import in the function that needs it, or raise the number"
    assert len(seen["modules"]) <= MAX_ALL_MODULES, "`up` got slower: a library was imported"
    assert len(seen["dataclasses"]) <= MAX_DATACLASSES, "keep the classes that it uses in a module"

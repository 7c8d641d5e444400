"""What a virtual machine is to do: the labs and the tests that depend on the kernel they run on."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from machine import Step

LABS = ("docker-bridge", "kubenet", "azure-cni-transparent")  # on every kernel
MARK = re.compile(r"pytest\.mark\.kernel\b")
LAWS = "tests/test_laws.py"


def held_nowhere_here() -> list[str]:
    """The built-in scenarios that this machine's own kernel cannot hold, by labctl's own word."""
    from labctl import catalog, lab
    from labctl.features import needed
    from labctl.kernel import features

    wanted = {name: needed(lab.compiled(lab.define(name)).plan) for name in catalog.names()}
    every = {feature for some in wanted.values() for feature in some}
    lacking = features.lacking(sorted(every))
    return [name for name, some in wanted.items() if set(some) & set(lacking)]


def marked(root: Path) -> list[str]:
    """The test files that have tests marked `kernel`."""
    found = sorted(path for path in (root / "tests").glob("test_*.py") if MARK.search(path.read_text()))
    return [str(path.relative_to(root)) for path in found]


def lab_step(name: str) -> Step:
    """Build a lab, prove its claims, see that nothing differs, and remove it."""
    name = shlex.quote(name)
    return Step(f"up {name} --check", f"labctl up {name} --check && labctl status && labctl down {name}")


def test_step(words: Sequence[str]) -> Step:
    """Tests, in namespaces of their own, as scripts/test runs them anywhere."""
    return Step("tests", shlex.join(["./scripts/test", *words]))


def ordinary(root: Path, labs: Sequence[str]) -> list[Step]:
    """The labs, their laws, and the tests that depend on a kernel."""
    files = [name for name in marked(root) if name != LAWS]
    laws = [f"{LAWS}::test_the_three_laws[{name}]" for name in labs]
    return [*map(lab_step, labs), test_step(["-m", "kernel", "-q", "--tb=short", "--durations=12", *files, *laws])]


def everything(labs: Sequence[str]) -> list[Step]:
    """The labs, and all tests there are."""
    return [*map(lab_step, labs), test_step(["-q", "tests"])]


def no_legacy() -> list[Step]:
    """What labctl makes of a kernel that has no legacy iptables: it writes by iptables-nft, unasked."""
    proof = 'labctl up kubenet --check && labctl status && labctl list --json | grep \'"firewall": "nft"\''
    return [
        Step("doctor", "labctl doctor"),
        Step("up kubenet --check", f"{proof} && labctl trace a internet && labctl down kubenet"),
    ]

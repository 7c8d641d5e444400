"""The orders of a virtual machine: the labs, and the tests that depend on the kernel."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from machine import Step

LABS = ("docker-bridge", "kubenet", "azure-cni-transparent")  # on every kernel
MARK = re.compile(r"pytest\.mark\.kernel\b")
LAWS = "tests/live/lab/test_laws.py"
SHORT = ("-q", "--tb=short", "--durations=12")
NFT = (  # rules that iptables-nft wrote: read back, followed by a trace, and made by real plugins
    "tests/live/kernel/test_firewall_backend.py::test_a_rule_is_read_back_from_nft_as_it_is_planned",
    "tests/live/kernel/test_firewall_backend.py::test_a_refused_rule_is_named",
    "tests/live/kernel/test_firewall_backend.py::test_rules_of_sets_are_written_and_read",
    "tests/live/tracing/test_diagnosis.py",
    "tests/fidelity/test_cni.py::test_ports_of_the_node[nft]",
)


def unbuildable_here() -> list[str]:
    """The built-in scenarios that labctl cannot build on this machine's own kernel."""
    from labctl.core.features import required_features
    from labctl.kernel.apply import features
    from labctl.lab import lifecycle
    from labctl.scenario import catalog

    features_of = {
        name: required_features(lifecycle.compile_definition(lifecycle.define(name)).plan) for name in catalog.names()
    }
    all_features = {feature for needed in features_of.values() for feature in needed}
    missing = features.missing_features(sorted(all_features))
    return [name for name, needed in features_of.items() if set(needed) & set(missing)]


def marked(root: Path) -> list[str]:
    """The test files that have tests marked `kernel`."""
    found = sorted(path for path in (root / "tests").rglob("test_*.py") if MARK.search(path.read_text()))
    return [str(path.relative_to(root)) for path in found]


def lab_step(name: str, proof: str = "") -> Step:
    """Build a lab, run its checks, and remove it. That it has no drift meanwhile is one of the laws."""
    name = shlex.quote(name)
    return Step(f"up {name} --check", f"labctl up {name} --check && {proof}labctl down {name}")


def test_step(arguments: Sequence[str]) -> Step:
    """Tests in separate namespaces, run by scripts/test as everywhere."""
    return Step("tests", shlex.join(["./scripts/test", *arguments]))


def wheel_step() -> Step:
    """Build the source archive and the wheel from it, install the wheel without a network into a new environment, and
    use labctl from /."""
    return Step("the installed wheel", " && ".join(WHEEL))


WHEEL = (
    "mkdir /tmp/wheel && cp -r labctl scenarios docs pyproject.toml README.md LICENSE /tmp/wheel && cd /tmp/wheel",
    "python -c 'from setuptools.build_meta import build_sdist; build_sdist(\"dist\")' >/dev/null",
    "python -m pip wheel -q --no-index --no-build-isolation --no-deps -w dist dist/*.tar.gz",
    "python -m venv --without-pip env",
    "python -m pip --python env/bin/python install -q --no-index --no-deps dist/*.whl",
    "echo /opt/venv/lib/python3*/site-packages >$(echo env/lib/python3*/site-packages)/dependencies.pth && cd /",
    "/tmp/wheel/env/bin/python -c 'import labctl; assert labctl.__file__.startswith(\"/tmp/wheel/env/\"), labctl'",
    "export PYTHONWARNINGS=error::DeprecationWarning:labctl && cd / && PATH=/tmp/wheel/env/bin:$PATH",
    "labctl --version && labctl list --scenarios && labctl plan kubenet >/dev/null",
)


def ordinary(root: Path, labs: Sequence[str]) -> list[Step]:
    """The labs, their laws, the tests that depend on a kernel, and the package on the system's own Python."""
    files = [name for name in marked(root) if name != LAWS]
    tests = test_step(["-m", "kernel", *SHORT, *files, *laws(labs)])
    return [*map(lab_step, labs), tests, wheel_step()]


def every_lab() -> list[Step]:
    """All built-in scenarios, each with its checks and laws."""
    from labctl.scenario import catalog

    names = catalog.names()
    return [*map(lab_step, names), test_step([*SHORT, *laws(names)])]


def everything(labs: Sequence[str]) -> list[Step]:
    """The labs and all tests."""
    return [*map(lab_step, labs), test_step(["-q", "tests"])]


def no_legacy(labs: Sequence[str]) -> list[Step]:
    """A kernel without legacy iptables: labctl must use iptables-nft without an option."""
    proof = 'labctl list --json | grep \'"firewall": "nft"\' && '
    doctor = Step("doctor", "labctl doctor")
    return [doctor, *(lab_step(name, proof) for name in labs), test_step([*SHORT, *NFT, *laws(labs)])]


def laws(labs: Sequence[str]) -> list[str]:
    """The tests of the laws for these labs."""
    return [f"{LAWS}::test_the_three_laws[{name}]" for name in labs]

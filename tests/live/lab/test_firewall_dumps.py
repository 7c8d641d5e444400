"""Firewalls as people paste them: the text of iptables-save of each system is built, and the lab has no drift."""

from __future__ import annotations

import subprocess

import pytest

from labctl.core.features import required_features
from labctl.core.iptables import BACKENDS, Backend
from labctl.core.resources import Chain
from labctl.kernel.firewall import commands
from labctl.kernel.host import paths
from labctl.lab import lifecycle
from tests.support import kernels
from tests.support.drift import drift
from tests.support.firewall_dumps import DUMPS

pytestmark = pytest.mark.kernel
FAMILIES = {"ip": "iptables", "ip6": "ip6tables", "bridge": "ebtables"}


def saved_rules(namespace: str, family: str, backend: Backend) -> int:
    """How many rules a save program prints in a namespace."""
    program = commands.find(f"{FAMILIES[family]}-{'nft' if family == 'bridge' else backend}-save")
    done = subprocess.run(["ip", "netns", "exec", namespace, program], capture_output=True, text=True, check=True)
    return sum(line.startswith("-A ") for line in done.stdout.splitlines())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", DUMPS)
def test_a_pasted_firewall_is_built_and_has_no_drift(name: str, backend: Backend) -> None:
    if reason := kernels.backend_problem(backend):
        pytest.skip(reason)
    definition = lifecycle.define(str(DUMPS[name]), f"dump-{name}", firewall=backend)
    plan = lifecycle.compile_definition(definition).plan
    if reason := kernels.missing_text(tuple(required_features(plan))):
        pytest.skip(reason)
    lifecycle.up(definition)
    try:
        assert drift(definition.name) == []
        wanted: dict[tuple[str, str], int] = {}
        for item in plan:
            if isinstance(item, Chain):
                wanted[item.ns, item.family] = wanted.get((item.ns, item.family), 0) + len(item.rules)
        for (machine, family), count in wanted.items():
            assert saved_rules(paths.netns_name(definition.name, machine), family, backend) == count > 0
    finally:
        lifecycle.down(definition.name)

"""The commands that checks print ("run manually") run as they are printed, in every lab that this kernel can build."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from labctl.core.probe_kinds import equivalent_command, probe_kind
from labctl.core.scenario_types import Check, Lab
from labctl.core.topology import Topology
from labctl.errors import MissingError
from labctl.lab import lifecycle
from labctl.scenario import catalog
from tests.support.pasted import WRONG_COMMAND, paste, programs

pytestmark = pytest.mark.firewall

PARALLEL = 6  # commands at once
UNREACHABLE = "ping: connect: Network is unreachable"  # with exit code 2: the machine has no route, as its check says


def commands(lab: Lab) -> Iterator[tuple[Check, str]]:
    """Each check of a lab that has a command, with it; of a mesh one pair."""
    topology = Topology(lab)
    for check in lab.checks:
        if check.probe == "mesh":
            sources, targets = check.groups[0]
            source, target = next((one, other) for one in sources for other in targets if one != other)
            check = replace(check, source=source, target=target)
        addresses = topology.addresses(check.target)  # of pods that plugins attach, none is known before
        if check.probe != "cni" and addresses:
            yield check, equivalent_command("sudo labctl", check, addresses[0])


def is_answered(check: Check) -> bool:
    """Whether its command must exit with 0. Who answers for another machine's address is in the check alone."""
    return check.expect == "reply" and check.server is None


@pytest.mark.parametrize("scenario", catalog.names())
def test_every_command_of_a_check_runs_as_it_is_printed(scenario: str, tmp_path: Path) -> None:
    environment = programs(tmp_path)
    definition = lifecycle.define(scenario)
    try:
        lab = lifecycle.up(definition).lab
    except MissingError as error:
        pytest.skip(error.message)
    try:
        todo = dict.fromkeys((command, is_answered(check)) for check, command in commands(lab))
        with ThreadPoolExecutor(PARALLEL) as pool:
            for (command, answered), done in zip(
                todo, pool.map(lambda one: paste(one[0], environment), todo), strict=True
            ):
                assert done.returncode not in WRONG_COMMAND or UNREACHABLE in done.stderr, (command, done)
                assert done.returncode == 0 or not answered, (command, done)
                assert "usage" not in done.stderr.lower(), (command, done)
    finally:
        lifecycle.down(lab.name)


def test_every_kind_of_check_has_its_command() -> None:
    kinds = {
        check.probe
        for name in catalog.names()
        for check, _ in commands(lifecycle.define(name).compiled)
        if probe_kind(check).key
    }
    assert kinds == {"ping", "tcp", "udp", "balance", "http", "mesh", "taken"}

"""`plan --as shell` builds the same lab: run manually, without labctl, it leaves no difference to the plan."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from labctl.core.resources import Attachment, attachments_of
from labctl.kernel.host import paths
from labctl.lab import lifecycle
from labctl.render.resources import change_lines
from labctl.report.shell_script import plan_script
from tests.support import kernels, plugins
from tests.support.paths import ROOT


@pytest.fixture
def clean() -> Iterator[None]:
    yield
    for name in paths.labs():
        lifecycle.down(name)


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize(
    ("scenario", "approximate", "sets"),
    [
        *(pytest.param(*row.values, (), id=row.id, marks=row.marks) for row in kernels.built_in()),
        pytest.param("kubenet", (), ("routing=host",), id="kubenet-routing=host"),
    ],
)
def test_the_commands_typed_by_hand_build_the_lab(
    scenario: str, approximate: tuple[str, ...], sets: tuple[str, ...]
) -> None:
    plugins.skip_without(scenario)
    wanted = lifecycle.compile_definition(kernels.define(scenario, sets, approximate))
    typed = list(plan_script(wanted, lambda node: paths.netns_name(wanted.name, node), "/run/labctl"))
    root = ROOT
    done = subprocess.run(
        ["sh", "-s"], input="\n".join(typed), cwd=root, capture_output=True, text=True, check=False,
        env={**os.environ, "LABCTL_PYTHON": sys.executable},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    pods = attachments_of(wanted.plan)
    if pods:  # only the runtime has a record of the plugins' objects, and it was not labctl: the packets are the proof
        known = {item.key for item in wanted.plan if not isinstance(item, Attachment)}
        missing = [one for one in lifecycle.status(wanted.name, wanted) if one.want is not None and one.have is None]
        assert [one.want for one in missing if one.want is not None and one.want.key in known] == []
        for one in pods:
            words = ["ip", "-4", "-o", "addr", "show", "dev", one.ifname]
            address = subprocess.run(inside(wanted.name, one.pod, *words), capture_output=True, text=True, check=True)
            ip = address.stdout.split()[3].split("/")[0]
            subprocess.run(inside(wanted.name, pods[0].pod, "ping", "-c", "1", ip), capture_output=True, check=True)
        return
    assert [line for change in lifecycle.status(wanted.name, wanted) for line in change_lines(change)] == []


def inside(name: str, node: str, *words: str) -> list[str]:
    return ["ip", "netns", "exec", paths.netns_name(name, node), *words]

"""`plan --as shell` builds the same lab: run manually, without labctl, it leaves no difference to the plan.

To start `ip netns exec` for each of 15,000 commands takes more than what they do. So a few scenarios, which have all
kinds of commands together, are run as they are; of the others, what one machine runs in a row starts it once.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from itertools import groupby

import pytest

from labctl.core.resources import Attachment, attachments_of
from labctl.kernel.host import paths
from labctl.lab import lifecycle
from labctl.render.resources import change_lines
from labctl.report.shell_script import plan_script
from tests.support import forked, kernels, plugins
from tests.support.paths import ROOT


@pytest.fixture
def clean() -> Iterator[None]:
    yield
    for name in paths.labs():
        lifecycle.down(name)


AS_IT_IS = {"azure-cni-bridge", "cilium-native", "cni", "docker-nftables", "docker-two-tables", "two-firewalls"}
END = "END_OF_BATCH"


def program(line: str) -> tuple[str, str]:
    """The machine of a command, and the program that runs it with the next ones; ("", "") of any other line."""
    words = line.split(" ", 4)
    if words[0] != "in_node" or "\n" in line or (words[2] == "ip" and words[3].startswith("-")):
        return "", ""
    if words[2] == "sysctl":
        assert words[3] == "-qw"
    return words[1], words[2] if words[2] in ("ip", "sysctl") else "sh"


def batches(script: Iterable[str], name: str) -> Iterator[str]:
    """The script of a lab with the same commands in the same order. Those that follow each other in one machine are
    lines of one `ip -batch`, words of one `sysctl` or lines of one shell."""
    for (node, kind), group in groupby((line for line in script if not line.startswith("# ")), program):
        if not node:
            yield from group
            continue
        commands = [line.split(" ", 2)[2] for line in group]
        if kind == "sysctl":
            yield f"in_node {node} sysctl -qw " + " ".join(command.removeprefix("sysctl -qw ") for command in commands)
        elif kind == "ip":
            yield f"ip -n {paths.netns_name(name, node)} -batch - <<'{END}'"
            yield from (command.removeprefix("ip ") for command in commands)
            yield END
        elif len(commands) == 1:
            yield f"in_node {node} {commands[0]}"
        else:
            yield from (f"in_node {node} sh -e <<'{END}'", *commands, END)


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
    python = sys.executable
    if sets or scenario not in AS_IT_IS:
        typed, python = list(batches(typed, wanted.name)), forked.processes_program()
    done = subprocess.run(
        ["sh", "-s"], input="\n".join(typed), cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "LABCTL_PYTHON": python},
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

"""The commands that `-v` prints build the same lab: typed by hand, they leave no difference to the plan."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import kernels
import pytest

from labctl import lab
from labctl.commands import script
from labctl.kernel import places
from labctl.made import attached
from labctl.plan import Attachment
from labctl.words import change_lines
from tests import plugins

pytestmark = pytest.mark.root


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    yield
    for name in places.labs():
        lab.down(name)


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
    wanted = lab.compiled(kernels.define(scenario, sets, approximate))
    typed = [
        "set -e",
        *(shell_line(ns, command, wanted.name) for ns, command in script(wanted.plan, place(wanted.name))),
    ]
    root = Path(__file__).parent.parent
    done = subprocess.run(["sh", "-c", "\n".join(typed)], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pods = attached(wanted.plan)
    if pods:  # that what plugins made is wanted only their runtime knows, which was not labctl: the packets tell
        known = {item.key for item in wanted.plan if not isinstance(item, Attachment)}
        missing = [one for one in lab.status(wanted.name, wanted) if one.want is not None and one.have is None]
        assert [one.want for one in missing if one.want is not None and one.want.key in known] == []
        for one in pods:
            words = ["ip", "-4", "-o", "addr", "show", "dev", one.ifname]
            address = subprocess.run(inside(wanted.name, one.pod, *words), capture_output=True, text=True, check=True)
            ip = address.stdout.split()[3].split("/")[0]
            subprocess.run(inside(wanted.name, pods[0].pod, "ping", "-c", "1", ip), capture_output=True, check=True)
        return
    assert [line for change in lab.status(wanted.name, wanted) for line in change_lines(change)] == []


def inside(name: str, node: str, *words: str) -> list[str]:
    return ["ip", "netns", "exec", places.netns_name(name, node), *words]


def place(name: str) -> Callable[[str], str]:
    return lambda ns: places.netns_name(name, ns)


def shell_line(ns: str | None, command: str, name: str) -> str:
    for tool in ("iptables", "ip6tables"):  # as in a lab's shell, where these are the legacy ones
        if command.startswith(tool + " "):
            command = command.replace(tool, f"{tool}-legacy", 1)
    if command.startswith("python3 "):
        command = command.replace("python3", sys.executable, 1)
    return command if ns is None else f"ip netns exec {places.netns_name(name, ns)} {command}"

"""`plan --as shell`: the script and its headings."""

from __future__ import annotations

from labctl.kernel.host import paths
from labctl.lab import lifecycle
from labctl.report.shell_script import plan_script
from labctl.scenario import catalog
from tests.support.golden import Golden


def test_the_script_is_as_written(golden: Golden) -> None:
    """Golden: docker-bridge as a script."""
    wanted = lifecycle.compile_definition(lifecycle.define("docker-bridge"))
    told = "\n".join(plan_script(wanted, lambda node: paths.netns_name(wanted.name, node), "/run/labctl")) + "\n"
    golden("plans/docker-bridge.sh").check(told)


def test_each_kind_of_command_has_its_heading() -> None:
    for name in catalog.names():
        wanted = lifecycle.compile_definition(lifecycle.define(name))
        told = list(plan_script(wanted, lambda node: f"x.{node}", "/run/labctl"))
        assert "# ---- the rest" not in told, name


def test_what_plugins_leave_behind_lies_where_the_state_does() -> None:
    wanted = lifecycle.compile_definition(lifecycle.define("cni"))
    told = "\n".join(plan_script(wanted, lambda node: f"labctl.x.{node}", "/elsewhere"))

    assert "/elsewhere/x/cni/data/node1" in told
    assert "/run/labctl" not in told

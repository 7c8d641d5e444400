"""The page of a model begins with its drawing and the commands that build one node, which are those of the script."""

from __future__ import annotations

import re

import pytest

from labctl import models
from labctl.kernel.host import paths
from labctl.lab import lifecycle
from labctl.report.shell_script import plan_script
from labctl.scenario import catalog
from tests.support.paths import ROOT

MOST = 20  # commands on one page


def page(name: str) -> str:
    return (ROOT / f"docs/models/{name}.md").read_text()


def commands(text: str) -> list[str]:
    found = re.search(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1].splitlines()


@pytest.mark.parametrize("name", models.model_names())
def test_a_page_begins_with_the_drawing_and_then_the_commands(name: str) -> None:
    head, _, rest = page(name).partition("```text\n")
    drawing, _, rest = rest.partition("\n```\n\n")

    assert head.count("\n\n") <= 3, "the drawing comes after the title and one sentence"
    assert len(drawing.splitlines()) >= 5
    assert rest.startswith("These are the main commands that build ")
    assert re.search(
        r"^\d+ more commands for .* are not shown: `labctl plan \S+ --as shell` prints", rest, re.MULTILINE
    )


@pytest.mark.parametrize("name", models.model_names())
def test_the_commands_are_those_of_the_script_in_its_order(name: str) -> None:
    scenario = re.search(r"^These are the main commands that build .* of the lab `(\S+)`", page(name), re.MULTILINE)
    assert scenario is not None
    assert scenario[1] in catalog.names()
    lab = lifecycle.compile_definition(lifecycle.define(scenario[1]))
    script = list(plan_script(lab, lambda node: paths.netns_name(lab.name, node), "/run/labctl"))
    shown = commands(page(name))

    assert shown == [line for line in script if line in shown]
    assert 5 <= len(shown) <= MOST
    assert any("ip link add" in line for line in shown)
    assert any(" ip addr add " in line for line in shown)
    assert any(" ip route add " in line for line in shown)


def test_only_one_node_and_one_pod_are_shown() -> None:
    for name in ("kubenet", "calico", "docker-bridge"):
        first = re.search(r"^These are the main commands that build `(\w+)` and `(\w+)`", page(name), re.MULTILINE)
        assert first is not None
        built = {line.rpartition(".")[2] for line in commands(page(name)) if line.startswith("ip netns add")}
        assert built == {first[1], first[2]}

"""Models of other packages: `labctl.modeling` is enough to write one, and any pair of words names its machines."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from labctl import modeling, models
from labctl.compare.roles import find_roles
from labctl.core.resources import Chain, Netns
from labctl.core.scenario_types import Lab, Machine, Scenario
from labctl.errors import ScenarioError, UsageError
from labctl.render.resources import plan_text
from labctl.scenario.check_language import check_section
from labctl.scenario.definition import parse_and_compile
from labctl.scenario.json_schema import reference, schema
from labctl.scenario.nodes_field import singular
from tests.support.paths import ROOT

MODEL = '''"""Computes on one Ethernet, each with its instances on a bridge."""

from dataclasses import dataclass
from ipaddress import IPv4Network

from labctl.modeling import (
    Check, Interface, Link, Machine, address_at, addresses, bridge, chain, cidr, container_netns, ethernet_segment,
    faithful, forwarding_sysctls, mac, netns, option, with_prefix_length,
)

FOLLOWS = "a test"
MACHINES = ("computes", "instances")
PARTS = (faithful("everything"),)
RESERVED_NAMES = ("router",)


@dataclass(frozen=True, slots=True)
class Options:
    """Its options."""

    subnet: IPv4Network = option(cidr("10.9.0.0/24"), "a subnet")


@dataclass(frozen=True, slots=True)
class Container:
    """The settings of an instance."""

    share: int = option(1, "its share", minimum=1)


def compile(scenario):
    """Everything."""
    yield Machine("router", "fabric")
    yield from ethernet_segment("router", [node.name for node in scenario.nodes], mtu=1500)
    for number, node in enumerate(scenario.nodes):
        yield Machine(node.name, "node", (address_at(scenario.options.subnet, 100 + number),))
        yield from netns(node.name)
        yield from addresses(Interface(node.name, "eth0"), with_prefix_length(address_at(scenario.options.subnet,
            100 + number), 24))
        yield from bridge(Interface(node.name, "br"), mtu=1500)
        yield from forwarding_sysctls(node.name, True, rp_filter=0)
        yield chain(node.name, "filter", "FORWARD", "-i br -j ACCEPT", policy="DROP")
        for at, name in enumerate(node.pods):
            own = address_at(scenario.options.subnet, 1 + 10 * number + at)
            yield Machine(name, "pod", (own,), node.name)
            yield from container_netns(name)
            inner, outer = Interface(name, "eth0"), Interface(node.name, "v" + name[-10:])
            yield Link(outer, "veth", inner, "br", 1500)
            yield Link(inner, "veth", outer, None, 1500, mac(name))
            yield from addresses(inner, with_prefix_length(own, 24))
            yield chain(node.name, "filter", "FORWARD", f"-s {own}/32 -j ACCEPT")


def checks(scenario):
    """None."""
    return iter(())


def refuse(scenario):
    """No instance is called `bad`."""
    for node, pod in scenario.pods:
        if pod == "bad":
            yield f"computes/{node.name}/instances/bad", "bad is refused", ""
'''
ENTRY_POINTS = "[labctl.models]\nopen-net = open_net\n"
FILE = """
model: open-net
computes:
  compute1: {instances: [a, b]}
  compute2: {instances: {c: {share: 3}}}
checks:
  - mesh: instances
  - ping: a -> compute1
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installed package with a model, found by its entry point."""
    (tmp_path / "open_net.py").write_text(MODEL)
    info = tmp_path / "open_net-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: open-net\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("open_net", None)


def compiled(text: str) -> tuple[Scenario, Lab]:
    return parse_and_compile(text, "lab.yaml")


def problems(text: str) -> list[str]:
    with pytest.raises(ScenarioError) as caught:
        compiled(text)
    return [str(problem) for problem in caught.value.problems]


# ---- labctl.modeling -----------------------------------------------------------------------------------


def test_every_name_is_there_and_sorted_and_explained() -> None:
    page = (ROOT / "docs/extending.md").read_text().split("## 4. The names")[1].split("## 5.")[0]
    explained = {name for code in re.findall(r"`([^`]+)`", page) for name in re.findall(r"^\w+", code)}

    assert [name for name in modeling.__all__ if not hasattr(modeling, name)] == []
    assert len(set(modeling.__all__)) == len(modeling.__all__)
    assert [name for name in modeling.__all__ if name not in explained] == []


def test_the_docstring_says_what_is_stable_and_since_when() -> None:
    assert "`__all__`" in str(modeling.__doc__)
    assert "From version 0.2.0 on, CHANGELOG.md announces" in str(modeling.__doc__)


def test_every_kernel_object_and_every_role_can_be_written_with_it() -> None:
    from labctl.core.resources import RESOURCE_TYPES

    assert {kind.__name__ for kind in RESOURCE_TYPES} <= set(modeling.__all__)
    page = (ROOT / "docs/extending.md").read_text()
    assert [role for role in models.ROLES if f"`{role}`" not in page] == []


@pytest.mark.usefixtures("package")
def test_a_model_written_only_against_it_gives_a_plan() -> None:
    scenario, lab = compiled(FILE)
    text = plan_text(lab)

    assert re.findall(r"^(?:from|import) (labctl\S*)", MODEL, re.MULTILINE) == ["labctl.modeling"]
    assert "open-net" in models.model_names()
    assert [node.name for node in scenario.nodes] == ["compute1", "compute2"]
    assert scenario.nodes[1].settings[0][1].share == 3
    assert "vc type veth peer c/eth0 mtu 1500 master br up" in text
    assert {machine.name: machine.role for machine in lab.machines} == {
        "router": "fabric", "compute1": "node", "a": "pod", "b": "pod", "compute2": "node", "c": "pod",
    }  # fmt: skip
    (forward,) = (item for item in lab.plan if isinstance(item, Chain) and item.ns == "compute1")
    assert (len(forward.rules), forward.policy) == (3, "DROP"), "chains of one name are one chain"


# ---- words for machines --------------------------------------------------------------------------------


@pytest.mark.usefixtures("package")
def test_checks_and_comparisons_work_by_the_roles() -> None:
    _, lab = compiled(FILE)
    roles = find_roles(lab)

    assert lab.checks[0].groups == ((("a", "b", "c"), ("a", "b", "c")),)
    assert roles is not None
    assert (roles.pod, roles.node, roles.same_node_pod, roles.other_node_pod) == ("a", "compute1", "b", "c")


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("computes: {count: 2, instances: 2}", ["compute1", "compute2"]),
        ("nodes: {count: 2, pods: 2}", ["compute1", "compute2"]),
        ("computes: {x: {containers: 2}, y: {pods: 2}}", ["x", "y"]),
    ],
)
def test_names_are_made_of_the_words_and_the_old_words_are_accepted(text: str, names: list[str]) -> None:
    scenario, _ = compiled(f"model: open-net\n{text}\n")

    assert [node.name for node in scenario.nodes] == names
    assert [pod for _, pod in scenario.pods] == ["instance1-1", "instance1-2", "instance2-1", "instance2-2"]


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize("word", ["instances", "pods", "containers"])
def test_a_mesh_takes_the_words_of_the_model(word: str) -> None:
    assert compiled(FILE.replace("mesh: instances", f"mesh: {word}"))[1].checks[0].probe == "mesh"


def test_a_mesh_of_another_model_does_not() -> None:
    told = problems("model: kubenet\nnodes: {count: 2, pods: 2}\nchecks: [{mesh: instances}]\n")

    assert told == ["lab.yaml:3:17: mesh: 'instances' is not one of pods, containers"]


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("compute: {x: {}}", "unknown key 'compute'\n    hint: did you mean 'computes'?"),
        ("", "'computes' is missing\n    hint: such as computes: {compute1: {instances: [a, b]}}"),
        ("computes: 3", "expected a mapping of computes, such as {compute1: {instances: [a, b]}}"),
        ("computes: {x: {instance: [a]}}", "compute: unknown key 'instance'\n    hint: did you mean 'instances'?"),
        ("computes: {x: {instances: [a], pods: [b]}}", "'instances' and 'pods' are the same key"),
        ("computes: {count: 2, x: {}}", "'count' cannot be mixed with names such as 'x'"),
        ("computes: {count: 2, instances: [a]}", "names of instances cannot be used for each of 2 computes"),
        ("computes: {x: {instances: {a: {shares: 1}}}}", "instance: unknown key 'shares'"),
        ("computes: {x: {instances: [router]}}", "the name 'router' is reserved"),
        ("computes: {x: {}}\nnodes: {y: {}}", "'computes' and 'nodes' are the same key"),
        ("computes: {x: {instances: [a]}}\nchecks: [{mesh: nodes}]", "mesh: 'nodes' is not one of instances, pods"),
    ],
)
def test_mistakes_are_told_in_the_models_words(text: str, problem: str) -> None:
    assert problem in "\n".join(problems(f"model: open-net\n{text}\n"))


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(("outer", "inner"), [("computes", "instances"), ("nodes", "pods")])
def test_what_a_model_refuses_is_reported_at_its_key_whatever_the_file_calls_it(outer: str, inner: str) -> None:
    text = f"model: open-net\n{outer}:\n  x:\n    {inner}:\n      bad: {{}}\n"

    assert problems(text) == ["lab.yaml:5:7: bad is refused"]


@pytest.mark.usefixtures("package")
def test_the_schema_and_the_reference_have_the_words() -> None:
    validator = jsonschema.Draft202012Validator(schema())
    page = reference().split("## Model `open-net`")[1]

    assert list(validator.iter_errors(yaml.safe_load(FILE))) == []
    for wrong in ("mesh: nodes", "mesh: 1"):
        assert not validator.is_valid(yaml.safe_load(FILE.replace("mesh: instances", wrong)))
    assert not validator.is_valid(yaml.safe_load("{model: open-net, computes: {instances: {}}}"))
    assert validator.is_valid(yaml.safe_load("{model: open-net, computes: {count: 2, instances: 3}}"))
    assert "| `computes` | a mapping of computes" in page
    assert "## An instance of `open-net`" in page


@pytest.mark.parametrize(
    ("word", "one"),
    [
        ("nodes", "node"), ("pods", "pod"), ("instances", "instance"), ("proxies", "proxy"), ("boxes", "box"),
        ("switches", "switch"), ("processes", "process"), ("chassis", "chassis"), ("", ""),
    ],
)  # fmt: skip
def test_singular(word: str, one: str) -> None:
    assert singular(word) == one


def test_the_built_in_models_share_one_table_of_checks() -> None:
    assert check_section(models.find_model("kubenet")) is check_section(models.find_model("docker-bridge"))
    assert check_section(models.find_model("raw")) is check_section(models.find_model("kubenet"))


# ---- what is not a model, and a model that makes a mistake ---------------------------------------------


def fake(**more: Any) -> Any:
    from types import SimpleNamespace

    base = {"FOLLOWS": "x", "MACHINES": ("nodes", "pods"), "PARTS": (), "Options": object, "compile": print}
    return SimpleNamespace(**{name: value for name, value in {**base, **more}.items() if value is not None})


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({}, ""),
        ({"MACHINES": None, "compile": None}, "it has no MACHINES, compile"),
        ({"MACHINES": "nodes"}, 'MACHINES is not a pair of words such as ("nodes", "pods")'),
        ({"MACHINES": ("nodes", "checks")}, "'checks' in MACHINES cannot be a key"),
        ({"MACHINES": ("Nodes", "pods")}, "'Nodes' in MACHINES cannot be a key"),
        ({"MACHINES": ("pods", "pods")}, "the two words of MACHINES are the same"),
    ],
)
def test_what_is_missing_is_named(changes: dict[str, Any], problem: str) -> None:
    assert models.contract_problem(fake(**changes)).startswith(problem)
    assert bool(models.contract_problem(fake(**changes))) == bool(problem)


def test_a_module_that_is_not_a_model_is_reported(package: Path) -> None:
    (package / "open_net-1.0.dist-info/entry_points.txt").write_text(ENTRY_POINTS + "broken-net = json\n")
    with pytest.raises(UsageError, match="the model 'broken-net' of json is not a model: it has no FOLLOWS, MACHINES"):
        models.find_model("broken-net")


def test_every_built_in_model_keeps_the_contract() -> None:
    told = {name: models.contract_problem(models.find_model(name)) for name in models.model_names()}

    assert {name: problem for name, problem in told.items() if problem and name != "raw"} == {}


@pytest.mark.parametrize(
    ("machines", "problem"),
    [
        ((Machine("a", "pod"), Machine("a", "vm")), "the model odd makes two machines with the name 'a'"),
        ((Machine("a", "instance"),), "the model odd gives 'a' the role 'instance', which labctl does not have"),  # type: ignore[arg-type]
    ],
)
def test_machines_have_one_name_and_a_role(
    machines: tuple[Machine, ...], problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = fake(compile=lambda scenario: iter((Netns("a"), *machines)))
    monkeypatch.setattr(models, "find_model", lambda name: made)
    with pytest.raises(UsageError, match=problem):
        models.compile_lab(Scenario("odd", "odd"))

"""Keys that have a better name now: the older one still works, in files, in --set, in the JSON Schema."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jsonschema
import pytest

from labctl import models
from labctl.checks.runner import select
from labctl.core.scenario_types import Check
from labctl.errors import ScenarioError, UsageError
from labctl.render.checks import check_lines
from labctl.render.plan_json import plan_json
from labctl.scenario import catalog
from labctl.scenario.check_language import CHECK, SEE
from labctl.scenario.definition import parse_and_compile
from labctl.scenario.document import Map, Position, Reader, Seq, Text, TreeNode
from labctl.scenario.field_types import Key, Section, object_schema, read_keys
from labctl.scenario.json_schema import reference, schema
from labctl.scenario.language import model_keys, older_names, setting_keys
from labctl.scenario.raw_language import CHAIN, LINK, NAMESPACE
from labctl.scenario.values import BOOLEAN
from labctl.scenario.yaml_reader import parse_yaml

CONFLIST = "{cniVersion: 1.0.0, name: n, plugins: [{type: bridge, capabilities: {portMappings: true}}]}"
CNI = f"model: cni\nconflist: {CONFLIST}\nnodes: {{node1: {{pods: {{a: {{KEY: ['8080:80']}}}}}}}}\n"
RAW = "model: raw\nnamespaces: [a, b]\nlinks:\n  - {dummy: a/eth0}\n  - {dummy: b/eth0}\n"
RAW += "  - {macvlan: b/m0, dev: eth0, KEY: a, mode: bridge}\n"
CHECKS = "model: kubenet\nnodes: {node1: {pods: [a, b]}}\nchecks: [{KEY: 'a:53/udp'}]\n"
PAIRS = [(CHECKS, "taken", "port_in_use"), (RAW, "born", "link_netns"), (CNI, "ports", "host_ports")]


def refused(text: str, **more: Any) -> list[str]:
    with pytest.raises(ScenarioError) as caught:
        parse_and_compile(text, "t.yaml", **more)
    return [str(problem) for problem in caught.value.problems]


def compiled(text: str, *overrides: str) -> dict[str, Any]:
    return plan_json(parse_and_compile(text, "t.yaml", overrides=overrides)[1])


@pytest.mark.parametrize(("text", "old", "new"), PAIRS)
def test_a_file_may_use_the_older_name(text: str, old: str, new: str) -> None:
    assert compiled(text.replace("KEY", old)) == compiled(text.replace("KEY", new))


@pytest.mark.parametrize(("text", "old", "new"), PAIRS)
@pytest.mark.parametrize("swapped", [False, True])
def test_both_names_together_are_an_error_with_both_positions(text: str, old: str, new: str, swapped: bool) -> None:
    first, second = (new, old) if swapped else (old, new)
    before, value = text[: text.index("KEY")], text[text.index("KEY: ") + 5 :].split("}")[0].split(", mode")[0]
    number, column = before.count("\n") + 1, len(before.rpartition("\n")[2]) + 1
    at = column + len(f"{first}: {value}, ")
    assert refused(text.replace("KEY", f"{first}: {value}, {second}")) == [
        f"t.yaml:{number}:{at}: {second!r} and {first!r} are the same key (first in line {number}, column {column})\n"
        f"    hint: keep {new!r}: {old!r} is an older name of it"
    ]


@pytest.mark.parametrize(
    ("text", "old", "new", "path", "value"),
    [
        (CHECKS, "taken", "port_in_use", "checks.0.{}", "a:54"),
        (RAW, "born", "link_netns", "links.2.{}", "b"),
        (CNI, "ports", "host_ports", "nodes.node1.pods.a.{}", "['81:80']"),
        (CNI, "ports", "host_ports", "nodes.node1.pods.a.{}.0", "81:80"),
    ],
)
def test_set_takes_either_name_for_either_name_in_the_file(
    text: str, old: str, new: str, path: str, value: str
) -> None:
    texts = [text.replace("KEY", name) for name in (old, new)]
    results = [compiled(one, f"{path.format(name)}={value}") for one in texts for name in (old, new)]
    assert results[0] != compiled(texts[0])
    assert all(result == results[0] for result in results)


def test_set_can_create_a_key_by_its_older_name() -> None:
    text = "model: kubenet\nnodes: {node1: {pods: [a, b]}}\nchecks: [{expect: reply}]\n"
    made = compiled(text, "checks.0.taken=a:53/udp")
    assert made["checks"][0]["say"] == "port 53/udp of a is in use"
    hidden = refused(CHECKS.replace("KEY", "port_in_use"), overrides=("checks.0.taken=nosuch:1",))
    assert hidden[0].startswith("--set checks.0.taken=nosuch:1:1:16: port_in_use: there is no machine 'nosuch'")


def test_set_does_not_mix_up_keys_of_another_model() -> None:
    text = "model: kubenet\nnodes: {node1: {pods: {a: {host_ports: ['8080:80']}}}}\n"
    assert any("unknown key 'ports'" in one for one in refused(text, overrides=("nodes.node1.pods.a.ports=['81:80']",)))


def test_messages_name_the_key_as_the_file_does() -> None:
    for name in ("taken", "port_in_use"):
        text = CHECKS.replace("KEY", name)
        assert refused(text.replace("a:53/udp", "z:80"))[0].split(": ", 1)[1].startswith(f"{name}: there is no machine")
        assert f"{name}: 'a' does not name a port" in refused(text.replace("a:53/udp", "a"))[0]
        assert f"is not possible for {name}" in refused(text.replace("}]", ", expect: refused}]"))[0]
    for name in ("born", "link_netns"):
        text = RAW.replace("KEY: a", f"{name}: z")
        assert any(f"{name}: there is no namespace 'z'" in one for one in refused(text))


def test_a_hint_for_a_wrong_key_has_the_present_name() -> None:
    assert "did you mean 'host_ports'?" in refused(CNI.replace("KEY", "port"))[0]
    assert "did you mean 'port_in_use'?" in refused(CHECKS.replace("KEY", "takken"))[1]


def test_json_documents_keep_the_published_name_and_texts_have_the_key() -> None:
    check = parse_and_compile(CHECKS.replace("KEY", "port_in_use"), "t.yaml")[0].checks[0]
    assert check.probe == "taken"
    assert compiled(CHECKS.replace("KEY", "port_in_use"))["checks"][0]["probe"] == "taken"
    assert list(check_lines(check))[1] == "    port_in_use a:53/udp"
    assert select([check], "taken") == select([check], "port_in_use a:53") == (check,)
    with pytest.raises(UsageError):
        select([Check("x", "ping", "a", "b")], "taken")


# -- the schema and the reference -----------------------------------------------------------------------------


def data(node: TreeNode | None) -> Any:
    if isinstance(node, Map):
        return {key.value: data(value) for key, value in node.items}
    if isinstance(node, Seq):
        return [data(item) for item in node.items]
    return None if node is None or node.is_null else node.value


def valid(text: str) -> bool:
    return bool(jsonschema.Draft202012Validator(schema()).is_valid(data(parse_yaml(text, "t.yaml", Reader()))))


@pytest.mark.parametrize(("text", "old", "new"), PAIRS)
def test_the_schema_accepts_one_of_the_names_and_marks_the_older_as_deprecated(text: str, old: str, new: str) -> None:
    assert valid(text.replace("KEY", old))
    assert valid(text.replace("KEY", new))
    value = text[text.index("KEY: ") + 5 :].split("}")[0].split(", mode")[0]
    assert not valid(text.replace("KEY", f"{old}: {value}, {new}"))
    found = [part for part in _parts(schema()) if isinstance(part.get(old), dict) and isinstance(part.get(new), dict)]
    assert found
    assert all(part[old]["deprecated"] is True and new in part[old]["description"] for part in found)
    assert all("deprecated" not in part[new] for part in found)


def _parts(part: Any) -> Iterable[dict[str, Any]]:
    if isinstance(part, dict):
        yield part
    for value in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from _parts(value)


def test_the_reference_shows_the_present_name_with_the_older_one() -> None:
    page = reference()
    for old, new in (("taken", "port_in_use"), ("born", "link_netns"), ("ports", "host_ports")):
        (line, *_) = [line for line in page.split("\n") if f"(older name: `{old}`)" in line]
        assert line.startswith(f"| `{new}` |")
        assert f"| `{old}` |" not in page


# -- the language ---------------------------------------------------------------------------------------------


def test_no_section_uses_an_older_name_for_another_key() -> None:
    sections: list[tuple[Key, ...]] = [CHECK.keys, SEE.keys, LINK.keys, NAMESPACE.keys, CHAIN.keys]
    for name in models.model_names():
        model = models.find_model(name)
        sections.append(model_keys(model, ()))
        for title in ("Container", "Network"):
            settings = setting_keys(model, title)
            sections.append(() if settings is None else settings.keys)
    for keys in sections:
        names = [name for key in keys for name in (key.name, *key.old)]
        assert len(names) == len(set(names))


def test_each_model_has_its_older_names() -> None:
    assert older_names(None) == {"taken": "port_in_use"}
    assert older_names(models.find_model("kubenet")) == {"taken": "port_in_use"}
    assert older_names(models.find_model("raw")) == {"taken": "port_in_use", "born": "link_netns"}
    assert older_names(models.find_model("cni")) == {"taken": "port_in_use", "ports": "host_ports"}


@pytest.mark.parametrize("name", catalog.names())
def test_built_in_scenarios_use_present_names(name: str) -> None:
    _, text = catalog.find(name)
    root = parse_yaml(text, name, Reader())
    assert isinstance(root, Map)
    model = next(value.value for key, value in root.items if key.value == "model" and isinstance(value, Text))
    assert not _keys(root) & older_names(models.find_model(model)).keys()


def _keys(node: TreeNode) -> set[str]:
    if isinstance(node, Map):
        return {key.value for key, _ in node.items}.union(*(_keys(value) for _, value in node.items))
    return set().union(*map(_keys, node.items)) if isinstance(node, Seq) else set()


def test_a_required_key_may_have_its_older_name() -> None:
    section = Section("thing", (Key("new_name", BOOLEAN, "x", required=True, old=("former",), allow_dashes=True),))
    for written in ("new_name", "new-name", "former"):
        reader = Reader()
        pair = (Text(Position("t"), written), Text(Position("t"), "on"))
        found = section.read(Map(Position("t"), (pair,)), "", reader)
        assert found["new_name"].label == written.replace("-", "_")
        assert reader.problems == []
    validator = jsonschema.Draft202012Validator(object_schema(section.keys))
    assert [validator.is_valid(one) for one in ({"new_name": True}, {"former": True}, {})] == [True, True, False]


def test_a_key_from_the_command_line_and_its_older_name_in_the_file_have_both_positions() -> None:
    keys = (Key("new", BOOLEAN, "x", old=("former",)),)
    reader = Reader()
    texts = [Text(Position("a.yaml", 3, 5), "former"), Text(Position("--set new=on"), "new")]
    read_keys(Map(Position("a.yaml"), tuple((text, Text(text.position, "on")) for text in texts)), keys, "x", reader)
    (problem,) = reader.problems
    assert (problem.file, problem.what) == (
        "--set new=on",
        "'new' and 'former' are the same key (first in a.yaml:3:5)",
    )

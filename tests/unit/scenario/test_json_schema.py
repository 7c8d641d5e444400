"""The JSON Schema, held against the parser: the same keys, the same verdict on scenarios and on mistakes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from labctl import models
from labctl.errors import ScenarioError
from labctl.scenario import catalog
from labctl.scenario.definition import parse_and_compile
from labctl.scenario.document import Map, Reader, Seq, Text, TreeNode
from labctl.scenario.json_schema import reference, schema
from labctl.scenario.language import model_keys
from labctl.scenario.yaml_reader import decode_utf8, parse_yaml
from tests.support.paths import GOLDEN

ERRORS = GOLDEN / "errors"
SCHEMA = schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

# mistakes of keys and types: what a schema can see; the others need names, sums or the file's own text
SEEN_BY_BOTH = (
    *("unknown-keys", "no-model", "unknown-model", "no-nodes", "types", "names", "lab-name", "counts", "no-count"),
    *("checks", "same-words", "raw-no-namespaces", "a-list", "empty", "nul-escape"),
)
BASE = {
    "raw": "model: raw\nnamespaces: [a, b]\n",
    "docker-bridge": "model: docker-bridge\nhosts: [host1]\n",
}


def data(node: TreeNode | None) -> Any:
    """A tree as an editor's YAML 1.2 reader would hand it to the schema."""
    if node is None:
        return None
    if isinstance(node, Map):
        return {key.value: data(value) for key, value in node.items}
    if isinstance(node, Seq):
        return [data(item) for item in node.items]
    return scalar(node)


def scalar(node: Text) -> Any:
    if node.is_null:
        return None
    if not node.plain:
        return node.value
    if re.fullmatch("[-+]?[0-9]+", node.value):
        return int(node.value)
    if re.fullmatch(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", node.value):
        return float(node.value)
    return {"true": True, "false": False}.get(node.value.lower(), node.value)


def valid(text: str) -> bool:
    return VALIDATOR.is_valid(data(parse_yaml(text, "t.yaml", Reader())))


def parses(text: str) -> bool:
    try:
        parse_and_compile(text, "t.yaml")
    except ScenarioError:
        return False
    return True


def schema_problems(schema: Any) -> list[str]:
    """What is wrong in a schema by the schema of schemas. Many parts of ours are the same: each is read once."""
    known: set[tuple[str, str]] = set()

    def once(keyword: str) -> Any:
        follow: Any = jsonschema.Draft202012Validator.VALIDATORS[keyword]

        def follow_once(validator: Any, reference: str, part: Any, within: Any) -> Iterator[Any]:
            place = (reference, json.dumps(part))
            if place not in known:
                known.add(place)
                yield from follow(validator, reference, part, within) or ()

        return follow_once

    reader = jsonschema.Draft202012Validator
    with pytest.MonkeyPatch.context() as patch:
        for keyword in ("$ref", "$dynamicRef"):
            patch.setitem(reader.VALIDATORS, keyword, once(keyword))
        found = reader(reader.META_SCHEMA).iter_errors(schema)
        return [f"{one.json_path}: {one.message}" for one in found]


def test_the_schema_is_one() -> None:
    assert schema_problems(SCHEMA) == []


def test_a_schema_that_is_none_is_found() -> None:
    """Also far inside of it, and when a part like it is valid at another place."""
    part = {"properties": {"size": {"type": "integer"}}}
    wrong = {"properties": {"size": {"type": "integral"}}}

    assert schema_problems({"$defs": {"one": part, "other": part}}) == []
    assert schema_problems({"$defs": {"one": part}, "allOf": [part, {"not": wrong}]}) == [
        "$.allOf[1].not.properties.size.type: 'integral' is not valid under any of the given schemas"
    ]


@pytest.mark.parametrize("file", catalog.exercise_files().values())
def test_every_exercise_is_valid(file: str) -> None:
    root = parse_yaml(Path(file).read_text(), file, Reader())
    assert list(VALIDATOR.iter_errors(data(root))) == []


@pytest.mark.parametrize(
    ("part", "mistake"),
    [
        ("title: t", "titel: t"),
        ("level: 1", "level: 9"),
        ("build: a", "build: []"),
        ("say: s, ", ""),
        ("build: a", "build: a, fix: lab"),
        ("[{a: ip a}]", "[[a]]"),
        ("text: t", "text: [t]"),
    ],
)
def test_both_refuse_mistakes_in_an_exercise(part: str, mistake: str) -> None:
    good = "exercise: {title: t, text: t, level: 1, tasks: [{say: s, build: a, solve: [{a: ip a}]}]}"

    assert valid(BASE["raw"] + good)
    assert parses(BASE["raw"] + good)
    assert part in good
    assert not valid(BASE["raw"] + good.replace(part, mistake, 1))
    assert not parses(BASE["raw"] + good.replace(part, mistake, 1))


@pytest.mark.parametrize("name", catalog.names())
def test_every_built_in_scenario_is_valid(name: str) -> None:
    _, text = catalog.find(name)
    problems = [error.message for error in VALIDATOR.iter_errors(data(parse_yaml(text, name, Reader())))]
    assert problems == []


@pytest.mark.parametrize("name", SEEN_BY_BOTH)
def test_both_refuse_mistakes_of_keys_and_types(name: str) -> None:
    text = decode_utf8(next(ERRORS.rglob(f"{name}.yaml")).read_bytes(), name)
    assert not parses(text)
    assert not valid(text)


def objects(part: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object with declared keys in the schema, with its path."""
    if isinstance(part, dict):
        if "properties" in part and part.get("additionalProperties") is False:
            yield path, part
        for key, value in part.items():
            yield from objects(value, f"{path}/{key}")
    elif isinstance(part, list):
        for number, value in enumerate(part):
            yield from objects(value, f"{path}/{number}")


def test_every_key_says_what_it_is() -> None:
    found = dict(objects(SCHEMA["$defs"]))
    silent = [
        f"{path}: {key}"
        for path, part in found.items()
        for key, value in part["properties"].items()
        if len(value.get("description", "")) < 5
    ]
    assert len(found) > 20
    assert silent == []


def unknown(text: str, key: str) -> bool:
    """Whether the parser calls a key unknown."""
    try:
        parse_and_compile(text, "t.yaml")
    except ScenarioError as error:
        return any(f"unknown key '{key}'" in problem.what for problem in error.problems)
    return False


@pytest.mark.parametrize("name", models.model_names())
def test_the_parser_and_the_schema_know_the_same_keys_of_a_model(name: str) -> None:
    branch = SCHEMA["$defs"][f"model-{name}"]
    told = _keys_the_parser_tells(f"model: {name}\nno-such-key-at-all: 1\n")
    keys = model_keys(models.find_model(name), ())
    assert told == {key.name for key in keys if key.listed}
    assert {key.name for key in keys} == set(branch["properties"])
    for key in branch["properties"]:
        assert not unknown(f"model: {name}\n{key}: 1\n", key)
        assert not unknown(f"model: {name}\n{key.replace('_', '-')}: 1\n", key) or "_" not in key


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("model: kubenet\nnodes: [n]\nchecks: [{ping: n -> n, nosuch: 1}]\n", "checks/items"),
        (
            "model: kubenet\nnodes: [n]\nchecks: [{ping: n -> n, see: {at: n/eth0, nosuch: 1}}]\n",
            "checks/items/properties/see/anyOf/0",
        ),
        ("model: kubenet\nnodes: {n: {nosuch: 1}}\n", "nodes/anyOf/1/additionalProperties"),
        ("model: kubenet\nnodes: {count: 1, nosuch: 1}\n", ""),
        ("model: docker-bridge\nhosts: [h]\nnetworks: {back: {nosuch: 1}}\n", "networks/additionalProperties"),
        (
            "model: docker-bridge\nhosts: {h: {containers: {a: {nosuch: 1}}}}\n",
            "hosts/anyOf/1/additionalProperties/properties/containers/anyOf/2/additionalProperties",
        ),
        ("model: raw\nnamespaces: {a: {nosuch: 1}}\n", "namespaces/anyOf/0/additionalProperties"),
        ("model: raw\nnamespaces: [a]\nlinks: [{dummy: a/d0, nosuch: 1}]\n", "links/items"),
        (
            "model: raw\nnamespaces: [a]\nlinks: [{veth: [a/b, {at: a/c, nosuch: 1}]}]\n",
            "links/items/properties/veth/items/anyOf/1",
        ),
        (
            "model: raw\nnamespaces: [a]\nfirewall: {a: {nat: {INPUT: {nosuch: 1}}}}\n",
            "firewall/additionalProperties/anyOf/0/additionalProperties/additionalProperties/anyOf/0",
        ),
    ],
)
def test_the_parser_and_the_schema_know_the_same_keys_inside(text: str, path: str) -> None:
    assert not valid(text)
    if not path:
        assert not parses(text)
        return
    part: Any = SCHEMA["$defs"][f"model-{text.split()[1]}"]["properties"]
    for step in path.split("/"):
        part = part[int(step)] if isinstance(part, list) else part[step]
    current = {name for name, value in part["properties"].items() if not value.get("deprecated")}
    assert _keys_the_parser_tells(text) == current


def _keys_the_parser_tells(text: str) -> set[str]:
    with pytest.raises(ScenarioError) as caught:
        parse_and_compile(text, "t.yaml")
    hints = [problem.hint for problem in caught.value.problems if "unknown key" in problem.what]
    assert len(hints) == 1
    return set(hints[0].removeprefix("known keys: ").split(", "))


@pytest.mark.parametrize(
    "line",
    [
        *("mtu: 576", "mtu: 575", "mtu: x", "routed: yes", "routed: true", "routed: 1", "release: 28", "release: '28'"),
        *(
            "release: 20.10",
            "release: 27",
            "subnet: 172.18.0.0/16",
            "subnet: 5",
            "subnet: [a]",
            "forward-policy: ACCEPT",
        ),
        *("forward_policy: REJECT", "forwardpolicy: DROP", "name: UP", "name: a.b", "name: ok", "say: [x]", "say: x"),
        *("internet_ip: 198.51.100.1", "internet_ip: x", "internet_ip: ", "checks: ", "checks: []", "checks: x"),
        *("checks: [{ping: host1 -> internet}]", "checks: [{ping: host1}]", "checks: [{ping: 5}]", "checks: [{}]"),
        *("checks: [{ping: host1 -> internet, within: 5s}]", "checks: [{ping: host1 -> internet, within: 5}]"),
        *("checks: [{ping: host1 -> internet, within: 5h}]", "checks: [{ping: host1 -> internet, within: 0}]"),
        *("checks: [{tcp: 'host1 -> internet:80', expect: timeout}]", "checks: [{tcp: host1 -> internet}]"),
        *("checks: [{ping: host1 -> internet, see: {at: host1/eth0}}]", "checks: [{ping: host1 -> internet, see: {}}]"),
        *("checks: [{ping: host1 -> internet, not see: [{at: host1/eth0}]}]", "nodes: [host1]"),
        *("networks: {back: {internal: true, subnet: 192.168.100.0/24, bridge: br0, icc: no}}", "networks: {back: }"),
        *("networks: {back: {internal: x}}", "networks: {back: {bridge: 'a b'}}", "networks: {Back: {}}"),
        *("networks: {back: {subnet: 5}}", "networks: [back]", "networks: ", "userland-proxy: false", "icc: 3"),
        *(
            f"checks: [{{tcp: 'host1 -> internet:80', listen: {where}}}]"
            for where in ("host1:80", "no", "host1", "'x:'")
        ),
    ],
)
def test_both_give_the_same_verdict_on_a_line(line: str) -> None:
    text = BASE["docker-bridge"] + line + "\n"
    assert valid(text) == parses(text)


@pytest.mark.parametrize(
    "containers",
    [
        *(
            "{web: }",
            "{web: {}}",
            "{web: {networks: [bridge]}}",
            "{web: {networks: bridge}}",
            "{web: {nets: [bridge]}}",
        ),
        *("{web: {publish: ['8080:80', '127.0.0.1:81:80', '53:53/udp']}}", "{web: {publish: ['80']}}", "{Web: {}}"),
        *("{web: {publish: [80]}}", "{web: {publish: ['80:80/sctp']}}", "{web: {publish: ['a:80:80']}}", "{web: 5}"),
        *("{web: {publish: ['1-2:1-2']}}", "{web: [a]}", "{}", "[web]", "3"),
    ],
)
def test_both_give_the_same_verdict_on_settings_of_containers(containers: str) -> None:
    text = f"model: docker-bridge\nhosts: {{host1: {{containers: {containers}}}}}\n"
    assert valid(text) == parses(text)


@pytest.mark.parametrize(
    "line",
    [
        *(
            "links: [{veth: [a/x, b/x]}]",
            "links: [{veth: [a/x]}]",
            "links: [{veth: a/x}]",
            "links: [{bridge: a/br0, mtu: 9}]",
        ),
        *("links: [{dummy: a/d0, mac: '02:00:00:00:00:01'}]", "links: [{dummy: a/d0, mac: 5}]", "links: [{mtu: 1500}]"),
        *("links: [{veth: [{at: a/x, mtu: 1400}, b/x]}]", "links: [{veth: [{mtu: 1400}, b/x]}]", "links: x", "links: "),
        *("addresses: {a/lo: 10.0.0.1/32}", "addresses: {a/lo: [10.0.0.1/32]}", "addresses: {a: 10.0.0.1/32}"),
        *("routes: {a: unreachable 10.0.0.0/8}", "routes: {a: [unreachable 10.0.0.0/8]}", "routes: [x]"),
        *(
            "sysctls: {a: {net.ipv4.ip_forward: 1}}",
            "sysctls: {a: {kernel.panic: 1}}",
            "sysctls: {a: {net.ipv4.x: [1]}}",
        ),
        *(
            "firewall: {a: {nat: {INPUT: []}}}",
            "firewall: {a: {nat: {INPUT: {policy: DROP}}}}",
            "firewall: {a: {x: {}}}",
        ),
        *("firewall: {a: {nat: {INPUT: {policy: x}}}}", "ebtables: {a: {mangle: {}}}", "firewall6: {a: {mangle: {}}}"),
    ],
)
def test_both_give_the_same_verdict_on_a_raw_line(line: str) -> None:
    text = BASE["raw"] + line + "\n"
    assert valid(text) == parses(text)


def test_the_reference_names_every_key_and_model() -> None:
    text = reference()
    assert text.startswith("# ")
    for name in models.model_names():
        assert f"## Model `{name}`" in text
        for key in SCHEMA["$defs"][f"model-{name}"]["properties"]:
            assert f"`{key}`" in text
    assert all(line.count("|") - line.count("\\|") == 5 for line in text.splitlines() if line.startswith("|"))

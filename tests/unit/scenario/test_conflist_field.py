"""Network lists: inline, as JSON text, in files; what is wrong with one, and where; what each node makes of it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from labctl.cni.spec import VERSIONS
from labctl.core.resources import Attachment
from labctl.errors import ScenarioError
from labctl.scenario import definition
from labctl.scenario.definition import parse_and_compile
from tests.support.network_lists import LISTS, scenario_text

NODES = "nodes: {node1: {pods: [a]}, node2: {pods: [b]}}\n"
JSON = '{"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "ptp", "mtu": 1400, "x": [true, null, "1"]}]}'
YAML = "{cniVersion: 1.0.0, name: n, plugins: [{type: ptp, mtu: 1400, x: [true, null, '1']}]}"


def attachments(conflist: str) -> list[Attachment]:
    lab = parse_and_compile(f"model: cni\n{NODES}conflist: {conflist}\n", "t.yaml")[1]
    return [item for item in lab.plan if isinstance(item, Attachment)]


def refused(conflist: str, more: str = NODES) -> list[str]:
    with pytest.raises(ScenarioError) as caught:
        parse_and_compile(f"model: cni\n{more}conflist: {conflist}\n", "t.yaml")
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize("written", [YAML, f"'{JSON.replace(chr(39), chr(39) * 2)}'", f"|\n  {JSON}"])
def test_a_list_is_the_same_however_it_is_written(written: str) -> None:
    assert [json.loads(item.conflist) for item in attachments(written)] == [json.loads(JSON)] * 2


def test_yaml_scalars_are_what_json_would_have_them_be() -> None:
    written = "{cniVersion: 1.0.0, name: n, plugins: [{type: x, a: on, b: 0x10, c: 1.5, d: '2', e: no, f: 010, g: ~}]}"
    plugin = json.loads(attachments(written)[0].conflist)["plugins"][0]
    assert plugin == {"type": "x", "a": "on", "b": "0x10", "c": 1.5, "d": "2", "e": "no", "f": "010", "g": None}


def test_each_node_fills_in_its_own() -> None:
    words = "{type: x, a: {pod_cidr}, b: '{node}: {node_ip}', c: [['{pod_cidr}']], d: '{other}'}"
    found = [json.loads(item.conflist)["plugins"][0] for item in attachments(YAML.replace("{type: ptp", words[:-1]))]
    assert [one["a"] for one in found] == ["10.244.0.0/24", "10.244.1.0/24"]
    assert found[1]["b"] == "node2: 192.168.1.12"
    assert found[1]["c"] == [["10.244.1.0/24"]]
    assert found[1]["d"] == "{other}"


def test_pods_tell_the_capabilities_that_are_declared() -> None:
    able = "{portMappings: true, ips: true, mac: true, bandwidth: true, ipRanges: true}"
    asked = "ips: [10.244.0.9, 192.0.2.1], mac: '02:00:00:00:00:01', ingress: 10M"
    pod = f"{{host_ports: ['127.0.0.1:8080:80', 53:53/udp], {asked}}}"
    text = (
        f"model: cni\nnodes: {{n: {{pods: {{a: {pod}}}}}}}\n"
        f"conflist: {{cniVersion: 0.4.0, name: n, plugins: [{{type: x, capabilities: {able}}}]}}\n"
    )
    item = next(one for one in parse_and_compile(text, "t.yaml")[1].plan if isinstance(one, Attachment))
    assert json.loads(item.args) == {
        "ipRanges": [[{"subnet": "10.244.0.0/24"}]],
        "portMappings": [
            {"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": "127.0.0.1"},
            {"hostPort": 53, "containerPort": 53, "protocol": "udp"},
        ],
        "ips": ["10.244.0.9/24", "192.0.2.1/32"],
        "mac": "02:00:00:00:00:01",
        "bandwidth": {"ingressRate": 10_000_000, "ingressBurst": 2**32 - 1},
    }


def test_a_file_is_read_beside_the_scenario_and_kept_with_the_definition(tmp_path: Path) -> None:
    (tmp_path / "10-net.conflist").write_text(JSON)
    scenario = tmp_path / "t.yaml"
    scenario.write_text(f"name: t\nmodel: cni\n{NODES}conflist: ./10-net.conflist\n")
    defined = definition.define(str(scenario))
    assert defined.files == (("./10-net.conflist", JSON),)
    (tmp_path / "10-net.conflist").unlink()
    kept = definition.Definition("t", str(scenario), scenario.read_text(), files=defined.files)
    assert definition.compile_definition(kept).plan == definition.compile_definition(defined).plan


def test_a_file_of_yaml_is_read_as_such(tmp_path: Path) -> None:
    (tmp_path / "net.yaml").write_text(YAML)
    scenario = tmp_path / "t.yaml"
    scenario.write_text(f"name: t\nmodel: cni\n{NODES}conflist: net.yaml\n")
    plan = definition.compile_definition(definition.define(str(scenario))).plan
    assert json.loads(next(one for one in plan if isinstance(one, Attachment)).conflist) == json.loads(JSON)


def test_a_mistake_in_a_file_is_told_at_its_place_there(tmp_path: Path) -> None:
    file = tmp_path / "10-net.conflist"
    scenario = tmp_path / "t.yaml"
    scenario.write_text(f"name: t\nmodel: cni\n{NODES}conflist: 10-net.conflist\n")
    for text, told in (
        ('{"cniVersion": "1.0.0",\n "name": "n",\n}', ":3:1: this is not valid JSON: a comma before the '}'"),
        (
            '{"cniVersion": "1.0.0",\n "name": "n" "plugins": []}',
            ":2:14: this is not valid JSON: ',' or '}' is missing",
        ),
        ('{"cniVersion": "1.0.0",\n "nome": "n", "plugins": [{}]}', ":2:2: conflist: unknown key 'nome'"),
        ("[]", ":1:1: conflist: a network list is a mapping"),
        ("", ":1:1: this is not valid JSON: a value is missing at the end"),
    ):
        file.write_text(text)
        with pytest.raises(ScenarioError) as caught:
            definition.define(str(scenario))
        assert f"{file}{told}" in str(caught.value)


def test_a_file_that_cannot_be_read_is_told_at_its_name() -> None:
    assert refused("nowhere/net.conflist")[0].startswith(
        "t.yaml:3:11: conflist: cannot read 'nowhere/net.conflist': No such file or directory"
    )


def test_a_pods_setting_that_no_plugin_can_be_told_is_refused_where_it_stands() -> None:
    found = refused(YAML, "nodes: {node1: {pods: {a: {host_ports: ['80:80']}}}}\n")
    assert found == [
        "t.yaml:2:28: a: no plugin of the list declares the capability portMappings, so host_ports has no effect\n"
        "    hint: capabilities: {portMappings: true} in the plugin that supports it"
    ]


# ---- the forms that people have ------------------------------------------------------------------------

CONF = "{cniVersion: 0.4.0, name: n, type: bridge, isGateway: true, ipam: {type: host-local, subnet: {pod_cidr}}}"
DEFINITION = """
kind: NetworkAttachmentDefinition
metadata: {name: lan}
spec: {config: '%s'}
"""


def lists(conflist: str) -> list[dict[str, Any]]:
    return [json.loads(item.conflist) for item in attachments(conflist)]


def test_one_plugins_configuration_becomes_a_list_of_one() -> None:
    plugin = {"type": "bridge", "isGateway": True, "ipam": {"type": "host-local", "subnet": "10.244.1.0/24"}}
    assert lists(CONF)[1] == {"cniVersion": "0.4.0", "name": "n", "plugins": [plugin]}
    assert lists("{name: rkt, type: ptp}")[0] == {"cniVersion": "0.1.0", "name": "rkt", "plugins": [{"type": "ptp"}]}


def test_one_plugins_mistakes_have_their_places() -> None:
    found = refused("{cniVersion: 0.4, name: n n, type: /bin/x, capabilities: {portMapping: true}}")
    assert [problem.split("\n")[0] for problem in found] == [
        "t.yaml:3:24: conflist: '0.4' is not a CNI version",
        "t.yaml:3:35: conflist: the name of a network consists of letters, digits, '_', '.' and '-'",
        "t.yaml:3:46: conflist: type is the name of an executable, without a path",
        "t.yaml:3:69: conflist: capabilities: unknown capability 'portMapping'",
    ]
    assert refused("{type: ptp}")[0].startswith("t.yaml:3:11: conflist: 'name' is missing")


@pytest.mark.parametrize("inner", [JSON, '{"cniVersion": "1.0.0", "type": "ptp", "mtu": 1400, "x": [true, null, "1"]}'])
def test_a_definition_of_multus_is_the_list_in_it(tmp_path: Path, inner: str) -> None:
    (tmp_path / "nad.yaml").write_text(DEFINITION % inner)
    scenario = tmp_path / "t.yaml"
    scenario.write_text(f"name: t\nmodel: cni\n{NODES}conflist: nad.yaml\n")
    plan = definition.compile_definition(definition.define(str(scenario))).plan
    found = json.loads(next(item for item in plan if isinstance(item, Attachment)).conflist)
    assert found["plugins"] == json.loads(JSON)["plugins"]
    assert found["name"] == ("n" if "plugins" in inner else "lan")  # its own name, else that of the definition


@pytest.mark.parametrize("spec", ["{}", "{config: }", "{config: ''}", "{config: [1]}"])
def test_a_definition_without_a_list_is_refused(spec: str) -> None:
    found = refused(f"{{kind: NetworkAttachmentDefinition, metadata: {{name: lan}}, spec: {spec}}}")
    assert [problem.split("\n")[0].split(": ", 1)[1] for problem in found] == [
        "conflist: this NetworkAttachmentDefinition has no spec.config"
    ]


def test_keys_that_runtimes_ignore_are_let_pass_and_mistyped_ones_are_not() -> None:
    known = "cniVersion: 1.0.0, name: n, plugins: [{type: ptp}]"
    assert lists(f"{{{known}, nerdctlID: abc, nerdctlLabels: {{a: b}}}}")[0]["nerdctlID"] == "abc"
    assert refused(f"{{{known}, disableCheks: true}}")[0].startswith(
        "t.yaml:3:64: conflist: unknown key 'disableCheks'\n    hint: did you mean 'disableCheck'?"
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_is_taken(version: str) -> None:
    assert lists(f"{{cniVersion: {version}, name: n, plugins: [{{type: ptp}}]}}")[0]["cniVersion"] == version


@pytest.mark.parametrize("name", LISTS)
def test_the_lists_of_the_projects_are_read(tmp_path: Path, name: str) -> None:
    file = tmp_path / "t.yaml"
    file.write_text(scenario_text(name, LISTS[name].nodes))
    words = LISTS[name].refused
    if words and "ADD of" not in words and "cannot find" not in words:  # else a plugin refuses it, or is not there
        with pytest.raises(ScenarioError, match=re.escape(words)):
            definition.define(str(file))
    else:
        plan = definition.compile_definition(definition.define(str(file))).plan
        assert {"a", "b"} <= {item.pod for item in plan if isinstance(item, Attachment)}

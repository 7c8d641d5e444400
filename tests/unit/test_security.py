"""What docs/security.md promises about hostile input, and that the tests which it names exist."""

from __future__ import annotations

import ast
import re

import pytest

from labctl.errors import LabError
from labctl.scenario.definition import parse_and_compile
from tests.support.paths import ROOT

PAGE = (ROOT / "docs/security.md").read_text()
RAW = "{model: raw, namespaces: [a], "
RULE = RAW + "firewall: {a: {filter: {INPUT: [%s]}}}}"
LIST = "model: cni\nconflist: {cniVersion: 1.0.0, name: n, plugins: [{type: %s}]}\nnodes: [n]"
HOSTILE = {
    "a lab that is a path": "{model: raw, name: ../x, namespaces: [a]}",
    "a lab with a dot": "{model: raw, name: a.b, namespaces: [a]}",
    "a namespace that is a path": "{model: raw, namespaces: ['../a']}",
    "a namespace with a slash": "{model: raw, namespaces: ['a/b']}",
    "a namespace that is an option": "{model: raw, namespaces: ['-h']}",
    "a pod that is a path": "{model: kubenet, nodes: {n: {pods: ['../a']}}}",
    "a device that is a path": RAW + "links: [{bridge: a/../x}]}",
    "a device that is an option": RAW + "links: [{bridge: a/-x}]}",
    "a device of dots": RAW + "links: [{bridge: a/..}]}",
    "a setting of the kernel": RAW + "sysctls: {a: {kernel.core_pattern: '|/bin/x'}}}",
    "a setting of the memory": RAW + "sysctls: {a: {vm.panic_on_oom: 1}}}",
    "a setting above net": RAW + "sysctls: {a: {net./../../kernel.core_pattern: 1}}}",
    "a setting of dots": RAW + "sysctls: {a: {net...kernel.core_pattern: 1}}}",
    "a setting with slashes": RAW + "sysctls: {a: {net/../kernel/core_pattern: 1}}}",
    "a value of two lines": RAW + 'sysctls: {a: {net.ipv4.ip_forward: "1\\n2"}}}',
    "a program for modprobe": RULE % "'--modprobe=/tmp/x -j DROP'",
    "a rule of two lines": RULE % '"-j DROP\\nCOMMIT"',
    "a table's end": RULE % '"COMMIT"',
    "a chain of two lines": RAW + 'firewall: {a: {filter: {"X\\nCOMMIT": ["-j DROP"]}}}}',
    "a plugin that is a path": LIST % "../../bin/sh",
    "a plugin that is a folder": LIST % "'..'",
    "a list that is a device": "model: cni\nconflist: /dev/zero\nnodes: [n]",
    "a list that is a folder": "model: cni\nconflist: /etc\nnodes: [n]",
    "an object of Python": "!!python/object/apply:os.system ['id']",
    "an object of Python as a value": "{model: raw, namespaces: [!!python/name:os.system x]}",
    "a key for a command": RAW + "run: id}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_text_is_refused(name: str) -> None:
    with pytest.raises(LabError) as caught:
        parse_and_compile(HOSTILE[name], "hostile.yaml")
    assert caught.value.code == 2
    assert caught.value.problems


@pytest.mark.parametrize("odd", ["\x1b[2J", "\x07", "\u202e", "\u0085", "\x9b31m", "\u2028"])
@pytest.mark.parametrize(
    "text", ["{model: %s}", "{model: raw, namespaces: [%s]}", "{model: raw, %s: 1}", RULE % "'-j %s'"]
)
def test_a_message_has_no_control_characters(odd: str, text: str) -> None:
    with pytest.raises(LabError) as caught:
        parse_and_compile(text.replace("%s", f'"x{odd}y"' if "'" not in text else odd), f"a{odd}.yaml")
    for problem in caught.value.problems:
        assert problem.what.isprintable()
        assert problem.hint.isprintable()


def test_the_tests_that_the_page_names_exist() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PAGE)
    assert len(named) > 12
    for file, function in named:
        tree = ast.parse((ROOT / file).read_text())
        functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert not function or function in functions, f"{file}::{function}"


def test_every_claim_of_the_page_names_a_test() -> None:
    tables = re.findall(r"\| what (?:a hostile scenario|others) cannot do .*\n\|[- |]+\n((?:\|.*\n)+)", PAGE)
    rows = [row for table in tables for row in table.splitlines()]
    assert len(rows) > 10
    assert [row for row in rows if "`tests/" not in row.split("|")[3]] == []

"""The shape of a JSON document, and the types of the fields of an object that was read from one."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from labctl.core.field_types import wrong_field
from labctl.core.record_shape import a_file_name, a_word, shape_problem
from labctl.core.resources import Interface, Link, Route
from labctl.render.plan_json import resource_from_json, resource_json
from labctl.scenario.catalog import names
from labctl.scenario.definition import define

SHAPE = {"name": a_word, "size?": int, "on": (bool, None), "parts": [{"text": str}], "more?": (list, dict)}
GOOD = {"name": "a", "size": 3, "on": None, "parts": [{"text": "x", "other": 1}]}


@pytest.mark.parametrize("value", [GOOD, {**GOOD, "on": True, "parts": []}, {**GOOD, "more": {}}, {**GOOD, "more": []}])
def test_what_has_the_shape(value: Any) -> None:
    assert shape_problem(value, SHAPE) == ""


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ([], "the document is not an object"),
        ({**GOOD, "size": True}, "size is not int"),
        ({**GOOD, "size": "3"}, "size is not int"),
        ({**GOOD, "size": 3.0}, "size is not int"),
        ({**GOOD, "on": 0}, "on is not bool"),
        ({**GOOD, "name": "a b"}, "name is not a word"),
        ({**GOOD, "name": "a\n"}, "name is not a word"),
        ({**GOOD, "parts": {}}, "parts is not a list"),
        ({**GOOD, "parts": [{"text": "x"}, {"text": 1}]}, "parts[1].text is not str"),
        ({**GOOD, "parts": [{}]}, "parts[0] has no 'text'"),
        ({**GOOD, "more": 1}, "more is not list"),
        ({}, "the document has no 'name'"),
    ],
)
def test_the_first_place_that_differs(value: Any, problem: str) -> None:
    assert shape_problem(value, SHAPE) == problem


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/", "a\0b", "a b", 1, None])
def test_what_is_no_file_name(name: object) -> None:
    assert not a_file_name(name)


@pytest.mark.parametrize("scenario", names())
def test_every_object_of_a_plan_has_the_types_of_its_fields(scenario: str) -> None:
    plan = define(scenario).compiled.plan
    assert [item for item in plan if wrong_field(item)] == []
    assert tuple(resource_from_json(resource_json(item)) for item in plan) == plan


LINK = Link(Interface("a", "eth0"), "veth")


@pytest.mark.parametrize(
    ("changed", "name"),
    [({"mtu": "1500"}, "mtu"), ({"mtu": True}, "mtu"), ({"kind": None}, "kind"), ({"options": [("a", "b")]}, "options"),
     ({"options": (("a", 1),)}, "options"), ({"options": (("a", "b", "c"),)}, "options"), ({"at": "a/eth0"}, "at")],
)  # fmt: skip
def test_the_field_of_another_type(changed: dict[str, Any], name: str) -> None:
    assert wrong_field(LINK) == ""
    assert wrong_field(replace(LINK, **changed)) == name


@pytest.mark.parametrize(
    "changed",
    [{"object": []}, {"object": {}}, {"object": "nothing"}, {"at": 3}, {"at": None}, {"up": "yes"}, {"mtu": [1]},
     {"options": 3}, {"options": [1]}, {"options": [["a"]]}, {"peer": {}}, {"strange": 1}],
)  # fmt: skip
def test_an_object_of_another_shape_is_one_error(changed: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"link|kernel object|to unpack"):
        resource_from_json({**resource_json(LINK), **changed})


def test_a_number_is_no_address() -> None:
    route = resource_json(Route("a", ip_network("0.0.0.0/0"), via=ip_address("192.0.2.1")))
    with pytest.raises(ValueError, match="is not the text of an address"):
        resource_from_json({**route, "via": 5})

"""Kernel objects and plans converted to JSON data, and back: the documents of `plan --as json` and `status --json`.

An object is a mapping of its fields, and `object` names its kind. Addresses, networks and interfaces
(`node1/eth0`) are text, firewall rules are lines as iptables-save prints them.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from functools import cache
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any, cast

from labctl.core.field_types import wrong_field
from labctl.core.iptables import FirewallRule
from labctl.core.resources import IP, RESOURCE_TYPES, Interface, NextHop, Process, Resource, value_fields
from labctl.core.scenario_types import Check, Lab, See

JSON_KEYS = {"link_netns": "born"}  # the published keys of fields that have another name in JSON
_FIELDS = {key: field for field, key in JSON_KEYS.items()}
TYPE_BY_NAME: dict[str, type] = {kind.__name__.lower(): kind for kind in RESOURCE_TYPES}


def resource_json(resource: Resource) -> dict[str, Any]:
    """An object as a mapping: only text, numbers, booleans, lists and null."""
    names = value_fields(cast("Any", type(resource)))
    values = {JSON_KEYS.get(name, name): _json_value(getattr(resource, name)) for name in names}
    return {"object": type(resource).__name__.lower(), **values}


def resource_from_json(document: Mapping[str, Any]) -> Resource:
    """The object of a mapping that `resource_json` wrote. Missing fields get their defaults.

    Raises ValueError for an unknown kind, an unknown field, a missing field without a default, or an invalid value.
    """
    name = document.get("object")
    kind = TYPE_BY_NAME.get(name) if isinstance(name, str) else None
    if kind is None:
        raise ValueError(f"there is no kernel object {name!r}")
    document = {_FIELDS.get(key, key): value for key, value in document.items()}
    readers = _readers(kind)
    unknown = set(document) - set(readers) - {"object"}
    if unknown:
        raise ValueError(f"a {name} has no field {min(unknown)!r}")
    try:
        values = {field: _read(readers[field], value) for field, value in document.items() if field != "object"}
        resource: Resource = kind(**values)
    except (TypeError, AttributeError, LookupError) as error:
        raise ValueError(f"a {name} cannot be read: {error}") from None
    if wrong := wrong_field(resource):
        raise ValueError(f"the {wrong} of a {name} is of another type")
    return resource


def process_tag(process: Process, netns: str) -> str:
    """The tag in the environment of a running process, by which labctl recognises it: JSON text with its fields.

    `netns` is the name of its network namespace, as `ip netns` shows it.
    """
    fields = {"name": process.name, "command": list(process.command), "sandbox": process.sandbox}
    return json.dumps({"netns": netns, **fields, "inside": process.inside})


def plan_json(lab: Lab) -> dict[str, Any]:
    """A whole lab: its machines, every object in the order of creation, and its checks."""
    return {
        "lab": lab.name,
        "model": lab.model,
        "say": lab.say,
        "machines": [
            {
                "name": machine.name,
                "role": machine.role,
                "on": machine.on,
                "within": machine.netns_of,
                "addresses": [str(address) for address in machine.addresses],
            }
            for machine in lab.machines
        ],
        "plan": [resource_json(item) for item in lab.plan],
        "checks": [check_json(check) for check in lab.checks],
    }


def check_json(check: Check) -> dict[str, Any]:
    """A check as a mapping of its fields."""
    values = {field.name: _json_value(getattr(check, field.name)) for field in dataclasses.fields(check)}
    if check.server is not None:
        values["server"] = f"{check.server[0]}:{check.server[1]}"
    return {**values, "within": check.timeout_s, "sees": [_see_json(see) for see in check.sees]}


def _see_json(see: See) -> dict[str, Any]:
    return {field.name: _json_value(getattr(see, field.name)) for field in dataclasses.fields(see)}


def _json_value(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, NextHop):
        return {field.name: _json_value(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return [_json_value(item) for item in value] if isinstance(value, tuple) else str(value)


@cache
def _readers(resource_type: type) -> dict[str, Callable[[Any], Any]]:
    """The reader of each field of a type."""
    return {name: _reader(resource_type, name) for name in value_fields(resource_type)}


def _reader(resource_type: type, name: str) -> Callable[[Any], Any]:
    """The function that converts the JSON value of a field to its Python value."""
    if name in ("at", "peer"):
        return _interface
    if (
        name == "ip"
        or (name == "via" and resource_type is TYPE_BY_NAME["route"])
        or (name == "src" and resource_type is TYPE_BY_NAME["route"])
        or (name == "dst" and resource_type is TYPE_BY_NAME["fdb"])
    ):
        return _address
    if name in ("src", "dst"):
        return ip_network
    special: dict[str, Callable[[Any], Any]] = {
        "addr": ip_interface,
        "rules": _rules,
        "header": tuple,
        "entries": tuple,
        "options": _pairs,
        "command": tuple,
        "members": tuple,
        "nexthops": lambda hops: tuple(_next_hop(hop) for hop in hops),
        "encap": lambda pair: (int(pair[0]), ip_address(pair[1])),
    }
    return special.get(name, _as_is)


def _next_hop(values: dict[str, Any]) -> NextHop:
    return NextHop(**{**values, "via": _read(ip_address, values["via"])})


def _read(reader: Callable[[Any], Any], value: Any) -> Any:
    return None if value is None else reader(value)


def _as_is(value: Any) -> Any:
    return value


def _address(text: str) -> IP:
    if not isinstance(text, str):  # a number is an address for Python
        raise TypeError(f"{text!r} is not the text of an address")
    return ip_address(text)


def _interface(text: str) -> Interface:
    ns, _, dev = text.partition("/")
    return Interface(ns, dev)


def _rules(lines: list[str]) -> tuple[FirewallRule, ...]:
    return tuple(FirewallRule.from_text(line) for line in lines)


def _pairs(pairs: list[list[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in pairs)

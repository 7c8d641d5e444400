"""Encode netlink messages with pyroute2's message classes: once per shape, then as a filled-in template.

A thousand pods need eight thousand messages of a dozen shapes. pyroute2 takes 20 to 150 microseconds for one message.
Here it encodes each shape once, with sentinels in place of the values. Every further message of that shape is this
template with the values written over the sentinels. A test compares the result with pyroute2's own encoding, byte for
byte.
"""

from __future__ import annotations

import importlib
import importlib.util
import struct
import sys
import types
from collections.abc import Callable, Sequence
from functools import cache
from ipaddress import IPv4Address, IPv6Address
from typing import Any

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH = 28, 29, 30
RTM_NEWRULE, RTM_DELRULE, RTM_GETRULE = 32, 33, 34
RTM_GETNEIGHTBL = 66
RTM_GETNETCONF = 82
REQUEST, ACK, DUMP = 0x1, 0x4, 0x300
REPLACE, EXCL, CREATE = 0x100, 0x200, 0x400

Attrs = Sequence[tuple[str, Any]]
_SHAPE_ATTRS = frozenset({"IFLA_INFO_KIND", "IFLA_INFO_SLAVE_KIND"})  # pyroute2 encodes other attributes by their value


class U32(int):
    """A 32-bit number that differs from message to message (a plain int is part of the shape)."""


class Mac(str):
    """A link-layer address that differs from message to message."""


@cache
def message_class(name: str) -> Any:
    """One of pyroute2's rtnetlink message classes, without importing all of pyroute2.

    `import pyroute2` loads 370 modules in 150 ms; these five classes need 28 of them. The package's own __init__ is
    skipped during this import only; a later `import pyroute2` finds it as usual.
    """
    if "pyroute2" in sys.modules:
        return getattr(importlib.import_module(f"pyroute2.netlink.rtnl.{name}"), name)
    spec = importlib.util.find_spec("pyroute2")
    if spec is None or spec.submodule_search_locations is None:
        raise ImportError("pyroute2 is not installed")
    stub = types.ModuleType("pyroute2")
    stub.__path__ = list(spec.submodule_search_locations)
    sys.modules["pyroute2"] = stub
    try:
        return getattr(importlib.import_module(f"pyroute2.netlink.rtnl.{name}"), name)
    finally:
        del sys.modules["pyroute2"]


def encode_with_pyroute2(name: str, kind: int, flags: int, fields: dict[str, Any], attrs: Attrs) -> bytes:
    """One message, encoded by pyroute2 alone: the slow reference for `encode`."""
    message = message_class(name)()
    for field, value in fields.items():
        message[field] = int(value) if isinstance(value, int) else value
    message["header"]["type"] = kind
    message["header"]["flags"] = flags
    message["attrs"] = _readable(attrs)
    message.encode()
    return bytes(message.data)


def encode(name: str, message_type: int, flags: int, fields: dict[str, Any], attrs: Attrs) -> bytearray:
    """One message. Values of the types U32, Mac, IPv4Address and IPv6Address, and strings of four or more letters, are
    filled into the shape's template. Every other value is part of the shape."""
    values: list[bytes] = []
    shape = (name, message_type, flags, _shape_fields(fields, values), _shape(attrs, values))
    template = _templates.get(shape)
    if template is None:
        template = _templates[shape] = _template(name, message_type, flags, fields, attrs)
    data, holes = template
    message = bytearray(data)
    for (start, end), value in zip(holes, values, strict=True):
        message[start:end] = value
    return message


_templates: dict[Any, tuple[bytes, tuple[tuple[int, int], ...]]] = {}
_u32 = struct.Struct("=I").pack


def _leaf(value: Any) -> bytes | None:
    """The bytes of a value that is filled in; None for a value that is part of the shape."""
    kind = type(value)
    if kind is U32:
        return _u32(value)
    if kind is str:
        return value.encode() + b"\0" if len(value) > 3 else None
    if kind is IPv4Address or kind is IPv6Address:
        return value.packed  # type: ignore[no-any-return]
    if kind is Mac:
        return bytes.fromhex(value.replace(":", ""))
    return None


def _shape_fields(fields: dict[str, Any], values: list[bytes]) -> tuple[Any, ...]:
    shape: list[Any] = []
    for field, value in fields.items():
        if type(value) is U32:
            values.append(_u32(value))
            shape.append((field, U32))
        else:
            shape.append((field, value))
    return tuple(shape)


def _shape(attrs: Attrs, values: list[bytes]) -> tuple[Any, ...]:
    shape: list[Any] = []
    for name, value in attrs:
        if type(value) is list:
            shape.append((name, _shape(value, values)))
        elif type(value) is dict:  # a message inside a message, such as a veth's peer
            inner = {key: item for key, item in value.items() if key != "attrs"}
            shape.append((name, _shape_fields(inner, values), _shape(value["attrs"], values)))
        elif name not in _SHAPE_ATTRS and (leaf := _leaf(value)) is not None:
            values.append(leaf)
            shape.append((name, type(value), len(leaf)))
        else:
            shape.append((name, value))
    return tuple(shape)


def _template(
    name: str, kind: int, flags: int, fields: dict[str, Any], attrs: Attrs
) -> tuple[bytes, tuple[tuple[int, int], ...]]:
    sentinels: list[bytes] = []

    def sentinel(value: Any) -> Any:
        stand_in = _sentinel(value, len(sentinels))
        leaf = _leaf(stand_in)
        assert leaf is not None
        sentinels.append(leaf)
        return stand_in

    sentinel_fields = {key: sentinel(value) if type(value) is U32 else value for key, value in fields.items()}
    data = encode_with_pyroute2(name, kind, flags, sentinel_fields, _with_sentinels(attrs, sentinel))
    holes = []
    for needle in sentinels:
        start = data.find(needle)
        if start < 0 or data.find(needle, start + 1) >= 0:
            raise AssertionError(f"the encoded {name} must contain the sentinel {needle!r} exactly once")
        holes.append((start, start + len(needle)))
    return data, tuple(holes)


def _with_sentinels(attrs: Attrs, sentinel: Callable[[Any], Any]) -> list[tuple[str, Any]]:
    replaced: list[tuple[str, Any]] = []
    for name, value in attrs:
        if type(value) is list:
            replaced.append((name, _with_sentinels(value, sentinel)))
        elif type(value) is dict:
            inner = {
                key: sentinel(item) if type(item) is U32 else item for key, item in value.items() if key != "attrs"
            }
            replaced.append((name, {**inner, "attrs": _with_sentinels(value["attrs"], sentinel)}))
        elif name not in _SHAPE_ATTRS and _leaf(value) is not None:
            replaced.append((name, sentinel(value)))
        else:
            replaced.append((name, value))
    return replaced


def _sentinel(value: Any, number: int) -> Any:
    """A value of the same type and length that does not occur anywhere else in a message."""
    if type(value) is U32:
        return U32(0x61A7C300 + number)
    if type(value) is IPv4Address:
        return IPv4Address(0xF29BD100 + number)
    if type(value) is IPv6Address:
        return IPv6Address((0xF3A5 << 112) + 0xC7B9D1E5 * 65536 + number)
    if type(value) is Mac:
        return Mac(f"d6:b5:9a:e3:c1:{number:02x}")
    return ("~" + chr(0x21 + number) + "^" + "=" * len(value))[: len(value)]


def _readable(attrs: Attrs) -> list[tuple[str, Any]]:
    """The attributes in the form that pyroute2 accepts: nested lists wrapped, addresses as text, numbers as int."""
    readable: list[tuple[str, Any]] = []
    for name, value in attrs:
        if isinstance(value, list):
            readable.append((name, {"attrs": _readable(value)}))
        elif isinstance(value, dict):
            inner = {key: int(item) if isinstance(item, int) else item for key, item in value.items()}
            readable.append((name, {**inner, "attrs": _readable(value["attrs"])}))
        elif isinstance(value, (IPv4Address, IPv6Address)):
            readable.append((name, str(value)))
        elif isinstance(value, U32):
            readable.append((name, int(value)))
        else:
            readable.append((name, str(value) if isinstance(value, Mac) else value))
    return readable

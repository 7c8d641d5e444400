"""rtnetlink messages as pyroute2 encodes them: the reference for labctl's own encoder."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Any

from labctl.kernel.netlink.encoding import U32, Attrs, Mac, message_class


def encode_with_pyroute2(name: str, kind: int, flags: int, fields: dict[str, Any], attrs: Attrs) -> bytes:
    """One message, encoded by pyroute2."""
    message = message_class(name)()
    for field, value in fields.items():
        message[field] = int(value) if isinstance(value, int) else value
    message["header"]["type"] = kind
    message["header"]["flags"] = flags
    message["attrs"] = _readable(attrs)
    message.encode()
    return bytes(message.data)


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

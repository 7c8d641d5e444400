"""How a model declares its own options: one place feeds the parser, the JSON Schema and the docs.

    @dataclass(frozen=True, slots=True)
    class Options:
        pod_cidr: IPv4Network = option(cidr("10.244.0.0/16"), "addresses of all pods; each node gets a /24 of it")
        routing: str = option("udr", "who routes between nodes", choices=("udr", "host"))
        ip_forwarding: bool = option(True, "IP forwarding on the nodes' NICs in Azure")

The annotation is the type that the parser makes of the file's text: str, int, bool, float, IPv4Network,
IPv4Address, their IPv6 kin, Publish, Listen, Run, or tuple[IPv4Network, ...] for a list. In a file, underscores and
dashes in the key are the same; the docs write underscores.
"""

from __future__ import annotations

import dataclasses
from ipaddress import IPv4Address, IPv4Network
from typing import Any, Literal


def option(
    default: Any,
    help: str,
    *,
    choices: tuple[str, ...] = (),
    minimum: int | None = None,
    maximum: int | None = None,
    form: Literal["", "name", "device", "network", "mac", "rate"] = "",
) -> Any:
    """A field of a model's `Options`: its default, one sentence for people, and what values it takes.

    `form` says that a text is more than a word: the name of something in the lab, of a
    device, a MAC address, or (a number) so many bits in a second.
    """
    metadata = {"help": help, "choices": choices, "minimum": minimum, "maximum": maximum, "form": form}
    return dataclasses.field(default=default, metadata=metadata)


def cidr(text: str) -> IPv4Network:
    """A default network for an option."""
    return IPv4Network(text)


def address(text: str) -> IPv4Address:
    """A default address for an option."""
    return IPv4Address(text)

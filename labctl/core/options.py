"""How a model declares its own options: one place feeds the parser, the JSON Schema and the docs.

    @dataclass(frozen=True, slots=True)
    class Options:
        pod_cidr: IPv4Network = option(cidr("10.244.0.0/16"), "addresses of all pods; each node gets a /24 of it")
        routing: str = option("udr", "what routes between nodes", choices=("udr", "host"))
        ip_forwarding: bool = option(True, "IP forwarding on the nodes' NICs in Azure")

The annotation is the type to which the parser converts the file's text: str, int, bool, float, IPv4Network,
IPv4Address, the IPv6 types, PublishedPort, ListeningPort, PodContainer, NetworkRule, or tuple[IPv4Network, ...] for a
list. In a file, underscores and dashes in the key are equal; the docs write underscores.
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
    form: Literal[
        "",
        "name",
        "device",
        "network",
        "endpoint",
        "mac",
        "rate",
        "labels",
        "publish",
        "publish-sctp",
        "binding",
        "section",
    ] = "",
    old: tuple[str, ...] = (),
    single: bool = False,
) -> Any:
    """A field of a model's `Options`: its default, its help sentence, and the values that it accepts.

    `form` restricts a text or a number further: `name` (of something in the lab), `device` (the name of a network
    device), `network` (a name or container:NAME), `endpoint` (the same, or a name with options behind a colon), `mac`
    (a MAC address), `rate` (a number of bits per second), `labels` (a mapping of Kubernetes labels, kept as a tuple of
    pairs), `publish` (a PublishedPort with all forms that docker run takes: ranges, IPv6 addresses of the host),
    `publish-sctp` (the same, also of sctp), `binding` (an IPv4 address to listen at, also of loopback). With `section`,
    the annotation is a dataclass of such fields, and the file has a mapping, or one word for the first field.
    `old` has the names that the key had before, which files may still use. In a file, `single` allows one value
    in place of a list.
    """
    metadata = {"help": help, "choices": choices, "minimum": minimum, "maximum": maximum, "form": form, "old": old}
    metadata["single"] = single
    return dataclasses.field(default=default, metadata=metadata)


def cidr(text: str) -> IPv4Network:
    """A default network for an option."""
    return IPv4Network(text)


def address(text: str) -> IPv4Address:
    """A default address for an option."""
    return IPv4Address(text)

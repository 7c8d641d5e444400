"""Scenarios with options of every kind, drawn from what each model declares, for tests with hypothesis.

A value comes from the type of the option: near its default, at the ends of its range, or anywhere in it. So a new
option of a model is drawn without a change here; a new type of options raises TypeError.
"""

from __future__ import annotations

import dataclasses
import json
import types
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, Union, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from labctl import models
from labctl.cni.conflist import Conflist
from labctl.core.scenario_types import ListeningPort, NetworkRule, PodContainer, PublishedPort
from labctl.scenario.nodes_field import RESERVED

# names that mean something to the kernel, to labctl or to a model, and the shortest and the longest ones
NODE_NAMES = ("node1", "n", "all", "default", "eth0", "wire", "lan2", "igw", "pip", "br0", "0", "to-x", "n" * 63)
POD_NAMES = ("a", "b", "c", "lo", "pause", "web-1", "10-0-0-1", "p" * 63, "pppppppppppppppp", "veth0", "docker0")
NETWORK_NAMES = ("back", "all", "x" * 63, "default", "front-end")
DEVICES = ("br-back", "b", "br.back", "docker_gwbridge", "abcdefghijklmno")
BASES = ("10.0.0.0", "10.4.0.0", "10.244.0.0", "100.64.0.0", "172.16.0.0", "172.20.0.0", "192.168.0.0", "198.18.0.0",
         "11.0.0.0", "9.4.0.0", "44.1.2.0", "8.8.8.0", "203.0.113.0", "169.254.0.0", "1.0.0.0", "223.255.255.0",
         "240.0.0.0", "128.0.0.0")  # fmt: skip
CONFLIST = {
    "cniVersion": "0.4.0",
    "name": "pods",
    "plugins": [
        {"type": "bridge", "bridge": "cni0", "isGateway": True, "hairpinMode": True, "ipam": {
            "type": "host-local", "ranges": [[{"subnet": "{pod_cidr}"}]], "routes": [{"dst": "0.0.0.0/0"}],
        }},
        {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True},
    ],
}  # fmt: skip


@st.composite
def networks(draw: st.DrawFn, default: IPv4Network | None) -> str:
    """A range near the default, or of any size at one of many places."""
    near = default is not None and draw(st.booleans())
    base = str(default.network_address) if near and default is not None else draw(st.sampled_from(BASES))
    sizes = [st.integers(8, 30), st.integers(20, 32)]
    sizes += [st.integers(max(0, default.prefixlen - 3), min(32, default.prefixlen + 8))] if default is not None else []
    prefix = draw(st.one_of(*sizes))
    step = draw(st.integers(0, 5)) << 32 - prefix if draw(st.booleans()) else 0
    number = (int(IPv4Address(base)) + step) % 2**32
    return str(IPv4Network((number >> 32 - prefix << 32 - prefix, prefix)))


def _address_inside(network: IPv4Network) -> st.SearchStrategy[str]:
    """An address of a range: one at either end, or any."""
    last = network.num_addresses - 1
    offset = st.sampled_from((0, 1, 2, 3, 4, last - 1, last)) | st.integers(0, last)
    return offset.map(lambda number: str(network.network_address + min(max(number, 0), last)))


@st.composite
def _ports(draw: st.DrawFn, inside: list[IPv4Network]) -> str:
    machines = [f"{network.network_address + offset}:" for network in inside for offset in (1, 4, 11)]
    where = draw(st.sampled_from(["", "", "", "127.0.0.1:", "0.0.0.0:", "127.8.0.1:", *machines]))
    protocol = draw(st.sampled_from(("", "", "/udp")))
    port = st.sampled_from((1, 53, 80, 8080, 65535)) | st.integers(1, 65535)
    return f"{where}{draw(port)}:{draw(port)}{protocol}"


@st.composite
def _docker_ports(draw: st.DrawFn, inside: list[IPv4Network]) -> str:
    """Also ranges of ports, and IPv6 addresses of the host."""
    if draw(st.booleans()):
        return draw(_ports(inside))
    where = draw(st.sampled_from(("", "127.0.0.1:", "[::]:", "[::1]:", "[fd00::1]:")))
    first, count = draw(st.sampled_from((1, 80, 8000, 65530))), draw(st.sampled_from((1, 2, 6)))
    ports = f"{first}-{first + count - 1}" if count > 1 else str(first)
    return f"{where}{ports}:{ports}"


_LISTENING = st.sampled_from(("80", "53/udp", "8080", "1", "65535/udp"))


@st.composite
def _pod_containers(draw: st.DrawFn) -> str:
    ports = draw(st.lists(_LISTENING, max_size=2, unique=True))
    return draw(st.sampled_from(("web", "dns", "log"))) + (":" + ",".join(ports) if ports else "")


class Values:
    """Strategies for the values of one scenario's options, by their types. `names` are those that an option may use."""

    def __init__(self, nodes: list[str], pods: list[str], network_names: list[str], inside: list[IPv4Network]) -> None:
        self.nodes, self.pods, self.network_names, self.inside = nodes, pods, network_names, inside

    def of(self, field: dataclasses.Field[Any], annotation: Any) -> st.SearchStrategy[Any]:
        """The values that a file may write for a field."""
        meta, default = field.metadata, field.default
        if get_origin(annotation) in (Union, types.UnionType):
            kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
            return st.one_of(*(self.of(field, kind) for kind in kinds))
        if meta.get("form") == "labels":
            return st.dictionaries(
                st.sampled_from(("app", "example.com/tier")), st.sampled_from(("web", "")), max_size=2
            )
        if get_origin(annotation) is tuple:
            item = self.of(field, get_args(annotation)[0])
            return st.sampled_from((1, 2, 3, 0)).flatmap(
                lambda size: st.lists(item, min_size=min(size, 1), max_size=size, unique=True)
            )
        form = meta.get("form")
        if form == "section":
            return settings(annotation, self, 3)
        if form in ("publish", "publish-sctp"):
            return _docker_ports(self.inside)
        if form:
            return self._of_form(form)
        if meta.get("choices"):
            return st.sampled_from(meta["choices"])
        if annotation is bool:
            return st.booleans()
        if annotation is int:
            low = 0 if meta.get("minimum") is None else meta["minimum"]
            high = low + 100_000 if meta.get("maximum") is None else meta["maximum"]
            ends = st.sampled_from((low, min(low + 1, high), max(high - 1, low), high))
            near = default if isinstance(default, int) else low
            return ends | st.integers(low, high) | st.integers(max(low, near - 8), min(high, near + 8))
        if annotation is IPv4Network:
            return networks(default if isinstance(default, IPv4Network) else None)
        if annotation is IPv4Address:
            places = [IPv4Network(f"{default}/24", strict=False)] if isinstance(default, IPv4Address) else []
            return st.sampled_from([*places, *self.inside] or [IPv4Network("10.0.0.0/24")]).flatmap(_address_inside)
        if annotation is PublishedPort:
            return _ports(self.inside)
        if annotation in _BY_TYPE:
            return _BY_TYPE[annotation]()
        raise TypeError(f"no values are known for an option of the type {annotation}")

    def _of_form(self, form: str) -> st.SearchStrategy[Any]:
        shared = [f"container:{pod}" for pod in self.pods]
        return st.sampled_from({
            "name": self.network_names or self.nodes,
            "device": list(DEVICES),
            "endpoint": [*self.network_names * 3, "podman", "podman:ip=10.88.0.9,mac=02:00:00:00:00:09", *shared],
            "network": [*self.network_names * 3, "bridge", "bridge", "host", "none", *shared],
            "mac": ["02:00:00:00:00:07", "aa:bb:cc:dd:ee:fe"],
            "rate": ["1M", "100k", "10000000"],
            "binding": ["127.0.0.1", "0.0.0.0", "192.168.50.11"],
        }[form])  # fmt: skip


_BY_TYPE: dict[Any, Callable[[], st.SearchStrategy[Any]]] = {
    ListeningPort: lambda: _LISTENING,
    PodContainer: _pod_containers,
    NetworkRule: lambda: st.sampled_from(("tcp *:443", "udp 203.0.113.0/24:53-54", "icmp 10.0.0.1", "any 10.0.0.0/8")),
    Conflist: lambda: st.just(CONFLIST),
    str: lambda: st.just(""),
    IPv6Network: lambda: st.sampled_from(("fd00::/64", "2001:db8::/48", "fd00:1::/112")),
    IPv6Address: lambda: st.sampled_from(("fd00::7", "2001:db8::7")),
}


@st.composite
def settings(draw: st.DrawFn, settings_class: Any, values: Values, most: int) -> dict[str, Any]:
    """Some fields of a model's class, with values as a file writes them."""
    fields, hints = dataclasses.fields(settings_class), get_type_hints(settings_class)
    count = draw(st.sampled_from(range(1, min(most, len(fields)) + 1) or [0]))
    chosen = draw(st.permutations(fields))[:count]
    return {field.name: draw(values.of(field, hints[field.name])) for field in chosen}


@st.composite
def scenarios(draw: st.DrawFn, model_name: str, most_options: int = 5) -> dict[str, Any]:
    """A scenario of a model: few nodes and pods, each part of it with a few options. It may be invalid."""
    model = models.find_model(model_name)
    outer, inner = model.MACHINES
    reserved = {*RESERVED, *getattr(model, "RESERVED_NAMES", ())}
    nodes = draw(_names(tuple(name for name in NODE_NAMES if name not in reserved), (1, 2, 2, 3)))
    pods = draw(_names(tuple(name for name in POD_NAMES if name not in nodes), (0, 1, 2, 2, 3, 3, 4, 5)))
    wanted: list[str] = draw(_names(NETWORK_NAMES, (0, 1, 2, 3))) if hasattr(model, "Network") else []
    options = {field.name: field.default for field in dataclasses.fields(model.Options)}
    inside = [value for value in options.values() if isinstance(value, IPv4Network)]
    values = Values(nodes, pods, wanted, inside)
    where = {pod: draw(st.sampled_from(nodes)) for pod in pods}
    container = getattr(model, "Container", None)
    pods_of: dict[str, Any] = {
        node: {
            pod: draw(settings(container, values, 2)) if container is not None else {}
            for pod in pods
            if where[pod] == node
        }
        for node in nodes
    }
    found: dict[str, Any] = {"name": "options", "model": model_name}
    found[outer] = {node: {inner: inside_node} for node, inside_node in pods_of.items()}
    if wanted:
        found["networks"] = {name: draw(settings(model.Network, values, 3)) for name in wanted}
    if "conflist" in options:
        found["conflist"] = CONFLIST
    approximate = draw(st.sampled_from((None, True, True, False)))
    if approximate is not None:
        found["approximate"] = approximate
    return found | draw(settings(model.Options, values, most_options))


def _names(names: tuple[str, ...], counts: tuple[int, ...]) -> st.SearchStrategy[list[str]]:
    """Different names, as many as one of `counts`."""
    return st.sampled_from(counts).flatmap(lambda number: st.permutations(names).map(lambda order: order[:number]))


def drawn_models() -> tuple[str, ...]:
    """The models with options: all but `raw`, which has none."""
    return tuple(name for name in models.model_names() if models.find_model(name).MACHINES[1])


def text(scenario: dict[str, Any]) -> str:
    """The scenario as a file: a line for each key, its value in JSON, which is YAML."""
    return "".join(f"{key}: {json.dumps(value)}\n" for key, value in scenario.items())

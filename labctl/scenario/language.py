"""The scenario language as one table: every key with the type of its value and its help text.

The keys of a whole scenario, which depend on the model; then the types of values for a model's options. The keys of
checks are in `check_language`, those of raw scenarios in `raw_language`. The parser uses this table. The JSON Schema
and docs/scenario.md are generated from it.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Collection
from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, Union, get_args, get_origin, get_type_hints

from labctl.core.scenario_types import ListeningPort, NetworkRule, PodContainer, PublishedPort
from labctl.scenario import port_values, values
from labctl.scenario.check_language import CHECK, SEE, check_section
from labctl.scenario.fault_field import FaultField
from labctl.scenario.field_types import (
    Key,
    LaterField,
    ListOf,
    MapOf,
    OptionalSection,
    Scalar,
    Section,
    SettingsClass,
)
from labctl.scenario.labels_field import LabelsField
from labctl.scenario.manifests.keys import object_keys
from labctl.scenario.nodes_field import RESERVED, NodesField
from labctl.scenario.settings_field import SettingsField

# the keys of raw scenarios, and `machines`: what a scenario of any model can have on top of it
OWN_KEYS = (
    "machines", "namespaces", "links", "addresses", "routes", "rules", "neighbours", "fdb", "sysctls", "ipsets",
    "firewall", "firewall6", "ebtables", "nftables",
)  # fmt: skip


def common_keys(model_names: tuple[str, ...]) -> tuple[Key, ...]:
    """The keys of every scenario."""
    return (
        Key("name", values.LABEL, "the lab's name, a DNS label", "the file's name"),
        Key("say", values.SENTENCE, "what the scenario shows, in one sentence"),
        Key("model", values.choice(*model_names), "the network model that the lab reproduces", required=True),
        Key(
            "approximate",
            values.BOOLEAN,
            "whether labctl builds the model's substitute where the kernel lacks a feature: `true` requests it, as"
            " `--approximate` does; `false` forbids it",
            "as the command line says",
        ),
        Key(
            "overlap",
            values.BOOLEAN,
            "whether ranges may overlap, and machines have equal addresses, as in two networks that were planned apart",
            "false",
        ),
        Key(
            "break",
            ListOf(FaultField(), allow_single=True),
            "faults that the lab has from the start, such as `forwarding-off`, or `forwarding-off: node1` with the"
            " object. They are hidden: `status` does not name them, and `up` does not repair them. docs/faults.md lists"
            " all faults",
        ),
        Key(
            "exercise",
            LaterField("labctl.scenario.exercise_language", "EXERCISE"),
            "what a learner is asked to do in this lab; `labctl exercise` starts, checks and explains it",
        ),
        Key(
            "lesson",
            LaterField("labctl.scenario.lesson_language", "LESSON"),
            "what a learner reads, runs and predicts in this lab, step by step; `labctl learn` goes through it",
        ),
        Key("checks", ListOf(CHECK), "claims about the lab, each proven by packets"),
    )


def machine_keys(model: Any) -> tuple[Key, ...]:
    """The keys that list a model's machines: the model's name for them, and `nodes` (raw: its sections)."""
    if not model.MACHINES[1]:
        from labctl.scenario.raw_language import RAW

        return RAW
    outer, inner = model.MACHINES
    reserved = (*RESERVED, *getattr(model, "RESERVED_NAMES", ()))
    nodes_field = NodesField(outer, inner, setting_keys(model, "Container"), reserved)
    keys = [Key(outer, nodes_field, f"the lab's {outer} and the {inner} on each")]
    if outer != "nodes":
        keys.append(Key("nodes", nodes_field, f"another name for `{outer}`"))
    return tuple(keys)


def network_keys(model: Any) -> tuple[Key, ...]:
    """The key `networks`, if the model has a class `Network`; else no key."""
    settings = setting_keys(model, "Network")
    if settings is None:
        return ()
    networks = MapOf(values.LABEL, OptionalSection(Section("network", settings.keys)))
    return (Key("networks", networks, f"user-defined networks, on each of the lab's {model.MACHINES[0]}, by name"),)


def setting_keys(model: Any, class_name: str) -> SettingsClass | None:
    """The keys for each container or network of a model: the fields of its class `class_name`, which is `Container`
    or `Network`. None if the model does not have the class."""
    settings_class = getattr(model, class_name, None)
    return None if settings_class is None else SettingsClass(settings_class, _field_keys(settings_class))


def option_keys(model: Any) -> tuple[Key, ...]:
    """The keys of a model's options: the fields of its class `Options`."""
    return _field_keys(model.Options)


@cache
def _field_keys(settings_class: Any) -> tuple[Key, ...]:
    hints = get_type_hints(settings_class)
    keys = []
    for field in dataclasses.fields(settings_class):
        field_type = _field_type(hints[field.name], field.metadata)
        help_ = str(field.metadata.get("help", ""))
        old = tuple(field.metadata.get("old", ()))
        keys.append(Key(field.name, field_type, help_, _default_text(field.default), allow_dashes=True, old=old))
    return tuple(keys)


def model_keys(model: Any, model_names: tuple[str, ...], used: Collection[str] | None = None) -> tuple[Key, ...]:
    """Every key of a scenario of this model, in the usual order; those on top of the model come last. They are left out
    if the file has only keys of the model: `used` are its keys."""
    *first_keys, checks = common_keys(model_names)
    checks = dataclasses.replace(checks, field_type=ListOf(check_section(model)))
    machines = (*machine_keys(model), *network_keys(model), *object_keys(model))
    keys = (*first_keys, *machines, *option_keys(model), checks)
    if not model.MACHINES[1]:
        return keys
    if used is not None and all(name not in OWN_KEYS and any(key.matches(name) for key in keys) for name in used):
        return keys  # most scenarios; the language of raw scenarios is large
    from labctl.scenario.own_language import with_own_keys

    return with_own_keys(keys)


def older_names(model: Any | None) -> dict[str, str]:
    """The older names of the keys in scenarios of a model, in all sections, each with the name that the key has now.
    If the model is None, those that every scenario has."""
    keys = [*CHECK.keys, *SEE.keys]
    if model is not None:
        keys += [*model_keys(model, ())]
        for settings in (setting_keys(model, "Container"), setting_keys(model, "Network")):
            keys += () if settings is None else settings.keys
        if not model.MACHINES[1]:
            from labctl.scenario.ipset_field import IP_SET
            from labctl.scenario.raw_language import CHAIN, LINK, NAMESPACE

            keys += (*NAMESPACE.keys, *LINK.keys, *CHAIN.keys, *IP_SET.keys)
    return {name: key.name for key in keys for name in key.old}


def _default_text(default: Any) -> str:
    """A default as a file would write it."""
    if isinstance(default, bool):
        return "true" if default else "false"
    if isinstance(default, tuple):
        return "[" + ", ".join(str(item) for item in default) + "]"
    return "" if default is None or default is dataclasses.MISSING else str(default)


_TYPE_BY_ANNOTATION: dict[Any, Any] = {
    bool: values.BOOLEAN,
    float: values.NUMBER,
    IPv4Network: values.network(4, for_hosts=True),
    IPv6Network: values.network(6),
    IPv4Address: values.address(4, for_hosts=True),
    IPv6Address: values.address(6),
    PublishedPort: port_values.PUBLISHED_PORT,
    ListeningPort: port_values.LISTENING_PORT,
    PodContainer: port_values.POD_CONTAINER,
    NetworkRule: port_values.NETWORK_RULE,
}
_FORMS = {
    "name": values.LABEL,
    "device": values.DEVICE,
    "network": port_values.NETWORK,
    "endpoint": port_values.ENDPOINT,
    "mac": values.MAC,
    "publish": port_values.DOCKER_PORT,
    "publish-sctp": port_values.PODMAN_PORT,
    "binding": values.address(4),
    "rate": values.RATE,
}


def _field_type(annotation: Any, metadata: Any) -> Any:
    """The value type for an option's annotation. Raises TypeError if there is none."""
    if get_origin(annotation) in (Union, types.UnionType):
        inner = [item for item in get_args(annotation) if item is not type(None)]
        if len(inner) == 1:
            kind = _field_type(inner[0], metadata)
            return dataclasses.replace(kind, nullable=True) if isinstance(kind, Scalar) else kind
        if set(inner) == {IPv4Network, IPv6Network}:
            return values.network()
        if set(inner) == {IPv4Address, IPv6Address}:
            return values.address()
    if metadata.get("form") == "labels":
        return LabelsField()
    if metadata.get("form") == "section":
        return SettingsField(SettingsClass(annotation, _field_keys(annotation)))
    if get_origin(annotation) is tuple:
        return ListOf(_field_type(get_args(annotation)[0], metadata), allow_single=bool(metadata.get("single")))
    if metadata.get("form"):
        return _FORMS[metadata["form"]]
    if metadata.get("choices"):
        return values.choice(*metadata["choices"])
    if annotation is int:
        return values.integer(metadata.get("minimum"), metadata.get("maximum"))
    if annotation is str:
        return values.SENTENCE
    if annotation in _TYPE_BY_ANNOTATION:
        return _TYPE_BY_ANNOTATION[annotation]
    from labctl.cni.conflist import Conflist  # only models that call CNI plugins have one

    if annotation is Conflist:
        from labctl.scenario.conflist_field import CONFLIST

        return CONFLIST
    raise TypeError(f"an option cannot be a {annotation}")

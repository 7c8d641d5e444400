"""The keys for API objects in scenarios of Kubernetes models, and what a scenario declares with them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from labctl.core.scenario_types import Scenario
from labctl.errors import ScenarioError, UsageError
from labctl.scenario.document import Position, Reader, TreeNode
from labctl.scenario.field_types import InvalidValue, Key, ListOf, Located, MapOf, Scalar, suggest
from labctl.scenario.labels_field import label_value
from labctl.scenario.manifests.cluster_keys import CLUSTER_KEYS, cluster_keys, with_settings
from labctl.scenario.manifests.documents import LIMITS, parse_documents
from labctl.scenario.manifests.ingress_key import INGRESSES
from labctl.scenario.manifests.inline import NAMESPACES, POLICIES, SERVICES, ObjectsField
from labctl.scenario.manifests.objects import ObjectReader
from labctl.scenario.manifests.places import ObjectPlaces
from labctl.scenario.manifests.pod_placement import PodPlacement
from labctl.scenario.values import LABEL

MACHINES = ("nodes", "pods")  # the words of the models that have these keys


def _file_name(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise InvalidValue("this is not the name of a file", "such as shop.yaml")
    return text


FILE = Scalar("a file, relative to the scenario", _file_name, {"type": "string", "minLength": 1})
ZONE = Scalar("the name of a zone", label_value, {"type": ["string", "number"]})
OBJECT_KEYS = (
    Key(
        "services",
        SERVICES,
        "Services: a name, or NAMESPACE/NAME, and the spec in the words of Kubernetes, such as `{web: {selector: {app:"
        " web}, ports: [80:8080]}}`; `labels` and `annotations` may stand beside it",
    ),
    Key(
        "policies",
        POLICIES,
        "NetworkPolicies: a name, or NAMESPACE/NAME, and the spec in the words of Kubernetes, such as `{deny-all:"
        " {podSelector: {}}}`",
    ),
    Key(
        "ingress",
        INGRESSES,
        "Ingresses: a name, or NAMESPACE/NAME, and the spec in the words of Kubernetes, with `mode: instance` (requests"
        " go to nodes) or `mode: ip` (to pods) beside it, and `address`; in short `{shop: {mode: ip, rules:"
        " {shop.example/cart: web:80}}}`",
    ),
    Key("namespaces", NAMESPACES, "the labels of namespaces, such as `{shop: {team: a}}`"),
    Key("zones", MapOf(LABEL, ZONE), "the zones of nodes, such as `{node1: a}`"),
    Key(
        "manifests",
        ListOf(FILE, allow_single=True),
        "manifests of Kubernetes, YAML or JSON, as people have them; `--manifest FILE` adds further ones",
    ),
)
NAMES = tuple(key.name for key in (*OBJECT_KEYS, *CLUSTER_KEYS))


def object_keys(model: Any) -> tuple[Key, ...]:
    """The keys for API objects of a scenario of this model: none if it does not imitate Kubernetes."""
    return (*OBJECT_KEYS, *cluster_keys(model)) if has_objects(model) else ()


def has_objects(model: Any) -> bool:
    """Whether the scenarios of a model can have API objects."""
    return bool(model.MACHINES == MACHINES)


def with_objects(
    scenario: Scenario,
    model: Any,
    located: Mapping[str, Located],
    manifests: tuple[tuple[str, str], ...],
    root: TreeNode,
    reader: Reader,
) -> tuple[Scenario, ObjectPlaces]:
    """The scenario with what it declares by its keys, and by `manifests`: the names and texts of the files of the
    command line. Pods of manifests are on its nodes. Without any of them, the scenario is as it was.

    `root` is the tree of the scenario, for the positions of problems.
    """
    objects = ObjectReader(reader, root)
    for key in OBJECT_KEYS:
        found = located.get(key.name)
        if found is not None and isinstance(key.field_type, ObjectsField):
            for node in key.field_type.objects(found.value):
                objects.read_object(node, key.field_type.kind, plain_texts=True)
    files = located["manifests"].value if "manifests" in located else ()
    for name in files:
        _read_file(name, objects, reader)
    for file, text in manifests:
        _read_text(text, file, objects, reader)
    if not manifests and not any(key.name in located for key in object_keys(model)):
        return scenario, objects.places
    placement = PodPlacement(scenario.nodes, model, objects.places, reader)
    placement.place(objects.pod_sources)
    names_of_nodes = [node.name for node in scenario.nodes]
    zones = objects.zones(names_of_nodes) | _zones(located, names_of_nodes, reader)
    declared = with_settings(objects.declared(), located, reader)
    warnings, names = (*placement.warnings, *declared.warnings), tuple(placement.pod_names)
    declared = dataclasses.replace(declared, pod_names=names, warnings=warnings, zones=zones)
    return dataclasses.replace(scenario, nodes=placement.nodes, kubernetes=declared), objects.places


def _zones(located: Mapping[str, Located], nodes: Sequence[str], reader: Reader) -> dict[str, str]:
    """The zones of the key `zones`, with a problem recorded for each node that does not exist."""
    zones = {}
    for name, zone in located["zones"].value if "zones" in located else ():
        if name.value not in nodes:
            reader.add_problem(name.at, f"zones: there is no node {name.value!r}", suggest(name.value, nodes))
        zones[name.value] = zone.value
    return zones


def _read_file(name: Located, objects: ObjectReader, reader: Reader) -> None:
    try:
        path, text = reader.open(name.value, LIMITS)
    except UsageError as error:
        hint = error.hint or "the path is relative to the scenario's file"
        reader.add_problem(name.at, f"manifests: {error.message}", hint)
        return
    _read_text(text, path, objects, reader)


def _read_text(text: str, file: str, objects: ObjectReader, reader: Reader) -> None:
    """Read the objects of a file. A mistake in the syntax of one file does not prevent that others are read."""
    try:
        documents = parse_documents(text, file, reader)
    except ScenarioError as error:
        if error.problems == tuple(sorted(set(reader.problems))):
            raise
        for one in error.problems:
            reader.add_problem(Position(one.file, one.line, one.column), one.what, one.hint)
        return
    objects.read_documents(documents)

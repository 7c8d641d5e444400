"""What a scenario declares with its keys for API objects, and with manifests."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from labctl.core.scenario_types import Scenario
from labctl.errors import ScenarioError, UsageError
from labctl.scenario.document import Position, Reader, TreeNode
from labctl.scenario.field_types import Located, suggest
from labctl.scenario.manifests.documents import LIMITS, parse_documents
from labctl.scenario.manifests.ingress_key import INGRESSES
from labctl.scenario.manifests.inline import NAMESPACES, POLICIES, SERVICES
from labctl.scenario.manifests.kube_proxy_key import with_settings
from labctl.scenario.manifests.objects import ObjectReader
from labctl.scenario.manifests.places import ObjectPlaces
from labctl.scenario.manifests.pod_placement import PodPlacement

OBJECTS = {"services": SERVICES, "policies": POLICIES, "ingress": INGRESSES, "namespaces": NAMESPACES}


def with_objects(
    scenario: Scenario,
    model: object,
    located: Mapping[str, Located],
    manifests: tuple[tuple[str, str], ...],
    root: TreeNode,
    reader: Reader,
) -> tuple[Scenario, ObjectPlaces]:
    """The scenario with what it declares by its keys, and by `manifests`: the names and texts of the files of the
    command line. Pods of manifests are on its nodes.

    `root` is the tree of the scenario, for the positions of problems.
    """
    objects = ObjectReader(reader, root)
    for name, field in OBJECTS.items():
        if name in located:
            for node in field.objects(located[name].value):
                objects.read_object(node, field.kind, plain_texts=True)
    files = located["manifests"].value if "manifests" in located else ()
    for one in files:
        _read_file(one, objects, reader)
    for file, text in manifests:
        _read_text(text, file, objects, reader)
    placement = PodPlacement(scenario.nodes, model, objects.places, reader)
    placement.place(objects.pod_sources)
    names_of_nodes = [node.name for node in scenario.nodes]
    zones = objects.zones(names_of_nodes) | _zones(located, names_of_nodes, reader)
    declared = with_settings(objects.declared(), located, reader)
    warnings, names = (*placement.warnings, *declared.warnings), tuple(placement.pod_names)
    subdomains = tuple(placement.subdomains)
    declared = dataclasses.replace(declared, pod_names=names, subdomains=subdomains, warnings=warnings, zones=zones)
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
    if not objects.read_documents(documents):
        hint = "an object has apiVersion, kind, metadata and spec; name the file that has some"
        reader.add_problem(Position(file, 1, 1), "the manifest has no objects", hint)

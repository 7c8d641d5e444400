"""Whatever a manifest holds, it is read or refused with problems that have places, soon, and with nothing else."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labctl.errors import ScenarioError, UsageError
from labctl.scenario.definition import parse_and_compile
from labctl.scenario.document import Map, Position, Reader
from labctl.scenario.manifests.documents import parse_documents
from labctl.scenario.manifests.keys import NAMES as OBJECT_NAMES
from labctl.scenario.manifests.kinds import KINDS
from labctl.scenario.manifests.objects import ObjectReader
from tests.support.paths import GOLDEN
from tests.unit.scenario.manifests.support import NODES

FILES = [path.read_text() for path in sorted((GOLDEN / "manifests").glob("*/*.*")) if path.suffix != ".txt"]
VALUES = (
    "v1",
    "apps/v1",
    "None",
    "web",
    "default",
    "shop",
    "TCP",
    "80",
    "node1",
    "10.0.0.0/8",
    "::1",
    "true",
    "In",
    "",
)
WORDS = sorted({*KINDS, *VALUES})
FAST = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])


def field_names(table: Any, found: set[str]) -> set[str]:
    """The names of all fields that the tables have."""
    for name, inner in getattr(table, "fields", {}).items():
        if name not in found:
            found.add(name)
            field_names(inner, found)
    if hasattr(table, "item"):
        field_names(table.item, found)
    return found


TABLES = tuple(kind.fields for kind in KINDS.values())
NAMES = sorted({name for table in TABLES for name in field_names(table, set())} | {"kind", "apiVersion"})


def read(manifest: str, name: str = "m.yaml") -> None:
    answer(f"{NODES}manifests: {name}\n", {name: manifest})


def answer(text: str, files: dict[str, str]) -> None:
    """Parse; fails the test if anything but a scenario or an error for people comes of it, or it takes long."""
    try:
        parse_and_compile(text, "t.yaml", files=files)
    except (ScenarioError, UsageError) as refused:
        for problem in refused.problems:
            assert problem.what
            assert (problem.what + problem.hint).isprintable()
            assert problem.file in ("t.yaml", *files)
            assert problem.line > 0
            assert problem.column > 0


@FAST
@given(st.text(max_size=300), st.sampled_from(("m.yaml", "m.json")))
def test_any_text(text: str, name: str) -> None:
    read(text, name)


LEAVES = st.sampled_from(WORDS) | st.integers(-1, 70000) | st.booleans() | st.none() | st.floats(allow_nan=False)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=15,
)
OBJECTS = st.builds(
    lambda kind, meta, spec, more: {
        "apiVersion": KINDS[kind].versions[0], "kind": kind, "metadata": meta, "spec": spec, **more
    },
    st.sampled_from(sorted(KINDS)),
    st.fixed_dictionaries({"name": st.sampled_from(("a", "web"))}, optional={"labels": TREES, "namespace": LEAVES}),
    TREES,
    st.dictionaries(st.sampled_from(NAMES), TREES, max_size=2),
)  # fmt: skip


@settings(FAST, max_examples=400)
@given(st.lists(OBJECTS, max_size=3))
def test_any_shape_of_an_object(objects: list[dict[str, Any]]) -> None:
    read(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))


@settings(FAST, max_examples=100)
@given(TREES, st.sampled_from(OBJECT_NAMES))
def test_any_shape_of_a_key(tree: Any, key: str) -> None:
    answer(f"{NODES}{key}: {json.dumps({'web': tree})}\n", {})
    answer(f"{NODES}{key}: {json.dumps(tree)}\n", {})


@st.composite
def damaged(draw: st.DrawFn) -> str:
    """A manifest with words put in, parts cut out, and lines moved."""
    text = draw(st.sampled_from(FILES))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = draw(st.integers(start, min(len(text), start + 12)))
        words = st.sampled_from(("", *WORDS, *NAMES, ": ", "- ", "{", "}", "\n", "'", "*labels", "&x ", "---\n"))
        text = text[:start] + draw(words | st.text(max_size=4)) + text[end:]
    return text


@settings(FAST, max_examples=200)
@given(damaged())
def test_damaged_manifests(text: str) -> None:
    read(text, "m.json" if text.startswith("{\n") else "m.yaml")


def cluster(services: int) -> list[dict[str, Any]]:
    """Services with ten endpoints each."""
    objects: list[dict[str, Any]] = []
    for number in range(services):
        meta = {"name": f"s-{number}-x", "labels": {"kubernetes.io/service-name": f"s-{number}"}}
        ips = [f"10.{number >> 8}.{number & 255}.{one}" for one in range(10)]
        endpoints = [{"addresses": [ip], "conditions": {"ready": True}, "nodeName": "node1"} for ip in ips]
        ports = [{"port": 8080, "protocol": "TCP"}]
        spec = {"selector": {"app": f"a{number}"}, "ports": [{"port": 80, "targetPort": 8080}]}
        objects += [
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": f"s-{number}"}, "spec": spec},
            {
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": meta, "addressType": "IPv4",
                "endpoints": endpoints, "ports": ports,
            },
        ]  # fmt: skip
    return objects


@pytest.mark.parametrize("name", ["m.yaml", "m.json"])
def test_the_work_of_reading_grows_with_the_number_of_objects(name: str) -> None:
    def calls(services: int) -> int:
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": cluster(services)}, indent=1)
        reader = Reader()
        count = 0

        def add(*_: object) -> None:
            nonlocal count
            count += 1

        sys.setprofile(add)
        objects = ObjectReader(reader, Map(Position("t.yaml")))
        objects.read_documents(parse_documents(text, name, reader))
        sys.setprofile(None)
        assert reader.problems == []
        assert len(objects.declared().slices) == services
        return count

    few, many = calls(25), calls(100)

    assert many < 5 * few, "the work grows faster than the number of objects"

"""Where API objects stand in their files, for problems that are found when the whole lab is known."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from labctl.core.scenario_types import Scenario
from labctl.kubernetes.api.problems import SCENARIO, ObjectProblem
from labctl.scenario.document import Map, Position, Reader, Seq, TreeNode
from labctl.scenario.manifests.api_types import Path, field_path

MAX_WARNINGS = 40


@dataclass(slots=True)
class ObjectPlaces:
    """The trees of all objects that were read, by kind, namespace ("" for kinds without one) and name.

    `root` is the scenario. Its start is reported for an object that is in no file. `makers` are the objects of
    manifests that make pods, by the pod's name in the lab.
    """

    root: TreeNode
    trees: dict[tuple[str, str, str], TreeNode] = field(default_factory=dict)
    makers: dict[str, tuple[str, str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.trees[SCENARIO, "", ""] = self.root

    def position(self, kind: str, namespace: str, name: str, path: Path = ()) -> Position:
        """Where the field of an object stands: the deepest step of the path that exists. For the last step this is the
        position of its value, for a value that is absent that of the mapping."""
        node = self.trees.get((kind, namespace, name)) or self.trees.get((kind, "", name))
        if node is None:
            return self.root.position
        position = _name_position(node)
        for step in path:
            if isinstance(node, Map) and isinstance(step, str):
                node = next((value for key, value in node.items if key.value == step), None)
            elif isinstance(node, Seq) and isinstance(step, int) and step < len(node.items):
                node = node.items[step]
            else:
                node = None
            if node is None:
                break
            position = node.position
        return position

    def report_pod(self, path: str, what: str, hint: str, scenario: Scenario, reader: Reader) -> bool:
        """Add the error about `nodes/node1/pods/web-1`, or with `nodes/node1/pods` about the last pod of the node, at
        the object of a manifest that makes this pod. False if the pod is the scenario's own, or the path another."""
        key, node, pods, pod, *_ = (*path.split("/"), "", "", "")
        names = next((one.pods for one in scenario.nodes if one.name == node), ())
        if (key, pods) != ("nodes", "pods") or not names or (pod or names[-1]) not in self.makers:
            return False
        self.report([ObjectProblem(*self.makers[pod or names[-1]], (), what, hint)], reader)
        return True

    def report(self, problems: Iterable[ObjectProblem], reader: Reader) -> tuple[str, ...]:
        """Add the errors to a reader. Return the warnings as sentences with their places, at most MAX_WARNINGS."""
        warnings: list[str] = []
        for one in problems:
            at = self.position(one.kind, one.namespace, one.name, one.path)
            what = f"{object_title(one.kind, one.namespace, one.name)}: {_path(one.path)}{one.what}"
            if one.warning:
                hint = f" ({one.hint})" if one.hint else ""
                warnings.append(f"{at.file}:{at.line}:{at.column}: {what}{hint}")
            else:
                reader.add_problem(at, what, one.hint)
        more = len(warnings) - MAX_WARNINGS
        return (*warnings[:MAX_WARNINGS], *([f"and {more} more warnings about objects"] if more > 0 else ()))


def object_title(kind: str, namespace: str, name: str) -> str:
    """An object in messages: `Service shop/web`; without the namespace `default`."""
    if kind == SCENARIO:
        return kind
    return f"{kind} {name}" if namespace in ("", "default") else f"{kind} {namespace}/{name}"


def _path(path: Path) -> str:
    return f"{field_path(path)}: " if path else ""


def _name_position(node: TreeNode) -> Position:
    """The position of an object's name, which people look for; else that of the object."""
    for step in ("metadata", "name"):
        if not isinstance(node, Map):
            break
        node = next((value for key, value in node.items if key.value == step), node)
    return node.position

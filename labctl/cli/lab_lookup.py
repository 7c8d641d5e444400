"""The lab and the nodes that a verb is about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labctl.errors import UsageError

if TYPE_CHECKING:
    from labctl.core.scenario_types import Lab


def recall(name: str, scenario: str | None, sets: tuple[str, ...], manifests: tuple[str, ...] = ()) -> Lab:
    """The definition of a running lab, compiled. Raises UsageError."""
    from labctl.lab import lifecycle

    if sets and scenario is None:
        raise UsageError("--set needs --scenario FILE", "the record of a running lab has its values")
    if manifests and scenario is None:
        raise UsageError("--manifest needs --scenario FILE", "the record of a running lab has its manifests")
    return lifecycle.load_compiled_lab(name, scenario, sets, manifests)


def find_nodes(lab: str, node: str | None) -> tuple[str, ...]:
    """The namespace of the named node, or of all nodes. Raises UsageError with a suggestion."""
    from labctl.kernel.host import paths

    nodes = paths.labs().get(lab, ())
    if node is None:
        return nodes
    namespace = netns_owners(lab).get(node, node)
    if namespace in nodes:
        return (namespace,)
    from labctl.core.names import did_you_mean, summarize_names

    hint = f"{did_you_mean(node, nodes, 0.5)} its nodes are {summarize_names(nodes, 30)}".lstrip()
    raise UsageError(f"lab {lab} has no node {node!r}", hint)


def netns_owners(lab: str) -> dict[str, str]:
    """The machines that share the network namespace of another machine, with that machine (Docker's `host`)."""
    from labctl.kernel.host import definition_record

    record = definition_record.load(lab) or {}
    return {one["name"]: one["within"] for one in record.get("machines", ()) if one.get("within")}

"""Whether the ranges of Services fit into a lab. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from labctl.core.resources import Address, Net
from labctl.core.scenario_types import Lab
from labctl.kubernetes.api.problems import SCENARIO, ObjectProblem


def range_problems(service_cidrs: tuple[Net, ...], lab: Lab, *, overlap: bool = False) -> Iterator[ObjectProblem]:
    """The mistakes in the ranges that the author of a scenario wrote: an API server refuses two of one family, and a
    cluster with a range of Services in which machines have addresses loses their packets (which `overlap` allows)."""
    versions: set[int] = set()
    for number, cidr in enumerate(service_cidrs):
        if cidr.version in versions:
            yield _problem(
                number, f"{cidr} is a second range of IPv{cidr.version}", "one range for each address family"
            )
        versions.add(cidr.version)
        other = next((one for one in lab.plan if isinstance(one, Address) and _overlaps(cidr, one.addr.network)), None)
        if other is not None and not overlap:
            what = f"{cidr} overlaps {other.addr.network}, the network of {other.at}"
            yield _problem(number, what, "choose another range")


def cloud_refusals(
    service_cidrs: tuple[Net, ...], refuse: Callable[[Net, Any], Iterable[tuple[str, str]]] | None, options: Any
) -> Iterator[ObjectProblem]:
    """What the cloud of the model refuses in the ranges that the author of a scenario wrote. `refuse` and `options` are
    those of the model."""
    for number, cidr in enumerate(service_cidrs):
        for what, hint in refuse(cidr, options) if refuse is not None else ():
            yield _problem(number, what, hint)


def _overlaps(one: Net, other: Net) -> bool:
    return one.version == other.version and one.overlaps(other)


def _problem(number: int, what: str, hint: str) -> ObjectProblem:
    return ObjectProblem(SCENARIO, "", "", ("service_cidr", number), what, hint)

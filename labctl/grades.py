"""How true a model is to the real thing, part by part: faithful, approximate, missing from it, or beyond this kernel.

A model states it as data, in a tuple called `PARTS`:

    PARTS = (
        faithful("azure0 with eth0's address and routes, the ebtables rules in their order"),
        approximation("the load balancer", "is one SNAT rule without port blocks"),
        needs("vlan", "the tenants' VLAN sub-interfaces of eth0", instead="a veth of its own for each tenant"),
        skipped("the embedded DNS, IPv6"),
    )

`list`, `show` and the model's page say it. Where the kernel lacks a `feature` that a lab needs, `up` says so
before anything is built, and builds the substitute only when it is asked to (`--approximate`). Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Grade: TypeAlias = Literal["faithful", "approximation", "needs", "skipped"]


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a model and how true it is. `what` is the part; `why` is what differs, and the reason.

    `feature` is the kernel feature that a part needs, by the word that `labctl doctor` has for it (mostly a
    link kind: `vlan`, `ipip`); `instead` is what `--approximate` builds where the kernel lacks it, "" for nothing.
    """

    grade: Grade
    what: str
    why: str = ""
    feature: str = ""
    instead: str = ""


def faithful(what: str) -> Part:
    """The same kernel objects as the real thing makes."""
    return Part("faithful", what)


def approximation(what: str, why: str) -> Part:
    """Close to the real thing: `why` says what differs and the reason."""
    return Part("approximation", what, why)


def needs(feature: str, what: str, why: str = "", *, instead: str = "") -> Part:
    """As faithful as the kernel allows: a part that wants a feature which not every kernel has."""
    return Part("needs", what, why, feature, instead)


def skipped(what: str, why: str = "") -> Part:
    """A part of the real thing that the model leaves out."""
    return Part("skipped", what, why)

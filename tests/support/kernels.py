"""Which built-in scenarios need a kernel feature that not every kernel has, and which of them can be built here.

Each such scenario is tested twice, and the id of a test says which: exactly, where this kernel has the feature
(else the test is skipped and says what is missing), and `approximate`, with what the model builds instead.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Any

import pytest

from labctl.core.features import kernel_module, required_features
from labctl.core.fidelity import substitutes
from labctl.core.iptables import Backend
from labctl.kernel.apply import features
from labctl.kernel.firewall import backend
from labctl.kernel.host import modules
from labctl.lab import lifecycle
from labctl.scenario import catalog


@cache
def substitutes_by_scenario() -> dict[str, tuple[str, ...]]:
    """The built-in scenarios with a model that has a substitute for a feature that they need, with the features."""
    found = {}
    for entry in catalog.entries():
        if known := substitutes(entry.parts):
            wanted = required_features(lifecycle.compile_definition(lifecycle.define(entry.name)).plan)
            found[entry.name] = tuple(feature for feature in wanted if feature in known)
    return {name: some for name, some in found.items() if some}


def built_in() -> list[Any]:
    """Every built-in scenario as a parameter: its name, and the features that are to be built otherwise."""
    twice = substitutes_by_scenario()
    rows = []
    for name in catalog.names():
        reason = missing_text(twice.get(name, ()))
        rows.append(pytest.param(name, (), id=name, marks=pytest.mark.skipif(bool(reason), reason=reason)))
    for name, some in twice.items():
        reason = substitute_problem(some)
        mark = pytest.mark.skipif(bool(reason), reason=reason)
        rows.append(pytest.param(name, some, id=f"{name}-approximate", marks=mark))
    return rows


def define(name: str, sets: tuple[str, ...] = (), approximate: tuple[str, ...] = ()) -> lifecycle.Definition:
    """The definition of a scenario, with these features built otherwise whatever the kernel has."""
    definition = lifecycle.define(name, overrides=sets)
    return lifecycle.with_substitutes(definition, approximate) if approximate else definition


def substitute_problem(some: tuple[str, ...]) -> str:
    """Why these features cannot be built otherwise here; "" if they can. Where a kernel has IP in IP, tunl0 is its own
    in every namespace, and no TUN device can have that name."""
    known = "ipip" in some and os.geteuid() == 0 and not missing_text(("ipip",))
    return "this kernel has ipip, and a tunl0 of its own" if known else ""


@cache
def backend_problem(name: Backend) -> str:
    """Why no rules can be written with a back end; "" if they can, or if no kernel may be asked."""
    if os.geteuid() != 0:
        return ""
    modules.load(backend.MODULES[name], print)  # as `up` does: newer kernels load no legacy table by themselves
    return backend.backend_problem(name)


LEGACY = pytest.mark.skipif(bool(backend_problem("legacy")), reason=f"no legacy iptables: {backend_problem('legacy')}")


@cache
def missing_text(some: tuple[str, ...]) -> str:
    """Why a test cannot be run that needs these features; "" if it can, or if no kernel may be asked."""
    if not some or os.geteuid() != 0:
        return ""
    modules.load(map(kernel_module, some), print)  # as `up` does: what the kernel loads by itself may bring devices
    missing = features.missing_features(some)
    return f"this kernel lacks {', '.join(missing)}" if missing else ""

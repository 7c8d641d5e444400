"""The labs on this machine and their records: which labs run, and the definition of each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from labctl.core.iptables import BACKENDS, Backend
from labctl.core.names import did_you_mean, summarize_names
from labctl.core.scenario_types import Lab
from labctl.errors import UsageError
from labctl.kernel.host.user import user_name
from labctl.scenario.definition import Definition, compile_definition, define

if TYPE_CHECKING:
    from labctl.core.lab_results import RunningSummary


MAX_LISTED = 20  # labs in a message


def running_labs() -> tuple[RunningSummary, ...]:
    """Every lab on this machine."""
    from labctl.core.lab_results import RunningSummary
    from labctl.kernel.host import definition_record, paths

    found = []
    for name, nodes in paths.labs().items():
        record = definition_record.load(name) or {}
        features, owner = tuple(record.get("approximate", ())), paths.owner_of(name)
        found.append(
            RunningSummary(name, nodes, record.get("model"), record.get("file"), features, _firewall(record), owner)
        )
    return tuple(found)


def resolve_lab_name(name: str | None) -> str:
    """The lab of a command: the named one, else that of LABCTL_LAB, else the only one of this user, else the only one.

    Raises UsageError, which lists the labs.
    """
    from labctl.kernel.host import paths

    labs = paths.labs()
    chosen = paths.default_lab(labs) if name is None else name
    if chosen is not None and chosen in labs:
        return chosen
    if chosen is not None:
        variable = f"{paths.LAB_VARIABLE}: " if name is None else ""
        hint = did_you_mean(chosen, labs) or f"running: {', '.join(labs) or 'none'}"
        raise UsageError(f"{variable}no lab {chosen!r} runs", hint)
    if not labs:
        raise UsageError("no lab runs", f"start one: {paths.command_prefix()} up kubenet")
    own = paths.own_labs(labs)
    which = f"several labs run, and none is of {user_name()}: " if not own else "several labs run: "
    raise UsageError(which + summarize_names(own or tuple(labs), MAX_LISTED), f"name one: -l {(own or tuple(labs))[0]}")


def resolve_own_lab_name() -> str:
    """The lab that `down` without a name removes: one of this user's; for root, any. Raises UsageError."""
    from labctl.kernel.host import paths
    from labctl.kernel.host.lab_owner import removable_labs

    labs = tuple(paths.labs())
    if labs and paths.given_lab() is None and not removable_labs(labs):
        raise UsageError(f"no lab of {user_name()} runs", "labctl list shows all labs and their owners")
    return resolve_lab_name(None)


def load_compiled_lab(
    name: str, scenario: str | None = None, overrides: tuple[str, ...] = (), manifests: tuple[str, ...] = ()
) -> Lab:
    """The compiled lab of a running lab, from its recorded definition or from `scenario` (a file or name), perhaps with
    the files of --manifest.

    Raises UsageError with a hint at --scenario FILE if the definition is lost.
    """
    if scenario is not None:
        from labctl.kernel.firewall import backend

        firewall = backend.backend_of(name)
        return compile_definition(define(scenario, name, overrides, firewall=firewall, manifests=manifests))
    definition = load_definition(name)
    if definition is None:
        from labctl.kernel.host import definition_record

        problem = definition_record.problem(name) or "cannot be used"
        raise UsageError(f"the definition of lab {name} {problem}", "name its scenario: --scenario FILE")
    return compile_definition(definition)


def load_definition(name: str) -> Definition | None:
    """The recorded definition of a running lab; None if it is lost, or cannot be used."""
    from labctl.kernel.host import definition_record

    record = definition_record.load(name)
    if record is None:
        return None
    features = tuple(record.get("approximate", ()))
    files = tuple((one, text) for one, text in record.get("files", ()))
    sets, firewall = tuple(record["sets"]), _firewall(record)
    manifests = tuple(record.get("manifests", ()))
    return Definition(name, record["file"], record["text"], sets, features, files, firewall, manifests)


def _firewall(record: Mapping[str, Any]) -> Backend | None:
    """The back end in a record; legacy in an older record without one. None if there is no record."""
    backend = record.get("firewall")
    return (backend if backend in BACKENDS else "legacy") if record else None


def save_definition(definition: Definition, lab: Lab) -> None:
    """Record the lab's definition and its machines, so that entering a node needs no compilation. What an
    exercise, a lesson or a hidden fault is about is encoded."""
    from labctl.kernel.host import definition_record, lab_state

    names, namespaces = _cluster_names(lab)
    machines = [
        {
            "name": machine.name,
            "role": machine.role,
            "on": machine.on,
            "within": machine.netns_of,
            "addresses": [*map(str, machine.addresses)],
        }
        | ({"namespace": namespaces[machine.name]} if machine.name in namespaces else {})
        for machine in lab.machines
    ]
    record = {
        "name": lab.name,
        "model": lab.model,
        "file": definition.file,
        "text": definition.text,
        "sets": list(definition.overrides),
        "approximate": list(definition.substitute_features),
        "firewall": lab.firewall,
        "files": [list(pair) for pair in definition.files],
        "manifests": list(definition.manifests),
        "machines": machines,
        "services": [{"names": list(one.names), "addresses": [*map(str, one.ips)]} for one in lab.virtual_addresses],
        "dns": [{"name": name, "address": address} for name, address in names],
    }
    if lab.exercise is not None or lab.lesson is not None or lab.faults:  # the text has answers
        record = definition_record.encoded(record)
    lab_state.save(lab.name, "definition.json", json.dumps(record, ensure_ascii=False))


def _cluster_names(lab: Lab) -> tuple[tuple[tuple[str, str], ...], Mapping[str, str]]:
    """The names of cluster DNS that stand for several addresses, and the Kubernetes namespace of each pod."""
    if lab.kubernetes is None:
        return (), {}
    from labctl.kubernetes.services.cluster_dns import headless_names, search_namespaces

    return tuple(headless_names(lab.kubernetes)), search_namespaces(lab.kubernetes)

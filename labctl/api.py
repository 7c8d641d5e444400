"""The verbs for programs: `load`, `plan`, `up`, `down`, `check`, `trace`. The command line calls the same functions.

Import them from `labctl`. Every error is a `LabError`: a message, a hint, and the exit code of the command line.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from labctl.core.iptables import BACKENDS
from labctl.core.resources import Plan
from labctl.core.scenario_types import Lab
from labctl.errors import UsageError
from labctl.lab.records import resolve_own_lab_name
from labctl.running_lab import MessageCallback, RunningLab, Traced, remove, require_root
from labctl.scenario.definition import Definition, define, define_text, with_substitutes

if TYPE_CHECKING:
    from labctl.core.iptables import Backend
    from labctl.core.results import Outcome, Report
    from labctl.core.scenario_types import Check

ScenarioSource: TypeAlias = "str | os.PathLike[str] | Mapping[str, Any] | Definition"
Overrides: TypeAlias = "Mapping[str, object] | Iterable[str]"


def load(
    scenario: ScenarioSource,
    *,
    name: str | None = None,
    set: Overrides | None = None,
    approximate: bool = False,
    firewall: Backend | None = None,
    manifests: Iterable[str | os.PathLike[str]] = (),
) -> Definition:
    """Read and validate a scenario. Nothing is built, and no root is needed.

    `scenario` is a built-in name (`kubenet`), a file (a text with a `/` or ending in .yaml, or a path object), the
    YAML itself (a text of more than one line), the same as a mapping, or a Definition that this function returned,
    which the other arguments then change. `name` is the lab's name; by default the scenario's name. `set` changes
    values: `{"routing": "host", "nodes.node1.pods": 3}`, or texts `KEY=VALUE`. `firewall` is the back end of the
    rules, `legacy` or `nft`; without it the kernel decides. `manifests` are files with objects of Kubernetes, relative
    to the current folder, for a model with nodes and pods.
    Raises ScenarioError with every mistake and its position, UsageError for an unknown name or for a value that is
    not a scenario.
    """
    sets = _override_texts(set)
    if firewall is not None and firewall not in BACKENDS:
        raise UsageError(f"there is no firewall {firewall!r}", f"firewall= is {' or '.join(BACKENDS)}")
    options: dict[str, Any] = {"approximate": approximate, "firewall": firewall}
    options["manifests"] = tuple(os.fspath(one) for one in manifests)
    if isinstance(scenario, Definition):
        return _changed(scenario, name, sets, options)
    if isinstance(scenario, Mapping):
        import json

        text = json.dumps(scenario, indent=1, ensure_ascii=False, default=str)  # JSON is YAML
        return define_text("<scenario>", text, name, sets, **options)
    if isinstance(scenario, str) and "\n" in scenario:
        return define_text("<scenario>", scenario, name, sets, **options)
    if not isinstance(scenario, (str, os.PathLike)):
        hint = "a built-in name such as 'kubenet', a path, the YAML itself, or a mapping"
        raise UsageError(f"{scenario!r} is not a scenario", hint)
    name_or_file = scenario if isinstance(scenario, str) else _path_text(os.fspath(scenario))
    return define(name_or_file, name, sets, **options)


def _changed(old: Definition, name: str | None, sets: tuple[str, ...], options: dict[str, Any]) -> Definition:
    """A definition with another name, further values or manifests. The files that it has are not read again."""
    options = {**options, "firewall": options["firewall"] or old.firewall}
    changes = name is not None or sets or options["approximate"] or options["manifests"]
    if not changes and options["firewall"] == old.firewall:
        return old
    options["manifests"] = (*old.manifests, *options["manifests"])
    name_and_sets = (old.name if name is None else name, (*old.overrides, *sets))
    new = define_text(old.file, old.text, *name_and_sets, **options, known_files=dict(old.files))
    return with_substitutes(new, old.substitute_features) if old.substitute_features else new


def plan(
    scenario: ScenarioSource,
    *,
    name: str | None = None,
    set: Overrides | None = None,
    manifests: Iterable[str | os.PathLike[str]] = (),
) -> Plan:
    """Every kernel object of a scenario, as frozen data (types: `labctl.core.resources`). Nothing is built.

    Raises as `load` does.
    """
    return load(scenario, name=name, set=set, manifests=manifests).compiled.plan


def up(
    scenario: ScenarioSource,
    *,
    name: str | None = None,
    set: Overrides | None = None,
    approximate: bool = False,
    firewall: Backend | None = None,
    keep: bool = False,
    replace: bool = False,
    force: bool = False,
    progress: MessageCallback | None = None,
    manifests: Iterable[str | os.PathLike[str]] = (),
) -> RunningLab:
    """Bring a lab up, or repair a running one of the same definition. Needs root.

    If building fails, everything is removed again, unless `keep` is true. `replace` replaces a running lab that has
    the same name but another definition, and `force` changes that of another user. `approximate` builds the model's
    substitutes for features that this kernel lacks, and `firewall` names the back end of the rules. `manifests` are
    files with objects of Kubernetes.
    Raises ScenarioError, UsageError, MissingError (no root, or the kernel or a tool lacks something), KernelError,
    LockError.
    """
    from labctl.lab import lifecycle

    definition = load(scenario, name=name, set=set, approximate=approximate, firewall=firewall, manifests=manifests)
    require_root("up")
    options: dict[str, Any] = {"keep": keep, "replace": replace, "approximate": approximate, "force": force}
    result = lifecycle.up(definition, progress=progress, **options)
    return RunningLab(result.lab.name, result)


def down(
    lab: str | RunningLab | None = None, *, warn: MessageCallback | None = None, force: bool = False
) -> tuple[str, ...]:
    """Remove a lab completely (without a name, the only running lab of this user). Needs root.

    Returns the machines that were removed; none if the lab did not exist. `warn` gets the errors of CNI plugins.
    Raises UsageError for the lab of another user, unless `force`.
    """
    require_root("down")
    name = lab if lab is None or isinstance(lab, str) else lab.name
    return remove(resolve_own_lab_name() if name is None else name, warn, force=force)


def check(
    lab: str | RunningLab | Lab | None = None,
    word: str | None = None,
    *,
    pcap: str | os.PathLike[str] | None = None,
    keep: Callable[[Check, bytes], str] | None = None,
    progress: Callable[[Outcome], None] | None = None,
    all_pairs: bool = False,
) -> Report:
    """Prove every claim of a running lab with packets, or only the claims that contain `word`. Needs root.

    `pcap` is a folder for the packets of each check; or `keep` gets them and returns where they are. `progress` gets
    each outcome as soon as it is decided. A large mesh asks a sample of its pairs, with `all_pairs` every one
    (`outcome.pairs` has the numbers). Raises UsageError if no lab runs or no check contains the word.
    """
    return _running(lab, "check").check(word, pcap=pcap, keep=keep, progress=progress, all_pairs=all_pairs)


def trace(
    source: str,
    target: str,
    *,
    lab: str | RunningLab | Lab | None = None,
    tcp: int | None = None,
    udp: int | None = None,
    size: int | None = None,
    fragment: bool = False,
    sport: int | None = None,
    listen: bool | str = False,
    progress: MessageCallback | None = None,
    warn: MessageCallback | None = None,
) -> Traced:
    """Send one packet from a machine and follow it through every namespace, and back. Needs root.

    `target` is a machine, a point (`node1/eth0`) or an address. The packet is an ICMP echo request, or the first packet
    of a TCP connection to port `tcp`, or a UDP datagram to port `udp`, with `size` bytes of payload, from source port
    `sport`. With `listen`, labctl answers on the port in `target`; with `listen="web:80"` on that port of that machine,
    for a target behind a translation (DNAT); `listen="80"` is another port in `target`. A lost packet is not an error:
    the result says where it was lost, and why. Only one trace runs in a lab; another one waits. Raises UsageError,
    KernelError (also if another socket has the source port), LockError.
    """
    return _running(lab, "trace").trace(
        source,
        target,
        tcp=tcp,
        udp=udp,
        size=size,
        fragment=fragment,
        sport=sport,
        listen=listen,
        progress=progress,
        warn=warn,
    )


def _running(lab: str | RunningLab | Lab | None, verb: str) -> RunningLab:
    """The lab that is meant: the only one for None. Raises MissingError without root, UsageError if it does not run."""
    require_root(verb)
    if isinstance(lab, RunningLab):
        return lab
    return RunningLab(lab.name, definition=lab) if isinstance(lab, Lab) else RunningLab(lab)


def _path_text(path: str) -> str:
    return path if "/" in path else f"./{path}"


def _override_texts(sets: Overrides | None) -> tuple[str, ...]:
    """The values to set, as arguments of the option --set."""
    if sets is None or isinstance(sets, str):
        if sets:
            raise UsageError(f"set={sets!r} is a text", f"use a mapping, or a list of texts: set=[{sets!r}]")
        return ()
    if isinstance(sets, Mapping):
        return tuple(f"{key}={_yaml_text(value)}" for key, value in sets.items())
    return tuple(sets)


def _yaml_text(value: object) -> str:
    """A value as YAML. A text is used as it is, as on the command line."""
    try:
        if value is None or isinstance(value, (bool, Mapping, list, tuple)):
            import json

            return json.dumps(value, ensure_ascii=False, default=str)
        return str(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"a value of set= cannot be written as YAML: {error}") from None

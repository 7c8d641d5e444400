"""The verbs for programs: `load`, `plan`, `up`, `down`, `check`, `trace`. The command line calls the same ones.

Import them from `labctl`. Every error is a `LabError`: a sentence, a hint, and the command line's exit code.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from labctl.core.iptables import BACKENDS
from labctl.core.resources import Plan
from labctl.core.scenario_types import Lab
from labctl.errors import UsageError
from labctl.lab.records import choose
from labctl.running_lab import RunningLab, Tell, Traced, ready, remove
from labctl.scenario.definition import Definition, approximated, define, written

if TYPE_CHECKING:
    from labctl.core.iptables import Backend
    from labctl.core.results import Outcome, Report
    from labctl.core.scenario_types import Check

Source: TypeAlias = "str | os.PathLike[str] | Mapping[str, Any] | Definition"
Sets: TypeAlias = "Mapping[str, object] | Iterable[str]"


def load(
    scenario: Source,
    *,
    name: str | None = None,
    set: Sets | None = None,
    approximate: bool = False,
    firewall: Backend | None = None,
) -> Definition:
    """Read a scenario, whole; nothing is built, and no root is needed.

    `scenario` is a built-in name (`kubenet`), a file (a text with a `/` or ending in .yaml, or a path object), the
    YAML itself (a text of more than one line), the same as a mapping, or what this returned before, which is changed
    by the rest. `name` is the lab's name if not the scenario's own. `set` changes values: `{"routing": "host",
    "nodes.node1.pods": 3}`, or texts `KEY=VALUE`. `firewall` is the back end of its rules, `legacy` or `nft`; without
    it the kernel decides.
    Raises ScenarioError with every mistake at its place, UsageError for an unknown name, or for what is no
    scenario at all.
    """
    sets = _words(set)
    if firewall is not None and firewall not in BACKENDS:
        raise UsageError(f"there is no firewall {firewall!r}", f"firewall= is {' or '.join(BACKENDS)}")
    if isinstance(scenario, Definition):
        back_end = firewall or scenario.firewall
        if name is None and not sets and not approximate and back_end == scenario.firewall:
            return scenario
        words = (scenario.name if name is None else name, (*scenario.sets, *sets))
        made = written(scenario.file, scenario.text, *words, approximate=approximate, firewall=back_end)
        return approximated(made, scenario.approximate) if scenario.approximate else made
    if isinstance(scenario, Mapping):
        import json

        text = json.dumps(scenario, indent=1, ensure_ascii=False, default=str)  # JSON is YAML
        return written("<scenario>", text, name, sets, approximate=approximate, firewall=firewall)
    if isinstance(scenario, str) and "\n" in scenario:
        return written("<scenario>", scenario, name, sets, approximate=approximate, firewall=firewall)
    if not isinstance(scenario, (str, os.PathLike)):
        hint = "a built-in name such as 'kubenet', a path, the YAML itself, or a mapping"
        raise UsageError(f"{scenario!r} is no scenario", hint)
    word = scenario if isinstance(scenario, str) else _file(os.fspath(scenario))
    return define(word, name, sets, approximate=approximate, firewall=firewall)


def plan(scenario: Source, *, name: str | None = None, set: Sets | None = None) -> Plan:
    """Every kernel object that a scenario becomes, as frozen data (types: `labctl.core.resources`); nothing is built.

    Raises as `load` does.
    """
    return load(scenario, name=name, set=set).compiled.plan


def up(
    scenario: Source,
    *,
    name: str | None = None,
    set: Sets | None = None,
    approximate: bool = False,
    firewall: Backend | None = None,
    keep: bool = False,
    replace: bool = False,
    progress: Tell | None = None,
) -> RunningLab:
    """Bring a lab up, or repair a running one of the same definition. Needs root.

    If building fails, all is removed again, unless `keep`. `replace` replaces a running lab of the same name and
    another definition. `approximate` builds what the model has instead of features that this kernel lacks, and
    `firewall` names the back end of the rules.
    Raises ScenarioError, UsageError, MissingError (no root, or the kernel or a tool lacks something), KernelError,
    LockError.
    """
    from labctl.lab import lifecycle

    definition = load(scenario, name=name, set=set, approximate=approximate, firewall=firewall)
    ready("up")
    how: dict[str, Any] = {"keep": keep, "replace": replace, "approximate": approximate, "progress": progress}
    result = lifecycle.up(definition, **how)
    return RunningLab(result.lab.name, result)


def down(lab: str | RunningLab | None = None, *, warn: Tell | None = None) -> tuple[str, ...]:
    """Remove a lab (the only one that runs, if none is named), leaving the machine as it was. Needs root.

    Returns its machines that went; none, if it was not there. `warn` is told what CNI plugins complained about.
    """
    ready("down")
    name = lab if lab is None or isinstance(lab, str) else lab.name
    return remove(choose(name) if name is None else name, warn)


def check(
    lab: str | RunningLab | Lab | None = None,
    word: str | None = None,
    *,
    pcap: str | os.PathLike[str] | None = None,
    keep: Callable[[Check, bytes], str] | None = None,
    progress: Callable[[Outcome], None] | None = None,
) -> Report:
    """Prove every claim of a running lab with packets, or those claims that `word` is in. Needs root.

    `pcap` is a folder for the packets of each check; or `keep` is given them and says where they went. `progress` is
    told each outcome as soon as it is decided. Raises UsageError if no lab runs or no check has the word.
    """
    return _running(lab, "check").check(word, pcap=pcap, keep=keep, progress=progress)


def trace(
    source: str,
    target: str,
    *,
    lab: str | RunningLab | Lab | None = None,
    tcp: int | None = None,
    udp: int | None = None,
    size: int | None = None,
    fragment: bool = False,
    listen: bool = False,
    progress: Tell | None = None,
    say: Tell | None = None,
) -> Traced:
    """Send one packet from a machine and follow it through every namespace, and back. Needs root.

    `target` is a machine, a port (`node1/eth0`) or an address. An ICMP echo request, or the first packet of a TCP
    connection, or a UDP datagram, of `size` bytes of payload; `listen` lets labctl answer on the port meanwhile.
    A packet that is lost is no error: the story says where, and why. One trace at a time in a lab:
    another waits. Raises UsageError, KernelError, LockError.
    """
    return _running(lab, "trace").trace(
        source,
        target,
        tcp=tcp,
        udp=udp,
        size=size,
        fragment=fragment,
        listen=listen,
        progress=progress,
        say=say,
    )


def _running(lab: str | RunningLab | Lab | None, verb: str) -> RunningLab:
    """The lab that is meant: the only one for None. Raises MissingError without root, UsageError if it does not run."""
    ready(verb)
    if isinstance(lab, RunningLab):
        return lab
    return RunningLab(lab.name, definition=lab) if isinstance(lab, Lab) else RunningLab(lab)


def _file(path: str) -> str:
    return path if "/" in path else f"./{path}"


def _words(sets: Sets | None) -> tuple[str, ...]:
    """Values to set as the command line's words."""
    if sets is None or isinstance(sets, str):
        if sets:
            raise UsageError(f"set={sets!r} is a text", f"a mapping, or a list of texts: set=[{sets!r}]")
        return ()
    if isinstance(sets, Mapping):
        return tuple(f"{key}={_value(value)}" for key, value in sets.items())
    return tuple(sets)


def _value(value: object) -> str:
    """A value as the YAML that stands for it; a text stands for itself, as on the command line."""
    if value is None or isinstance(value, (bool, Mapping, list, tuple)):
        import json

        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)

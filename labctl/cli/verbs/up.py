"""labctl up: bring a lab up, or repair a running one."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from labctl.cli.options import (
    approximate_option,
    firewall_option,
    force_option,
    global_options,
    manifests_option,
    print_warnings,
    sets_option,
)
from labctl.cli.param_types import NAME, SCENARIO
from labctl.cli.session import Session
from labctl.errors import UsageError

if TYPE_CHECKING:
    from labctl.core.iptables import Backend
    from labctl.core.lab_results import UpResult
    from labctl.core.results import Report
    from labctl.scenario.definition import Definition


@click.command("up", short_help="Bring a lab up, or repair a running one.")
@click.argument("scenario", type=SCENARIO)
@click.option("--name", type=NAME, metavar="LAB", help="The lab's name; by default the scenario's name.")
@click.option("--check", is_flag=True, help="Then prove every claim of the scenario, as `labctl check` does.")
@click.option("--dry-run", is_flag=True, help="Only show what would be done.")
@click.option("--keep", is_flag=True, help="Keep what was built if building fails, instead of rolling back.")
@click.option("--profile", is_flag=True, help="Also say which phase took how long, and the memory.")
@click.option("--replace", is_flag=True, help="Replace a running lab that has the same name but another definition.")
@force_option
@approximate_option("Where this kernel lacks a feature, build the model's substitute, and report it.")
@firewall_option("Write rules with iptables-legacy or iptables-nft; by default with legacy where it works.")
@sets_option
@manifests_option
@global_options("json", "verbose", verbose="Also print the equivalent commands.")
@click.pass_obj
def up(
    session: Session,
    scenario: str,
    name: str | None,
    check: bool,
    dry_run: bool,
    keep: bool,
    profile: bool,
    replace: bool,
    force: bool,
    approximate: bool,
    firewall: Backend | None,
    sets: tuple[str, ...],
    manifests: tuple[str, ...],
) -> int:
    """Bring a lab up, or repair a running one.

    SCENARIO is a built-in name (`labctl list --scenarios`), a short name (docker, aks, eks, gke) or a file. A second
    run changes only what differs. If building fails, everything that was created is removed again, unless --keep is
    given. A lab that needs a feature which this kernel lacks is refused; --approximate builds the model's substitute
    for the missing feature, if there is one, and changes nothing if no feature is missing. On a kernel without legacy
    iptables, the rules are written with iptables-nft; --firewall (or LABCTL_FIREWALL) selects one, and the lab keeps
    it.

    If the lab of another user has the scenario's name, yours gets your name behind it: kubenet-anna. --name gives it
    another one.

    --manifest adds objects of Kubernetes to a model with nodes and pods: Services, NetworkPolicies, pods and others.
    With a changed file, the running lab is changed to what the file says.

    \b
    Examples:
      sudo labctl up kubenet --check
      sudo labctl up kubenet --set routing=host --name kubenet-host
      sudo labctl up ./my-lab.yaml --dry-run
      sudo labctl up kubenet --manifest shop.yaml
      sudo labctl up kubenet --profile
    """
    import shlex

    import labctl
    from labctl.core.features import required_features
    from labctl.core.sentence import sentence
    from labctl.kernel.host import lab_owner, paths, phases
    from labctl.lab import lifecycle
    from labctl.report import up_status

    if check and dry_run:
        raise UsageError("up: --check needs a lab, but --dry-run builds none", "remove one of the two options")
    if profile:
        phases.measure(sentence("start of Python and labctl"))
        phases.begin(sentence("scenario and plan"))
    options: dict[str, Any] = {"approximate": approximate, "firewall": firewall}
    given = name or session.chosen_lab
    definition = labctl.load(scenario, name=given, set=sets, manifests=manifests, **options)
    definition = definition if given is not None else _own(session, definition)
    was_running = definition.name in paths.labs()
    if not dry_run or was_running or required_features(definition.compiled.plan):
        session.require_root()
    session.handle_termination()
    terminal = session.terminal
    same = [*(["--name", definition.name] if given else []), *(f"--set={one}" for one in sets)]
    same += [f"--manifest={one}" for one in manifests]
    repair = shlex.join(["up", scenario, *same])
    session.interruption_text = lambda: _interruption_text(
        definition.name, was_running, repair, keep=keep, replace=replace
    )
    build_options: dict[str, Any] = {
        "replace": replace,
        "approximate": approximate,
        "progress": terminal.progress,
        "force": force,
    }

    phases.begin(sentence("a look at the machine"))

    def build(wanted: Definition) -> UpResult:
        done = None if dry_run else labctl.up(wanted, keep=keep, **build_options).result
        return done or lifecycle.up(wanted, dry_run=True, **build_options)

    try:
        result = build(definition)
    except lab_owner.OwnerError:
        if given is not None or (own := _own(session, definition)) == definition:
            raise
        definition = own  # another user has built a lab with that name meanwhile
        result = build(definition)
    session.interruption_text = lambda: "" if dry_run else f"lab {definition.name} is up and keeps running"
    terminal.clear()
    print_warnings(session, result.lab)
    prefix = paths.command_prefix(result.lab.name)
    if not session.json:
        if session.verbose:
            terminal.commands(
                up_status.equivalent_commands(
                    result, lambda node: paths.netns_name(result.lab.name, node), str(paths.state_dir())
                )
            )
        up_status.print_up(result, None if check else prefix, terminal)
    if check:
        phases.begin(sentence("checks"))
    report = _run_checks(session, result.lab) if check else None
    profiled, memory = phases.finish(), phases.peak_memory()
    if profiled and not session.json:
        from labctl.report.profile import profile_table

        terminal.line()
        terminal.section(profile_table(profiled, memory))
    if report is not None and terminal.tty and not session.json:
        up_status.print_suggestions(result.lab, prefix, terminal)
    if session.json:
        from labctl.report.json_documents import up_document
        from labctl.report.profile import profile_json

        session.print_document(up_document(result, report, profile_json(profiled, memory) if profiled else None))
    return 1 if report is not None and report.verdict in ("fail", "inconclusive") else 0


def _own(session: Session, definition: Definition) -> Definition:
    """The definition of this user's lab: if the lab of another user has its name, with another name, which is said."""
    from labctl.kernel.host import lab_owner, paths

    own = lab_owner.free_name(definition.name)
    if own == definition.name:
        return definition
    note = f"lab {definition.name} belongs to {paths.owner_of(definition.name)}: this one is {own}"
    session.terminal.print_stderr(note)
    return dataclasses.replace(definition, name=own, lab=None)


def _interruption_text(name: str, was_running: bool, repair: str, *, keep: bool, replace: bool) -> str:
    """What an interrupted `up` left of a lab. `was_running` is whether the lab existed when `up` began; `repair` are
    the arguments that repair it."""
    from labctl.kernel.host import lab_state, paths

    if name not in paths.labs() and name not in lab_state.labs_with_files():
        return "rolled back, nothing is left" + (", and the lab to be replaced is removed too" if was_running else "")
    if was_running and not replace:
        return f"lab {name} keeps running; `{paths.command_prefix()} {repair}` repairs what differs from the definition"
    state_text = "--keep: the lab is left incomplete" if keep else f"lab {name} is left, perhaps incomplete"
    return f"{state_text}; `{paths.command_prefix()} down {name}` removes it"


def _run_checks(session: Session, lab: Any) -> Report:
    from labctl.cli.verbs.check import run_checks

    if not session.json:
        session.terminal.line()
    return run_checks(session, lab, None)


COMMAND = up

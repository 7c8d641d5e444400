"""labctl break: give a running lab a fault."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from labctl.cli.lab_lookup import recall
from labctl.cli.options import force_option, global_options, scenario_option
from labctl.cli.param_types import FAULT, FAULT_OBJECT, NumberParam
from labctl.cli.session import Session
from labctl.core.sentence import sentence
from labctl.errors import UsageError

if TYPE_CHECKING:
    from labctl.core.scenario_types import Lab


@click.command("break", short_help="Break a running lab on purpose.")
@click.argument("fault", required=False, type=FAULT)
@click.argument("on", required=False, metavar="[OBJECT]", type=FAULT_OBJECT)
@click.option("--list", "only_list", is_flag=True, help="List the faults that fit this lab; with FAULT, their objects.")
@click.option(
    "--random", "at_random", is_flag=True, help="Choose a fault at random, and hide it: do not say which one it is."
)
@click.option("--seed", metavar="N", type=NumberParam(min=0), help="With --random: the same number, the same fault.")
@click.option("--hide", is_flag=True, help="Hide the fault, for an exercise: status does not name it, and up keeps it.")
@force_option
@scenario_option
@global_options("lab", "json")
@click.pass_obj
def break_(
    session: Session,
    fault: str | None,
    on: str | None,
    only_list: bool,
    at_random: bool,
    seed: int | None,
    hide: bool,
    force: bool,
    scenario: str | None,
) -> int:
    """Give a running lab one fault: a missing route, a rule that drops, a wrong MTU, a stale neighbour, ...

    OBJECT is what the fault is on (node1, node1/eth0, node1/10.244.1.0/24), as --list shows it; without it, the first
    object that fits. An ordinary fault is drift: `labctl status` names it, and `labctl up` repairs it. A fault with
    --hide or --random is part of the definition: status and up accept it, and only packets and the tools inside the lab
    show it. `labctl fix` removes exactly the fault.

    \b
    Examples:
      sudo labctl break --list
      sudo labctl break route-missing --list
      sudo labctl break forwarding-off node1
      sudo labctl break --hide mtu-router
      sudo labctl break --random --seed 7
    """
    from labctl.faults.catalogue import find_fault
    from labctl.lab import exercise_record, lifecycle
    from labctl.lab.break_fix import break_at_random, break_lab
    from labctl.lab.cni_attach import with_plugin_results
    from labctl.report import faults as texts

    _refuse_contradictions(fault, only_list, at_random, seed, hide)
    session.require_root()
    name = lifecycle.resolve_lab_name(session.lab)
    exercise_record.refuse_open(name, "break")
    lab = with_plugin_results(recall(name, scenario, ()))
    if only_list:
        return _list(session, lab, fault)
    session.handle_termination()
    if at_random:
        session.terminal.progress(sentence("breaking"))
        seed, chosen, record = break_at_random(lab, seed, force=force)
    else:
        chosen = find_fault(lab, str(fault), on)
        session.terminal.progress(sentence("breaking {object}: {fault}", object=chosen.on, fault=chosen.kind))
        record = break_lab(lab, chosen, hidden=hide, force=force)
    session.terminal.clear()
    if session.json:
        session.print_document(texts.break_document(name, record, seed))
    else:
        from labctl.kernel.host import paths

        command = paths.command_prefix(name)
        session.terminal.lines(texts.break_lines(name, record, chosen, seed, command, session.terminal), fold=4)
    return 0


def _refuse_contradictions(fault: str | None, only_list: bool, at_random: bool, seed: int | None, hide: bool) -> None:
    if only_list and (at_random or hide):
        raise UsageError(f"--list and --{'random' if at_random else 'hide'} cannot be used together")
    if at_random and fault is not None:
        raise UsageError(f"--random chooses the fault itself, but {fault} is named", "omit one of the two")
    if seed is not None and not at_random:
        raise UsageError("--seed is for --random", "labctl break --random --seed N")
    if fault is None and not only_list and not at_random:
        raise UsageError("no fault is named", "labctl break --list shows those that fit; --random chooses one")


def _list(session: Session, lab: Lab, fault: str | None) -> int:
    from labctl.faults.catalogue import applicable, faults_of, find_kind
    from labctl.report import faults as texts

    if fault is None:
        found = list(applicable(lab))
    else:
        kind = find_kind(fault)
        found = [(kind, faults_of(lab, kind))]
    if session.json:
        session.print_document(texts.catalogue_document(lab.name, found))
    else:
        session.terminal.lines(
            texts.catalogue_lines(lab.name, found, session.terminal, objects=fault is not None), fold=4
        )
    return 0


COMMAND = break_

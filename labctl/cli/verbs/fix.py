"""labctl fix: undo what `labctl break` did."""

from __future__ import annotations

import click

from labctl.cli.lab_lookup import recall
from labctl.cli.options import force_option, global_options, scenario_option
from labctl.cli.param_types import FAULT, FAULT_OBJECT
from labctl.cli.session import Session
from labctl.core.sentence import sentence


@click.command("fix", short_help="Remove the faults of a lab, and nothing else.")
@click.argument("fault", required=False, type=FAULT)
@click.argument("on", required=False, metavar="[OBJECT]", type=FAULT_OBJECT)
@click.option(
    "--show", is_flag=True, help="Only show the faults, also hidden ones, and what each changed: the solution."
)
@force_option
@scenario_option
@global_options("lab", "json")
@click.pass_obj
def fix(session: Session, fault: str | None, on: str | None, show: bool, force: bool, scenario: str | None) -> int:
    """Restore exactly what faults changed: those of `labctl break`, and those of the scenario file.

    Without FAULT, all faults of the lab, also hidden ones. Other differences from the definition stay; `labctl up`
    repairs them.

    \b
    Examples:
      sudo labctl fix
      sudo labctl fix forwarding-off node1
      sudo labctl fix --show
    """
    from labctl.lab import exercise_record, fault_records, lifecycle
    from labctl.lab.break_fix import fix as fix_faults
    from labctl.lab.break_fix import selected
    from labctl.report import faults as texts

    session.require_root()
    name = lifecycle.resolve_lab_name(session.lab)
    exercise_record.refuse_open(name, "fix")
    records = selected(fault_records.active(name), fault, on)
    if show:
        if session.json:
            session.print_document(texts.solution_document(name, records))
        else:
            session.terminal.lines(texts.solution_lines(name, records, session.terminal), fold=4)
        return 0
    lab = recall(name, scenario, ())
    session.handle_termination()
    session.terminal.progress(sentence("fixing {lab}", lab=name))
    fixed = fix_faults(lab, records, force=force)
    session.terminal.clear()
    if session.json:
        session.print_document(texts.fix_document(name, fixed))
    else:
        session.terminal.lines(texts.fix_lines(name, fixed, session.terminal), fold=4)
    return 0


COMMAND = fix

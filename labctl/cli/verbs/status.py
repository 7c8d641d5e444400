"""labctl status: show drift."""

from __future__ import annotations

import click

from labctl.cli.lab_lookup import recall
from labctl.cli.options import global_options, manifests_option, scenario_option, sets_option, why_option
from labctl.cli.session import Session


@click.command("status", short_help="Show what has drifted from the definition.")
@why_option("Say why each object is there that is missing or changed, and what makes it.")
@scenario_option
@sets_option
@manifests_option
@global_options("lab", "json")
@click.pass_obj
def status(session: Session, why: bool, scenario: str | None, sets: tuple[str, ...], manifests: tuple[str, ...]) -> int:
    """Show every object of a running lab that differs from the definition: missing, extra or changed.

    Exits 1 if there is drift. `labctl up` with the same scenario repairs it.

    \b
    Examples:
      sudo labctl status
      sudo labctl status --why
      sudo labctl status -l kubenet --json
    """
    from labctl.lab import lifecycle

    session.require_root()
    name = lifecycle.resolve_lab_name(session.lab)
    lab = recall(name, scenario, sets, manifests)
    session.terminal.progress(f"comparing {len(lab.plan)} objects")
    changes = lifecycle.status(name, lab)
    reasons = None
    if why:
        from labctl.explanation.planned_reasons import PlannedReasons
        from labctl.lab.cni_attach import with_plugin_results

        reasons = PlannedReasons(with_plugin_results(lab))
    if session.json:
        from labctl.report.json_documents import status_document

        session.print_document(status_document(name, lab, changes, reasons))
    else:
        from labctl.report import up_status

        up_status.print_status(name, lab, changes, session.terminal, reasons)
    return 1 if changes else 0


COMMAND = status

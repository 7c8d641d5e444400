"""labctl doctor: check whether this machine can run labs."""

from __future__ import annotations

import click

from labctl.cli.options import global_options
from labctl.cli.session import Session


@click.command("doctor", short_help="Check whether this machine can run labs.")
@global_options("json")
@click.pass_obj
def doctor(session: Session) -> int:
    """Check whether this machine can run labs: kernel, tools, limits, leftovers; each problem with a fix.

    Kernel features are tried in a temporary namespace. Exits 4 if something that is needed is missing.

    \b
    Example:
      sudo labctl doctor
    """
    from labctl import models
    from labctl.kernel.host import paths
    from labctl.kernel.host_facts import examine
    from labctl.lab.doctor import findings, needed_link_kinds

    session.sweep()
    session.terminal.progress("trying kernel features")
    link_kinds = needed_link_kinds(
        {name: getattr(models.find_model(name), "PARTS", ()) for name in models.model_names()}
    )
    all_findings = findings(examine(link_kinds), link_kinds)
    if session.json:
        from labctl.report.json_documents import doctor_document

        session.print_document(doctor_document(all_findings, paths.sudo()))
    else:
        from labctl.report import lists

        lists.print_findings(all_findings, paths.sudo(), session.terminal)
    return 4 if any(finding.state == "missing" for finding in all_findings) else 0


COMMAND = doctor

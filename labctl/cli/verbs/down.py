"""labctl down: remove labs."""

from __future__ import annotations

import click

from labctl.cli.options import global_options
from labctl.cli.param_types import LAB
from labctl.cli.session import Session
from labctl.core.sentence import sentence
from labctl.errors import UsageError


@click.command("down", short_help="Remove labs completely.")
@click.argument("labs", nargs=-1, type=LAB, metavar="[LAB]...")
@click.option("--all", "everything", is_flag=True, help="All labs on this machine.")
@global_options("json")
@click.pass_obj
def down(session: Session, labs: tuple[str, ...], everything: bool) -> int:
    """Remove labs completely, so that the machine is as it was before.

    Needs no scenario file and no saved state. Works after a crash, and can be repeated. LAB can be omitted while
    only one lab runs. If only the record of a lab is left, without namespaces, that is removed as well.

    \b
    Examples:
      sudo labctl down kubenet
      sudo labctl down --all
    """
    import labctl
    from labctl.kernel.host import lab_state, paths
    from labctl.lab import lifecycle

    wanted = [*labs, *([session.lab] if session.lab and session.lab not in labs else [])]
    if wanted and everything:
        raise UsageError("down: name labs or use --all, not both")
    session.require_root(spare_files=False)
    session.handle_termination()
    running, records = paths.labs(), lab_state.labs_with_files()
    if not wanted:
        only_records = bool(records) and not running
        wanted = [*running, *records] if everything or only_records else [lifecycle.resolve_lab_name(None)]
    removed: dict[str, int] = {}
    for name in dict.fromkeys(wanted):
        session.terminal.progress(sentence("removing {lab}", lab=name))
        removed[name] = len(labctl.down(name, warn=lambda text: session.terminal.print_stderr(f"labctl: {text}")))
    if session.json:
        from labctl.report.json_documents import down_document

        session.print_document(down_document(removed, records))
        return 0
    from labctl.core.text import count

    for name, number in removed.items():
        text = sentence("{lab} does not exist: nothing to remove", lab=name)
        if number:
            text = sentence("{lab} is down: {namespaces} removed", lab=name, namespaces=count(number, "namespace"))
        elif name in records:
            text = sentence("{lab} does not exist: its record is removed", lab=name)
        session.terminal.lines([text], fold=4)
    if not removed:
        session.terminal.line(sentence("no lab runs: nothing to remove"))
    return 0


COMMAND = down

"""labctl down: remove labs."""

from __future__ import annotations

import click

from labctl.cli.options import force_option, global_options
from labctl.cli.param_types import LAB
from labctl.cli.session import Session
from labctl.core.sentence import sentence
from labctl.errors import UsageError


@click.command("down", short_help="Remove labs completely.")
@click.argument("labs", nargs=-1, type=LAB, metavar="[LAB]...")
@click.option("--all", "everything", is_flag=True, help="All your labs; for root without sudo, those of all users.")
@force_option
@global_options("json")
@click.pass_obj
def down(session: Session, labs: tuple[str, ...], everything: bool, force: bool) -> int:
    """Remove labs completely, so that the machine is as it was before.

    Needs no scenario file and no saved state. Works after a crash, and can be repeated. LAB can be omitted while
    only one lab of yours runs. If only the record of a lab is left, without namespaces, that is removed as well.

    A lab belongs to the user who made it, and --all means yours. Root who did not come by sudo may remove all labs;
    everybody else needs --force for the lab of another user, with --all for all of them.

    \b
    Examples:
      sudo labctl down kubenet
      sudo labctl down --all
    """
    import labctl
    from labctl.kernel.host import lab_owner, lab_state, paths
    from labctl.kernel.host.user import user_name
    from labctl.lab import lifecycle

    wanted = [*labs, *([session.lab] if session.lab and session.lab not in labs else [])]
    if wanted and everything:
        raise UsageError("down: name labs or use --all, not both")
    session.require_root(spare_files=False)
    session.handle_termination()
    running, records = paths.labs(), lab_state.labs_with_files()
    if not wanted:
        found = tuple(dict.fromkeys((*running, *records)))
        own = found if force and everything else lab_owner.removable_labs(found)
        if everything or (own and not running and paths.given_lab() is None):
            wanted = [*own]
        else:
            wanted = [lifecycle.resolve_own_lab_name()]

    def warn(text: str) -> None:
        session.terminal.print_stderr(f"labctl: {text}")

    removed: dict[str, int] = {}
    for name in dict.fromkeys(wanted):
        session.terminal.progress(sentence("removing {lab}", lab=name))
        removed[name] = len(labctl.down(name, force=force, warn=warn))
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
        text = sentence("no lab runs: nothing to remove")
        if running:
            text = sentence("no lab of {user} runs: nothing to remove", user=user_name())
        session.terminal.lines([text], fold=4)
    return 0


COMMAND = down

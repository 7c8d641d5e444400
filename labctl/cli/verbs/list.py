"""labctl list: list running labs or built-in scenarios."""

from __future__ import annotations

import click

from labctl.cli.options import global_options
from labctl.cli.session import Session


@click.command("list", short_help="List running labs or built-in scenarios.")
@click.option("--scenarios", is_flag=True, help="List the built-in scenarios instead of the running labs.")
@global_options("json")
@click.pass_obj
def list_labs(session: Session, scenarios: bool) -> int:
    """List the running labs, or the built-in scenarios; needs no root.

    A scenario's grade says how faithful its model is to the real system: `approximate (3)` has three parts that
    are only similar to it, `needs vlan` has a part that needs a kernel with VLANs. The model's page in docs/models
    lists the parts. A narrow terminal has no room for the grades; `labctl list --scenarios | cat` prints them.

    \b
    Examples:
      labctl list
      labctl list --scenarios
    """
    from labctl.report import lists
    from labctl.report.json_documents import list_document, scenarios_document

    if scenarios:
        from labctl.scenario import catalog

        found = catalog.entries()
        if session.json:
            session.print_document(scenarios_document(found))
        else:
            session.terminal.section(lists.scenarios(found, session.terminal.width))
            aliases = ", ".join(f"{alias} is {name}" for alias, name in catalog.ALIASES.items())
            session.terminal.lines(["", f"short names: {aliases}"], fold=4)
        return 0
    from labctl.lab import lifecycle

    session.sweep()
    running = lifecycle.running_labs()
    if session.json:
        session.print_document(list_document(running))
    elif running:
        session.terminal.section(lists.labs(running))
    else:
        from labctl.kernel.host import paths

        session.terminal.lines([f"no lab runs; start one: {paths.command_prefix()} up kubenet"], fold=4)
    return 0


COMMAND = list_labs

"""labctl run: run a command in a new sandbox, for labs without root."""

from __future__ import annotations

import os

import click

from labctl.cli.options import global_options
from labctl.cli.rootless import wants_rootless
from labctl.cli.session import Session


@click.command(
    "run", short_help="Run a command where labs need no root.", context_settings={"allow_interspersed_args": False}
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- CMD...")
@global_options()
@click.pass_obj
def run(session: Session, command: tuple[str, ...]) -> int:
    """Run a command in a new sandbox, and exit with its exit code (127: not found, 128 + signal: killed).

    The sandbox is a separate network and a separate /run, where the command is root; a user gets no other right.
    There it builds labs without sudo and without options, with `labctl` (it is in PATH) or from Python. The
    sandbox has no network but its labs. At the end, all that the command started is killed, and nothing of its
    labs is left.

    Files that the command writes elsewhere stay, and belong to you. For labs that stay up between two commands, use
    --rootless.

    \b
    Examples:
      labctl run -- pytest
      labctl run -- sh -c 'labctl up kubenet --check && labctl trace a c'
      labctl run -- bash
    """
    from labctl.kernel import sandbox

    rootless = os.geteuid() != 0 or wants_rootless(session.arguments[:1])
    return sandbox.run(command, rootless=rootless)


COMMAND = run

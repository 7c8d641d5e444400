"""labctl exec: run a command in a node."""

from __future__ import annotations

import click

from labctl.cli.options import global_options
from labctl.cli.param_types import NODE
from labctl.cli.session import Session
from labctl.lab.node_lookup import find_nodes


class ExecCommand(click.Command):
    """A click command: labctl's options end where the command for the node begins, with or without `--`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        at = _end_of_options(args)
        command = args[at + 1 :] if args[at : at + 1] == ["--"] else args[at:]
        return super().parse_args(ctx, [*args[:at], "--", *command] if command else args[:at])


def _end_of_options(args: list[str]) -> int:
    """The index where labctl's arguments end: at `--`, or at the first word after NODE that is not an option."""
    at, node_seen = 0, False
    while at < len(args) and args[at] != "--":
        if args[at] in ("-l", "--lab"):
            at += 2
            continue
        if not args[at].startswith("-"):
            if node_seen:
                break
            node_seen = True
        at += 1
    return min(at, len(args))


@click.command("exec", cls=ExecCommand, short_help="Run a command inside a node.")
@click.argument("node", type=NODE)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- CMD...")
@global_options("lab")
@click.pass_obj
def exec_(session: Session, node: str, command: tuple[str, ...]) -> int:
    """Run a command inside a node and exit with its exit code (127: not found, 128 + signal: killed).

    Inside, the names of the lab's machines resolve, `iptables` is the variant that wrote the rules, and /sys shows
    the node's devices.

    \b
    Examples:
      sudo labctl exec a -- ping -c 3 c
      sudo labctl exec node1 -- iptables -t nat -S
      sudo labctl -l kubenet exec node1 -- tcpdump -ni any icmp
    """
    from labctl.kernel.node_exec import exec
    from labctl.lab import lifecycle

    session.require_root(spare_files=False)
    lab = lifecycle.resolve_lab_name(session.lab)
    (namespace,) = find_nodes(lab, node)
    return exec.run(lab, namespace, list(command))


COMMAND = exec_

"""The verbs that enter a node: exec and shell."""

from __future__ import annotations

from typing import Any

import click

from labctl.cli.app import Session, common
from labctl.cli.param_types import NODE
from labctl.errors import UsageError


class Exec(click.Command):
    """A click command: labctl's options end where the command for the node begins, with or without `--`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        at = _end_of_options(args)
        own = args[at + 1 :] if args[at : at + 1] == ["--"] else args[at:]
        return super().parse_args(ctx, [*args[:at], "--", *own] if own else args[:at])


def _end_of_options(args: list[str]) -> int:
    """The index where labctl's arguments end: at `--`, or at the first word after NODE that is not an option."""
    at, named = 0, False
    while at < len(args) and args[at] != "--":
        if args[at] in ("-l", "--lab"):
            at += 2
            continue
        if not args[at].startswith("-"):
            if named:
                break
            named = True
        at += 1
    return min(at, len(args))


def find_node(lab: str, node: str | None) -> tuple[str, ...]:
    """The namespace of the named node, or of all nodes. Raises UsageError with a suggestion."""
    from labctl.kernel.host import paths

    nodes = paths.labs().get(lab, ())
    if node is None:
        return nodes
    home = places_of(lab).get(node, node)
    if home in nodes:
        return (home,)
    import difflib

    from labctl.core.names import some

    close = difflib.get_close_matches(node, nodes, 1, 0.5)
    known = f"its nodes are {some(nodes, 30)}"
    raise UsageError(f"lab {lab} has no node {node!r}", f"did you mean {close[0]}? {known}" if close else known)


def places_of(lab: str) -> dict[str, str]:
    """The machines that share the network namespace of another machine, with that machine (Docker's `host`)."""
    from labctl.kernel.host import lab_state

    record = lab_state.load(lab) or {}
    try:
        return {one["name"]: one["within"] for one in record["machines"] if one.get("within")}
    except (KeyError, TypeError, AttributeError):
        return {}


@click.command("exec", cls=Exec, short_help="Run a command inside a node.")
@click.argument("node", type=NODE)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- CMD...")
@common("lab")
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

    session.need_root()
    lab = lifecycle.choose(session.lab)
    (home,) = find_node(lab, node)
    return exec.run(lab, home, list(command))


@click.command("shell", short_help="Open a shell inside a node.")
@click.argument("node", type=NODE)
@common("lab")
@click.pass_obj
def shell(session: Session, node: str) -> Any:
    """Open a shell inside a node; the prompt shows the node, `exit` ends the shell.

    \b
    Example:
      sudo labctl shell node1
      kubenet/node1:~# ip route
    """
    from labctl.kernel.node_exec import exec
    from labctl.lab import lifecycle

    session.need_root()
    lab = lifecycle.choose(session.lab)
    (home,) = find_node(lab, node)
    return exec.shell(lab, home)


VERBS = (exec_, shell)

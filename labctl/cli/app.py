"""The click group of all verbs."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from keyword import iskeyword
from typing import Any

import click

from labctl import __version__
from labctl.cli.failure import has_json_flag, report_error
from labctl.cli.language_option import use_language
from labctl.cli.options import global_options
from labctl.cli.session import Session
from labctl.core.names import did_you_mean
from labctl.errors import UsageError

VERBS = (
    "up", "down", "list", "status", "check", "plan", "graph", "explain", "exec", "shell", "show", "trace", "capture",
    "view", "compare", "policy", "break", "fix", "exercise", "validate", "schema", "doctor", "run",
)  # fmt: skip
CONTEXT_SETTINGS = {"max_content_width": 100, "help_option_names": ["-h", "--help"]}


class VerbGroup(click.Group):
    """The group of all verbs, in the order of VERBS, with a suggestion for a mistyped verb.

    The verb `up` is `labctl.cli.verbs.up`, `break` is `labctl.cli.verbs.break_`; it is imported when it is used.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        return verb(cmd_name)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, Any, list[str]]:
        if args and args[0] not in VERBS and not ctx.resilient_parsing:
            hint = did_you_mean(args[0], VERBS, 0.5, lambda verb: f"`labctl {verb}`")
            hint = hint or "the verbs are " + ", ".join(VERBS)
            ctx.obj.json = ctx.obj.json or has_json_flag(args)
            raise UsageError(f"there is no verb {args[0]!r}", hint)
        if isinstance(ctx.obj, Session):
            ctx.obj.verb = args[0]
        return super().resolve_command(ctx, args)


def verb(name: str) -> click.Command:
    """The command of a verb, imported now."""
    module = f"{name}_" if iskeyword(name) else name
    command: click.Command = import_module(f"labctl.cli.verbs.{module}").COMMAND
    return command


def _version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        ctx.obj.terminal.line(f"labctl {__version__}")
        ctx.exit()


@click.group(
    cls=VerbGroup, context_settings=CONTEXT_SETTINGS, subcommand_metavar="VERB [ARGS]...", invoke_without_command=True
)
@global_options("lab", "json", "verbose", "lang", verbose="Print more: the equivalent commands, all evidence.")
@click.option("--rootless", is_flag=True, expose_value=False, help="Run without root, in your own user namespace.")
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version and exit."
)
@click.pass_context
def app(ctx: click.Context) -> None:
    """See how containers really talk: live container networks on the Linux kernel, proven by packets.

    labctl builds a scenario of namespaces, bridges, veth pairs, routes and iptables rules; checks prove its
    claims with real packets; `down` leaves the machine as it was.

    \b
    First steps:
      sudo labctl up kubenet --check       build a cluster's network, and check it
      sudo labctl graph                    draw it
      sudo labctl explain node1            say why each object of node1 is there
      sudo labctl exec a -- ping -c 3 c    run a command in a pod
      sudo labctl trace a c                follow one packet, hop by hop
      sudo labctl view                     see all of this in a browser
      sudo labctl down kubenet             remove it completely
      sudo labctl exercise list            tasks, from the first cable on

    \b
    Exit codes:
      0 success   1 a check failed, or drift   2 bad scenario or usage
      3 the kernel refused   4 missing root, tool or kernel feature
      70 a bug in labctl   130 interrupted

    \b
    Completion of words in bash (zsh_source, fish_source in other shells):
      eval "$(_LABCTL_COMPLETE=bash_source labctl)"
    """
    if ctx.invoked_subcommand is None:
        session: Session = ctx.obj
        if session.json:
            raise UsageError("no verb given", "labctl --help lists them")
        session.terminal.line(ctx.get_help())
        ctx.exit(2)


def run(arguments: Sequence[str]) -> int:
    """Run the full command line; returns the exit code."""
    session = Session(arguments)
    session.language = use_language(session.arguments)
    try:
        with app.make_context("labctl", list(arguments), obj=session) as ctx:
            code = app.invoke(ctx)
        session.terminal.flush()
        return code if isinstance(code, int) else 0
    except BaseException as error:
        return report_error(error, session)

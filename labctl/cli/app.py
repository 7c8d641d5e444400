"""The click group: global options before and after the verb, errors, exit codes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from labctl import __version__
from labctl.errors import LabError, MissingError, UsageError
from labctl.report.terminal import Terminal

if TYPE_CHECKING:
    from typing import NoReturn

ORDER = (
    "up", "down", "list", "status", "check", "plan", "exec", "shell", "show", "trace", "capture", "compare", "validate",
    "schema", "doctor",
)  # fmt: skip
SETTINGS = {"max_content_width": 100, "help_option_names": ["-h", "--help"]}


class Ended(SystemExit):
    """SIGTERM or SIGHUP was received. The exit code is 128 + the number of the signal."""


class Session:
    """One run of labctl: its arguments, its global options, and its terminal."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words = tuple(words)
        self.lab: str | None = None
        self.json = False
        self.verbose = False
        self.terminal = Terminal()
        self.fate: Callable[[], str] = str  # for an interruption: what state the work is in

    def document(self, document: dict[str, Any]) -> None:
        """Print the one JSON document of this run."""
        import json

        self.terminal.line(json.dumps(document, indent=2))

    def need_root(self) -> None:
        """Raises MissingError unless this process may enter and make namespaces."""
        if os.geteuid() == 0:
            return self._sweep()
        import shlex

        with_root = shlex.join(["sudo", "labctl", *self.words])
        without = shlex.join(["labctl", "--rootless", *self.words])
        verb = click.get_current_context().info_name
        raise MissingError(f"labctl {verb} needs root", f"{with_root}, or without root: {without}")

    def _sweep(self) -> None:
        """Remove what a killed trace left in its lab, and report it."""
        from labctl.kernel.host import paths

        if not os.path.isdir(paths.state_dir() / ".trace"):  # a cheap test that imports nothing
            return
        from labctl.kernel.rule_trace.cleanup import sweep

        for sentence in sweep():
            self.terminal.complain(f"labctl: {sentence}")

    def end_cleanly(self) -> None:
        """Make SIGTERM and SIGHUP raise an exception as ^C does, so that a build rolls back and listeners end."""
        import signal

        def leave(number: int, _: object) -> NoReturn:
            raise Ended(128 + number)

        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) == signal.SIG_DFL:  # nohup's SIG_IGN stays
                signal.signal(number, leave)


class Verbs(click.Group):
    """The group of all verbs, in the order of ORDER, with a suggestion for a mistyped verb."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name in ORDER if name in self.commands]

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, Any, list[str]]:
        if args and args[0] not in self.commands and not ctx.resilient_parsing:
            import difflib

            close = difflib.get_close_matches(args[0], self.list_commands(ctx), 1, 0.5)
            hint = f"did you mean `labctl {close[0]}`?" if close else "the verbs are " + ", ".join(self.commands)
            ctx.obj.json = ctx.obj.json or _says_json(args)
            raise UsageError(f"there is no verb {args[0]!r}", hint)
        return super().resolve_command(ctx, args)


def remember(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    """Store a global option, given before or after the verb. If it is not given, the stored value stays."""
    if value and isinstance(ctx.find_root().obj, Session):
        session: Session = ctx.find_root().obj
        setattr(session, str(param.name), value)
        session.terminal.live = session.terminal.live and not session.json
    return value


def common(*shown: str, verbose: str = "Print more.") -> Callable[[Any], Any]:
    """The global options, which can also stand after the verb. `--help` lists those in `shown`.

    `verbose` is the help text of -v for this verb.
    """
    from labctl.cli.param_types import LAB

    where = "The lab; not needed while only one lab runs."
    only = "Print exactly one JSON document, errors included."
    lab: dict[str, Any] = {"type": LAB, "metavar": "NAME", "hidden": "lab" not in shown, "help": where}
    json: dict[str, Any] = {"is_flag": True, "hidden": "json" not in shown, "help": only}
    more: dict[str, Any] = {"is_flag": True, "hidden": "verbose" not in shown, "help": verbose}

    def wrap(function: Any) -> Any:
        function = click.option(
            "-h", "--help", is_flag=True, is_eager=True, expose_value=False, callback=_help, help=_HELP
        )(function)
        for names, settings in (("-v --verbose", more), ("--json", json), ("-l --lab", lab)):
            function = click.option(*names.split(), expose_value=False, callback=remember, **settings)(function)
        return function

    return wrap


_HELP = "Show this message and exit."


def _help(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    """Print the help. click's own callback fails if the output cannot be written, as on a full disk."""
    if value and not ctx.resilient_parsing:
        ctx.find_root().obj.terminal.line(ctx.get_help())
        ctx.exit()


def _version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        ctx.obj.terminal.line(f"labctl {__version__}")
        ctx.exit()


@click.group(cls=Verbs, context_settings=SETTINGS, subcommand_metavar="VERB [ARGS]...", invoke_without_command=True)
@common("lab", "json", "verbose", verbose="Print more: the equivalent commands, all evidence.")
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
      sudo labctl up kubenet --check       build a two-node cluster network and prove it
      sudo labctl shell node1              open a shell in a node
      sudo labctl exec a -- ping -c 3 c    run a command in a pod
      sudo labctl trace a c                follow one packet, hop by hop
      sudo labctl down kubenet             remove it completely

    \b
    Exit codes:
      0 success   1 a check failed, or drift   2 bad scenario or usage   3 the kernel refused
      4 missing root, tool or kernel feature   70 a bug in labctl   130 interrupted

    \b
    Completion:  eval "$(_LABCTL_COMPLETE=bash_source labctl)"     (or zsh_source, fish_source)
    """
    if ctx.invoked_subcommand is None:
        session: Session = ctx.obj
        if session.json:
            raise UsageError("no verb given", "labctl --help lists them")
        session.terminal.line(ctx.get_help())
        ctx.exit(2)


def register() -> None:
    """Add the verbs to the group."""
    from labctl.cli import (
        capture_command,
        compare_command,
        exec_commands,
        inspect_commands,
        lab_commands,
        trace_command,
    )

    for command in (
        *lab_commands.VERBS,
        *inspect_commands.VERBS,
        *exec_commands.VERBS,
        *trace_command.VERBS,
        *capture_command.VERBS,
        *compare_command.VERBS,
    ):
        app.add_command(command)


def run(words: Sequence[str]) -> int:
    """Run the full command line; returns the exit code."""
    register()
    session = Session(words)
    try:
        with app.make_context("labctl", list(words), obj=session) as ctx:
            code = app.invoke(ctx)
        session.terminal.flush()
        return code if isinstance(code, int) else 0
    except BaseException as error:
        return failed(error, session)


def failed(error: BaseException, session: Session) -> int:
    """Report an error, as text or as the JSON document. Returns the exit code."""
    if isinstance(error, (SystemExit, click.exceptions.Exit)) and not isinstance(error, Ended):
        code = getattr(error, "exit_code", getattr(error, "code", 0))
        return code if isinstance(code, int) else 1
    if isinstance(error, BrokenPipeError):
        session.terminal.silence()
        return 0
    known = _known(error, session)
    wants_json = session.json or (isinstance(error, click.UsageError) and _says_json(session.words))
    code = known.code
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        code = 130
    elif isinstance(error, Ended):
        code = int(error.code or 0)
    elif not isinstance(error, (LabError, click.ClickException)) or known.code == 70:
        import traceback

        lines = traceback.format_exception(type(error), error, error.__traceback__)
        session.terminal.complain("".join(lines).rstrip(), fold=False)
    if wants_json:
        from labctl.report.json_documents import error_document

        try:
            session.document(error_document(known, code))
        except LabError:
            pass  # the output itself cannot be written
    if not wants_json or code == 70:
        session.terminal.complain(str(known) if known.problems else f"labctl: {known}")
    return code


def _known(error: BaseException, session: Session) -> LabError:
    if isinstance(error, LabError):
        return error
    if isinstance(error, (KeyboardInterrupt, click.Abort, Ended)):
        fate = session.fate()
        interrupted = LabError(f"interrupted: {fate}" if fate else "interrupted")
        interrupted.kind = "interrupted"
        return interrupted
    if isinstance(error, click.ClickException):
        return _usage(error)
    return LabError(f"{type(error).__name__}: {error}", "this is a bug in labctl; please report it with these lines")


def _usage(error: click.ClickException) -> UsageError:
    text = error.format_message().rstrip(".")
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "labctl"
    hint = f"{path} --help"
    possible = getattr(error, "possibilities", None)
    if isinstance(error, click.NoSuchOption):
        text = f"no such option {error.option_name}"
        hint = "did you mean " + " or ".join(sorted(possible)) + "?" if possible else hint
    verb = "" if path == "labctl" else f"{path.split(' ')[-1]}: "
    return UsageError(verb + text[:1].lower() + text[1:], hint)


def _says_json(words: Sequence[str]) -> bool:
    own = words[: words.index("--")] if "--" in words else words
    return "--json" in own

"""Errors as text or JSON, and their exit codes."""

from __future__ import annotations

from collections.abc import Sequence

import click

from labctl.cli.session import Ended, Session
from labctl.errors import LabError, UsageError


def failed(error: BaseException, session: Session) -> int:
    """Report an error, as text or as the JSON document. Returns the exit code."""
    if isinstance(error, (SystemExit, click.exceptions.Exit)) and not isinstance(error, Ended):
        code = getattr(error, "exit_code", getattr(error, "code", 0))
        return code if isinstance(code, int) else 1
    if isinstance(error, BrokenPipeError):
        session.terminal.silence()
        return 0
    known = _known(error, session)
    wants_json = session.json or (isinstance(error, click.UsageError) and says_json(session.words))
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


def says_json(words: Sequence[str]) -> bool:
    """Whether the arguments of labctl itself ask for JSON. What follows `--` is the command for a node."""
    own = words[: words.index("--")] if "--" in words else words
    return "--json" in own

"""Errors as text or JSON, and their exit codes."""

from __future__ import annotations

import os
from collections.abc import Sequence

import click

from labctl.cli.session import Session, TerminationSignal
from labctl.errors import LabError, UsageError
from labctl.kernel.host.limits import limit_error


def report_error(error: BaseException, session: Session) -> int:
    """Report an error, as text or as the JSON document. Returns the exit code."""
    try:
        return _report(error, session)
    except Exception as second:  # the report itself needs modules, and so files and memory
        limit = limit_error(second) or limit_error(error)
        if limit is None:
            raise
        os.write(2, f"labctl: {limit}\n".encode())
        return limit.code


def _report(error: BaseException, session: Session) -> int:
    if isinstance(error, (SystemExit, click.exceptions.Exit)) and not isinstance(error, TerminationSignal):
        code = getattr(error, "exit_code", getattr(error, "code", 0))
        return code if isinstance(code, int) else 1
    if isinstance(error, BrokenPipeError):
        session.terminal.discard_output()
        return 0
    lab_error = _as_lab_error(error, session)
    lab_error.hint = _typed_hint(lab_error.hint, session.lab)
    wants_json = session.json or (isinstance(error, click.UsageError) and has_json_flag(session.arguments))
    code = lab_error.code
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        code = 130
    elif isinstance(error, TerminationSignal):
        code = int(error.code or 0)
    elif code == 70:
        import traceback

        lines = traceback.format_exception(type(error), error, error.__traceback__)
        session.terminal.print_stderr("".join(lines).rstrip(), fold=False)
    if wants_json:
        from labctl.report.json_documents import error_document

        try:
            session.print_document(error_document(lab_error, code))
        except LabError:
            pass  # the output itself cannot be written
    if not wants_json or code == 70:
        session.terminal.print_stderr(str(lab_error) if lab_error.problems else f"labctl: {lab_error}")
    return code


def _as_lab_error(error: BaseException, session: Session) -> LabError:
    if isinstance(error, LabError):
        return error
    if isinstance(error, (KeyboardInterrupt, click.Abort, TerminationSignal)):
        work_state = session.interruption_text()
        interrupted = LabError(f"interrupted: {work_state}" if work_state else "interrupted")
        interrupted.kind = "interrupted"
        return interrupted
    if isinstance(error, click.ClickException):
        return _usage_error(error, session)
    bug = LabError(f"{type(error).__name__}: {error}", "this is a bug in labctl; please report it with these lines")
    return limit_error(error) or bug


def _usage_error(error: click.ClickException, session: Session) -> UsageError:
    text = error.format_message().rstrip(".")
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else f"labctl {session.verb}".rstrip()
    hint = f"{path} --help"
    possibilities = getattr(error, "possibilities", None)
    if isinstance(error, click.NoSuchOption):
        text = f"no such option {error.option_name}"
        hint = "did you mean " + " or ".join(sorted(possibilities)) + "?" if possibilities else hint
    verb = "" if path == "labctl" else f"{path.split(' ')[-1]}: "
    return UsageError(verb + text[:1].lower() + text[1:], hint)


def _typed_hint(hint: str, lab: str | None) -> str:
    """The hint as this user types its commands. `lab` is the lab that the arguments name."""
    if not hint:
        return ""
    from labctl.kernel.host import paths
    from labctl.report.plain_text import with_command, with_sudo

    return with_command(with_sudo(hint, paths.sudo()), paths.command_prefix(lab))


def has_json_flag(arguments: Sequence[str]) -> bool:
    """Whether the arguments of labctl itself ask for JSON. What follows `--` is the command for a node."""
    own_arguments = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--json" in own_arguments

"""`labctl up SCENARIO [--name LAB]` without click."""

from __future__ import annotations

from collections.abc import Sequence

from labctl.cli.language_option import use_language
from labctl.cli.session import Session
from labctl.cli.up_lab import up_lab


def run(arguments: Sequence[str], scenario: str, name: str | None) -> int:
    """Run the verb as `labctl.cli.app` does, and return the exit code."""
    session = Session(arguments)
    session.verb = "up"
    session.language = use_language(session.arguments)
    try:
        code = up_lab(session, scenario, name=name)
        session.terminal.flush()
        return code
    except BaseException as error:
        from labctl.cli.failure import report_error

        return report_error(error, session)

"""One run of labctl: its arguments, its global options, and its terminal."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from labctl.errors import MissingError
from labctl.report.terminal import Terminal

if TYPE_CHECKING:
    from typing import NoReturn


class TerminationSignal(SystemExit):
    """SIGTERM or SIGHUP was received. The exit code is 128 + the number of the signal."""


class Session:
    """One run of labctl: its arguments, its global options, and its terminal."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self.arguments = tuple(arguments)
        self.verb = ""
        self.lab: str | None = None
        self.json = False
        self.verbose = False
        self.lang: str | None = None  # as it is given; `language` is the one that follows from it and the environment
        self.language = "en"
        self.terminal = Terminal()
        self.interruption_text: Callable[[], str] = str  # for an interruption: what state the work is in

    @property
    def chosen_lab(self) -> str | None:
        """The lab that the arguments or the environment name, if any. Raises UsageError."""
        from labctl.kernel.host import paths

        return self.lab or paths.given_lab()

    def print_document(self, document: dict[str, Any]) -> None:
        """Print the one JSON document of this run."""
        import json

        text = json.dumps(document, indent=2, ensure_ascii=False)
        self.terminal.line(text if self.terminal.can_encode(text) else json.dumps(document, indent=2))

    def require_root(self, *, spare_files: bool = True) -> None:
        """Raises MissingError unless this process may enter and make namespaces; with `spare_files`, LimitError unless
        it may open the files that most work needs."""
        if os.geteuid() == 0:
            if spare_files:
                from labctl.kernel.host.limits import prepare_open_files

                prepare_open_files()
            return self.sweep()
        import shlex

        with_root = shlex.join(["sudo", "labctl", *self.arguments])
        without = shlex.join(["labctl", "--rootless", *self.arguments])
        verb = click.get_current_context().info_name
        raise MissingError(f"labctl {verb} needs root", f"{with_root}, or without root: {without}")

    def sweep(self) -> None:
        """Remove what killed verbs left, and report it. Without root, do nothing."""
        from labctl.kernel.host import paths

        if os.geteuid() != 0 or not paths.has_unfinished_work():  # a cheap test that imports nothing
            return
        from labctl.lab.leftovers import sweep

        for sentence in sweep():
            self.terminal.print_stderr(f"labctl: {sentence}")

    def handle_termination(self) -> None:
        """Make SIGTERM and SIGHUP raise an exception as ^C does, so that a build rolls back and listeners end."""
        import signal

        def leave(number: int, _: object) -> NoReturn:
            raise TerminationSignal(128 + number)

        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) == signal.SIG_DFL:  # nohup's SIG_IGN stays
                signal.signal(number, leave)

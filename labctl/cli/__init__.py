"""The command line: one module for each verb, in `verbs`. `labctl exec NODE -- CMD` runs from here alone."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence

# new objects between two searches for unused cycles: with Python's 700 they cost a verb 5 % of its time, with 50,000
# the `up` of a cluster with 1,000 Services 8 %, and they find next to nothing
GC_THRESHOLD = 500_000


def run_program() -> None:
    """The program `labctl`: run it with the arguments of this process, and end the process.

    Python would take all its modules apart first, which takes longer than many a verb. The kernel does it at once.
    """
    gc.set_threshold(GC_THRESHOLD)
    code = main()
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            pass  # a closed pipe; every other problem with the output was reported when it was written
    os._exit(code)


def main(argv: Sequence[str] | None = None) -> int:
    """Run labctl with these arguments (sys.argv if None) and return the exit code.

    0 good; 1 a check failed or drift; 2 a bad scenario or usage; 3 the kernel refused; 4 missing root,
    tool or kernel feature; 70 a bug in labctl; 130 interrupted; `exec` and `shell` return their command's exit code.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _main(arguments)
    except KeyboardInterrupt:  # interrupted before labctl.cli.app could handle it
        sys.stderr.write("labctl: interrupted\n")
        return 130
    except MemoryError:  # too little to import what reports an error
        os.write(2, b"labctl: this process cannot get more memory\n    hint: ulimit -v shows the limit\n")
        return 3


def _main(arguments: list[str]) -> int:
    if "_LABCTL_COMPLETE" in os.environ:
        from labctl.cli.completion import run_completion

        return run_completion()
    from labctl.cli import rootless

    # after `--` comes the command for the node
    own_arguments = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return rootless.run(arguments, _run) if rootless.wants_rootless(own_arguments) else _run(arguments)


def _run(arguments: list[str]) -> int:
    plain = _plain_exec(arguments)
    if plain is None:
        from labctl.cli.app import run

        return run(arguments)
    from labctl.kernel.node_exec import exec

    try:
        return exec.run(*plain)
    except BaseException as error:
        from labctl.cli.failure import report_error
        from labctl.cli.session import Session

        return report_error(error, Session(arguments))


def _plain_exec(arguments: list[str]) -> tuple[str, str, list[str]] | None:
    """(lab, node, command) for a plain `exec [-l LAB] NODE -- CMD...` that can work. Else None: then the full
    command line runs, which handles every spelling and every error."""
    if arguments[:1] != ["exec"] or os.geteuid() != 0:
        return None
    from labctl.errors import UsageError
    from labctl.kernel.host import paths

    rest = arguments[1:]
    labs = paths.labs()
    if rest[:1] in (["-l"], ["--lab"]) and len(rest) > 1:
        lab, rest = rest[1], rest[2:]
    else:
        try:
            lab = paths.default_lab(labs) or ""
        except UsageError:  # the full command line reports it
            return None
    if len(rest) < 3 or rest[1] != "--" or rest[0] not in labs.get(lab, ()):
        return None
    if paths.has_unfinished_work():  # a killed verb may have left something to remove
        return None
    return lab, rest[0], rest[2:]

"""`labctl --rootless VERB ...`: run the verb in namespaces of the calling user, where it needs no root."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress

# verbs that only read files or packages, and so stay outside
VERBS_OUTSIDE = frozenset({"plan", "validate", "schema", "--help", "-h", "--version"})
SANDBOX_VERB = "run"  # makes new namespaces for each command
SERVER_VERB = "view"  # listens on the caller's own loopback address, also from inside


def wants_rootless(arguments: Sequence[str]) -> bool:
    """Whether these arguments, or the environment, ask for labs without root."""
    return os.environ.get("LABCTL_ROOTLESS", "0") not in ("", "0") or "--rootless" in arguments


def use_rootless_labs() -> None:
    """For completion, which enters no namespace: let this process find the names of the user's labs from outside."""
    from labctl.errors import LabError
    from labctl.kernel import rootless

    with suppress(LabError):
        if (root := rootless.holder_root()) is not None:
            os.environ.update(LABCTL_NETNS_DIR=f"{root}/run/netns", LABCTL_STATE_DIR=f"{root}/run/labctl")


def run(arguments: Sequence[str], work: Callable[[list[str]], int]) -> int:
    """Do the work inside, without the option. The process that holds the namespaces ends with the last lab."""
    own_arguments = list(arguments[: arguments.index("--")] if "--" in arguments else arguments)
    rest = [argument for argument in own_arguments if argument != "--rootless"] + list(arguments[len(own_arguments) :])
    before = ("", *rest)  # a lab can have the name of a verb
    verb = next(
        (word for last, word in zip(before, rest, strict=False) if word[:1] != "-" and last not in ("-l", "--lab")),
        "--help",
    )
    if verb == SANDBOX_VERB:
        return work(["--rootless", *rest])
    if verb in VERBS_OUTSIDE or {"--help", "-h", "--version"} & set(rest[: len(own_arguments)]):
        return work(rest)
    from labctl.errors import LabError
    from labctl.kernel import rootless

    if verb == SERVER_VERB:
        from labctl.kernel.host import loopback

        loopback.keep_socket()
    try:
        holder = rootless.enter()
    except LabError as error:
        from labctl.cli.failure import report_error
        from labctl.cli.session import Session

        session = Session(rest)
        session.json = "--json" in own_arguments
        return report_error(error, session)
    try:
        return work(rest)
    finally:
        rootless.leave(holder)

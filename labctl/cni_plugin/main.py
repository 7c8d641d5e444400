"""labctl as a CNI plugin: the executable `labctl-cni`, called by any container runtime (SPEC.md 1.1.0).

The runtime passes its request in the environment and on standard input. The result, or the error as JSON, goes to
standard output. Standard error has only what there is in addition: the log of an IPAM plugin, or a traceback. The
plugin works in the network namespace that it is started in, which is the runtime's, and changes there only objects that
it created.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace

from labctl.cni.spec import (
    DECODING_FAILURE,
    FIRST_PLUGIN_CODE,
    IO_FAILURE,
    TRY_AGAIN_LATER,
    Error,
    error_json,
    result_json,
)
from labctl.cni_plugin import config
from labctl.cni_plugin.config import SUPPORTED_VERSIONS, Failure, Request
from labctl.errors import KernelError, LabError, LockError
from labctl.kernel.host.limits import limit_error

LOCK = "cni.plugin"  # one call at a time: all calls share bridges and rules


def main() -> int:
    """Serve one call, given by environment and standard input; returns the exit code."""
    environment, version = dict(os.environ), SUPPORTED_VERSIONS[-1]
    try:
        config.command_of(environment)  # before it waits for standard input
        request = config.parse_request(environment, _input())
        version = request.config.version
        answer = _serve(request, environment)
    except Failure as failure:
        return _fail(failure.error, version)
    except Exception as error:
        return _fail(_cni_error(error), version)
    return _answer(answer, 0)


def _cni_error(error: Exception) -> Error:
    """The error object for what a call raised. A bug also prints its traceback on standard error."""
    later = error if isinstance(error, LockError) else limit_error(error)
    if later is not None:
        return Error(TRY_AGAIN_LATER, later.message, later.hint)
    if isinstance(error, LabError):
        return Error(FIRST_PLUGIN_CODE, error.message, error.hint)
    if isinstance(error, OSError):
        return Error(IO_FAILURE, str(error))
    import traceback

    traceback.print_exc()
    return Error(FIRST_PLUGIN_CODE, f"a bug in labctl: {type(error).__name__}", str(error))


def _input() -> str:
    """Read standard input; empty if it is closed or a terminal."""
    if sys.stdin is None or sys.stdin.isatty():
        return ""
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise Failure(DECODING_FAILURE, f"this configuration is not UTF-8: {error}") from None


def _fail(error: Error, version: str) -> int:
    return _answer(error_json(replace(error, version=version)), 1)


def _answer(document: dict[str, object] | None, code: int) -> int:
    """Print the answer of a call and return the exit code; 1 if it cannot be written."""
    try:
        if document is not None:
            print(json.dumps(document), flush=True)
    except OSError:
        return 1
    return code


def _serve(request: Request, environment: Mapping[str, str]) -> dict[str, object] | None:
    if request.command == "VERSION":
        return {"cniVersion": request.config.version, "supportedVersions": list(SUPPORTED_VERSIONS)}
    from labctl.cni_plugin.commands import Invocation
    from labctl.kernel.host import lab_state

    call = Invocation(request, environment)
    if request.command == "STATUS":
        call.status()
        return None
    with ExitStack() as held:
        try:
            held.enter_context(lab_state.lock(LOCK))
        except KernelError as error:
            raise Failure(IO_FAILURE, error.message, error.hint) from None
        if request.command == "ADD":
            return result_json(call.add())
        {"CHECK": call.check, "DEL": call.delete, "GC": call.gc}[request.command]()
    return None


if __name__ == "__main__":
    sys.exit(main())

"""Delegation: the IPAM plugin of a network, called by labctl's own plugin as section 4 of SPEC.md 1.1.0 says.

It gets the environment and the whole configuration of this call. Its errors are passed on with their codes. A command
that the configuration's version does not have is not delegated.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping

from labctl.cni.spec import IO_FAILURE, OWN, Malformed, Result, has, read_error, read_result
from labctl.cni_plugin import node, wiring
from labctl.cni_plugin.config import Failure, Request
from labctl.kernel.cni import plugins


class Ipam:
    """The IPAM plugin, which assigns addresses to the containers of a network."""

    def __init__(self, request: Request, environment: Mapping[str, str]) -> None:
        self.kind = str(request.config.ipam.get("type"))
        self._config, self._environment = request.config, dict(environment)

    def addresses(self) -> Result:
        """The result of its ADD. Addresses that cannot be used are released at once. Raises Failure for an invalid
        answer."""
        said = self.call("ADD")
        try:
            given = read_result(said)
            wiring.addresses(given)
            return given
        except Malformed as error:
            self.call("DEL")
            raise Failure(OWN, f"the answer of the IPAM plugin {self.kind} is invalid", str(error)) from None
        except Failure:
            self.call("DEL")
            raise

    def call(self, command: str) -> str:
        """Call it and return its output; "" if the version does not have the command. Raises Failure with its error."""
        if not has(self._config.version, command):
            return ""
        file = plugins.find(self.kind, self._environment["CNI_PATH"])
        if file is None:
            raise Failure(IO_FAILURE, f"cannot find the IPAM plugin {self.kind!r}", "no directory of CNI_PATH has it")
        environment = {**self._environment, "CNI_COMMAND": command}
        code, out, err = node.delegate(file, environment, json.dumps(self._config.raw))
        if err:
            print(err, end="", file=sys.stderr)
        if code:
            raise self._relayed(command, code, out)
        return out

    def _relayed(self, command: str, code: int, out: str) -> Failure:
        try:
            error = read_error(out)
            return Failure(error.code, f"{self.kind}: {error.msg}", error.details)
        except Malformed:
            what = f"the IPAM plugin {self.kind} failed at {command}"
            return Failure(OWN, what, f"exit code {code}: {out.strip()[:200]}")

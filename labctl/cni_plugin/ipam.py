"""Delegation: the IPAM plugin of a network, called by labctl's own plugin as section 4 of SPEC.md 1.1.0 says.

It gets the environment and the whole configuration of this call. Its errors are passed on with their codes. A command
that the configuration's version does not have is not delegated.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping

from labctl.cni.spec import (
    FIRST_PLUGIN_CODE,
    IO_FAILURE,
    VALID_ATTACHMENTS_KEYS,
    DecodeError,
    Json,
    Result,
    read_error,
    read_result,
    supports,
)
from labctl.cni_plugin import node, wiring
from labctl.cni_plugin.config import Failure, Request
from labctl.kernel.cni import plugins

_KEYS_OF_A_GC = (*VALID_ATTACHMENTS_KEYS, "prevResult")


class Ipam:
    """The IPAM plugin, which assigns addresses to the containers of a network."""

    def __init__(self, request: Request, environment: Mapping[str, str]) -> None:
        self.plugin_type = str(request.config.ipam.get("type"))
        self._config, self._environment = request.config, dict(environment)

    def addresses(self) -> Result:
        """The result of its ADD. Addresses that cannot be used are released at once. Raises Failure for an invalid
        answer."""
        output = self.call("ADD")
        try:
            result = read_result(output)
            wiring.validated_addresses(result)
            return result
        except DecodeError as error:
            self.call("DEL")
            raise Failure(
                FIRST_PLUGIN_CODE, f"the answer of the IPAM plugin {self.plugin_type} is invalid", str(error)
            ) from None
        except Failure:
            self.call("DEL")
            raise

    def release(self, container_id: str, ifname: str) -> None:
        """Its DEL for another attachment of the network, of which the result is lost. Raises Failure with its error.

        GC alone is not enough: host-local 1.9 answers a GC with success and releases nothing.
        """
        config = {key: value for key, value in self._config.raw.items() if key not in _KEYS_OF_A_GC}
        self.call("DEL", {"CNI_CONTAINERID": container_id, "CNI_IFNAME": ifname, "CNI_NETNS": ""}, config)

    def call(self, command: str, variables: Mapping[str, str] | None = None, config: Json | None = None) -> str:
        """Call it and return its output; "" if the version does not have the command. Raises Failure with its error.

        `variables` and `config` replace those of this call.
        """
        if not supports(self._config.version, command):
            return ""
        file = plugins.find(self.plugin_type, self._environment["CNI_PATH"])
        if file is None:
            raise Failure(
                IO_FAILURE, f"cannot find the IPAM plugin {self.plugin_type!r}", "no directory of CNI_PATH has it"
            )
        environment = {**self._environment, **(variables or {}), "CNI_COMMAND": command}
        code, out, err = node.delegate(file, environment, json.dumps(self._config.raw if config is None else config))
        if err:
            print(err, end="", file=sys.stderr)
        if code:
            raise self._plugin_failure(command, code, out)
        return out

    def _plugin_failure(self, command: str, code: int, out: str) -> Failure:
        try:
            error = read_error(out)
            return Failure(error.code, f"{self.plugin_type}: {error.msg}", error.details)
        except DecodeError:
            message = f"the IPAM plugin {self.plugin_type} failed at {command}"
            return Failure(FIRST_PLUGIN_CODE, message, f"exit code {code}: {out.strip()[:200]}")

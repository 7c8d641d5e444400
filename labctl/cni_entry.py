"""labctl as a CNI plugin: the executable `labctl-cni`, called by any container runtime (SPEC.md 1.1.0).

The runtime says what it wants by the environment and on standard input; the result, or the error as JSON, goes to
standard output, and what is for a person to standard error. It works in the network namespace that it is started
in, which is the runtime's, and touches there only what it made.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import replace

from labctl import cni_config, cni_wiring
from labctl.cni_config import SPOKEN, Config, Failure, Request
from labctl.cni_spec import (
    BAD_ENVIRONMENT,
    IO_FAILURE,
    OWN,
    TRY_LATER,
    UNAVAILABLE,
    Error,
    Malformed,
    Result,
    error_json,
    has,
    read_error,
    read_result,
    result_json,
)
from labctl.cni_wiring import HOST, POD
from labctl.errors import LabError, LockError
from labctl.kernel import cni, cni_node, state
from labctl.kernel.cni_node import Node
from labctl.plan import Link, Port
from labctl.words import change_lines

LOCK = "cni.plugin"  # one call at a time: bridges and rules are everybody's


def main() -> int:
    """One call by environment and standard input; returns the exit code."""
    environment, text = dict(os.environ), sys.stdin.read()
    version = SPOKEN[-1]
    try:
        request = cni_config.read(environment, text)
        version = request.config.version if request.config.version in SPOKEN else version
        answer = _serve(request, environment)
    except Failure as failure:
        return _fail(failure.error, version)
    except LockError as error:
        return _fail(Error(TRY_LATER, error.message, error.hint), version)
    except LabError as error:
        return _fail(Error(OWN, error.message, error.hint), version)
    except Exception as error:
        import traceback

        traceback.print_exc()
        return _fail(Error(OWN, f"a bug of labctl's: {type(error).__name__}", str(error)), version)
    if answer is not None:
        print(json.dumps(answer))
    return 0


def _fail(error: Error, version: str) -> int:
    print(json.dumps(error_json(replace(error, version=version))))
    print(f"labctl-cni: {error}", file=sys.stderr)
    return 1


def _serve(request: Request, environment: Mapping[str, str]) -> dict[str, object] | None:
    if request.command == "VERSION":
        return {"cniVersion": SPOKEN[-1], "supportedVersions": list(SPOKEN)}
    call = _Call(request, environment)
    if request.command == "STATUS":
        call.status()
        return None
    with state.lock(LOCK):
        if request.command == "ADD":
            return result_json(call.add())
        {"CHECK": call.check, "DEL": call.delete, "GC": call.collect}[request.command]()
    return None


class _Call:
    """One call that changes or judges something."""

    def __init__(self, request: Request, environment: Mapping[str, str]) -> None:
        self.request, self.environment = request, dict(environment)

    @property
    def config(self) -> Config:
        return self.request.config

    def add(self) -> Result:
        """Wire a container. What was made of a half-finished one is taken away again. Raises Failure."""
        request = self.request
        with Node(request.netns) as node:
            self._free(node)
            given = cni_wiring.granted(request, self._addresses())
            try:
                bridge = None if self._bridge_there(node) else _drawn()
                node.make(cni_wiring.wiring(request, given, ipv6=cni_node.ipv6(), bridge_mac=bridge))
                cni_node.label(cni_wiring.veth(request), cni_wiring.mark(request))
                cni_node.write(cni_wiring.rules(request, given))
            except Failure:
                self._undo(node, given)
                raise
            macs = {item.at: item.mac for item in node.found() if isinstance(item, Link) and item.mac}
            return cni_wiring.result(request, given, macs)

    def check(self) -> None:
        """Hold the container against what the ADD returned. Raises Failure naming what differs."""
        request, given = self.request, cni_wiring.own_part(self.request)
        self._ipam("CHECK")
        with Node(request.netns) as node:
            plan = cni_wiring.wiring(request, given, ipv6=cni_node.ipv6())
            lines = [line for change in node.differences(plan) for line in change_lines(change)]
        lines += [f"missing {line}" for line in cni_node.lacks(cni_wiring.rules(request, given))]
        if lines:
            raise Failure(OWN, f"{request.ifname} of {request.container} is not as it was made", "; ".join(lines))

    def delete(self) -> None:
        """Take away what was made for a container; nothing of it need be there."""
        self._ipam("DEL")
        try:
            with Node() as node:
                node.remove(Port(HOST, cni_wiring.veth(self.request)))
        finally:
            cni_node.erase(cni_wiring.rules(self.request, cni_wiring.own_part(self.request)))

    def collect(self) -> None:
        """Take away what belongs to this network and to no attachment that is to stay; then IPAM's turn.

        Goes on after what fails, and raises Failure for the first of it at the end.
        """
        failed: list[Failure] = []
        name, valid = self.config.name, self.config.valid
        for device, alias in cni_node.labels().items():
            whose = cni_wiring.of_mark(alias, name)
            if whose is not None and whose not in valid:
                try:
                    with Node() as node:
                        node.remove(Port(HOST, device))
                except Failure as failure:
                    failed.append(failure)
        stay = {container for container, _ in valid}
        try:
            cni_node.erase(cni_wiring.stale(name, stay, cni_node.commented("nat")))
        except Failure as failure:
            failed.append(failure)
        try:
            self._ipam("GC")
        except Failure as failure:
            failed.append(failure)
        if failed:
            raise failed[0]

    def status(self) -> None:
        """Whether an ADD could be served. Raises Failure, with code 50, if not."""
        lacking = cni_node.can(("veth", *(["bridge"] if self.config.shape == "bridge" else [])))
        if lacking:
            raise Failure(UNAVAILABLE, f"this kernel has no {' and no '.join(lacking)}", "ip link add ... type ...")
        try:
            self._ipam("STATUS")
        except Failure as failure:
            raise Failure(UNAVAILABLE, failure.error.msg, failure.error.details) from None

    # what the commands are made of

    def _free(self, node: Node) -> None:
        """The container's device must not be there yet."""
        links = {item.at for item in node.found() if isinstance(item, Link)}
        if Port(POD, self.request.ifname) in links:
            what = f"CNI_IFNAME {self.request.ifname} is a device of {self.request.netns} already"
            raise Failure(BAD_ENVIRONMENT, what)

    def _bridge_there(self, node: Node) -> bool:
        at = Port(HOST, self.config.bridge)
        link = next((item for item in node.found() if isinstance(item, Link) and item.at == at), None)
        if link is not None and link.kind != "bridge" and self.config.shape == "bridge":
            raise Failure(OWN, f"{at.dev} is there and is no bridge, but a {link.kind}")
        return link is not None

    def _undo(self, node: Node, given: Result) -> None:
        """After a failed ADD: as if it had not been."""
        try:
            node.remove(Port(HOST, cni_wiring.veth(self.request)))
            cni_node.erase(cni_wiring.rules(self.request, given))
            self._ipam("DEL")
        except Failure as failure:
            print(f"labctl-cni: {failure.error}", file=sys.stderr)  # what failed first is what counts

    def _addresses(self) -> Result:
        """What the IPAM plugin gives. Raises Failure for an answer that is none."""
        said = self._ipam("ADD")
        try:
            given = read_result(said)
            cni_wiring.addresses(given)
            return given
        except Malformed as error:
            raise Failure(OWN, f"the IPAM plugin {self._kind} answers nonsense", str(error)) from None
        except Failure:
            self._ipam("DEL")
            raise

    @property
    def _kind(self) -> str:
        return str(self.config.ipam.get("type"))

    def _ipam(self, command: str) -> str:
        """Call the IPAM plugin with this call's environment and whole configuration; its output.

        Raises Failure as it fails itself; a command that its version does not know is passed over.
        """
        if not has(self.config.version, command):
            return ""
        file = cni.find(self._kind, self.environment["CNI_PATH"])
        if file is None:
            raise Failure(IO_FAILURE, f"cannot find the IPAM plugin {self._kind!r}", "it is on no folder of CNI_PATH")
        environment = {**self.environment, "CNI_COMMAND": command}
        code, out, err = cni_node.delegate(file, environment, json.dumps(self.config.raw))
        if err:
            print(err, end="", file=sys.stderr)
        if code:
            raise _relayed(self._kind, command, code, out)
        return out


def _relayed(kind: str, command: str, code: int, out: str) -> Failure:
    try:
        error = read_error(out)
        return Failure(error.code, f"{kind}: {error.msg}", error.details)
    except Malformed:
        return Failure(OWN, f"the IPAM plugin {kind} failed at {command}", f"exit code {code}: {out.strip()[:200]}")


def _drawn() -> str:
    """A MAC address for a new bridge, drawn: it stays that one whoever becomes its port."""
    return ":".join(f"{byte:02x}" for byte in (0x02, *os.urandom(5)))


if __name__ == "__main__":
    sys.exit(main())

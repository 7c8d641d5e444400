"""The commands of labctl's CNI plugin: ADD, CHECK, DEL, GC and STATUS (SPEC.md 1.1.0, section 2).

The order matters if a command fails half-way: an ADD that fails removes everything that it created, whatever the error
is, and a DEL releases the address last, after the interface that had it is gone.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Interface

from labctl.cni.spec import BAD_ENVIRONMENT, LIMITED, OWN, UNAVAILABLE, Result
from labctl.cni_plugin import iptables_rules, wiring
from labctl.cni_plugin import node as cni_node
from labctl.cni_plugin.config import Config, Failure, Request
from labctl.cni_plugin.ipam import Ipam
from labctl.cni_plugin.node import Node
from labctl.cni_plugin.wiring import HOST, POD, Mark
from labctl.core.resources import Link, Plan, Port
from labctl.errors import LabError
from labctl.render.resources import change_lines


class Call:
    """One call of ADD, CHECK, DEL, GC or STATUS."""

    def __init__(self, request: Request, environment: Mapping[str, str]) -> None:
        self.request = request
        self.ipam = Ipam(request, environment)
        self.cable = wiring.veth(request)

    @property
    def config(self) -> Config:
        """The network's configuration."""
        return self.request.config

    def add(self) -> Result:
        """Connect a container. After an error, everything that was created is removed again. Raises Failure."""
        with Node(self.request.netns) as node:
            there = node.found()
            self._free(there)
            given = self.ipam.addresses()
            try:
                given = wiring.granted(self.request, given)
                self._make(node, given, there)
                macs = {item.at: item.mac for item in node.found() if isinstance(item, Link) and item.mac}
                return wiring.result(self.request, given, macs)
            except BaseException:
                self._undo(node, given)
                raise

    def check(self) -> None:
        """Compare the container with the result of the ADD. Raises Failure, which names the differences."""
        request, given = self.request, wiring.own_part(self.request)
        self.ipam.call("CHECK")
        with Node(request.netns) as node:
            plan = wiring.wiring(request, given, ipv6=cni_node.ipv6(), there=node.found())
            plan = wiring.as_made(request, plan)
            lines = [line for change in node.differences(plan) for line in change_lines(change)]
        lines += [f"missing {line}" for line in cni_node.lacks(self._rules(_worn(given)))]
        if lines:
            raise Failure(OWN, f"{request.ifname} of {request.container} is not as it was created", "; ".join(lines))

    def delete(self) -> None:
        """Remove everything that was created for a container; parts of it, or all, may be missing."""
        rules = self._known()
        with Node() as node:
            node.remove(Port(HOST, self.cable))
        cni_node.erase(rules)
        self.ipam.call("DEL")

    def collect(self) -> None:
        """Remove everything of this network that belongs to no valid attachment; then call the GC of the IPAM plugin.

        Continues after an error, and raises Failure for the first error at the end.
        """
        failed: list[Failure] = []
        stay = {container for container, _ in self.config.valid}
        for device, mark in self._marks().items():
            if (mark.container, mark.device) not in self.config.valid:
                failed += _failing(partial(self._discard, device, mark))
        failed += _failing(lambda: self._sweep(lambda container: container not in stay))
        failed += _failing(lambda: self.ipam.call("GC"))
        if failed:
            raise failed[0]

    def status(self) -> None:
        """Check that an ADD could be served. Raises Failure, with code 50 or 51, if not."""
        lacking = cni_node.can(("veth", *(["bridge"] if self.config.shape == "bridge" else [])))
        if lacking:
            raise Failure(UNAVAILABLE, f"this kernel has no {' and no '.join(lacking)}", "ip link add ... type ...")
        tools = cni_node.tools() if self.config.ip_masq or self.config.firewall else []
        if tools:
            raise Failure(UNAVAILABLE, f"there is no {' and no '.join(tools)} on PATH", "apt-get install iptables")
        try:
            self.ipam.call("STATUS")
        except Failure as failure:
            error = failure.error
            code = error.code if error.code in (UNAVAILABLE, LIMITED) else UNAVAILABLE
            raise Failure(code, error.msg, error.details) from None

    # parts of the commands

    def _free(self, there: Plan) -> None:
        """Check that the container has another namespace than the plugin, and that no end of its veth pair exists."""
        request, links = self.request, {item.at for item in there if isinstance(item, Link)}
        if cni_node.is_own(request.netns):
            raise Failure(BAD_ENVIRONMENT, f"CNI_NETNS {request.netns} is the namespace that the plugin is called in")
        if Port(POD, request.ifname) in links:
            raise Failure(BAD_ENVIRONMENT, f"CNI_IFNAME {request.ifname} is a device of {request.netns} already")
        if Port(HOST, self.cable) in links:
            what = f"{self.cable}, the host's end for {request.ifname} of {request.container}, exists already"
            raise Failure(OWN, what, "an earlier ADD created it in another namespace: call DEL first")

    def _make(self, node: Node, given: Result, there: Plan) -> None:
        alias = wiring.mark(self.request, given)
        node.make(wiring.wiring(self.request, given, ipv6=cni_node.ipv6(), there=there, mac=_drawn()))
        cni_node.label(self.cable, alias)
        cni_node.write(self._rules(_worn(given)))
        cni_node.settle(self.cable)

    def _undo(self, node: Node, given: Result) -> None:
        """Remove everything that a failed ADD created."""
        undoing = (
            lambda: node.remove(Port(HOST, self.cable)),
            lambda: cni_node.erase(self._rules(_worn(given))),
            lambda: self.ipam.call("DEL"),
        )
        for failure in (failure for one in undoing for failure in _failing(one)):
            print(f"labctl-cni: {failure.error}", file=sys.stderr)  # the ADD returns its first error

    def _rules(self, addresses: Iterable[IPv4Interface]) -> tuple[iptables_rules.Rules, ...]:
        return iptables_rules.rules(self.config, self.request.container, addresses)

    def _marks(self) -> dict[str, Mark]:
        """Every veth pair of this network, by its end in the host."""
        marks = {device: wiring.of_mark(alias, self.config.name) for device, alias in cni_node.labels().items()}
        return {device: mark for device, mark in marks.items() if mark is not None}

    def _known(self) -> tuple[iptables_rules.Rules, ...]:
        """The rules of this attachment, from the result of its ADD, or else from the alias of its veth. If both are
        gone, the namespace is gone too: then rules with the container's name are left over, unless it still has
        another device."""
        if not (self.config.ip_masq or self.config.firewall):
            return ()
        container, marks = self.request.container, self._marks()
        mark = marks.get(self.cable)
        worn = _worn(wiring.own_part(self.request)) or (mark.addresses if mark is not None else ())
        if worn:
            return self._rules(worn)
        if any(other.container == container for other in marks.values()):
            return ()
        left = iptables_rules.left(self.config, lambda other: other == container, cni_node.commented("nat"))
        return (*left, *self._rules(()))

    def _sweep(self, gone: Callable[[str], bool]) -> None:
        """Remove the rules of containers that lost their veth pairs together with their namespaces."""
        cni_node.erase(iptables_rules.left(self.config, gone, cni_node.commented("nat")))

    def _discard(self, device: str, mark: Mark) -> None:
        """Remove a veth pair and the rules for its addresses, whether or not the configuration now has ipMasq."""
        with Node() as node:
            node.remove(Port(HOST, device))
        cni_node.erase(iptables_rules.rules(replace(self.config, ip_masq=True), mark.container, mark.addresses))


def _worn(given: Result) -> tuple[IPv4Interface, ...]:
    return tuple(item.address for item in given.ips if isinstance(item.address, IPv4Interface))


def _failing(attempt: Callable[[], object]) -> list[Failure]:
    """The error of a failed attempt, as a list of one; empty if it succeeded."""
    try:
        attempt()
    except Failure as failure:
        return [failure]
    except LabError as error:
        return [Failure(OWN, error.message, error.hint)]
    return []


def _drawn() -> str:
    """A random MAC address for a new bridge: the bridge keeps it, whatever ports it gets."""
    return ":".join(f"{byte:02x}" for byte in (0x02, *os.urandom(5)))

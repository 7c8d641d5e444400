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

from labctl.cni.spec import (
    FIRST_PLUGIN_CODE,
    INVALID_ENVIRONMENT_VARIABLES,
    IO_FAILURE,
    LIMITED_CONNECTIVITY,
    PLUGIN_NOT_AVAILABLE,
    Result,
)
from labctl.cni_plugin import iptables_rules, nft_rules, node, wiring
from labctl.cni_plugin.config import Config, Failure, Request
from labctl.cni_plugin.ipam import Ipam
from labctl.cni_plugin.node import PluginNode
from labctl.cni_plugin.wiring import HOST, POD, LinkAlias
from labctl.core.resources import Interface, Link, Plan
from labctl.errors import LabError
from labctl.render.resources import change_lines

FIRST_DEVICE = "eth0"  # the name that runtimes give the first device of a container


class Invocation:
    """One call of ADD, CHECK, DEL, GC or STATUS."""

    def __init__(self, request: Request, environment: Mapping[str, str]) -> None:
        self.request = request
        self.ipam = Ipam(request, environment)
        self.host_veth = wiring.host_veth_name(request)

    @property
    def config(self) -> Config:
        """The network's configuration."""
        return self.request.config

    def add(self) -> Result:
        """Connect a container. After an error, everything that was created is removed again. Raises Failure."""
        with PluginNode(self.request.netns) as plugin_node:
            existing = plugin_node.observe()
            self._free(existing)
            ipam_result = self.ipam.addresses()
            try:
                ipam_result = wiring.complete_ipam_result(self.request, ipam_result)
                self._build(plugin_node, ipam_result, existing)
                macs = {item.at: item.mac for item in plugin_node.observe() if isinstance(item, Link) and item.mac}
                return wiring.add_result(self.request, ipam_result, macs)
            except BaseException:
                self._undo(plugin_node, ipam_result)
                raise

    def check(self) -> None:
        """Compare the container with the result of the ADD. Raises Failure, which names the differences."""
        request, result = self.request, wiring.attachment_part(self.request)
        self.ipam.call("CHECK")
        with PluginNode(request.netns) as plugin_node:
            plan = wiring.wiring(request, result, ipv6=node.has_ipv6(), existing=plugin_node.observe())
            plan = wiring.with_result_macs(request, plan)
            lines = [line for change in plugin_node.differences(plan) for line in change_lines(change)]
        addresses = _ipv4_addresses(result)
        lines += [f"missing {line}" for line in node.missing_rules(self._rules(addresses))]
        if self._with_nft():
            lines += [f"missing {line}" for line in nft_rules.missing(node.masquerade_table(), self._nft(addresses))]
        if lines:
            raise Failure(
                FIRST_PLUGIN_CODE,
                f"{request.ifname} of {request.container_id} is not as it was created",
                "; ".join(lines),
            )

    def delete(self) -> None:
        """Remove everything that was created for a container; parts of it, or all, may be missing."""
        rules = self._attachment_rules()
        with PluginNode() as plugin_node:
            plugin_node.remove(Interface(HOST, self.host_veth))
        node.remove_rules(rules)
        self._remove_nft_rules()
        self.ipam.call("DEL")

    def gc(self) -> None:
        """Remove everything of this network that belongs to no valid attachment, and release its addresses; then call
        the GC of the IPAM plugin. An attachment that lost its veth pair is known only from its masquerade rules. Those
        of iptables do not name its device: it is then FIRST_DEVICE.

        Continues after an error, and raises Failure for the first error at the end.
        """
        failed: list[Failure] = []
        valid = self.config.valid_attachments
        valid_containers = {container for container, _ in valid}
        aliases = self._link_aliases()
        dropped = [(alias.container_id, alias.ifname) for alias in aliases.values()]
        known = {container for container, _ in dropped} | valid_containers
        by_nft = tuple(nft_rules.parse_chain(node.masquerade_table()))
        dropped += [pair for pair in nft_rules.attachments(by_nft, self.config.name) if pair not in dropped]
        known |= {container for container, _ in dropped}
        masqueraded = iptables_rules.masqueraded_containers(self.config, node.table_rules("nat"))
        dropped += [(container, FIRST_DEVICE) for container in masqueraded if container not in known]
        for device, alias in aliases.items():
            if (alias.container_id, alias.ifname) not in valid:
                failed += _failing(partial(self._discard, device, alias))
        failed += _failing(lambda: self._remove_stale_rules(lambda container: container not in valid_containers))
        gone = nft_rules.stale(by_nft, self.config.name, valid)
        failed += _failing(lambda: node.run_nft(nft_rules.delete_script(gone)))
        accepted = replace(self.config, ip_masq=False)
        failed += _failing(lambda: node.remove_rules(iptables_rules.rules(accepted, "", _addresses_of(gone, by_nft))))
        for container, ifname in dropped:
            if (container, ifname) not in valid:
                failed += _failing(partial(self.ipam.release, container, ifname))
        failed += _failing(lambda: self.ipam.call("GC"))
        if failed:
            raise failed[0]

    def status(self) -> None:
        """Check that an ADD could be served. Raises Failure, with code 50 or 51, if not."""
        lacking = node.unsupported_link_kinds(("veth", *(["bridge"] if self.config.shape == "bridge" else [])))
        if lacking:
            raise Failure(
                PLUGIN_NOT_AVAILABLE, f"this kernel has no {' and no '.join(lacking)}", "ip link add ... type ..."
            )
        by_nft = self.config.ip_masq and self._with_nft()
        by_iptables = self.config.firewall or (self.config.ip_masq and not by_nft)
        tools = node.missing_programs() if by_iptables else []
        tools += ["nft"] if by_nft and not node.has_nft() else []
        if tools:
            package = "nftables" if tools == ["nft"] else "iptables"
            raise Failure(
                PLUGIN_NOT_AVAILABLE, f"there is no {' and no '.join(tools)} on PATH", f"apt-get install {package}"
            )
        try:
            self.ipam.call("STATUS")
        except Failure as failure:
            error = failure.error
            code = error.code if error.code in (PLUGIN_NOT_AVAILABLE, LIMITED_CONNECTIVITY) else PLUGIN_NOT_AVAILABLE
            raise Failure(code, error.msg, error.details) from None

    # parts of the commands

    def _free(self, existing: Plan) -> None:
        """Check that no end of the container's veth pair exists."""
        request, links = self.request, {item.at for item in existing if isinstance(item, Link)}
        if Interface(POD, request.ifname) in links:
            raise Failure(
                INVALID_ENVIRONMENT_VARIABLES, f"CNI_IFNAME {request.ifname} is a device of {request.netns} already"
            )
        if Interface(HOST, self.host_veth) in links:
            message = f"{self.host_veth}, the host's end for {request.ifname} of {request.container_id}, exists already"
            raise Failure(FIRST_PLUGIN_CODE, message, "an earlier ADD created it in another namespace: call DEL first")

    def _build(self, plugin_node: PluginNode, ipam_result: Result, existing: Plan) -> None:
        alias = wiring.link_alias(self.request, ipam_result)
        plugin_node.create(
            wiring.wiring(self.request, ipam_result, ipv6=node.has_ipv6(), existing=existing, mac=_random_mac())
        )
        node.set_alias(self.host_veth, alias)
        node.add_rules(self._rules(_ipv4_addresses(ipam_result)))
        if wanted := self._nft(_ipv4_addresses(ipam_result)):
            node.run_nft(nft_rules.add_script(wanted, self._earlier_nft_rules()))
        node.wait_for_carrier(self.host_veth)

    def _undo(self, plugin_node: PluginNode, ipam_result: Result) -> None:
        """Remove everything that a failed ADD created."""
        actions = (
            lambda: plugin_node.remove(Interface(HOST, self.host_veth)),
            lambda: node.remove_rules(self._rules(_ipv4_addresses(ipam_result))),
            self._remove_nft_rules,
            lambda: self.ipam.call("DEL"),
        )
        for failure in (failure for action in actions for failure in _failing(action)):
            print(f"labctl-cni: {failure.error}", file=sys.stderr)  # the ADD returns its first error

    def _with_nft(self) -> bool:
        """Whether masquerade rules are written with nft: as configured, else where it is there and iptables is not."""
        if self.config.ip_masq_backend:
            return self.config.ip_masq_backend == "nftables"
        return bool(node.missing_programs()) and node.has_nft()

    def _rules(self, addresses: Iterable[IPv4Interface]) -> tuple[iptables_rules.ContainerRules, ...]:
        """The rules of iptables."""
        config = replace(self.config, ip_masq=False) if self._with_nft() else self.config
        return iptables_rules.rules(config, self.request.container_id, addresses)

    def _nft(self, addresses: Iterable[IPv4Interface]) -> tuple[nft_rules.MasqueradeRule, ...]:
        """The masquerade rules of nft; none if iptables has them, or nothing is masqueraded."""
        if not (self.config.ip_masq and self._with_nft()):
            return ()
        return nft_rules.rules(self.config.name, self.request.ifname, self.request.container_id, addresses)

    def _earlier_nft_rules(self) -> tuple[nft_rules.MasqueradeRule, ...]:
        """The rules of nft that this attachment has now, whatever addresses they are for."""
        digest = nft_rules.attachment_digest(self.config.name, self.request.ifname, self.request.container_id)
        return nft_rules.belonging(nft_rules.parse_chain(node.masquerade_table()), digest)

    def _remove_nft_rules(self) -> None:
        """Remove the rules of nft of this attachment: it may have been created with another configuration."""
        node.run_nft(nft_rules.delete_script(self._earlier_nft_rules()))

    def _link_aliases(self) -> dict[str, LinkAlias]:
        """Every veth pair of this network, by its end in the host."""
        aliases = {
            device: wiring.parse_link_alias(alias, self.config.name) for device, alias in node.veth_aliases().items()
        }
        return {device: alias for device, alias in aliases.items() if alias is not None}

    def _attachment_rules(self) -> tuple[iptables_rules.ContainerRules, ...]:
        """The rules of this attachment, from the alias of its veth, or else from the result of its ADD, which may be
        that of an earlier one, or from its rules of nft. If all are gone, the namespace is gone too: then rules with
        the container's name are left over, unless it still has another device."""
        if not (self.config.ip_masq or self.config.firewall):
            return ()
        container, aliases = self.request.container_id, self._link_aliases()
        alias = aliases.get(self.host_veth)
        addresses = alias.addresses if alias is not None else ()
        addresses = addresses or _ipv4_addresses(wiring.attachment_part(self.request))
        addresses = addresses or _addresses_of(
            self._earlier_nft_rules(), nft_rules.parse_chain(node.masquerade_table())
        )
        if addresses:
            return iptables_rules.rules(self.config, container, addresses)
        if any(other.container_id == container for other in aliases.values()):
            return ()
        stale = iptables_rules.stale_rules(self.config, lambda other: other == container, node.table_rules("nat"))
        return (*stale, *iptables_rules.rules(self.config, container, ()))

    def _remove_stale_rules(self, is_gone: Callable[[str], bool]) -> None:
        """Remove the rules of containers that lost their veth pairs together with their namespaces."""
        node.remove_rules(iptables_rules.stale_rules(self.config, is_gone, node.table_rules("nat")))

    def _discard(self, device: str, alias: LinkAlias) -> None:
        """Remove a veth pair and the rules for its addresses, whether or not the configuration now has ipMasq."""
        with PluginNode() as plugin_node:
            plugin_node.remove(Interface(HOST, device))
        node.remove_rules(iptables_rules.rules(replace(self.config, ip_masq=True), alias.container_id, alias.addresses))


def _addresses_of(
    rules: Iterable[nft_rules.MasqueradeRule], existing: Iterable[nft_rules.MasqueradeRule]
) -> tuple[IPv4Interface, ...]:
    """The IPv4 addresses that rules of nft are for, without those that another container has now."""
    rules = tuple(rules)
    taken = {rule.address for rule in existing if rule not in rules}
    return tuple(rule.address for rule in rules if rule.address is not None and rule.address not in taken)


def _ipv4_addresses(result: Result) -> tuple[IPv4Interface, ...]:
    return tuple(item.address for item in result.ips if isinstance(item.address, IPv4Interface))


def _failing(action: Callable[[], object]) -> list[Failure]:
    """The error of a failed attempt, as a list of one; empty if it succeeded."""
    try:
        action()
    except Failure as failure:
        return [failure]
    except LabError as error:
        return [Failure(FIRST_PLUGIN_CODE, error.message, error.hint)]
    except OSError as error:
        return [Failure(IO_FAILURE, str(error))]
    return []


def _random_mac() -> str:
    """A random MAC address for a new bridge: the bridge keeps it, whatever ports it gets."""
    return ":".join(f"{byte:02x}" for byte in (0x02, *os.urandom(5)))

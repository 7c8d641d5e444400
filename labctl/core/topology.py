"""Look up names of a lab: the addresses, the namespace and the devices of a machine. Pure."""

from __future__ import annotations

from functools import cached_property
from ipaddress import ip_address

from labctl.core.address_names import AddressNames
from labctl.core.probe_kinds import probe_kind
from labctl.core.resources import IP, Address, Interface, Link, Netns
from labctl.core.scenario_types import Check, Lab, MachineRole, VirtualAddress

LEAF_ROLES = ("pod", "container")  # the roles of namespaces that do not forward packets


class Topology:
    """The machines, interfaces and addresses of one lab, indexed for look-ups."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.machines = {machine.name: machine for machine in lab.machines}

    @cached_property
    def _virtual_addresses(self) -> dict[str | IP, VirtualAddress]:
        """The addresses that no machine has, by name and by address."""
        return {key: one for one in self.lab.virtual_addresses for key in (*one.names, *one.ips)}

    def machines_behind(self, endpoint: str) -> tuple[str, ...]:
        """The machines that a packet to this name or address may reach, if it is that of a Service; else none."""
        ips = self.addresses(endpoint)
        found = self._virtual_addresses.get(ips[0]) if ips and self.namespace_of(endpoint) is None else None
        return () if found is None else found.machines

    @cached_property
    def _addresses_by_interface(self) -> dict[Interface, list[IP]]:
        addresses: dict[Interface, list[IP]] = {}
        for item in self.lab.plan:
            if isinstance(item, Address):
                addresses.setdefault(item.at, []).append(item.addr.ip)
        return addresses

    @cached_property
    def _namespace_by_address(self) -> dict[IP, str]:
        namespaces = {
            ip: interface.ns for interface, ips in reversed(self._addresses_by_interface.items()) for ip in ips
        }
        machines = [machine for machine in reversed(self.lab.machines) if machine.netns_of is None]
        namespaces.update({ip: machine.name for machine in machines for ip in machine.addresses})
        return namespaces

    @cached_property
    def links(self) -> dict[str, list[Link]]:
        """The planned devices, by namespace."""
        links: dict[str, list[Link]] = {}
        for item in self.lab.plan:
            if isinstance(item, Link):
                links.setdefault(item.ns, []).append(item)
        return links

    @property
    def machine_by_address(self) -> dict[IP, str]:
        """The machines' names by address, for addresses that only one machine has."""
        machines = [machine for machine in self.lab.machines if machine.netns_of is None]
        return AddressNames((one.name, one.on, one.addresses) for one in machines).unique

    @cached_property
    def namespaces(self) -> tuple[str, ...]:
        """Every namespace of the lab."""
        planned = (item.name for item in self.lab.plan if isinstance(item, Netns))
        others = (machine.name for machine in self.lab.machines if machine.netns_of is None)
        return tuple(dict.fromkeys((*planned, *others)))

    def addresses(self, endpoint: str) -> tuple[IP, ...]:
        """All addresses of a machine's name, a point (`node1/eth0`) or an address; the first is the machine's main one.

        Empty if `endpoint` is none of these.
        """
        machine = self.machines.get(endpoint)
        if machine is not None:
            return machine.addresses
        if (virtual := self._virtual_addresses.get(endpoint)) is not None:
            return virtual.ips
        namespace, slash, device = endpoint.partition("/")
        if slash:
            return tuple(self._addresses_by_interface.get(Interface(namespace, device), ()))
        try:
            return (ip_address(endpoint),)
        except ValueError:
            return ()

    def address_of(self, endpoint: str, version: int) -> IP | None:
        """The first address of this IP version (4 or 6) that `endpoint` stands for, or None."""
        return next((ip for ip in self.addresses(endpoint) if ip.version == version), None)

    @cached_property
    def _addresses_by_namespace(self) -> dict[str, set[IP]]:
        addresses: dict[str, set[IP]] = {}
        for interface, ips in self._addresses_by_interface.items():
            addresses.setdefault(interface.ns, set()).update(ips)
        return addresses

    def possible_addresses(self, name: str) -> frozenset[IP]:
        """Every address that a machine has, on any device."""
        machine = self.machines.get(name)
        return frozenset(machine.addresses if machine else ()) | self._addresses_by_namespace.get(name, set())

    def is_own(self, name: str, ip: IP) -> bool:
        """Whether a packet from a machine to this address stays in the machine."""
        machine = self.machines.get(name)
        namespace = machine.netns_of if machine is not None and machine.netns_of is not None else name
        return ip.is_loopback or ip in self.possible_addresses(namespace)

    def namespace_of(self, endpoint: str) -> str | None:
        """The namespace of a target; None for an address that no machine of the lab has."""
        if endpoint in self.machines:
            return endpoint
        namespace, slash, _ = endpoint.partition("/")
        if slash:
            return namespace
        return next(
            (self._namespace_by_address[ip] for ip in self.addresses(endpoint) if ip in self._namespace_by_address),
            None,
        )

    def peer_namespaces(self, name: str) -> tuple[str, ...]:
        """The namespaces at the other ends of a machine's veth pairs."""
        peers = (link.peer.ns for link in self.links.get(name, ()) if link.peer is not None)
        return tuple(dict.fromkeys(peer for peer in peers if peer != name))

    def path(self, source: str, target: str | None) -> tuple[str, ...]:
        """The namespaces that a packet may pass between two: all of them, without dead ends.

        Towards an address that no machine has, every node, host or fabric may be on the path.
        """
        if target is None:
            return tuple(name for name in self.namespaces if name == source or self.role(name) not in LEAF_ROLES)
        adjacency = {name: set(cables) for name, cables in self._adjacency.items()}
        ends = {source, target}
        dead_ends = [name for name, cables in adjacency.items() if len(cables) < 2 and name not in ends]
        while dead_ends:
            name = dead_ends.pop()
            for other in adjacency.pop(name, ()):
                adjacency[other].discard(name)
                if len(adjacency[other]) == 1 and other not in ends:
                    dead_ends.append(other)
        return tuple(name for name in self.namespaces if name in adjacency or name in ends)

    @cached_property
    def _adjacency(self) -> dict[str, set[str]]:
        """The namespaces that devices connect: the ends of a veth pair, and the namespace that a device moved from."""
        cables: dict[str, set[str]] = {name: set() for name in self.namespaces}
        for name, links in self.links.items():
            for link in links:
                for other in (link.peer.ns if link.peer is not None else None, link.link_netns):
                    if other is not None and other != name:
                        cables.setdefault(name, set()).add(other)
                        cables.setdefault(other, set()).add(name)
        return cables

    def role(self, namespace: str) -> MachineRole | None:
        """The role of a namespace in the lab, or None."""
        machine = self.machines.get(namespace)
        return machine.role if machine else None

    def check_namespaces(self, check: Check) -> tuple[str, ...]:
        """The namespaces that a check names: its source and target, their nodes, and the points of `see`."""
        server = check.server[0] if check.server is not None else None
        ends = [check.source, self.namespace_of(check.target), server] if probe_kind(check).has_path else []
        machines = [self.machines.get(end) for end in ends if end]
        hosts = [machine.on for machine in machines if machine]
        points = [see.at.ns for see in check.sees]
        behind = self.machines_behind(check.target)
        return tuple(dict.fromkeys(name for name in (*ends, *hosts, *points, *behind) if name))

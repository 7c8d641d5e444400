"""The names of machines by address, where several machines may have the same address. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from labctl.core.resources import IP


class AddressNames:
    """The machines' names by address. `rows` are the machines: name, host (None for none) and addresses.

    Addresses may repeat in a lab: every Docker host has a 172.17.0.1. So a name is given only where it is certain.
    Loopback addresses have no name, because every machine has them.
    """

    def __init__(self, rows: Iterable[tuple[str, str | None, Iterable[IP]]]) -> None:
        self._hosts: dict[str, str | None] = {}
        self._owners: dict[IP, list[str]] = {}
        self._near: dict[str, dict[IP, str]] = {}
        for name, host, addresses in rows:
            self._hosts[name] = host
            for ip in addresses:
                owners = self._owners.setdefault(ip, [])
                if not ip.is_loopback and name not in owners:
                    owners.append(name)

    @property
    def unique(self) -> dict[IP, str]:
        """The names of the addresses that only one machine has."""
        return {ip: owners[0] for ip, owners in self._owners.items() if len(owners) == 1}

    def near(self, namespace: str) -> Mapping[IP, str]:
        """The names as seen from a namespace: its own, else its host's, else that of the only machine on its host, else
        that of the only machine that has the address. No name if several machines are equally near."""
        names = self._near.get(namespace)
        if names is None:
            found = {ip: self._nearest(owners, namespace) for ip, owners in self._owners.items()}
            names = self._near[namespace] = {ip: name for ip, name in found.items() if name is not None}
        return names

    def _nearest(self, owners: list[str], namespace: str) -> str | None:
        host = self._hosts.get(namespace)
        if namespace in owners:
            return namespace
        if host is not None and host in owners:
            return host
        here = [name for name in owners if self._hosts.get(name) == (host or namespace)]
        nearest = here or owners
        return nearest[0] if len(nearest) == 1 else None

"""The messages of temporary neighbour entries."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from labctl.core.resources import Interface, Neighbour
from labctl.kernel.netlink import messages
from labctl.kernel.probes.neighbours import _Entry


@pytest.mark.parametrize("address", ["10.1.2.3", "fd00::1:2"])
@pytest.mark.parametrize("delete", [False, True])
@pytest.mark.parametrize(("ifindex", "mac"), [(1, "02:00:00:00:00:01"), (70_000, "fe:dc:ba:98:76:54")])
def test_an_entry_has_the_message_of_a_neighbour(address: str, delete: bool, ifindex: int, mac: str) -> None:
    ip = ip_address(address)
    wanted = messages.neighbour(Neighbour(Interface("", "eth0"), ip, mac), ifindex, delete=delete)

    assert _Entry("eth0", ifindex, ip, mac).message(delete=delete) == wanted

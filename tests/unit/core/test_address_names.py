"""The names of machines by address, where several machines have the same address."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from labctl.core.address_names import AddressNames

BRIDGE, WEB, DB, HOST = map(IPv4Address, ("172.17.0.1", "172.17.0.2", "172.17.0.3", "192.0.2.1"))
LOOPBACK = IPv4Address("127.0.0.1")
NAMES = AddressNames(
    (
        ("fabric", None, ()),
        ("host1", None, (HOST, BRIDGE)),
        ("web", "host1", (WEB, LOOPBACK)),
        ("db", "host1", (DB,)),
        ("host2", None, (BRIDGE,)),
        ("client", "host2", (WEB,)),
    )
)


def test_only_unique_addresses_have_a_name_everywhere() -> None:
    assert NAMES.unique == {HOST: "host1", DB: "db"}


@pytest.mark.parametrize(
    ("near", "ip", "name"),
    [
        ("web", WEB, "web"),
        ("client", WEB, "client"),
        ("host1", WEB, "web"),
        ("db", WEB, "web"),
        ("host2", WEB, "client"),
        ("fabric", WEB, None),
        ("db", BRIDGE, "host1"),
        ("host2", BRIDGE, "host2"),
        ("fabric", BRIDGE, None),
        ("fabric", DB, "db"),
        ("client", DB, "db"),
        ("web", LOOPBACK, None),
    ],
)
def test_the_nearest_machine_gives_the_name(near: str, ip: IPv4Address, name: str | None) -> None:
    assert NAMES.near(near).get(ip) == name

"""Which devices are asked for a carrier."""

from __future__ import annotations

import ctypes
import struct
from typing import Any

import pytest

from labctl.core.resources import Interface, Link
from labctl.kernel.namespaces import device_state

UP, RUNNING = device_state.IFF_UP, device_state.IFF_RUNNING


@pytest.mark.parametrize(
    ("flags", "carrier", "trouble"),
    [
        (UP | RUNNING, 1, None),
        (UP, 1, None),  # the flags are late
        (UP | RUNNING, 0, device_state.NO_CARRIER),  # so they are here
        (UP, 0, device_state.NO_CARRIER),
        (UP | RUNNING, None, None),  # a device that cannot be asked
        (UP, None, device_state.NO_CARRIER),
        (0, 1, "is down"),
    ],
)
def test_who_is_asked_for_a_carrier(
    flags: int, carrier: int | None, trouble: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ioctl(sock: Any, request: int, data: bytes) -> bytes:
        if request == device_state.SIOCGIFFLAGS:
            return struct.pack("=16sH14x", b"eth0", flags)
        assert request == device_state.SIOCETHTOOL
        if carrier is None:
            raise OSError("it cannot tell")
        place = ctypes.c_uint32.from_address(struct.unpack_from("@16sP", data)[1])
        assert place.value == device_state.ETHTOOL_GLINK
        ctypes.c_uint32.from_address(ctypes.addressof(place) + 4).value = carrier
        return data

    monkeypatch.setattr(device_state.fcntl, "ioctl", ioctl)
    assert device_state.device_problem(None, "eth0") == trouble  # type: ignore[arg-type]


def link(dev: str, kind: str, **more: Any) -> Link:
    return Link(Interface("n", dev), kind, **more)


def test_a_device_is_asked_after_those_below_it() -> None:
    links = (
        link("br0", "bridge"), link("br0.7", "vlan"), link("p1", "veth", master="br0"), link("p2", "veth", up=False),
        link("lo", "loopback"), link("p3", "veth", master="older"), link("br1", "bridge", up=False),
    )  # fmt: skip
    followers = ["br0", "older", "br0.7"]
    assert device_state.carrier_order(links) == ["p1", "p3", *followers, *followers]

"""Carriers: the flags of a device learn of one up to a second late, and until then the device drops what it sends."""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from labctl.kernel.namespaces import device_state
from labctl.lab import lifecycle

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


LAB = """
name: cables
model: raw
namespaces: [a, b]
links:
  - {veth: [a/v0, b/p0]}
  - {veth: [a/v1, {at: b/p1, up: false}]}
"""


@pytest.mark.root
def test_up_settles_every_cable_and_the_kernel_knows_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That packets are lost without it shows in one lab of hundreds: here is only who was asked, and the answer."""
    asked: dict[str, str | None] = {}
    real = device_state.update_carriers

    def settle(names: Sequence[str]) -> None:
        names = list(names)
        real(names)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            asked.update({name: device_state.device_problem(sock, name) for name in names})

    monkeypatch.setattr(device_state, "update_carriers", settle)
    file = tmp_path / "cables.yaml"
    file.write_text(LAB)
    definition = lifecycle.define(str(file))
    lifecycle.up(definition)
    try:
        assert asked == {"v0": None, "p0": None, "v1": device_state.NO_CARRIER}
        asked.clear()
        lifecycle.up(definition)
        assert asked == {}
    finally:
        lifecycle.down("cables")

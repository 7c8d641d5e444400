"""Carriers: the kernel updates the flags of a device up to a second late, and until then the device drops packets."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

from labctl.kernel.namespaces import device_state
from labctl.lab import lifecycle

LAB = """
name: cables
model: raw
namespaces: [a, b]
links:
  - {veth: [a/v0, {at: b/p0, master: br0}]}
  - {veth: [a/v1, {at: b/p1, up: false}]}
  - bridge: b/br0
"""


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
        assert asked == {"v0": None, "p0": None, "v1": device_state.NO_CARRIER, "br0": None}
        asked.clear()
        lifecycle.up(definition)
        assert asked == {}
    finally:
        lifecycle.down("cables")

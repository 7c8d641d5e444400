"""The sandbox of the wet tests: they are where they think they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytestmark = pytest.mark.root


def test_the_network_namespace_is_not_the_machines_own() -> None:
    assert os.readlink("/proc/self/ns/net") != os.environ.get("LABCTL_OUTER_NETNS")


def test_a_fresh_sandbox_has_only_loopback_and_it_is_up() -> None:
    devices = [line.split(":")[0].strip() for line in Path("/proc/self/net/dev").read_text().splitlines()[2:]]
    routes = Path("/proc/self/net/fib_trie").read_text()

    assert "lo" in devices
    assert "eth0" not in devices
    assert "127.0.0.1" in routes

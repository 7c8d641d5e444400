"""The sandbox of the wet tests: they are where they think they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def test_the_network_namespace_is_not_the_machines_own() -> None:
    assert os.readlink("/proc/self/ns/net") != os.environ.get("LABCTL_OUTER_NETNS")


def test_a_fresh_sandbox_has_only_loopback_and_it_is_up() -> None:
    devices = [line.split(":")[0].strip() for line in Path("/proc/self/net/dev").read_text().splitlines()[2:]]
    routes = Path("/proc/self/net/fib_trie").read_text()

    assert "lo" in devices
    assert "eth0" not in devices
    assert "127.0.0.1" in routes


def test_whoever_takes_a_sandboxs_places_away_takes_them_from_nobody_else() -> None:
    """/run is its own: were /run/netns a mount in the machine's, who removes that folder would take the mount away
    here, too, and labs would be built among the machine's namespaces from then on."""
    if os.environ.get("LABCTL_SANDBOX") != "1":
        pytest.skip("this sandbox was not made by scripts/test")
    mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    runs = [line for line in mounts if line[4] == "/run"]
    assert runs
    assert runs[-1][runs[-1].index("-") + 1] == "tmpfs"
    assert not any(field.startswith(("shared:", "master:")) for field in runs[-1][6 : runs[-1].index("-")])

"""A machine that does not answer for its address, when labctl did not see the request for its MAC address."""

from __future__ import annotations

from dataclasses import replace

import pytest

from labctl.tracing.diagnosis import diagnose
from tests.support.traces import recording


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        ("target-down", "link-down", "c/eth0, which has the address 10.244.1.2, is down"),
        ("no-port", "port-detached", "is not a port of the bridge node2/cbr0"),
    ],
)
def test_a_packet_that_waited_for_an_earlier_request(name: str, kind: str, text: str) -> None:
    why = diagnose(replace(recording(name), unanswered_neighbours=())).why

    assert why is not None
    assert why.kind == kind
    assert text in why.sentence

"""What a firewall watches for during a trace."""

from __future__ import annotations

from labctl.core.observations import ProbeMatch
from labctl.kernel.probes import trace_probes


def test_a_firewall_watches_for_the_probe_its_answer_and_errors_about_it() -> None:
    isn = (0xFFFFFFFF).to_bytes(4, "big")

    assert trace_probes.matches("tcp", 4, isn) == (
        ProbeMatch(6, 4, isn),
        ProbeMatch(1, 32, isn),
        ProbeMatch(6, 8, bytes(4)),
    )
    assert trace_probes.matches("icmp", 6, b"12345678") == (
        ProbeMatch(58, 24, b"12345678"),
        ProbeMatch(58, 72, b"12345678"),
        ProbeMatch(58, 0, bytes([135])),  # neighbour solicitation and advertisement
        ProbeMatch(58, 0, bytes([136])),
    )

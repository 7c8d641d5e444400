"""The load balancer of Services: which node gets a packet, without a device."""

from __future__ import annotations

import socket
import struct
from collections import Counter

from hypothesis import given
from hypothesis import strategies as some

from labctl.kernel.programs import load_balancer
from labctl.kernel.programs.load_balancer import ACK, FIN, RST, SYN, Flows, Frontend, choose, parse_frontend

FRONTEND = parse_frontend("tcp:203.0.113.9:80@30999")
NODES = (1, 2, 3)


def packet(
    sport: int = 40000, dport: int = 80, flags: int = SYN, *, source: str = "192.0.2.1", target: str = "203.0.113.9",
    protocol: int = socket.IPPROTO_TCP, fragment: int = 0,
) -> bytes:  # fmt: skip
    ends = socket.inet_aton(source) + socket.inet_aton(target)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 40, 1, fragment, 64, protocol, 0) + ends
    return head + struct.pack("!HHIIBBHHH", sport, dport, 0, 0, 0x50, flags, 0, 0, 0)


class Cluster:
    """Nodes whose health changes, and a clock."""

    def __init__(self, *frontends: Frontend) -> None:
        self.healthy, self.now = list(NODES), 0.0
        self.flows = Flows(
            frontends or (FRONTEND,), lambda port: self.healthy if port == 30999 else (), lambda: self.now
        )


def test_only_packets_to_a_port_of_the_frontend_are_forwarded() -> None:
    flows = Cluster().flows

    assert flows.node(packet()) in NODES
    assert flows.node(packet(dport=81)) is None
    assert flows.node(packet(target="203.0.113.8")) is None
    assert flows.node(packet(protocol=socket.IPPROTO_UDP)) is None
    assert flows.node(packet(protocol=socket.IPPROTO_ICMP)) is None
    assert flows.node(packet(fragment=1)) is None
    assert flows.node(packet()[:22]) is None
    assert flows.node(b"") is None


def test_flows_spread_over_the_nodes() -> None:
    """4,000 flows over three nodes: 1,333 each, give or take 30. Six standard deviations are 179."""
    flows = Cluster().flows
    counts = Counter(flows.node(packet(sport=port)) for port in range(10000, 14000))

    assert set(counts) == set(NODES)
    assert all(abs(count - 4000 / 3) < 179 for count in counts.values()), counts


def test_only_the_new_flows_of_a_failed_node_move() -> None:
    cluster = Cluster()
    ports = range(10000, 10300)
    before = {port: cluster.flows.node(packet(port)) for port in ports}
    cluster.healthy = [1, 3]
    during = {port: cluster.flows.node(packet(port)) for port in ports}  # SYN: as new flows
    cluster.healthy = [1, 2, 3]
    after = {port: cluster.flows.node(packet(port)) for port in ports}

    moved = {port for port in ports if before[port] != during[port]}
    assert moved == {port for port in ports if before[port] == 2}
    assert after == before


def test_an_established_flow_stays_at_its_node_until_it_is_silent_for_long() -> None:
    cluster = Cluster()
    node = cluster.flows.node(packet())
    cluster.healthy.remove(node or 0)
    cluster.now += load_balancer.IDLE_TIMEOUT_S - 1

    assert cluster.flows.node(packet(flags=ACK)) == node
    cluster.now += load_balancer.IDLE_TIMEOUT_S + 1
    assert cluster.flows.node(packet(flags=ACK)) in cluster.healthy


def test_a_closed_flow_is_forgotten_soon() -> None:
    for flag in (FIN, RST):
        cluster = Cluster()
        node = cluster.flows.node(packet())
        cluster.healthy.remove(node or 0)
        assert cluster.flows.node(packet(flags=ACK | flag)) == node
        cluster.now += load_balancer.CLOSED_TIMEOUT_S + 1
        assert cluster.flows.node(packet(flags=ACK)) in cluster.healthy


def test_without_a_healthy_node_new_flows_are_dropped() -> None:
    cluster = Cluster()
    cluster.healthy = []

    assert cluster.flows.node(packet()) is None


def test_with_client_affinity_all_flows_of_a_client_go_to_one_node() -> None:
    flows = Cluster(parse_frontend("tcp:203.0.113.9:80@30999/client")).flows
    of_client = {
        client: {flows.node(packet(port, source=f"192.0.2.{client}")) for port in range(10000, 10020)}
        for client in range(1, 30)
    }

    assert all(len(nodes) == 1 for nodes in of_client.values())
    assert set().union(*of_client.values()) == set(NODES)


def test_the_table_of_flows_does_not_grow_without_end(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(load_balancer, "MAX_FLOWS", 10)
    cluster = Cluster()
    for port in range(10000, 10100):
        cluster.flows.node(packet(port))

    assert len(cluster.flows._nodes) == 10


@given(some.binary(min_size=13, max_size=13), some.sets(some.integers(1, 50), min_size=2))
def test_the_choice_of_a_flow_changes_only_if_its_node_goes(flow_key: bytes, marks: set[int]) -> None:
    chosen = choose(sorted(marks), flow_key)
    assert chosen in marks
    for gone in marks - {chosen}:
        assert choose(sorted(marks - {gone}), flow_key) == chosen


def test_a_node_is_unhealthy_until_it_answers_and_after_two_failures() -> None:
    health = load_balancer.Health({1: "192.0.2.1"}, [30999])
    assert health.healthy(30999) == ()
    for good, healthy in ((True, (1,)), (False, (1,)), (False, ()), (False, ()), (True, (1,))):
        health.record(1, 30999, good)
        assert health.healthy(30999) == healthy

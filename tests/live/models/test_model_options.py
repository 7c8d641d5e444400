"""Options that change what a lab is made of, or what is true of its packets: built without drift, and proven."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from labctl.checks import runner
from labctl.errors import ScenarioError
from labctl.kernel.host import paths
from labctl.lab import lifecycle
from labctl.scenario.definition import define_text, parse_and_compile
from tests.support import model_options
from tests.support.drift import drift

pytestmark = pytest.mark.firewall

NAME = "options"
PODS = "nodes: {node1: {pods: [a, b]}, node2: {pods: [c]}}\n"
HOST_PORTS = """
nodes:
  node1:
    pods:
      a: {host_ports: ["127.8.0.1:842:2"]}
  node2:
    pods:
      b: {host_ports: ["8080:80"], containers: ["web:80"]}
"""
NETWORK = "subnet: 10.5.0.0/24, gateway: 10.5.0.254, mtu: 1400, enable_ip_masquerade: false"
CONTAINERS = 'a: {networks: [plain], ip: 10.5.0.10}, b: {networks: [plain], publish: ["8080:80"]}, c: {connect: plain}'
KUBELET = f"model: kubenet\nmasquerade: kubelet\npod_cidr: 192.168.0.0/16\n{PODS}"
LARGE_MTU = "model: docker-overlay\nnetworks: {n: {mtu: 65585}}\nhosts: {h: {containers: [a, b]}}\n"
DOCKER = (
    f"model: docker-bridge\nnetworks: {{plain: {{{NETWORK}}}}}\nhosts: {{host1: {{containers: {{{CONTAINERS}}}}}}}\n"
)
MODES = """
model: docker-bridge
routed: true
networks:
  open: {gateway_mode_ipv4: nat-unprotected}
  lane: {gateway_mode_ipv4: routed}
  shut: {gateway_mode_ipv4: isolated, internal: true}
  trust: {trusted_host_interfaces: eth0}
  six: {enable_ipv6: true, subnet_ipv6: "fd00:9::/64"}
hosts:
  host1:
    containers:
      a: {networks: [open], publish: ["8080:80"]}
      b: {networks: [lane], publish: ["8081:80"]}
      c: {networks: [shut]}
      d: {networks: [shut]}
      e: {networks: [trust], publish: ["8082-8083:80-81"]}
      f: {networks: [six], publish: ["8084:80", "[::1]:8085:80"]}
      g: {publish: ["[::]:8086:80"]}
"""
SCENARIOS = {
    "gke-vpc-native, pods outside of the reserved ranges": f"model: gke-vpc-native\npod_cidr: 11.0.0.0/14\n{PODS}",
    "gke-routes-based, the same": f"model: gke-routes-based\npod_cidr: 9.4.0.0/14\n{PODS}",
    "kubenet, pods outside of the kubelet's range": KUBELET,
    "kubenet, some of them": KUBELET + "non_masquerade_cidr: 192.168.1.0/24\n",
    "kubenet, host ports": f"model: kubenet\n{HOST_PORTS}",
    "eks-vpc-cni, host ports": f"model: eks-vpc-cni\n{HOST_PORTS}",
    "docker-bridge, options of a network": DOCKER,
    "docker-bridge, with a route back": DOCKER + "routed: true\n",
    "docker-bridge 26, with a route back": DOCKER + "routed: true\nrelease: 26\n",
    "docker-bridge, without docker-proxy": DOCKER + "userland_proxy: false\n",
    "docker-bridge, gateway modes and IPv6": MODES,
    "docker-bridge 29, the same": MODES + "release: 29\n",
    "docker-bridge 29 in nftables": MODES + "release: 29\nfirewall_backend: nftables\n",
    "docker-bridge 29, direct routing": MODES + "release: 29\nallow_direct_routing: true\n",
    "docker-bridge, IPv6 before there were rules for it": (
        'model: docker-bridge\nrelease: 26\nnetworks: {six: {enable_ipv6: true, subnet_ipv6: "fd00:9::/64"}}\n'
        'hosts: {h1: {containers: {a: {networks: [six], publish: ["8080:80"]}}}, h2: {containers: {b: }}}\n'
    ),
    "docker-overlay, the largest MTU": LARGE_MTU,
}


@pytest.fixture
def gone() -> Iterator[None]:
    """No lab is left, whatever a test finds."""
    yield
    lifecycle.down(NAME)


def failures(text: str) -> list[str]:
    """Build a scenario: its differences from the plan, and its checks that do not pass."""
    lifecycle.up(define_text("options.yaml", text, NAME, approximate=True), approximate=True)
    lab = lifecycle.load_compiled_lab(NAME)
    found = runner.run(lab).outcomes
    bad = [f"{one.verdict}: {one.check.say}: {one.evidence}" for one in found if one.verdict not in ("pass", "skip")]
    return [*drift(NAME), *bad]


def test_docker_proxy_leads_between_the_families(gone: None) -> None:
    """From IPv6 to a container that has only IPv4, and from the host's own ::1 to one that has IPv6."""
    text = """
model: docker-bridge
networks: {six: {enable_ipv6: true}}
hosts:
  host1:
    containers:
      a: {publish: ["8080:80", "53:53/udp"], listen: [80, 53/udp]}
      b: {networks: [six], publish: ["[::1]:8081:81"], listen: [81]}
checks:
  - {say: "from IPv6 to IPv4", tcp: "internet -> [fd00:50::b]:8080", listen: false}
  - {say: "a datagram, too", udp: "internet -> [fd00:50::b]:53", listen: false}
  - {say: "at loopback", tcp: "host1 -> [::1]:8081", listen: false}
  - {say: "not from elsewhere", tcp: "internet -> [fd00:50::b]:8081", listen: false, expect: refused}
"""
    assert failures(text) == []


@pytest.mark.parametrize("text", SCENARIOS.values(), ids=SCENARIOS)
def test_claims_follow_the_options(text: str, gone: None) -> None:
    assert failures(text) == []


def ss(node: str) -> set[tuple[str, ...]]:
    """The sockets of IPv4 in a node that listen or are bound: protocol, address and program."""
    words = ["ip", "netns", "exec", paths.netns_name(NAME, node), "ss", "-H", "-4ltunp"]
    lines = subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()
    return {(words[0], words[4], words[6].split('"')[1]) for words in map(str.split, lines)}


def test_without_docker_proxy_the_daemon_holds_the_published_ports(gone: None) -> None:
    ports = 'publish: ["8080:80", "127.0.0.1:8082:81", "5353:53/udp"]'
    lab = f"model: docker-bridge\nhosts: {{host1: {{containers: {{web: {{{ports}}}}}}}}}\n"
    lifecycle.up(define_text("options.yaml", f"{lab}userland_proxy: false\n", NAME))
    places = {("tcp", "0.0.0.0:8080"), ("tcp", "127.0.0.1:8082"), ("udp", "0.0.0.0:5353")}
    assert ss("host1") == {(*place, "dockerd") for place in places}
    lifecycle.up(define_text("options.yaml", lab, NAME), replace=True)
    assert ss("host1") == {(*place, "docker-proxy") for place in places}


def test_the_length_of_a_queue_is_watched(gone: None) -> None:
    text = "model: raw\nnamespaces: [a, b]\nlinks:\n  - {veth: [{at: a/eth0, txqueuelen: 0}, b/eth0]}\n"
    definition = define_text("options.yaml", text, NAME)
    lifecycle.up(definition)
    assert drift(NAME) == []
    subprocess.run(["ip", "-n", paths.netns_name(NAME, "a"), "link", "set", "eth0", "txqueuelen", "7"], check=True)
    assert drift(NAME) == ["changed link eth0: txqueuelen was 7, should be 0"]
    lifecycle.up(definition)
    assert drift(NAME) == []


def test_ports_join_a_bridge_in_the_order_of_the_file(gone: None) -> None:
    """Also after a port that cannot join at creation, because it is created in another namespace."""
    text = """
model: raw
namespaces: [a, b]
links:
  - {bridge: a/br0}
  - {vxlan: a/vx0, id: 5, link_netns: b, master: br0}
  - {veth: [{at: a/one, master: br0}, b/one]}
  - {veth: [{at: a/two, master: br0}, b/two]}
"""
    lifecycle.up(define_text("options.yaml", text, NAME))
    folder = "/sys/class/net/br0/brif"
    words = ["ip", "netns", "exec", paths.netns_name(NAME, "a"), "sh", "-c", f"grep . {folder}/*/port_no"]
    lines = subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()
    numbers = {line.split("/")[-2]: int(line.rpartition(":")[2], 16) for line in lines}
    assert numbers == {"vx0": 1, "one": 2, "two": 3}


def _is_valid(text: str) -> bool:
    try:
        parse_and_compile(text, "options.yaml")
    except ScenarioError:
        return False
    return True


def test_a_sample_of_options_of_all_models(gone: None) -> None:
    """A lab of each model; `scripts/reliability` builds a thousand."""
    for model in model_options.drawn_models():
        if model != "cni":  # its plugins may not be here
            text = _valid(model)
            found = failures(text)
            lifecycle.down(NAME)
            assert found == [], text


class _EnoughError(Exception):
    """The last text that is wanted: no more are drawn."""


class _Five(list[str]):
    """The texts found so far. The fifth is raised, each time that it is found: hypothesis ends there, but tries once
    more what failed."""

    def append(self, text: str) -> None:
        if len(self) == 4:
            raise _EnoughError(text)
        super().append(text)


def _valid(model: str) -> str:
    found = _Five()

    @settings(
        derandomize=True,
        database=None,
        deadline=None,
        max_examples=60,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(model_options.scenarios(model))
    def sample(scenario: dict[str, Any]) -> None:
        text = model_options.text(scenario | {"approximate": True})
        if len(found) < 5 and _is_valid(text):
            found.append(text)

    try:
        sample()
    except _EnoughError as last:
        return max([*found, str(last)], key=len)
    return max(found, key=len)

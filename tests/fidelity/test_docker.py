"""docker-bridge against the Docker Engine itself: one host wired by a real daemon, and one by labctl."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from labctl import lab
from labctl.kernel import places
from tests.fidelity import subjects
from tests.fidelity.alike import AT_ONCE, differences, observed
from tests.fidelity.differences import unexplained
from tests.fidelity.replay import replayed, settled
from tests.fidelity.subjects import Docker, add, cable, ip, write

pytestmark = pytest.mark.root

HOST, CONTAINERS = "host1", ("c1", "c2")
# a host before Docker: a distribution's settings, no br_netfilter, and no router
IMAGE = {
    "ipv4.ip_forward": 0, "bridge.bridge-nf-call-iptables": 0,
    "ipv4.conf.all.rp_filter": 2, "ipv4.conf.default.rp_filter": 2,
    "ipv4.conf.all.send_redirects": 0, "ipv4.conf.default.send_redirects": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    """One daemon for all cases, on a host with a card and a way out."""
    path, binary = subjects.docker_path(), subjects.busybox()
    if path is None or binary is None:
        pytest.skip("no Docker Engine here: scripts/test unpacks Debian's docker.io and busybox-static")
    add("real", HOST, "internet")
    write("real", "internet", AT_ONCE)
    cable("real", HOST, "internet", "eth0")
    write("real", HOST, IMAGE)
    name = places.netns_name("real", HOST)
    ip(f"-n {name} link set lo up")
    ip(f"-n {name} addr add 192.168.50.11/24 broadcast + dev eth0")
    ip(f"-n {name} route add default via 192.168.50.1 dev eth0")
    daemon = Docker("real", HOST, tmp_path_factory.mktemp("docker") / "work", path)
    try:
        daemon.wait()
        daemon.image(binary)
        yield daemon
    finally:
        subjects.remove("real")
        daemon.close()


def test_the_default_bridge(docker: Docker) -> None:
    release = docker("version -f {{.Server.Version}}")
    if not release.startswith("20.10"):
        pytest.skip(f"this is Docker {release}: the differences are written down for 20.10")
    for name in CONTAINERS:
        docker.start(name)
    settled("real", docker.shown())
    lab.up(lab.define("docker-bridge", sets=("release=20.10",)))
    try:
        found = differences(observed("docker-bridge", (HOST, *CONTAINERS)), observed("real", (HOST, *CONTAINERS)))
    finally:
        lab.down("docker-bridge")
    assert unexplained("docker-bridge 20.10", found) == []


# user-defined, internal, without traffic between its containers
NETWORKS = ("", "--internal", "-o com.docker.network.bridge.enable_icc=false")
MORE = {
    "d1": "-p 8080:80 -p 127.0.0.1:5353:53/udp",
    "d2": "--network net0",
    "d3": "--network net1",
    "d4": "--network net2",
    "d5": "--network none",
}


def test_what_docker_makes_labctl_makes_again(docker: Docker) -> None:
    write("real", HOST, AT_ONCE)
    for number, options in enumerate(NETWORKS):
        docker(f"network create {options} -o com.docker.network.bridge.name=net{number} net{number}")
    for name, options in MORE.items():
        docker.start(name, options)
    docker("network connect net1 d2")
    assert set(MORE) < set(docker.shown())
    assert unexplained("replay of docker", replayed("real", docker.shown())) == []

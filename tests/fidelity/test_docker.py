"""docker-bridge against the Docker Engine itself: one host wired by a real daemon, and one by labctl."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from labctl.core.resources import Process
from labctl.kernel.host import paths
from labctl.kernel.namespaces import occupants
from labctl.lab import lifecycle
from labctl.models.lib.docker_iptables import CHAINS_OF_RELEASE
from tests.fidelity import subjects
from tests.fidelity.alike import AT_ONCE, Side, differences, docker_observed
from tests.fidelity.differences import unexplained
from tests.fidelity.replay import at_last, replayed, settled
from tests.fidelity.subjects import Docker, add, cable, ip, write
from tests.support.golden import Golden, GoldenFile
from tests.support.paths import GOLDEN

pytestmark = pytest.mark.root

DAEMONS = GOLDEN / "daemons"  # what real daemons wrote
HOST, CONTAINERS = "host1", ("c1", "c2")
# a host before Docker: a distribution's settings, no br_netfilter, and no router
IMAGE = {
    "ipv4.ip_forward": 0, "bridge.bridge-nf-call-iptables": 0,
    "ipv4.conf.all.rp_filter": 2, "ipv4.conf.default.rp_filter": 2,
    "ipv4.conf.all.send_redirects": 0, "ipv4.conf.default.send_redirects": 0,
}  # fmt: skip


@contextmanager
def engine(lab_name: str, work: Path, more: str = "", tree: str = "") -> Iterator[Docker]:
    """A daemon on a host with a card and a way out."""
    path, binary = subjects.docker_path(), subjects.busybox()
    if path is None or binary is None:
        pytest.skip("no Docker Engine here: scripts/test unpacks Debian's docker.io and busybox-static")
    add(lab_name, HOST, "internet")
    write(lab_name, "internet", AT_ONCE)
    cable(lab_name, HOST, "internet", "eth0")
    write(lab_name, HOST, IMAGE)
    name = paths.netns_name(lab_name, HOST)
    ip(f"-n {name} link set lo up")
    ip(f"-n {name} addr add 192.168.50.11/24 broadcast + dev eth0")
    ip(f"-n {name} route add default via 192.168.50.1 dev eth0")
    daemon = Docker(lab_name, HOST, work, path, more, tree)
    try:
        daemon.wait()
        daemon.image(binary)
        yield daemon
    finally:
        subjects.remove(lab_name)
        daemon.close()


@pytest.fixture(scope="module", params=["", "trixie", "forky"], ids=lambda suite: suite or "own")
def tree(request: pytest.FixtureRequest) -> str:
    """Whose engine runs: that of the machine's distribution, and those of newer ones where somebody asked for them."""
    folder = subjects.NEWER / request.param
    if request.param and not folder.exists():
        pytest.skip(f"no Docker of Debian {request.param} here: scripts/test unpacks it where LABCTL_ENGINES says")
    return str(folder) if request.param else ""


@pytest.fixture(scope="module")
def docker(tree: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    """One daemon for nearly all cases."""
    with engine("real", tmp_path_factory.mktemp("docker") / "work", tree=tree) as daemon:
        yield daemon


def release_of(docker: Docker) -> str:
    """The release of docker-bridge that this daemon is; skips where there is none."""
    version = docker("version -f {{.Server.Version}}")
    found = next((release for release in CHAINS_OF_RELEASE if version.startswith(f"{release}.")), None)
    if found is None:
        pytest.skip(f"docker-bridge has no rules of Docker {version}")
    return found


def test_the_default_bridge(docker: Docker) -> None:
    release = release_of(docker)
    for name in CONTAINERS:
        docker.start(name)
    settled("real", docker.shown())
    lifecycle.up(lifecycle.define("docker-bridge", overrides=(f"release={release}",)))
    try:
        found = differences(
            docker_observed("docker-bridge", (HOST, *CONTAINERS)), docker_observed("real", (HOST, *CONTAINERS))
        )
    finally:
        lifecycle.down("docker-bridge")
    assert unexplained(f"docker-bridge {release}", found) == []


# the same in the words of `docker` and of a scenario: networks that are user-defined, internal, without traffic
# between their containers; ports published everywhere, at one address, at loopback and of udp; a container on two
# networks, and three that have none of their own
NETWORKS = {
    "front": "-o com.docker.network.bridge.name=net0",
    "inner": "--internal -o com.docker.network.bridge.name=net1",
    "apart": "-o com.docker.network.bridge.enable_icc=false -o com.docker.network.bridge.name=net2",
    "plain": "--subnet 10.5.0.0/24 --gateway 10.5.0.254 -o com.docker.network.driver.mtu=1400"
    " -o com.docker.network.bridge.enable_ip_masquerade=false -o com.docker.network.bridge.name=net3",
}
MORE = {
    "d1": "-p 8080:80 -p 192.168.50.11:8081:81 -p 127.0.0.1:8082:82 -p 5353:53/udp",
    "d2": "--network front",
    "d3": "--network inner",
    "d4": "--network apart",
    "d5": "--network none",
    "d8": "--network plain --ip 10.5.0.10 -p 8090:80",
    "d9": "--network plain",
}
CONNECTED = {"d1": "plain", "d8": "front"}  # afterwards: the published port of d8 moves to front
SHARED = {"d6": "--network host", "d7": "--network container:d2"}
WHOLE = DAEMONS / "whole.yaml"


@pytest.fixture(scope="module")
def whole(docker: Docker) -> Docker:
    """The same daemon, with everything of `NETWORKS`, `MORE` and `SHARED` beside what is there."""
    for name in CONTAINERS:
        if name not in docker.shown():
            docker.start(name)
    for name, options in NETWORKS.items():
        docker(f"network create {options} {name}")
    for name, options in MORE.items():
        docker.start(name, options)
        if name == "d2":
            docker("network connect inner d2")
    for name, network in CONNECTED.items():
        docker(f"network connect {network} {name}")
    return docker


def test_networks_and_published_ports(whole: Docker, golden: Golden) -> None:
    release = release_of(whole)
    nodes = (HOST, *CONTAINERS, *MORE)
    settled("real", whole.shown())
    recorded("real", golden(f"daemons/whole-{release}.txt"))
    made = lifecycle.up(lifecycle.define(str(WHOLE), overrides=(f"release={release}",))).lab
    try:
        found = differences(docker_observed("whole", nodes), docker_observed("real", nodes))
        assert _sockets("whole") == _sockets("real")
    finally:
        lifecycle.down("whole")
    assert unexplained(f"docker networks {release}", found) == []
    proxies = [list(item.command) for item in made.plan if isinstance(item, Process) and item.name[:6] == "docker"]
    assert sorted(words[1:] for words in proxies) == sorted(_proxies(whole))


def settled_differences(one_side: Side, other: Side) -> list[str]:
    """The differences without link-local addresses that devices make themselves: the kernel looks for a second owner of
    each for seconds, and may begin that again."""
    return [one for one in differences(one_side, other) if "fe80::MADE-OF-MAC" not in one]


def test_who_has_no_network_of_its_own_changes_nothing(whole: Docker) -> None:
    settled("real", whole.shown())
    assert (
        at_last(
            lambda: settled_differences(docker_observed("real", (HOST, "d2")), docker_observed("real", (HOST, "d2")))
        )
        == []
    )
    before = docker_observed("real", (HOST, "d2"))
    for name, options in SHARED.items():
        whole(f"run -d --name {name} {options} busy /bin/sleep 600")
    homes = {name: whole(f"inspect -f {{{{.State.Pid}}}} {name}") for name in ("d2", *SHARED)}
    inner = {name: _inside(whole, f"readlink /proc/{pid}/ns/net") for name, pid in homes.items()}

    assert at_last(lambda: settled_differences(before, docker_observed("real", (HOST, "d2")))) == []
    assert inner["d7"] == inner["d2"]
    assert inner["d6"] == _inside(whole, "readlink /proc/self/ns/net", network=True)


def test_what_docker_makes_labctl_makes_again(whole: Docker) -> None:
    write("real", HOST, AT_ONCE)
    assert set(MORE) < set(whole.shown())
    assert unexplained(f"replay of docker {release_of(whole)}", replayed("real", whole.shown())) == []


WITHOUT = DAEMONS / "without.yaml"


def test_a_daemon_without_its_proxy(tree: str, tmp_path_factory: pytest.TempPathFactory, golden: Golden) -> None:
    nodes = (HOST, "c1", "d1", "d8")
    work = tmp_path_factory.mktemp("bare") / "work"  # a short one: containerd's socket is below it
    with engine("bare", work, "--userland-proxy=false", tree) as daemon:
        release = release_of(daemon)
        daemon.start("c1")
        daemon(f"network create {NETWORKS['front']} front")
        daemon(f"network create {NETWORKS['plain']} plain")
        daemon.start("d1", "--network front -p 8080:80 -p 127.0.0.1:8082:82 -p 5353:53/udp")
        daemon.start("d8", MORE["d8"])
        settled("bare", daemon.shown())
        recorded("bare", golden(f"daemons/without-{release}.txt"))
        real = docker_observed("bare", nodes)
        assert _proxies(daemon) == []
        sockets = _sockets("bare")
        assert {words[3] for words in sockets} == {"0.0.0.0:8080", "127.0.0.1:8082", "0.0.0.0:5353", "0.0.0.0:8090"}
    lifecycle.up(lifecycle.define(str(WITHOUT), overrides=(f"release={release}",)))
    try:
        found = differences(docker_observed("without", nodes), real)
        assert _sockets("without") == sockets
    finally:
        lifecycle.down("without")
    assert unexplained(f"docker without its proxy {release}", found) == []


# networks with IPv6 and the forms of `-p`; and, of releases that have them, the gateway modes of both families. The
# words of a scenario are in tests/golden/daemons/{dual,modes}.yaml
DUAL = {
    "networks": {
        "user": "--ipv6 --subnet 10.80.64.0/24 --subnet fd00:20::/64",
        "inner": "--internal --ipv6 --subnet 10.80.65.0/24 --subnet fd00:21::/64",
        "late": "--subnet 10.80.66.0/24 --ip-range 10.80.66.128/25 -o com.docker.network.bridge.enable_icc=false",
        "gate": "--ipv6 --subnet 10.80.67.0/24 --gateway 10.80.67.9 --subnet fd00:23::/64 --gateway fd00:23::9"
        " -o com.docker.network.bridge.enable_ip_masquerade=false",
    },
    "containers": {
        "c1": "-p 9000-9002:9000-9002 -p [::]:9100:9100",
        "d1": "-p 8188:88",
        "d2": "--network user -p 8180:80 -p 127.0.0.1:8181:81 -p [::1]:8182:82 -p 5354:53/udp",
        "d3": "--network user -p [::]:8183:83 -p 0.0.0.0:8184:84",
        "d4": "--network inner",
        "d5": "--network late -p 8185:85",
        "d6": "--network late --ip 10.80.66.7",
        "d7": "--network gate --ip 10.80.67.77 --ip6 fd00:23::77 -p 8186-8187:80-81",
        "d8": "--network gate",
    },
    "connect": {"d1": "gate", "d2": "inner", "d3": "gate", "d7": "late"},
}
_MODE = "-o com.docker.network.bridge.gateway_mode_ipv"
MODES = {
    "networks": {
        "lane": f"{_MODE}4=routed --subnet 10.80.64.0/24",
        "open": f"{_MODE}4=nat-unprotected --subnet 10.80.65.0/24",
        "alone": f"--internal {_MODE}4=isolated --subnet 10.80.66.0/24",
        "mix": f"--ipv6 --subnet 10.80.67.0/24 --subnet fd00:23::/64 {_MODE}4=nat-unprotected {_MODE}6=routed",
        "xim": f"--ipv6 --subnet 10.80.68.0/24 --subnet fd00:24::/64 {_MODE}4=routed {_MODE}6=nat-unprotected"
        " -o com.docker.network.bridge.enable_icc=false",
        "off": f"--internal --ipv6 --subnet 10.80.69.0/24 --subnet fd00:25::/64 {_MODE}4=isolated {_MODE}6=isolated"
        " -o com.docker.network.bridge.enable_icc=false",
        "trust": "--ipv6 --subnet 10.80.70.0/24 --subnet fd00:26::/64"
        " -o com.docker.network.bridge.trusted_host_interfaces=eth0:net0"
        " -o com.docker.network.bridge.host_binding_ipv4=127.0.0.1",
    },
    "containers": {
        "c1": "-p 8179:80",
        "d1": "-p 8180:80",
        "d2": "--network lane -p 8181:81 -p 127.0.0.1:8182:82",
        "d3": "--network open -p 8183:83 -p 192.168.50.11:8184:84 -p 5353:53/udp -p 9999:83",
        "d4": "--network alone",
        "d5": "--network alone",
        "d6": "--network mix -p 8185:85 -p [::1]:8186:86",
        "d7": "--network xim -p 8187:87 -p [::]:8188:88",
        "d8": "--network off",
        "d9": "--network trust -p 8190:90 -p 192.168.50.11:8191:91",
    },
    "connect": {"d1": "lane", "d7": "mix"},
}


@pytest.mark.parametrize("name", ["dual", "modes"])
def test_ipv6_and_gateway_modes(name: str, tree: str, tmp_path_factory: pytest.TempPathFactory, golden: Golden) -> None:
    wanted = {"dual": DUAL, "modes": MODES}[name]
    nodes = (HOST, *wanted["containers"])
    with engine("wide", tmp_path_factory.mktemp("wide") / "work", tree=tree) as daemon:
        release = release_of(daemon)
        if name == "modes" and release not in ("28", "29"):
            pytest.skip(f"Docker {release} has no gateway modes")
        write("wide", HOST, {"bridge.bridge-nf-call-ip6tables": 0, "ipv6.conf.eth0.accept_dad": 0})
        host = paths.netns_name("wide", HOST)
        ip(f"-n {host} addr add fd00:50::b/64 dev eth0 nodad")
        ip(f"-n {host} route add default via fd00:50::1 dev eth0")
        for number, (network, options) in enumerate(wanted["networks"].items()):
            daemon(f"network create {options} -o com.docker.network.bridge.name=net{number} {network}")
        for container, options in wanted["containers"].items():
            daemon.start(container, options)
        for container, network in wanted["connect"].items():
            daemon(f"network connect {network} {container}")
        settled("wide", daemon.shown())
        at_last(lambda: re.findall("tentative", subjects.inside("wide", HOST, "ip", "-6", "addr")))
        recorded("wide", golden(f"daemons/{name}-{release}.txt"))
        recorded("wide", golden(f"daemons/{name}-{release}.ip6.txt"), "ip6tables")
        real, proxies, sockets = docker_observed("wide", nodes), _proxies(daemon), _sockets("wide")
    made = lifecycle.up(lifecycle.define(str(DAEMONS / f"{name}.yaml"), overrides=(f"release={release}",))).lab
    try:
        found = differences(docker_observed(name, nodes), real)
        assert _sockets(name) == sockets
    finally:
        lifecycle.down(name)
    commands = [list(item.command) for item in made.plan if isinstance(item, Process) and item.name[:6] == "docker"]
    assert sorted(words[1:] for words in commands) == sorted(proxies)
    assert unexplained(f"docker {name} {release}", found) == []


def recorded(lab_name: str, record: GoldenFile, tool: str = "iptables") -> None:
    """The rules on the host are those in a golden file, which tests without a daemon compare docker-bridge with.
    Counters and built-in chains that accept are left out. The order of chains differs between the back ends."""
    lines = subjects.inside(lab_name, HOST, f"{tool}-{subjects.BACKEND}-save").splitlines()
    kept = [line for line in lines if not line.startswith("#") and line != "COMMIT" and " ACCEPT [" not in line]
    text = "\n".join(re.sub(r"\[\d+:\d+\]", "[0:0]", line) for line in kept) + "\n"
    record.record(text)
    assert _chains(text) == _chains(record.path.read_text())


def _chains(text: str) -> dict[str, list[str]]:
    """The rules of each chain; either back end has its own order of tables and chains."""
    chains: dict[str, list[str]] = {}
    for table in re.split(r"^\*", text, flags=re.M):
        name, *lines = table.splitlines() or [""]
        for line in lines:
            chain = line[1:] if line[0] == ":" else line.split()[1]
            chains.setdefault(f"{name} {chain.split()[0]}", []).append(line)
    return chains


def _proxies(docker: Docker) -> list[list[str]]:
    """The command lines of docker-proxy on the host, behind its name."""
    found = []
    for pid in occupants.find([paths.netns_path(docker.lab, HOST)]):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")[:-1]
        if words and words[0].endswith("docker-proxy"):
            found.append(words[1:])
    return found


def _sockets(lab_name: str) -> set[tuple[str, ...]]:
    """The listening and bound sockets of the host: protocol, state, how many may wait, address."""
    lines = subjects.inside(lab_name, HOST, "ss", "-H", "-ltun").splitlines()
    return {(words[0], words[1], words[3], words[4]) for words in map(str.split, lines)}


def _inside(docker: Docker, words: str, network: bool = False) -> str:
    """What a command says among the daemon's processes, where its ids mean something."""
    enter = ["nsenter", "-t", str(docker.pid), "--mount", "--pid", *(["--net"] if network else [])]
    return subjects.run(*enter, *words.split()).strip()

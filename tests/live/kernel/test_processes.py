"""What runs in a lab: containers that share a pod, the sandbox that holds it, Docker's host network, docker-proxy."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from labctl.checks import runner
from labctl.core.diff import diff
from labctl.core.resources import Netns, Process
from labctl.core.scenario_types import Check, Lab
from labctl.errors import KernelError
from labctl.kernel import processes
from labctl.kernel.host import paths
from labctl.kernel.lab_kernel import KernelLab
from labctl.lab import lifecycle
from tests.support.drift import drift
from tests.support.paths import ROOT

pytestmark = pytest.mark.firewall


@pytest.fixture
def clean() -> Iterator[None]:
    assert paths.labs() == {}
    yield
    for name in paths.labs():
        lifecycle.down(name)


@pytest.fixture
def pods(clean: None) -> Lab:
    return lifecycle.up(lifecycle.define("pods")).lab


def pid(name: str, node: str, process: str) -> int:
    found = {one.name: one.pid for one in processes.find(name, [node])}
    assert process in found, found
    return found[process] or 0


def kill(number: int, how: signal.Signals) -> None:
    """End a process and wait until it has gone."""
    handle = os.pidfd_open(number)
    try:
        os.kill(number, how)
        assert select.select([handle], [], [], 10)[0], f"{number} does not end"
    finally:
        os.close(handle)


def awaited(condition: Callable[[], object], what: str) -> None:
    for _ in range(1000):
        if condition():
            return
        select.select([], [], [], 0.01)
    raise AssertionError(f"{what}, for 10 seconds")


def awaited_gone(path: Path) -> None:
    """Wait until a name has gone: its shim removes it right after the sandbox ended."""
    awaited(lambda: not path.exists(), f"{path} is still there")


def proves(made: Lab, word: str) -> list[str]:
    return [outcome.verdict for outcome in runner.run(made, word).outcomes]


def test_a_dying_container_leaves_the_address_and_comes_back(pods: Lab) -> None:
    kill(pid("pods", "a", "web"), signal.SIGKILL)

    assert drift("pods") == ["missing process web: serve web tcp:80, inside pause"]
    assert proves(pods, "every pod reaches every pod") == ["pass"]
    assert proves(pods, "only web can listen") == ["fail"]
    assert len(lifecycle.up(lifecycle.define("pods")).changes) == 1
    assert drift("pods") == []
    assert proves(pods, "only web can listen") == ["pass"]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_dying_sandbox_takes_containers_address_and_namespace(pods: Lab, how: signal.Signals) -> None:
    web = os.pidfd_open(pid("pods", "a", "web"))  # its number may be somebody else's once it is gone
    kill(pid("pods", "a", "pause"), how)
    awaited_gone(paths.netns_path("pods", "a"))

    assert select.select([web], [], [], 0)[0]
    os.close(web)
    assert "missing namespace a" in drift("pods")
    # the node's end goes with the pod's, when the kernel gets to it
    awaited(
        lambda: "missing link veth86f7e437" in " ".join(drift("pods")), "the node's end of the cable is still there"
    )
    lifecycle.up(lifecycle.define("pods"))
    assert drift("pods") == []
    assert {outcome.verdict for outcome in runner.run(pods).outcomes} == {"pass"}


def test_a_sandbox_whose_shim_dies_ends_too_and_is_mended(pods: Lab) -> None:
    pause = pid("pods", "a", "pause")
    shim = int(Path(f"/proc/{pause}/stat").read_text().rpartition(")")[2].split()[1])
    handle = os.pidfd_open(pause)
    kill(shim, signal.SIGKILL)
    assert select.select([handle], [], [], 10)[0]
    os.close(handle)

    assert "missing process pause: pause, holds the namespace" in drift("pods")
    lifecycle.up(lifecycle.define("pods"))
    assert drift("pods") == []


def test_containers_have_one_process_namespace_and_the_kernel_ends_it_whole(pods: Lab) -> None:
    homes = {os.readlink(f"/proc/{pid('pods', 'a', name)}/ns/pid") for name in ("pause", "web", "metrics", "sidecar")}
    assert len(homes) == 1
    assert homes != {os.readlink("/proc/self/ns/pid")}


def test_what_a_person_starts_is_no_drift_and_goes_with_the_lab(pods: Lab) -> None:
    own = subprocess.Popen(["ip", "netns", "exec", "labctl.pods.a", "sleep", "600"])
    try:
        assert drift("pods") == []
        lifecycle.down("pods")
        assert own.wait(10) == -signal.SIGTERM
    finally:
        own.kill()
        own.wait()


def test_down_ends_what_lives_on_in_a_namespace_that_lost_its_name(pods: Lab) -> None:
    numbers = [pid("pods", "a", name) for name in ("pause", "web", "sidecar")]
    subprocess.run(["ip", "netns", "del", "labctl.pods.a"], check=True)
    assert all(Path(f"/proc/{number}").exists() for number in numbers)
    lifecycle.down("pods")
    assert not any(Path(f"/proc/{number}").exists() for number in numbers)


def test_a_lab_of_the_same_name_elsewhere_is_another_lab(pods: Lab) -> None:
    """Two mount namespaces with a /run/netns each: what one takes down the other keeps."""
    numbers = [pid("pods", node, name) for node, name in (("a", "pause"), ("a", "web"), ("c", "dns"))]
    script = (
        "mount -t tmpfs none /run/netns; mount -t tmpfs none /run/labctl; "
        f"{sys.executable} -m labctl up pods >/dev/null && {sys.executable} -m labctl down pods"
    )
    unshare = ["unshare", "-nm", "--propagation", "private", "sh", "-ec", script]
    done = subprocess.run(unshare, cwd=ROOT, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert "pods is down" in done.stdout
    assert [pid("pods", node, name) for node, name in (("a", "pause"), ("a", "web"), ("c", "dns"))] == numbers
    assert drift("pods") == []


def test_a_port_that_is_taken_fails_the_build_with_its_name_and_leaves_nothing(clean: None, tmp_path: Path) -> None:
    plan = (
        Netns("a"),
        Process("a", "one", ("serve", "one", "tcp:80")),
        Process("a", "two", ("serve", "two", "tcp:80")),
    )
    with KernelLab("twice") as kernel:
        with pytest.raises(
            KernelError, match=r"cannot start (one|two) in a: tcp port 80: Address already in use"
        ) as caught:
            kernel.apply(diff(plan, ()))
        assert "ss -tulpn" in caught.value.hint
        assert kernel.destroy() == ("a",)
    assert processes.find_anywhere("twice") == ()


def test_a_free_port_fails_the_check_that_it_is_taken(pods: Lab) -> None:
    free = Check("81 is taken", "taken", "a", "a", 81)
    udp = Check("8125 is taken", "taken", "a", "a", 8125, protocol="udp")
    gone = Check("80 is taken there", "taken", "nobody", "nobody", 80)
    made = Lab("pods", "kubenet", pods.plan, pods.machines, (free, udp, gone))
    told = {outcome.check.say: (outcome.verdict, outcome.evidence[0]) for outcome in runner.run(made).outcomes}

    assert told["81 is taken"] == ("fail", "tcp port 81 of a was free: no process uses it")
    assert told["8125 is taken"][0] == "pass"
    assert told["8125 is taken"][1].startswith("udp port 8125 of a is used by metrics (process ")
    assert told["80 is taken there"] == ("fail", "there is no namespace labctl.pods.nobody")


def test_a_proxy_that_dies_is_named_and_fails_what_it_served(clean: None) -> None:
    made = lifecycle.up(lifecycle.define("docker-proxy")).lab
    kill(pid("docker-proxy", "host1", "docker-proxy 127.0.0.1:8082/tcp"), signal.SIGTERM)

    assert [line.partition(":8082")[0] for line in drift("docker-proxy")] == ["missing process docker-proxy 127.0.0.1"]
    assert proves(made, "at 127.0.0.1") == ["fail"]
    assert proves(made, "through DNAT") == ["pass"]
    lifecycle.up(lifecycle.define("docker-proxy"))
    assert proves(made, "at 127.0.0.1") == ["pass"]


@pytest.mark.parametrize(("release", "verdict"), [("28", "pass"), ("26", "fail")])
def test_an_answer_over_udp_comes_from_the_address_asked_since_28(clean: None, release: str, verdict: str) -> None:
    everywhere = "hosts.host1.containers.web.publish=[192.168.50.11:8080:80, 127.0.0.1:8082:80, 5353:53/udp]"
    made = lifecycle.up(lifecycle.define("docker-proxy", overrides=(f"release={release}", everywhere))).lab
    asked = Check("udp likewise", "udp", "c1", "host1", 5353, server=("web", 53))
    outcome = runner.run(replace(made, checks=(asked,))).outcomes[0]

    assert outcome.verdict == verdict
    if verdict == "fail":  # the well-known bug of before: moby issue 11998
        assert any("172.17.0.2 reported to 172.17.0.1: port unreachable" in line for line in outcome.evidence)


def test_a_container_on_the_hosts_network_is_entered_where_it_is(clean: None) -> None:
    lifecycle.up(lifecycle.define("docker-host-none"))
    run = [sys.executable, "-m", "labctl"]
    root = ROOT

    def told(*words: str) -> str:
        return subprocess.run([*run, *words], cwd=root, capture_output=True, text=True, check=True).stdout

    assert "docker0" in told("exec", "web", "--", "ip", "link")
    assert "172.17.0.2/16" in told("exec", "sidecar", "--", "ip", "addr", "show", "eth0")
    assert "serve sidecar tcp:9001 udp:53" in told("show", "sidecar")

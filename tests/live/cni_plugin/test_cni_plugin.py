"""labctl as a CNI plugin, called as a runtime calls one: by environment and standard input, in a node's namespace."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from labctl.cni.spec import VALID_ATTACHMENTS, read_result
from labctl.cni_plugin import node
from labctl.cni_plugin.config import SUPPORTED_VERSIONS, Failure
from labctl.cni_plugin.main import LOCK
from labctl.cni_plugin.wiring import HOST
from labctl.core.resources import Interface, Link
from labctl.kernel.host import lab_state
from labctl.kernel.namespaces.thread import NetnsThread
from tests.support.cni_node import ABSENT, CONF, Runtime, environment, node_with_pods
from tests.support.cni_plugin import called

pytestmark = pytest.mark.firewall


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    with node_with_pods(tmp_path) as made:
        yield made


def device_names(runtime: Runtime, words: str) -> set[str]:
    """The node's devices, without their states, which follow a moment after a change."""
    return {link["ifname"] for link in json.loads(runtime.ip("node", f"-j {words}"))}


@pytest.mark.parametrize("shape", [{"isGateway": True}, {"shape": "routed"}], ids=["bridge", "routed"])
@pytest.mark.parametrize("version", SUPPORTED_VERSIONS)
def test_add_check_delete_and_again(runtime: Runtime, version: str, shape: dict[str, Any]) -> None:
    keys = {"cniVersion": version, "ipMasq": True, "firewall": True, **shape}
    before, links = runtime.save(), device_names(runtime, "link")
    made = {pod: runtime.add(pod, **keys) for pod in ("pod1", "pod2")}

    assert made["pod1"]["cniVersion"] == version
    assert read_result(json.dumps(made["pod1"])).addresses("eth0")[0].with_prefixlen == "10.9.0.2/24"
    assert runtime.pings("pod1", "10.9.0.3")
    assert runtime.pings("pod2", "10.9.0.1")
    previous = {**keys, "prevResult": made["pod1"]}
    if version >= "0.4.0":
        assert runtime("CHECK", "pod1", **previous) == (0, None)
    for pod in ("pod1", "pod2", "pod1"):
        assert runtime("DEL", pod, **{**keys, "prevResult": made[pod]}) == (0, None)
    assert "eth0" not in runtime.ip("pod1", "-br link")
    assert "10.9.0." not in runtime.save()
    assert device_names(runtime, "link") - links <= device_names(runtime, "link show type bridge")
    assert not any(row.startswith("-A POSTROUTING") for row in runtime.save().splitlines())
    assert before == "" or before in runtime.save()
    again = runtime.add("pod1", **keys)
    assert [one["name"] for one in again["interfaces"]] == [one["name"] for one in made["pod1"]["interfaces"]]


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("ip -n pod1 route del default", "missing route default via 10.9.0.1 dev eth0"),
        ("ip -n pod1 addr flush dev eth0", "missing address 10.9.0.2/24 dev eth0"),
        ("ip -n pod1 link del eth0", "missing link eth0"),
        ("ip -n node link set cni0 down", "changed link cni0: up was down, should be up"),
        ("ip -n node addr flush dev cni0", "missing address 10.9.0.1/24 dev cni0"),
        ("ip netns exec node sysctl -qw net.ipv4.ip_forward=0", "changed sysctl net.ipv4.ip_forward"),
        ("ip netns exec node iptables -t nat -F POSTROUTING", "missing iptables -t nat -A POSTROUTING -s 10.9.0.2/32"),
        ("ip netns exec node iptables -F CNI-FORWARD", "missing iptables -t filter -A CNI-FORWARD -s 10.9.0.2/32"),
    ],
)
def test_check_names_what_differs(runtime: Runtime, broken: str, said: str) -> None:
    keys = {"isGateway": True, "ipMasq": True, "firewall": True}
    made = runtime.add("pod1", **keys)
    assert runtime("CHECK", "pod1", **keys, prevResult=made) == (0, None)
    subprocess.run(broken.split(), check=True)
    code, error = runtime("CHECK", "pod1", **keys, prevResult=made)

    assert (code, error["code"]) == (1, 100)
    assert said in error["details"]


def test_what_others_have_in_the_node_stays(runtime: Runtime) -> None:
    for words in (
        "ip -n node link add mine type bridge",
        "ip -n node addr add 192.0.2.1/24 dev mine",
        "ip netns exec node iptables -t nat -A POSTROUTING -o mine -j MASQUERADE",
        "ip netns exec node iptables -A FORWARD -i mine -j ACCEPT",
    ):
        subprocess.run(words.split(), check=True)
    keys = {"isGateway": True, "ipMasq": True, "firewall": True}
    made = runtime.add("pod1", **keys)
    forward = [row for row in runtime.save().splitlines() if row.startswith("-A FORWARD")]
    runtime("DEL", "pod1", **keys, prevResult=made)

    assert [row.split()[-1] for row in forward] == ["CNI-FORWARD", "ACCEPT"]
    assert "-A POSTROUTING -o mine -j MASQUERADE" in runtime.save()
    assert "192.0.2.1/24" in runtime.ip("node", "addr show mine")


def test_a_device_that_is_there_is_an_error_and_costs_no_address(runtime: Runtime) -> None:
    runtime.add("pod1", isGateway=True)
    code, error = runtime("ADD", "pod1", isGateway=True)

    assert (code, error["code"]) == (1, 4)
    assert "eth0 is a device of /run/netns/pod1 already" in error["msg"]
    assert runtime.calls() == ["ADD"]


def test_a_failed_add_leaves_nothing(runtime: Runtime) -> None:
    subprocess.run(["ip", "-n", "node", "link", "add", "cni0", "type", "veth", "peer", "name", "other"], check=True)
    code, error = runtime("ADD", "pod1", isGateway=True, ipMasq=True)

    assert (code, error["code"]) == (1, 100)
    assert "cni0 exists and is not a bridge, but a veth" in error["msg"]
    assert runtime.calls() == ["ADD", "DEL"]
    assert "eth0" not in runtime.ip("pod1", "-br link")
    assert "CNI-" not in runtime.save()


def test_a_namespace_that_is_not_there_is_an_unknown_container(runtime: Runtime) -> None:
    code, error = runtime("ADD", "pod9", isGateway=True)
    assert (code, error["code"]) == (1, 3)
    Path("/run/netns/pod8").touch()
    try:
        assert runtime("ADD", "pod8", isGateway=True)[1]["code"] == 3
    finally:
        Path("/run/netns/pod8").unlink()
    pipe = runtime.work / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, runtime.work, "/proc/self/ns/mnt", "/dev/null"):
        assert runtime("ADD", "pod1", {"CNI_NETNS": str(path)}, isGateway=True)[1]["code"] == 3, path


def test_ipam_speaks_for_itself(runtime: Runtime) -> None:
    runtime.fail("ADD")
    code, error = runtime("ADD", "pod1", isGateway=True)
    assert (code, error["code"], error["msg"], error["details"]) == (1, 11, "fake-ipam: not now", "ask later")
    assert runtime("ADD", "pod1", ipam={"type": "nobody"})[1]["code"] == 5


def test_status_tells_whether_an_add_can_be_served(runtime: Runtime) -> None:
    without = runtime.work / "bin"
    without.mkdir()
    for tool in ("nsenter", "ip"):  # and no iptables
        (without / tool).symlink_to(shutil.which(tool) or tool)
    assert runtime("STATUS", ipMasq=True) == (0, None)
    assert runtime("STATUS", env={"PATH": str(without)}) == (0, None)
    assert runtime("STATUS", env={"PATH": str(without)}, ipMasq=True)[1]["code"] == 50
    assert runtime("STATUS", ipam={"type": "nobody"})[1]["code"] == 50
    for code, told in ((11, 50), (50, 50), (51, 51)):
        runtime.fail("STATUS", code)
        failed, error = runtime("STATUS")
        assert (failed, error["code"], error["msg"]) == (1, told, "fake-ipam: not now")


def test_garbage_is_what_belongs_to_no_valid_attachment(runtime: Runtime) -> None:
    keys = {"isGateway": True, "ipMasq": True}
    for pod in ("pod1", "pod2"):
        runtime.add(pod, **keys)
    runtime.add("pod3", **keys | {"name": "other"})
    valid = [{"containerID": "pod1", "ifname": "eth0"}]
    assert runtime("GC", **keys, **{VALID_ATTACHMENTS: valid}) == (0, None)

    assert "eth0" in runtime.ip("pod1", "-br link")
    assert "eth0" not in runtime.ip("pod2", "-br link")
    assert "eth0" in runtime.ip("pod3", "-br link")
    assert {word for word in ("10.9.0.2/32", "10.9.0.3/32", "10.9.0.4/32") if word in runtime.save()} == {
        "10.9.0.2/32",
        "10.9.0.4/32",
    }
    assert runtime.calls()[-2:] == ["DEL", "GC"]
    assert runtime.released() == ["pod2/eth0"]  # host-local 1.9 releases nothing at a GC


def test_pods_that_come_at_once_are_all_wired(runtime: Runtime) -> None:
    calls = [runtime.start("ADD", pod, isGateway=True, ipMasq=True) for pod in ("pod1", "pod2", "pod3")]
    said = [call.communicate(timeout=60) for call in calls]

    assert [call.returncode for call in calls] == [0, 0, 0], said
    assert runtime.pings("pod1", "10.9.0.3")
    assert runtime.pings("pod2", "10.9.0.4")
    assert runtime.save().count("-A POSTROUTING") == 3


def test_a_bridge_keeps_its_address_as_ports_come_and_go(runtime: Runtime) -> None:
    def bridge() -> str:
        return json.loads(runtime.ip("node", "-j link show cni0"))[0]["address"]

    runtime.add("pod1", isGateway=True)
    first = bridge()
    made = runtime.add("pod2", isGateway=True, runtimeConfig={"mac": "02:00:00:00:00:01"}, capabilities={"mac": True})
    runtime("DEL", "pod1", isGateway=True)

    assert bridge() == first
    assert made["interfaces"][2]["mac"] == "02:00:00:00:00:01"
    assert Link(Interface(HOST, "cni0"), "bridge").kind == "bridge"


# ---- what must not be lost, and what must not be touched ---------------------------------------------

FULL = {"isGateway": True, "ipMasq": True, "firewall": True}
GONE = {"CNI_NETNS": ABSENT}


@pytest.mark.parametrize("env", [{}, GONE], ids=["with its namespace", "without"])
@pytest.mark.parametrize("told", [True, False], ids=["told the result", "not told"])
def test_a_del_finds_every_rule(runtime: Runtime, env: dict[str, str], told: bool) -> None:
    made = runtime.add("pod1", **FULL)
    assert runtime("DEL", "pod1", env, **FULL, **({"prevResult": made} if told else {})) == (0, None)

    assert runtime.rules("10.9.0.2") == []
    assert "CNI-" not in "".join(
        row for row in runtime.save().splitlines() if "CNI-FORWARD" not in row and "ADMIN" not in row
    )


def test_a_del_after_the_namespace_finds_every_rule(runtime: Runtime) -> None:
    runtime.add("pod1", **FULL)
    runtime.add("pod2", **FULL)
    subprocess.run(["ip", "netns", "del", "pod1"], check=True)

    assert runtime("DEL", "pod1", GONE, **FULL) == (0, None)
    assert runtime.rules("10.9.0.2/32") == []
    assert len(runtime.rules("10.9.0.3/32")) == 3


def test_two_devices_of_a_container_are_two_attachments(runtime: Runtime) -> None:
    second = {"CNI_IFNAME": "eth1"}
    runtime.add("pod1", **FULL)
    made = runtime.add("pod1", second, **FULL)
    assert len(runtime.rules("10.9.0.102/32")) == 3
    for told in ({"prevResult": made}, {}, {}):
        assert runtime("DEL", "pod1", second, **FULL, **told) == (0, None)

    assert "eth1" not in runtime.ip("pod1", "-br link")
    assert runtime.rules("10.9.0.102/32") == []
    assert len(runtime.rules("10.9.0.2/32")) == 3
    assert len(runtime.rules("-j MASQUERADE")) == 1


def test_the_first_network_keeps_the_default_route(runtime: Runtime) -> None:
    runtime.add("pod1", isGateway=True)
    keys = {"name": "second", "bridge": "cni1", "isGateway": True}
    made = runtime.add("pod1", {"CNI_IFNAME": "eth1"}, **keys)

    assert "dev eth0" in runtime.ip("pod1", "route show default")
    assert runtime("CHECK", "pod1", {"CNI_IFNAME": "eth1"}, **keys, prevResult=made) == (0, None)


@pytest.mark.parametrize("masqueraded", [True, False])
def test_garbage_takes_its_accepts_along(runtime: Runtime, masqueraded: bool) -> None:
    keys = FULL | {"ipMasq": masqueraded}
    for pod in ("pod1", "pod2", "pod3"):
        runtime.add(pod, **keys)
    if masqueraded:  # if the veth is gone too, only the masquerade rule shows which container had the address
        subprocess.run(["ip", "netns", "del", "pod3"], check=True)
    valid = [{"containerID": "pod1", "ifname": "eth0"}]
    assert runtime("GC", **keys, **{VALID_ATTACHMENTS: valid}) == (0, None)

    assert runtime.rules("10.9.0.3/32") + runtime.rules("10.9.0.4/32") == []
    assert len(runtime.rules("10.9.0.2/32")) == 2 + masqueraded
    assert runtime.released() == ["pod2/eth0", "pod3/eth0"]


def test_garbage_of_one_device_leaves_the_containers_other(runtime: Runtime) -> None:
    for env in ({}, {"CNI_IFNAME": "eth1"}):
        runtime.add("pod1", env, **FULL)
    valid = [{"containerID": "pod1", "ifname": "eth0"}]
    assert runtime("GC", **FULL, **{VALID_ATTACHMENTS: valid}) == (0, None)

    assert "eth1" not in runtime.ip("pod1", "-br link")
    assert [len(runtime.rules(ip)) for ip in ("10.9.0.2/32", "10.9.0.102/32")] == [3, 0]
    assert runtime.released() == ["pod1/eth1"]


def test_a_gc_that_cannot_release_one_address_releases_the_others(runtime: Runtime) -> None:
    for pod in ("pod1", "pod2"):
        runtime.add(pod, isGateway=True)
    runtime.fail("DEL", 11)
    code, error = runtime("GC", isGateway=True, **{VALID_ATTACHMENTS: []})
    assert (code, error["code"], error["msg"]) == (1, 11, "fake-ipam: not now")
    assert sorted(runtime.released()) == ["pod1/eth0", "pod2/eth0"]
    assert runtime.calls()[-1] == "GC"


def test_a_del_with_the_result_of_an_earlier_add_finds_the_rules_of_this_one(runtime: Runtime) -> None:
    runtime.add("pod1", **FULL)
    earlier = {"cniVersion": "1.1.0", "ips": [{"address": "10.9.0.3/24"}]}
    runtime.add("pod2", **FULL)  # it has that address now
    assert runtime("DEL", "pod1", **FULL, prevResult=earlier) == (0, None)
    assert runtime.rules("10.9.0.2/32") == []
    assert len(runtime.rules("10.9.0.3/32")) == 3


def test_an_ipam_plugin_that_does_not_end_is_an_error(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = runtime.work / "slow"
    slow.write_text("#!/bin/sh\nsleep 8 &\nwait\n")
    slow.chmod(0o755)
    monkeypatch.setattr(node, "DELEGATE_TIMEOUT_S", 0.1)
    began = time.monotonic()
    with pytest.raises(Failure, match="slow did not finish within"):
        node.delegate(slow, environment(), "{}")
    assert time.monotonic() - began < 6


def test_an_ipam_plugin_that_cannot_be_run_is_an_error(runtime: Runtime) -> None:
    broken = runtime.work / "broken"
    broken.write_bytes(b"\x7fELF")
    broken.chmod(0o755)
    code, error = runtime("ADD", "pod1", ipam={"type": "broken"}, isGateway=True)
    assert (code, error["code"]) == (1, 5)
    assert f"cannot run {broken}" in error["msg"]


def test_an_isolated_port_reaches_its_gateway_only(runtime: Runtime) -> None:
    for pod in ("pod1", "pod2"):
        runtime.add(pod, isGateway=True, portIsolation=True)
    assert runtime.pings("pod1", "10.9.0.1")
    assert not runtime.pings("pod1", "10.9.0.3")


def test_a_bridge_that_is_somebodys_stays_as_it_is(runtime: Runtime) -> None:
    for words in ("link add mine type bridge stp_state 1", "link set mine promisc on mtu 1300 up"):
        runtime.ip("node", words)
    mac = json.loads(runtime.ip("node", "-j link show mine"))[0]["address"]
    runtime.add("pod1", bridge="mine", isGateway=True)
    link = json.loads(runtime.ip("node", "-j -d link show mine"))[0]

    assert (link["promiscuity"], link["mtu"], link["linkinfo"]["info_data"]["stp_state"]) == (1, 1300, 1)
    assert link["address"] == mac


def test_a_bridge_with_an_address_of_its_own_is_no_gateway(runtime: Runtime) -> None:
    runtime.ip("node", "link add mine type bridge")
    runtime.ip("node", "addr add 192.0.2.1/24 dev mine")
    code, error = runtime("ADD", "pod1", bridge="mine", isGateway=True)

    assert (code, error["code"]) == (1, 100)
    assert "mine has another address than 10.9.0.1/24: 192.0.2.1/24" in error["msg"]
    assert runtime.calls() == ["ADD", "DEL"]
    assert "10.9.0.1" not in runtime.ip("node", "addr show mine")


def test_an_address_goes_back_when_nothing_wears_it(runtime: Runtime) -> None:
    runtime.add("pod1", **FULL)
    runtime.fail("DEL", 5)

    assert runtime("DEL", "pod1", **FULL)[1]["code"] == 5
    assert "eth0" not in runtime.ip("pod1", "-br link")
    assert runtime.rules("10.9.0.2/32") == []


def test_an_add_into_the_nodes_own_namespace_is_refused(runtime: Runtime) -> None:
    code, error = runtime("ADD", "pod1", {"CNI_NETNS": "/run/netns/node"})
    assert (code, error["code"]) == (1, 4)
    assert "CNI_NETNS /run/netns/node is the namespace that the plugin is called in" in error["msg"]


def test_an_attachment_is_made_once(runtime: Runtime) -> None:
    runtime.add("pod1", isGateway=True)
    code, error = runtime("ADD", "pod1", {"CNI_NETNS": "/run/netns/pod2"}, isGateway=True)

    assert (code, error["code"]) == (1, 100)
    assert "exists already" in error["msg"]
    assert runtime.pings("pod1", "10.9.0.1")
    assert runtime.calls() == ["ADD"]


def test_check_holds_devices_to_their_addresses(runtime: Runtime) -> None:
    made = runtime.add("pod1", isGateway=True)
    runtime.ip("pod1", "link set eth0 address 02:00:00:00:00:09")
    code, error = runtime("CHECK", "pod1", isGateway=True, prevResult=made)

    assert (code, error["code"]) == (1, 100)
    assert f"02:00:00:00:00:09, should be {made['interfaces'][2]['mac']}" in error["details"]


def test_a_path_need_not_be_given(runtime: Runtime) -> None:
    runtime.add("pod1", {"PATH": ABSENT}, **FULL)
    assert len(runtime.rules("10.9.0.2/32")) == 3


def test_who_comes_while_another_call_works_may_come_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with lab_state.lock(LOCK):
        monkeypatch.setattr(lab_state, "lock", partial(lab_state.lock, timeout_s=0))
        code, error = called(monkeypatch, capsys, json.dumps(CONF).encode())
    assert (code, error["code"]) == (1, 11)


def test_a_device_that_does_not_come_up_is_an_error(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime.ip("node", "link add one type veth peer two")
    runtime.ip("node", "link set one up")
    monkeypatch.setattr(node, "CARRIER_TIMEOUT_S", 0)
    with NetnsThread() as inside:
        netns = Path("/run/netns/node")
        with pytest.raises(Failure, match="one has no carrier"):
            inside.run(netns, node.wait_for_carrier, "one")
        with pytest.raises(Failure, match="three is gone"):
            inside.run(netns, node.wait_for_carrier, "three")
        runtime.ip("node", "link set two up")
        monkeypatch.setattr(node, "CARRIER_TIMEOUT_S", 10)
        inside.run(netns, node.wait_for_carrier, "one")
        assert "NO-CARRIER" not in runtime.ip("node", "-br link show one")


# ---- packets through what was made -------------------------------------------------------------------


@pytest.mark.parametrize("shape", [{"isGateway": True}, {"shape": "routed"}], ids=["bridge", "routed"])
def test_who_is_outside_answers_only_what_is_masqueraded_and_accepted(runtime: Runtime, shape: dict[str, Any]) -> None:
    runtime.ip("node", "link add out type veth peer eth0 netns pod3")
    for where, device, address in (("node", "out", "192.0.2.1/24"), ("pod3", "eth0", "192.0.2.2/24")):
        runtime.ip(where, f"addr add {address} dev {device}")
        runtime.ip(where, f"link set {device} up")
    runtime.add("pod1", **shape)
    runtime.add("pod2", **shape, ipMasq=True)
    assert not runtime.pings("pod1", "192.0.2.2")  # it has no way back to pods
    assert runtime.pings("pod2", "192.0.2.2")

    for command in ("iptables -P FORWARD DROP", "iptables -A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT"):
        subprocess.run(["ip", "netns", "exec", "node", *command.split()], check=True)
    assert not runtime.pings("pod2", "192.0.2.2")
    assert runtime("DEL", "pod1", **shape) == (0, None)
    runtime.add("pod1", **shape, ipMasq=True, firewall=True)
    assert runtime.pings("pod1", "192.0.2.2")

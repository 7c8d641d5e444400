"""labctl as a CNI plugin, called as a runtime calls one: by environment and standard input, in a node's namespace."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from labctl import cni_config, cni_wiring
from labctl.cni_config import SPOKEN, Failure
from labctl.cni_spec import VALID_ATTACHMENTS, read_result
from labctl.cni_wiring import HOST, POD
from labctl.plan import Link, Port
from labctl.words import line

ROOT = Path(__file__).parent.parent
ENV = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "c-one", "CNI_NETNS": "/n/a", "CNI_IFNAME": "eth0", "CNI_PATH": "/p"}
CONF: dict[str, Any] = {"cniVersion": "1.1.0", "name": "net", "type": "labctl-cni", "ipam": {"type": "fake-ipam"}}
GIVEN = {
    "cniVersion": "1.1.0",
    "ips": [{"address": "10.9.0.2/24", "gateway": "10.9.0.1"}],
    "routes": [{"dst": "0.0.0.0/0"}],
}


def asked(env: dict[str, str] | None = None, **keys: Any) -> cni_config.Request:
    return cni_config.read({**ENV, **(env or {})}, json.dumps(CONF | keys))


def refused(env: dict[str, str] | None = None, text: str | None = None, **keys: Any) -> tuple[int, str]:
    with pytest.raises(Failure) as caught:
        cni_config.read({**ENV, **(env or {})}, json.dumps(CONF | keys) if text is None else text)
    error = caught.value.error
    return error.code, f"{error.msg} | {error.details}"


# ---- what it is told, without root -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "keys", "code", "words"),
    [
        ({"CNI_COMMAND": "ADDD"}, {}, 4, "CNI_COMMAND is 'ADDD'"),
        ({"CNI_NETNS": ""}, {}, 4, "ADD needs CNI_NETNS"),
        ({"CNI_CONTAINERID": "-a"}, {}, 4, "'-a' is no container id"),
        ({"CNI_IFNAME": "a/b"}, {}, 4, "'a/b' is no name for a device"),
        ({"CNI_IFNAME": "sixteen-letters-x"}, {}, 4, "is no name for a device"),
        ({}, {"cniVersion": "0.2.0"}, 1, "cniVersion 0.2.0 is not spoken here | spoken are 0.3.0, 0.3.1"),
        ({}, {"cniVersion": "2.0.0"}, 1, "not spoken here"),
        ({"CNI_COMMAND": "GC"}, {"cniVersion": "1.0.0"}, 1, "cniVersion 1.0.0 has no GC"),
        ({"CNI_COMMAND": "STATUS"}, {"cniVersion": "1.0.0"}, 1, "has no STATUS"),
        ({}, {"name": "-net"}, 7, "'-net' is no name for a network"),
        ({}, {"shape": "star"}, 7, "shape 'star' is none of bridge, routed"),
        ({}, {"hairpinMod": True}, 2, "unknown key 'hairpinMod' | did you mean 'hairpinMode'?"),
        ({}, {"ipMasq": "yes"}, 7, "ipMasq 'yes' is not of the kind true or false"),
        ({}, {"mtu": True}, 7, "mtu True is not of the kind number"),
        ({}, {"mtu": 20}, 7, "mtu 20 is out of bounds"),
        ({}, {"hairpinMode": True, "promiscMode": True}, 7, "cannot both be on"),
        ({}, {"shape": "routed", "bridge": "br0"}, 2, "bridge means nothing in the shape 'routed'"),
        ({}, {"bridge": "a/b"}, 7, "'a/b' is no name for a device"),
        ({}, {"ipam": {}}, 7, "ipam.type is missing"),
        ({}, {"ipam": {"type": "../x"}}, 7, "ipam.type is missing"),
        ({}, {"runtimeConfig": {"mac": "02"}}, 7, "runtimeConfig.mac '02' is no MAC address"),
        ({"CNI_COMMAND": "CHECK"}, {}, 7, "CHECK needs prevResult"),
        ({}, {"prevResult": {"ips": [{"address": "x"}]}}, 6, "prevResult: "),
        ({"CNI_COMMAND": "GC"}, {VALID_ATTACHMENTS: [{"containerID": "a"}]}, 6, "containerID and ifname"),
    ],
)
def test_bad_input_is_refused_with_the_specifications_code(
    env: dict[str, str], keys: dict[str, Any], code: int, words: str
) -> None:
    found, said = refused(env, **keys)
    assert (found, words in said) == (code, True), said


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_what_is_no_object_cannot_be_decoded(text: str) -> None:
    assert refused(text=text)[0] == 6


def test_keys_of_the_runtime_and_of_extensions_are_let_pass() -> None:
    assert asked(**{"dns": {}, "args": {"cni": {}}, "cni.dev/other": 1, "disableCheck": True}).config.name == "net"


def test_the_wiring_of_both_shapes_in_words() -> None:
    given = read_result(json.dumps(GIVEN))
    bridge = [line(item) for item in cni_wiring.wiring(asked(isGateway=True), given, ipv6=False)]
    routed = [line(item) for item in cni_wiring.wiring(asked(shape="routed"), given, ipv6=False)]

    assert bridge == [
        "link cni0 type bridge addrgenmode eui64 up",
        "link vethc2a6f08b type veth peer pod/eth0 master cni0 addrgenmode eui64 up",
        "link eth0 type veth peer host/vethc2a6f08b addrgenmode eui64 up",
        "sysctl net.ipv4.conf.eth0.arp_notify = 1",
        "address 10.9.0.2/24 dev eth0",
        "address 10.9.0.1/24 dev cni0",
        "sysctl net.ipv4.ip_forward = 1",
        "route default via 10.9.0.1 dev eth0",
    ]
    assert routed == [
        "link vethc2a6f08b type veth peer pod/eth0 addrgenmode eui64 up",
        "link eth0 type veth peer host/vethc2a6f08b addrgenmode eui64 up",
        "sysctl net.ipv4.ip_forward = 1",
        "address 10.9.0.2/24 dev eth0, without the route to its subnet",
        "route 10.9.0.1 dev eth0 src 10.9.0.2",
        "route 10.9.0.0/24 via 10.9.0.1 dev eth0 src 10.9.0.2",
        "address 10.9.0.1/32 dev vethc2a6f08b",
        "route 10.9.0.2 dev vethc2a6f08b",
        "route default via 10.9.0.1 dev eth0",
    ]


def test_the_default_gateway_is_given_once() -> None:
    twice, without = read_result(json.dumps(GIVEN)), read_result(json.dumps({**GIVEN, "routes": []}))
    request = asked(isDefaultGateway=True)

    assert [str(route.gw) for route in cni_wiring.granted(request, without).routes] == ["10.9.0.1"]
    with pytest.raises(Failure, match="isDefaultGateway is on"):
        cni_wiring.granted(request, twice)


def test_masquerading_is_written_as_the_reference_documents_it() -> None:
    (rules,) = cni_wiring.rules(asked(ipMasq=True), read_result(json.dumps(GIVEN)))
    name, about = (
        "CNI-" + cni_wiring.chain_name("net", "c-one")[4:],
        '-m comment --comment "name: \\"net\\" id: \\"c-one\\""',
    )

    assert len(name) == 28
    assert rules.tails == (
        (name, f"-d 10.9.0.0/24 {about} -j ACCEPT"),
        (name, f"! -d 224.0.0.0/4 {about} -j MASQUERADE"),
        ("POSTROUTING", f"-s 10.9.0.2/32 {about} -j {name}"),
    )


def test_a_result_goes_on_after_the_one_before() -> None:
    before = {"interfaces": [{"name": "lo0"}], "ips": [{"address": "192.0.2.1/24", "interface": 0}]}
    request = asked(prevResult=before)
    made = cni_wiring.result(request, read_result(json.dumps(GIVEN)), {Port(POD, "eth0"): "02:00:00:00:00:01"})

    assert [one.name for one in made.interfaces] == ["lo0", "cni0", cni_wiring.veth(request), "eth0"]
    assert [(str(one.address), one.interface) for one in made.ips] == [("192.0.2.1/24", 0), ("10.9.0.2/24", 3)]


def test_only_this_networks_masquerading_is_stale() -> None:
    def jump(network: str, container: str) -> tuple[str, ...]:
        said = cni_wiring.comment(network, container)
        return ("POSTROUTING", "-m", "comment", "--comment", said, "-j", cni_wiring.chain_name(network, container))

    there = [jump("net", "a"), jump("net", "b"), jump("other", "a"), ("POSTROUTING", "-j", "MASQUERADE")]
    assert cni_wiring.stale("net", ["a"], there)[0].chains == (cni_wiring.chain_name("net", "b"),)
    assert cni_wiring.stale("net", ["a", "b"], there) == ()


# ---- in real namespaces ------------------------------------------------------------------------------

IPAM = """#!{python}
import json, os, sys
conf = json.load(sys.stdin)
command, folder = os.environ["CNI_COMMAND"], {folder!r}
with open(folder + "/calls", "a") as calls:
    calls.write(command + "\\n")
if os.path.exists(folder + "/fail-" + command):
    print(json.dumps(dict(cniVersion=conf["cniVersion"], code=11, msg="not now", details="ask later")))
    sys.exit(1)
if command == "ADD":
    last = int(os.environ["CNI_CONTAINERID"][-1]) + 1
    ip = dict(address="10.9.0.%d/24" % last, gateway="10.9.0.1")
    if conf["cniVersion"] < "1.0.0":
        ip["version"] = "4"
    print(json.dumps(dict(cniVersion=conf["cniVersion"], ips=[ip], routes=[dict(dst="0.0.0.0/0")])))
"""


@dataclass
class Runtime:
    """A node and its pods, and the plugin called for them."""

    work: Path

    def __call__(self, command: str, pod: str = "", **keys: Any) -> tuple[int, Any]:
        """Call the plugin; its exit code and what it printed."""
        env = {"CNI_COMMAND": command, "CNI_PATH": str(self.work), "PATH": os.environ["PATH"]}
        if pod:
            env |= {"CNI_CONTAINERID": pod, "CNI_NETNS": f"/run/netns/{pod}", "CNI_IFNAME": "eth0"}
        run = ["nsenter", "--net=/run/netns/node", sys.executable, "-m", "labctl.cni_entry"]
        done = subprocess.run(
            run, input=json.dumps(CONF | keys), capture_output=True, text=True, env=env, cwd=ROOT, timeout=60
        )
        return done.returncode, json.loads(done.stdout) if done.stdout else None

    def add(self, pod: str, **keys: Any) -> Any:
        code, said = self("ADD", pod, **keys)
        assert code == 0, said
        return said

    def ip(self, where: str, words: str) -> str:
        return subprocess.run(["ip", "-n", where, *words.split()], capture_output=True, text=True, check=True).stdout

    def save(self) -> str:
        done = subprocess.run(["ip", "netns", "exec", "node", "iptables-save"], capture_output=True, text=True)
        return "\n".join(row for row in done.stdout.splitlines() if not row.startswith("#"))

    def pings(self, pod: str, address: str) -> bool:
        run = ["ip", "netns", "exec", pod, "ping", "-c1", "-W2", address]
        return subprocess.run(run, stdout=subprocess.DEVNULL).returncode == 0

    def fail(self, command: str) -> None:
        (self.work / f"fail-{command}").touch()

    def calls(self) -> list[str]:
        file = self.work / "calls"
        return file.read_text().split() if file.exists() else []


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    file = tmp_path / "fake-ipam"
    file.write_text(IPAM.format(python=sys.executable, folder=str(tmp_path)))
    file.chmod(0o755)
    names = ("node", "pod1", "pod2", "pod3")
    for name in names:
        subprocess.run(["ip", "netns", "add", name], check=True)
    yield Runtime(tmp_path)
    for name in names:
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


@pytest.mark.root
@pytest.mark.parametrize("shape", [{"isGateway": True}, {"shape": "routed"}], ids=["bridge", "routed"])
@pytest.mark.parametrize("version", SPOKEN)
def test_add_check_delete_and_again(runtime: Runtime, version: str, shape: dict[str, Any]) -> None:
    keys = {"cniVersion": version, "ipMasq": True, "firewall": True, **shape}
    before, links = runtime.save(), runtime.ip("node", "-br link")
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
    assert set(runtime.ip("node", "-br link").split()) - set(links.split()) <= set(
        runtime.ip("node", "-br link show type bridge").split()
    )
    assert not any(row.startswith("-A POSTROUTING") for row in runtime.save().splitlines())
    assert before == "" or before in runtime.save()
    again = runtime.add("pod1", **keys)
    assert [one["name"] for one in again["interfaces"]] == [one["name"] for one in made["pod1"]["interfaces"]]


@pytest.mark.root
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


@pytest.mark.root
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


@pytest.mark.root
def test_a_device_that_is_there_is_an_error_and_costs_no_address(runtime: Runtime) -> None:
    runtime.add("pod1", isGateway=True)
    code, error = runtime("ADD", "pod1", isGateway=True)

    assert (code, error["code"]) == (1, 4)
    assert "eth0 is a device of /run/netns/pod1 already" in error["msg"]
    assert runtime.calls() == ["ADD"]


@pytest.mark.root
def test_a_failed_add_leaves_nothing(runtime: Runtime) -> None:
    subprocess.run(["ip", "-n", "node", "link", "add", "cni0", "type", "veth", "peer", "name", "other"], check=True)
    code, error = runtime("ADD", "pod1", isGateway=True, ipMasq=True)

    assert (code, error["code"]) == (1, 100)
    assert "cni0 is there and is no bridge, but a veth" in error["msg"]
    assert runtime.calls() == ["ADD", "DEL"]
    assert "eth0" not in runtime.ip("pod1", "-br link")
    assert "CNI-" not in runtime.save()


@pytest.mark.root
def test_a_namespace_that_is_not_there_is_an_unknown_container(runtime: Runtime) -> None:
    code, error = runtime("ADD", "pod9", isGateway=True)
    assert (code, error["code"]) == (1, 3)
    Path("/run/netns/pod8").touch()
    try:
        assert runtime("ADD", "pod8", isGateway=True)[1]["code"] == 3
    finally:
        Path("/run/netns/pod8").unlink()


@pytest.mark.root
def test_ipam_speaks_for_itself(runtime: Runtime) -> None:
    runtime.fail("ADD")
    code, error = runtime("ADD", "pod1", isGateway=True)
    assert (code, error["code"], error["msg"], error["details"]) == (1, 11, "fake-ipam: not now", "ask later")
    assert runtime("ADD", "pod1", ipam={"type": "nobody"})[1]["code"] == 5


@pytest.mark.root
def test_status_tells_whether_an_add_can_be_served(runtime: Runtime) -> None:
    assert runtime("STATUS") == (0, None)
    runtime.fail("STATUS")
    code, error = runtime("STATUS")
    assert (code, error["code"], error["msg"]) == (1, 50, "fake-ipam: not now")
    assert runtime("STATUS", ipam={"type": "nobody"})[1]["code"] == 50


@pytest.mark.root
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
    assert runtime.calls()[-1] == "GC"


@pytest.mark.root
def test_pods_that_come_at_once_are_all_wired(runtime: Runtime) -> None:
    env = {"CNI_COMMAND": "ADD", "CNI_PATH": str(runtime.work), "PATH": os.environ["PATH"], "CNI_IFNAME": "eth0"}
    run = ["nsenter", "--net=/run/netns/node", sys.executable, "-m", "labctl.cni_entry"]
    text = json.dumps(CONF | {"isGateway": True, "ipMasq": True})
    calls = []
    for pod in ("pod1", "pod2", "pod3"):
        own = {**env, "CNI_CONTAINERID": pod, "CNI_NETNS": f"/run/netns/{pod}"}
        calls.append(subprocess.Popen(run, stdin=-1, stdout=-1, stderr=-1, text=True, env=own, cwd=ROOT))
    said = [call.communicate(text, 60) for call in calls]

    assert [call.returncode for call in calls] == [0, 0, 0], said
    assert runtime.pings("pod1", "10.9.0.3")
    assert runtime.pings("pod2", "10.9.0.4")
    assert runtime.save().count("-A POSTROUTING") == 3


@pytest.mark.root
def test_a_bridge_keeps_its_address_as_ports_come_and_go(runtime: Runtime) -> None:
    def bridge() -> str:
        return json.loads(runtime.ip("node", "-j link show cni0"))[0]["address"]

    runtime.add("pod1", isGateway=True)
    first = bridge()
    made = runtime.add("pod2", isGateway=True, runtimeConfig={"mac": "02:00:00:00:00:01"}, capabilities={"mac": True})
    runtime("DEL", "pod1", isGateway=True)

    assert bridge() == first
    assert made["interfaces"][2]["mac"] == "02:00:00:00:00:01"
    assert Link(Port(HOST, "cni0"), "bridge").kind == "bridge"


def test_version_needs_nothing() -> None:
    env = {"CNI_COMMAND": "VERSION", "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "-m", "labctl.cni_entry"],
        input='{"cniVersion": "9.9.9"}', capture_output=True, text=True, env=env, cwd=ROOT, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == {"cniVersion": "1.1.0", "supportedVersions": list(SPOKEN)}

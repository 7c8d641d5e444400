"""labctl as a CNI runtime: what plugins receive, in which order, whatever fails; and the labs of real plugins."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labctl.checks import runner
from labctl.errors import KernelError, LabError, MissingError
from labctl.kernel.cni import attachment_records, plugins
from labctl.kernel.firewall import backend
from labctl.kernel.host import lab_state, paths
from labctl.lab import cni_attach, lifecycle
from labctl.render.resources import change_lines
from tests.support import forked
from tests.support.drift import drift
from tests.support.machine import changed, fingerprint
from tests.support.paths import ROOT
from tests.support.plugins import Fake, reason_without

pytestmark = pytest.mark.firewall

TEXT = """
name: fake
model: cni
conflist:
  cniVersion: {version}
  name: n
  plugins:
    - {{type: first, capabilities: {{portMappings: true}}, ipam: {{type: host-local, subnet: "{{pod_cidr}}"}}}}
    - {{type: second, capabilities: {{portMappings: false}}}}
nodes: {{node1: {{pods: {{a: {{host_ports: ["80:80"]}}, b: }}}}, node2: {{pods: [c]}}}}
"""


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    yield
    for name in {*paths.labs(), *lab_state.labs_with_files()}:
        lifecycle.down(name)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    fake_plugins = Fake(tmp_path / "plugins", "first", "second", "host-local")
    monkeypatch.setenv("CNI_PATH", str(fake_plugins.folder))
    return fake_plugins


def define(tmp_path: Path, version: str = "1.1.0") -> lifecycle.Definition:
    file = tmp_path / "fake.yaml"
    file.write_text(TEXT.format(version=version))
    return lifecycle.define(str(file))


def real(*sets: str) -> lifecycle.Definition:
    if reason := reason_without():
        pytest.skip(reason)
    return lifecycle.define("cni", overrides=sets)


# -- what plugins receive ---------------------------------------------------------------------------------


def test_an_up_asks_versions_then_status_then_adds_forward(tmp_path: Path, fake: Fake) -> None:
    lifecycle.up(define(tmp_path))
    said = fake.said()
    assert said[:3] == ["first VERSION", "host-local VERSION", "second VERSION"]
    assert said[3:7] == ["first STATUS", "second STATUS", "first STATUS", "second STATUS"]
    assert said[7:] == [f"{plugin} ADD {pod}" for pod in "abc" for plugin in ("first", "second")]


def test_an_add_has_its_environment_its_input_and_its_namespace(tmp_path: Path, fake: Fake) -> None:
    lifecycle.up(define(tmp_path))
    first, second = fake.calls("ADD")[:2]
    netns = str(paths.netns_path("fake", "a"))
    assert first["env"] == {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": "a",
        "CNI_NETNS": netns,
        "CNI_IFNAME": "eth0",
        "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=a;K8S_POD_INFRA_CONTAINER_ID=a",
        "CNI_PATH": str(fake.folder),
    }
    data = str(lab_state.directory("fake") / "cni/data/node1/host-local")
    assert first["config"] == {
        "type": "first",
        "ipam": {"type": "host-local", "subnet": "10.244.0.0/24", "dataDir": data},
        "cniVersion": "1.1.0",
        "name": "n",
        "runtimeConfig": {"portMappings": [{"hostPort": 80, "containerPort": 80, "protocol": "tcp"}]},
    }
    assert set(second["config"]) == {"type", "cniVersion", "name", "prevResult"}
    assert second["config"]["prevResult"]["dns"] == {"search": ["first"]}
    assert first["ns"] == f"net:[{os.stat(paths.netns_path('fake', 'node1')).st_ino}]"
    assert first["path"].split(":")[0] == str(lab_state.directory("fake") / "bin")
    ranges = {call["env"]["CNI_CONTAINERID"]: call["config"].get("ipam") for call in fake.calls("ADD")[::2]}
    assert ranges["c"]["subnet"] == "10.244.1.0/24"
    assert ranges["c"]["dataDir"].endswith("/node2/host-local")


def test_the_final_result_is_kept_told_and_asked_about(tmp_path: Path, fake: Fake) -> None:
    result = lifecycle.up(define(tmp_path))
    kept = {one.attachment.pod: one.result for one in attachment_records.records("fake")}
    assert kept["a"] is not None
    assert kept["a"]["dns"] == {"search": ["first", "second"]}
    assert [str(one.addresses[0]) for one in result.lab.machines if one.role == "pod"] == ["192.0.2.7"] * 3
    fake.forget()
    report = runner.run(lifecycle.load_compiled_lab("fake"), "CHECK of the plugins")
    assert report.verdict == "pass"
    assert fake.said() == [f"{plugin} CHECK {pod}" for pod in "abc" for plugin in ("first", "second")]
    assert all(call["config"]["prevResult"] == kept[call["env"]["CNI_CONTAINERID"]] for call in fake.calls())


def test_a_check_that_fails_shows_the_plugins_own_words(tmp_path: Path, fake: Fake) -> None:
    lifecycle.up(define(tmp_path))
    fake.script(**{"second CHECK": {"error": {"code": 103, "msg": "it is gone", "details": "all of it"}}})
    outcome = runner.run(lifecycle.load_compiled_lab("fake"), "CHECK of the plugins").outcomes[0]
    assert outcome.verdict == "fail"
    told = "the CNI plugin second CHECK of a/eth0 on node1 failed: it is gone: all of it (code 103)"
    assert outcome.evidence[0] == told


@pytest.mark.parametrize(("version", "reason"), [("0.3.1", "cniVersion 0.3.1 has no CHECK")])
def test_a_version_without_check_is_skipped_with_the_reason(
    tmp_path: Path, fake: Fake, version: str, reason: str
) -> None:
    fake.versions = (version,)
    fake.script()
    lifecycle.up(define(tmp_path, version))
    outcome = runner.run(lifecycle.load_compiled_lab("fake"), "CHECK of the plugins").outcomes[0]
    assert outcome.verdict == "skip"
    assert reason in outcome.evidence[0]
    assert fake.calls("CHECK", "STATUS") == []


def test_a_down_deletes_backward_with_the_result_and_then_collects(tmp_path: Path, fake: Fake) -> None:
    lifecycle.up(define(tmp_path))
    results = {one.attachment.pod: one.result for one in attachment_records.records("fake")}
    fake.forget()
    lifecycle.down("fake")
    deletes = [f"{plugin} DEL {pod}" for pod in "cba" for plugin in ("second", "first")]
    assert fake.said("DEL") == deletes
    assert all(call["config"]["prevResult"] == results[call["env"]["CNI_CONTAINERID"]] for call in fake.calls("DEL"))
    assert fake.said() == [*deletes, *["first GC", "second GC"] * 2]
    assert all(call["config"]["cni.dev/valid-attachments"] == [] for call in fake.calls("GC"))


def test_a_delete_that_fails_is_told_and_keeps_nothing(tmp_path: Path, fake: Fake) -> None:
    lifecycle.up(define(tmp_path))
    fake.forget()
    fake.script(DEL={"error": {"code": 5, "msg": "the disk is full"}}, GC={"say": "what?", "exit": 3})
    told: list[str] = []
    assert len(lifecycle.down("fake", warn=told.append)) == 8
    assert len(told) == 6 + 4
    assert "second DEL of c/eth0 on node2 failed: the disk is full (code 5)" in told[0]
    assert "(exit code 3): it printed nothing" in told[-1]
    assert lab_state.labs_with_files() == ()


def test_without_state_a_down_needs_no_plugin(tmp_path: Path, fake: Fake) -> None:
    lifecycle.up(define(tmp_path))
    fake.forget()
    lab_state.remove_files("fake")
    assert len(lifecycle.down("fake")) == 8
    assert fake.calls() == []


# -- what fails ------------------------------------------------------------------------------------------


def test_an_add_that_fails_is_undone_and_rolls_back(tmp_path: Path, fake: Fake) -> None:
    before = fingerprint()
    fake.script(**{"second ADD": {"error": {"code": 11, "msg": "busy", "details": "with b"}}})
    with pytest.raises(KernelError) as caught:
        lifecycle.up(define(tmp_path))
    assert caught.value.message == "the CNI plugin second ADD of a/eth0 on node1 failed: busy: with b (code 11)"
    assert caught.value.hint == "try again later; it logged: a line that it logged"
    assert fake.said("ADD", "DEL") == ["first ADD a", "second ADD a", "second DEL a", "first DEL a"]
    assert "prevResult" not in fake.calls("DEL")[0]["config"]
    assert paths.labs() == {}
    assert lab_state.labs_with_files() == ()
    assert changed(before, fingerprint()) == {}


def test_a_later_add_that_fails_takes_the_earlier_ones_along(tmp_path: Path, fake: Fake) -> None:
    definition = define(tmp_path)
    text = (fake.folder / "second").read_text()
    (fake.folder / "second").write_text(text.replace('elif command == "ADD"', FAIL_B + 'elif command == "ADD"'))
    with pytest.raises(KernelError, match="of b/eth0"):
        lifecycle.up(definition)
    assert fake.said("DEL") == ["second DEL b", "first DEL b", "second DEL a", "first DEL a"]
    assert "prevResult" in fake.calls("DEL")[-1]["config"]
    assert paths.labs() == {}


FAIL_B = 'elif command == "ADD" and env["CNI_CONTAINERID"] == "b":\n    sys.exit(2)\n'


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"say": "no json"}, "first answered an ADD with an invalid result: this result is not JSON"),
        ({"say": "{}", "exit": 1}, "first ADD of a/eth0 on node1 failed (exit code 1): it printed nothing"),
        ({"say": '{"ips": [{"address": "x"}]}'}, "an invalid result"),
    ],
)
def test_nonsense_of_a_plugin_is_told_as_such(tmp_path: Path, fake: Fake, answer: dict[str, Any], told: str) -> None:
    fake.script(**{"first ADD": answer})
    with pytest.raises(KernelError) as caught:
        lifecycle.up(define(tmp_path))
    assert told in caught.value.message
    assert paths.labs() == {}


def test_a_status_that_complains_comes_before_any_add(tmp_path: Path, fake: Fake) -> None:
    fake.script(**{"second STATUS": {"error": {"code": 50, "msg": "no daemon"}}})
    with pytest.raises(KernelError, match=r"second STATUS on node1 failed: no daemon \(code 50\)") as caught:
        lifecycle.up(define(tmp_path))
    assert "cannot serve an ADD now" in caught.value.hint
    assert fake.calls("ADD") == []
    assert paths.labs() == {}


def test_a_plugin_that_is_not_here_or_too_old_stops_everything_before(
    tmp_path: Path, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.script(VERSION={"versions": ["0.3.1", "0.4.0"]})
    with pytest.raises(MissingError) as old:
        lifecycle.up(define(tmp_path))
    assert "first does not support cniVersion 1.1.0, only 0.3.1, 0.4.0" in old.value.message
    (fake.folder / "host-local").unlink()
    with pytest.raises(MissingError) as gone:
        lifecycle.up(define(tmp_path))
    assert gone.value.hint == "apt-get install containernetworking-plugins"
    monkeypatch.setenv("CNI_PATH", "/nowhere")
    with pytest.raises(MissingError) as nowhere:
        lifecycle.up(lifecycle.define("cni"))
    assert nowhere.value.code == 4
    assert "'bridge' (searched /nowhere)" in nowhere.value.message
    assert paths.labs() == {}
    assert lab_state.labs_with_files() == ()


def test_the_scenarios_own_path_comes_first(tmp_path: Path, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNI_PATH", "/nowhere")
    file = tmp_path / "fake.yaml"
    file.write_text(TEXT.format(version="1.1.0") + f"cni_path: /none:{fake.folder}\n")
    lifecycle.up(lifecycle.define(str(file)))
    assert fake.calls("ADD")[0]["env"]["CNI_PATH"] == f"/none:{fake.folder}"


# -- what is there already --------------------------------------------------------------------------------


def test_a_second_up_calls_nothing_but_version(tmp_path: Path, fake: Fake) -> None:
    definition = define(tmp_path)
    lifecycle.up(definition)
    fake.forget()
    assert lifecycle.up(definition).changes == ()
    assert fake.calls("ADD", "DEL", "GC", "STATUS") == []


def test_a_pod_that_lost_its_namespace_is_attached_anew_and_nobody_else(tmp_path: Path, fake: Fake) -> None:
    definition = define(tmp_path)
    lifecycle.up(definition)
    fake.forget()
    subprocess.run(["ip", "netns", "del", paths.netns_name("fake", "b")], check=True)
    assert any("missing attachment eth0 to node1" in line for line in drift("fake"))
    lifecycle.up(definition)
    order = ["second DEL b", "first DEL b", "first GC", "second GC", "first STATUS", "second STATUS"]
    assert fake.said()[3:] == [*order, "first ADD b", "second ADD b"]
    assert fake.calls("GC")[0]["config"]["cni.dev/valid-attachments"] == [{"containerID": "a", "ifname": "eth0"}]
    assert drift("fake") == []


def test_a_repair_that_fails_keeps_what_is_there(tmp_path: Path, fake: Fake) -> None:
    definition = define(tmp_path)
    lifecycle.up(definition)
    subprocess.run(["ip", "netns", "del", paths.netns_name("fake", "b")], check=True)
    fake.script(**{"first ADD": {"error": {"code": 11, "msg": "busy"}}})
    fake.forget()
    with pytest.raises(KernelError, match="busy"):
        lifecycle.up(definition)
    assert fake.said("ADD", "DEL")[-3:] == ["first ADD b", "second DEL b", "first DEL b"]
    left = drift("fake")
    assert len(left) == 1
    assert "missing attachment eth0 to node1" in left[0]
    fake.script()
    fake.forget()
    lifecycle.up(definition)
    assert fake.said("ADD") == ["first ADD b", "second ADD b"]
    assert drift("fake") == []


UNREADABLE = {
    "empty": "",
    "a list": "[]",
    "a number": '{"attachment": 5}',
    "deep": "[" * 9999,
    "lost": None,
    "a pipe": None,
}


@pytest.mark.parametrize("damage", UNREADABLE)
def test_an_attachment_whose_record_cannot_be_read_is_attached_again(tmp_path: Path, fake: Fake, damage: str) -> None:
    definition = define(tmp_path)
    lifecycle.up(definition)
    file = lab_state.directory("fake") / "cni/attachments/b.eth0.json"
    file.unlink()
    if damage == "a pipe":
        os.mkfifo(file)
    elif (text := UNREADABLE[damage]) is not None:
        file.write_text(text)
    fake.forget()
    assert [line.split(" by ")[0] for line in drift("fake")] == ["missing attachment eth0 to node1"]
    lifecycle.up(definition)
    assert fake.said("DEL", "ADD") == ["second DEL b", "first DEL b", "first ADD b", "second ADD b"]
    assert "prevResult" not in fake.calls("DEL")[0]["config"]
    assert drift("fake") == []


def test_an_address_whose_record_cannot_be_read_is_released_before_it_is_asked_for_again() -> None:
    definition = real("conflist.plugins.0.capabilities.ips=true", "nodes.node1.pods.b.ips=[10.244.0.77]")
    lifecycle.up(definition)
    (lab_state.directory("cni") / "cni/attachments/b.eth0.json").write_text("{")
    lifecycle.up(definition)
    assert drift("cni") == []
    assert runner.run(lifecycle.load_compiled_lab("cni")).verdict == "pass"


def test_a_list_whose_plugins_create_no_device_is_an_error(tmp_path: Path, fake: Fake) -> None:
    result = {"cniVersion": "1.1.0", "ips": [{"address": "192.0.2.7/24"}]}
    fake.script(ADD={"say": json.dumps(result)})
    with pytest.raises(KernelError, match=re.escape("the list n (first, host-local, second) gives a no eth0")):
        lifecycle.up(define(tmp_path))
    assert fake.said("DEL") == ["second DEL a", "first DEL a"]
    assert paths.labs() == {}


def test_an_error_that_a_plugin_also_logs_is_printed_once(tmp_path: Path, fake: Fake) -> None:
    fake.script(ADD={"error": {"code": 7, "msg": "a line that it logged"}})
    with pytest.raises(KernelError) as caught:
        lifecycle.up(define(tmp_path))
    assert "a line that it logged (code 7)" in caught.value.message
    assert "a line that it logged" not in caught.value.hint
    fake.script(ADD={"error": {"code": 7, "msg": "no"}})
    with pytest.raises(KernelError) as caught:
        lifecycle.up(define(tmp_path))
    assert "it logged: a line that it logged" in caught.value.hint


CRASH = """
import sys
from labctl.lab import lifecycle
lifecycle.up(lifecycle.define(sys.argv[1]))
"""


@pytest.mark.parametrize("mend", [False, True])
@pytest.mark.parametrize("where", ["first ADD", "second ADD"])
def test_after_a_crash_in_an_add_down_removes_and_up_mends(tmp_path: Path, fake: Fake, where: str, mend: bool) -> None:
    define(tmp_path)
    fake.script(**{where: {"kill": True}})
    done = subprocess.run([sys.executable, "-c", CRASH, str(tmp_path / "fake.yaml")], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    assert [one.result for one in attachment_records.records("fake")] == [None]
    fake.script()
    fake.forget()
    if mend:
        lifecycle.up(define(tmp_path))
        assert fake.said("ADD", "DEL")[:4] == ["second DEL a", "first DEL a", "first ADD a", "second ADD a"]
        assert drift("fake") == []
        return
    lifecycle.down("fake")
    assert fake.said("DEL") == ["second DEL a", "first DEL a"]
    assert paths.labs() == {}
    assert lab_state.labs_with_files() == ()


def test_after_a_crash_in_a_repair_nothing_is_believed_and_all_are_attached_anew(tmp_path: Path, fake: Fake) -> None:
    definition = define(tmp_path)
    lifecycle.up(definition)
    subprocess.run(["ip", "netns", "del", paths.netns_name("fake", "b")], check=True)
    fake.script(**{"second ADD": {"kill": True}})
    done = subprocess.run([sys.executable, "-c", CRASH, str(tmp_path / "fake.yaml")], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    fake.script()
    fake.forget()
    lifecycle.up(definition)
    assert fake.said("ADD") == [f"{plugin} ADD {pod}" for pod in "abc" for plugin in ("first", "second")]
    assert drift("fake") == []


def test_plugins_never_run_in_the_machines_own_namespace(tmp_path: Path, fake: Fake) -> None:
    lifecycle.up(define(tmp_path))
    subprocess.run(["ip", "netns", "del", paths.netns_name("fake", "node2")], check=True)
    lifecycle.down("fake")
    assert len(fake.calls("VERSION", "DEL", "GC", "STATUS")) > 12
    assert os.readlink("/proc/self/ns/net") not in {call["ns"] for call in fake.calls()}


# -- real plugins -------------------------------------------------------------------------------------------


def test_the_plugins_own_refusal_is_shown_and_nothing_is_left() -> None:
    before = fingerprint()
    with pytest.raises(LabError) as caught:
        lifecycle.up(real("conflist.plugins.0.promiscMode=true"))
    assert "bridge ADD of a/eth0 on node1 failed: cannot set hairpin mode and promiscuous mode" in caught.value.message
    assert paths.labs() == {}
    assert changed(before, fingerprint()) == {}


def test_a_ptp_chain_of_five_plugins_holds_the_laws_and_its_check() -> None:
    chain = (
        "[{type: ptp, capabilities: {ipRanges: true, ips: true},"
        "  ipam: {type: host-local, routes: [{dst: 0.0.0.0/0}]}},"
        " {type: firewall, backend: iptables}, {type: portmap, backend: iptables, capabilities: {portMappings: true}},"
        " {type: tuning, sysctl: {net.ipv4.conf.eth0.rp_filter: '2'}}]"
    )
    definition = real(f"conflist.plugins={chain}", "nodes.node1.pods.b.ips=[10.244.0.77]", "checks=[]")
    result = lifecycle.up(definition)
    machine = result.lab.machine("b")
    assert machine is not None
    assert [str(ip) for ip in machine.addresses] == ["10.244.0.77"]
    assert drift("cni") == []
    assert lifecycle.up(definition).changes == ()
    report = runner.run(lifecycle.load_compiled_lab("cni"))
    assert report.verdict == "pass", [one.evidence for one in report.outcomes]
    trace = [forked.labctl_program(), "trace", "-l", "cni", "a", "b"]  # it knows the plugins' addresses, too
    told = subprocess.run(trace, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr


ENTRY = """#!{python} -Xpycache_prefix={cache}
import sys
sys.path.insert(0, {root!r})
from labctl.cni_plugin.main import main
sys.exit(main())
"""


@pytest.mark.parametrize("on_path", [True, False])
def test_labctl_is_the_runtime_and_the_plugin_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_path: bool
) -> None:
    ipam = "{type: host-local, subnet: {pod_cidr}, routes: [{dst: 0.0.0.0/0}]}"
    chain = f"[{{type: labctl-cni, shape: routed, ipam: {ipam}}}]"
    real()
    entry = tmp_path / "labctl-cni"
    if on_path:
        entry.symlink_to(forked.cni_plugin_program())
        monkeypatch.setenv("CNI_PATH", f"{tmp_path}:{plugins.search_path()}")
    else:  # a real start
        cache = sys.pycache_prefix or tmp_path / "cache"
        entry.write_text(ENTRY.format(python=sys.executable, cache=cache, root=str(ROOT)))
        entry.chmod(0o755)
    monkeypatch.setattr(plugins, "_own_folder", lambda: "/nowhere" if on_path else str(tmp_path))
    alone = ("nodes={node1: {pods: [a, b]}, node2: {pods: [c]}}", "checks=[]")
    definition = real(f"conflist.plugins={chain}", *alone)
    lifecycle.up(definition)
    assert drift("cni") == []
    report = runner.run(lifecycle.load_compiled_lab("cni"))
    assert report.verdict == "pass", [one.evidence for one in report.outcomes]
    subprocess.run(["ip", "netns", "del", paths.netns_name("cni", "a")], check=True)
    lifecycle.up(definition)
    assert drift("cni") == []
    told: list[str] = []
    lifecycle.down("cni", warn=told.append)
    assert told == []


def test_a_node_that_is_gone_is_wired_again_as_a_whole() -> None:
    definition = real()
    lifecycle.up(definition)
    assert attachment_records.lost_nodes("cni") == set()
    subprocess.run(["ip", "netns", "del", paths.netns_name("cni", "node1")], check=True)
    assert attachment_records.lost_nodes("cni") == {"node1"}
    lifecycle.up(definition)
    assert attachment_records.lost_nodes("cni") == set()
    assert drift("cni") == []
    assert runner.run(lifecycle.load_compiled_lab("cni")).verdict == "pass"
    kept = json.loads((lab_state.directory("cni") / "definition.json").read_text())
    told = {one["name"]: one["addresses"] for one in kept["machines"]}
    machine = cni_attach.with_pod_addresses(lifecycle.load_compiled_lab("cni")).machine("a")
    assert machine is not None
    assert told["a"] == [str(ip) for ip in machine.addresses]
    assert told["a"] != ["10.244.0.2"]


def test_drift_elsewhere_is_not_taken_for_something_that_a_plugin_made() -> None:
    definition = real()
    lifecycle.up(definition)
    iptables = f"iptables-{backend.backend_of('cni')}"
    for node, words in (
        ("node1", "ip route add 10.9.0.0/16 dev cni0"),
        ("node1", f"{iptables} -t nat -A CNI-HOSTPORT-DNAT -j RETURN"),
        ("node1", f"{iptables} -t nat -D PREROUTING 1"),
        ("a", "ip route del default"),
    ):
        subprocess.run(["ip", "netns", "exec", paths.netns_name("cni", node), *words.split()], check=True)
    subprocess.run(["ip", "netns", "del", paths.netns_name("cni", "b")], check=True)
    told = {line for change in lifecycle.up(definition).changes for line in change_lines(change)}
    assert {"extra route 10.9.0.0/16 dev cni0", "missing route default via 10.244.0.1 dev eth0"} <= told
    assert "extra iptables -t nat -A CNI-HOSTPORT-DNAT -j RETURN" in told
    assert drift("cni") == []
    found = subprocess.run(
        ["ip", "netns", "exec", paths.netns_name("cni", "node1"), "sh", "-c", f"ip route; {iptables} -t nat -S"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "10.9.0.0/16" not in found
    assert "-A CNI-HOSTPORT-DNAT -j RETURN" not in found
    assert runner.run(lifecycle.load_compiled_lab("cni")).verdict == "pass"


def test_a_list_in_a_file_is_kept_with_the_lab(tmp_path: Path, fake: Fake) -> None:
    plugins = [{"type": "first"}, {"type": "second"}]
    (tmp_path / "net.conflist").write_text(json.dumps({"cniVersion": "1.1.0", "name": "n", "plugins": plugins}))
    file = tmp_path / "filed.yaml"
    file.write_text("name: filed\nmodel: cni\nconflist: net.conflist\nnodes: {node1: {pods: [a]}}\n")
    lifecycle.up(lifecycle.define(str(file)))
    (tmp_path / "net.conflist").unlink()
    assert drift("filed") == []
    assert runner.run(lifecycle.load_compiled_lab("filed"), "CHECK of the plugins").verdict == "pass"
    lifecycle.down("filed")
    assert fake.said("DEL") == ["second DEL a", "first DEL a"]


def test_a_lost_record_is_mended_by_attaching_all_anew() -> None:
    definition = real()
    lifecycle.up(definition)
    lab_state.remove_files("cni")
    lifecycle.up(definition)
    assert drift("cni") == []
    assert runner.run(lifecycle.load_compiled_lab("cni")).verdict == "pass"

"""No verb enters the machine's own network namespace, also if a lab's name is bound to it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import labctl
from labctl.cli.app import VERBS
from labctl.core.resources import Attachment
from labctl.errors import KernelError
from labctl.kernel.cni import attachment_records
from labctl.kernel.host import paths
from labctl.kernel.namespaces.entry import is_lab_netns
from labctl.kernel.namespaces.thread import MNT_DETACH, MS_BIND, NetnsThread, mount, umount
from tests.support import forked
from tests.support.cni_node import environment
from tests.support.machine import changed, fingerprint
from tests.support.page_server import IS_BUILT
from tests.support.paths import ROOT

LAB, NODE = "own-k", "node1"
REFUSAL = f"labctl.{LAB}.{NODE} is the machine's own network namespace, not a lab's"
KERNEL_REFUSED = 3
# every verb, with arguments that let it reach the node, and its exit code
REACHES: dict[str, tuple[list[str], int]] = {
    "up": ([str(ROOT / "scenarios/kubenet.yaml"), "--name", LAB], KERNEL_REFUSED),
    "status": ([], KERNEL_REFUSED),
    "check": ([], KERNEL_REFUSED),
    "exec": ([NODE, "--", "true"], KERNEL_REFUSED),
    "shell": ([NODE], KERNEL_REFUSED),
    "show": ([NODE], KERNEL_REFUSED),
    "trace": (["a", "c"], KERNEL_REFUSED),
    "capture": ([NODE, "--count", "1"], KERNEL_REFUSED),
    "view": ([], KERNEL_REFUSED),
    "break": (["route-missing", NODE], KERNEL_REFUSED),
    "policy": (["why", "a", "c", "--tcp", "80"], 0),  # it asks the definition
    "graph": ([], KERNEL_REFUSED),  # it compares the lab with the kernel, as status does
    "explain": ([NODE], 0),  # it explains the definition
    "fix": ([], 0),  # the lab has no fault
    "class": (["board"], 0),
    "exercise": (["list"], 0),  # it reads records; the verbs of an exercise use the functions of the others
    "learn": ([], 0),  # it reads records; the steps of a lesson use the functions of the others
    "list": ([], 0),
}
NEEDS_PAGE = {"view"}  # a machine without a network could not build it: scripts/build-view
# these are about no running lab; `down` has a separate test, since it ends the lab
ABOUT_NO_LAB = {"plan", "handout", "validate", "schema", "doctor", "compare", "run"}


def labctl_program(*words: str) -> subprocess.CompletedProcess[str]:
    command = [forked.labctl_program(), *words]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)


@pytest.fixture(scope="module")
def bound() -> Iterator[Path]:
    """A lab with a node whose name is bound to the namespace of the tests, which is the machine's own for them."""
    labctl.up("kubenet", name=LAB)
    name = paths.netns_path(LAB, NODE)
    umount(str(name), MNT_DETACH)
    mount("/proc/self/ns/net", str(name), None, MS_BIND)
    yield name
    labctl.down(LAB)
    assert not name.exists()


def test_every_verb_is_here() -> None:
    assert {*VERBS} == {*REACHES, *ABOUT_NO_LAB, "down"}


@pytest.mark.parametrize("verb", REACHES)
def test_a_verb_refuses_it_and_changes_nothing(bound: Path, verb: str) -> None:
    if verb in NEEDS_PAGE and not IS_BUILT:
        pytest.skip("the page is not built: scripts/build-view builds it")
    words, code = REACHES[verb]
    before = fingerprint()
    done = labctl_program("-l", LAB, verb, *words)

    assert changed(before, fingerprint()) == {}
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    if code:
        assert REFUSAL in done.stderr
        assert f"umount {bound} && rm {bound}" in done.stderr


def test_the_interface_for_programs_refuses_it(bound: Path) -> None:
    before, lab = fingerprint(), labctl.RunningLab(LAB)
    for reach in (
        lambda: lab[NODE].run("true"),
        lambda: lab[NODE].start("true"),
        lambda: lab.trace("a", "c"),
        lambda: lab.check(),
        lambda: lab.status(),
    ):
        with pytest.raises(KernelError, match="is the machine's own network namespace"):
            reach()
    assert changed(before, fingerprint()) == {}


def test_the_thread_that_enters_refuses_a_path_and_a_descriptor(bound: Path) -> None:
    assert not is_lab_netns(bound)
    fd = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        with NetnsThread() as thread:
            for netns in (bound, str(bound), fd):
                with pytest.raises(KernelError, match="machine's own network namespace"):
                    thread.run(netns, pytest.fail, "entered")
    finally:
        os.close(fd)


def test_a_plugin_is_not_called_for_a_container_that_is_the_host(bound: Path) -> None:
    run = [forked.cni_plugin_program()]
    given = {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": "c1",
        "CNI_NETNS": str(bound),
        "CNI_IFNAME": "lo",
        "CNI_PATH": "/nowhere",
    }
    before = fingerprint()
    conf = '{"cniVersion": "1.0.0", "name": "n", "type": "labctl-cni", "ipam": {"type": "host-local"}}'
    done = subprocess.run(
        run, input=conf, capture_output=True, text=True, env={**environment(), **given}, cwd=ROOT, timeout=60
    )

    assert changed(before, fingerprint()) == {}
    assert done.returncode == 1, done.stdout
    assert f"CNI_NETNS {bound} is the namespace that the plugin is called in" in done.stdout


def test_a_command_in_a_node_reads_the_lab(bound: Path) -> None:
    """There, the process's own namespace is the node's."""
    labctl.up("kubenet", name="own-s")
    try:
        run = [sys.executable, "-m", "labctl"]
        done = labctl_program("-l", "own-s", "exec", NODE, "--", *run, "-l", "own-s", "status")
        assert (done.returncode, done.stderr) == (0, "")
        done = labctl_program("-l", "own-s", "exec", NODE, "--", *run, "-l", LAB, "status")
        assert done.returncode == KERNEL_REFUSED
        assert REFUSAL in done.stderr
    finally:
        labctl.down("own-s")


def test_a_plugin_of_a_lab_gets_neither_as_node_nor_as_pod(tmp_path: Path) -> None:
    """`down` calls DEL; the plugin would remove the device `eth0` of the machine."""
    seen, plugin = tmp_path / "seen", tmp_path / "spy"
    plugin.write_text(f'#!/bin/sh\ncat > /dev/null\necho "[$CNI_NETNS] $(readlink /proc/self/ns/net)" >> {seen}\n')
    plugin.chmod(0o755)
    labctl.up(write_scenario(tmp_path), name="own-c")
    conflist = '{"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "spy"}]}'
    item = Attachment(pod="pod", node="node", conflist=conflist, path=str(tmp_path))
    record = attachment_records.new_record("own-c", item, str(tmp_path))
    attachment_records.save_record("own-c", attachment_records.complete_record(record, {"cniVersion": "1.0.0"}))
    for name in ("node", "pod"):
        umount(str(paths.netns_path("own-c", name)), MNT_DETACH)
        mount("/proc/self/ns/net", str(paths.netns_path("own-c", name)), None, MS_BIND)
    before = fingerprint()
    assert labctl_program("down", "own-c").returncode == 0

    netns, namespace = seen.read_text().split()
    assert netns == "[]"
    assert namespace != os.readlink("/proc/self/ns/net")
    assert {name for name in changed(before, fingerprint()) if name != "mounts"} == set()
    assert "own-c" not in paths.labs()


def write_scenario(folder: Path) -> Path:
    file = folder / "two.yaml"
    file.write_text("{model: raw, namespaces: [node, pod]}")
    return file


def test_down_removes_the_lab_and_leaves_the_namespace(bound: Path) -> None:
    bystander = subprocess.Popen(["sleep", "60"])
    before = fingerprint()
    try:
        done = labctl_program("down", LAB)
        assert (done.returncode, paths.labs()) == (0, {})
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()
    assert {name for name in changed(before, fingerprint()) if name != "mounts"} == set()


@pytest.mark.parametrize("kind", ["uts", "ipc"])
def test_a_namespace_of_another_kind_is_refused_by_its_kind(kind: str) -> None:
    labctl.up("kubenet", name=LAB)
    name = paths.netns_path(LAB, NODE)
    umount(str(name), MNT_DETACH)
    holder = subprocess.Popen(["unshare", f"--{kind}", "sleep", "60"])
    try:
        mount(f"/proc/{holder.pid}/ns/{kind}", str(name), None, MS_BIND)
        for verb in REACHES.keys() - (set() if IS_BUILT else NEEDS_PAGE):
            words, code = REACHES[verb]
            done = labctl_program("-l", LAB, verb, *words)
            assert done.returncode == code, (verb, done.stderr)
            assert "Traceback" not in done.stderr
            if code:
                assert "namespace, not a network one" in done.stderr, verb
    finally:
        holder.kill()
        holder.wait()
        assert labctl_program("down", LAB).returncode == 0
    assert not name.exists()

"""Labs without root: built, proven and taken down by a user, in namespaces that end with the last lab."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from labctl.kernel import rootless
from labctl.kernel.host import paths
from tests.support.page_server import IS_BUILT, PageServer
from tests.support.person import Person


def test_a_lab_without_root_from_its_first_packet_to_its_end(person: Person) -> None:
    before = paths.labs()
    up = person.types("up", "kubenet", "--check", "--json")
    assert up.returncode == 0, up.stdout + up.stderr
    assert json.loads(up.stdout)["check"]["verdict"] == "pass", up.stdout
    assert paths.labs() == before  # nothing of it is here

    holder = person.holder
    assert holder is not None
    assert person.document("status")["drift"] is False
    assert person.document("up", "kubenet")["changes"] == []
    assert person.types("exec", "a", "--", "ping", "-c", "1", "c").returncode == 0
    assert person.types("exec", "a", "--", "sh", "-c", "exit 7").returncode == 7
    assert "MASQUERADE" in person.types("exec", "node1", "--", "iptables", "-t", "nat", "-S").stdout
    assert person.document("trace", "a", "internet")["verdict"] == "answered"
    assert person.holder == holder

    assert person.types("down").returncode == 0
    assert person.holder is None
    assert person.document("list")["labs"] == []
    assert person.holder is None


@pytest.mark.parametrize("words", ["docker-bridge", "pods", "kubenet --firewall nft"])
def test_containers_and_pods_need_no_root_either(person: Person, words: str) -> None:
    up = person.types("up", *words.split(), "--check", "--json")

    assert up.returncode == 0, up.stdout + up.stderr
    assert json.loads(up.stdout)["check"]["verdict"] == "pass", up.stdout
    assert person.document("status")["drift"] is False


def test_a_trace_without_root_reports_the_rules_of_nft(person: Person) -> None:
    assert person.types("up", "kubenet", "--firewall", "nft").returncode == 0

    assert "nat/IP-MASQ-AGENT rule 2: -j MASQUERADE" in person.types("trace", "a", "internet").stdout


def test_a_drawing_without_root_has_what_differs(person: Person) -> None:
    assert person.types("up", "docker-bridge").returncode == 0
    assert "compared with the kernel: no difference" in person.types("graph").stdout

    assert person.types("exec", "c1", "--", "ip", "route", "del", "default").returncode == 0
    assert "dev eth0 (missing)" in person.types("graph").stdout


@pytest.mark.skipif(not IS_BUILT, reason="the page is not built: scripts/build-view builds it")
def test_the_page_of_a_lab_without_root_is_on_the_loopback_of_its_user(person: Person, tmp_path: Path) -> None:
    assert person.types("up", "kubenet").returncode == 0
    command = (*person.prefix, sys.executable, "-m", "labctl", "--rootless")
    with PageServer(tmp_path / "static", command=command, environment=person.environment()) as server:
        assert server.post("trace", **{"from": "a", "to": "internet"})[1]["verdict"] == "answered"
        with server.events() as events:
            events.wait("state")
            assert person.types("exec", "node1", "--", "ip", "link", "set", "eth0", "mtu", "1400").returncode == 0
            assert events.wait("drift")[0]["device"] == "node1/eth0"
            assert person.types("down").returncode == 0
            events.wait("end")
        assert person.holder is not None  # the server is still inside
        assert server.stop() == (0, "")
    assert person.holder is None


def test_the_namespaces_stay_while_anybody_is_inside(person: Person) -> None:
    assert person.types("up", "docker-bridge").returncode == 0
    with (person.folder / "labctl/guests").open() as guests:
        fcntl.flock(guests, fcntl.LOCK_SH)
        assert person.types("down").returncode == 0
        assert person.holder is not None
    assert person.types("list").returncode == 0
    assert person.holder is None


def test_what_a_killed_holder_leaves_ends_with_the_next_run(person: Person) -> None:
    assert person.types("up", "pods").returncode == 0
    assert len(living(person)) > 3, "its holder, and the pods' sandboxes and containers"
    assert person.holder is not None
    os.kill(person.holder, signal.SIGKILL)

    listed = person.types("list")

    assert listed.stdout == "no lab runs; start one: labctl --rootless up kubenet\n"
    assert living(person) == []
    assert person.types("up", "pods", "--check").returncode == 0
    assert person.types("down").returncode == 0
    assert living(person) == []


def living(person: Person) -> list[int]:
    """The processes in somebody's namespaces."""
    folder = person.folder / "labctl"
    return [int(path.name) for path in Path("/proc").glob("[0-9]*") if rootless._is_in_holder(int(path.name), folder)]


def test_what_to_type_is_told_as_it_is_typed_there(person: Person) -> None:
    refused = person.types("status")

    assert (refused.returncode, "start one: labctl --rootless up kubenet" in refused.stderr) == (2, True)


def test_completion_knows_the_labs_without_root(person: Person) -> None:
    assert person.types("up", "docker-bridge").returncode == 0
    words = {"COMP_WORDS": "labctl --rootless exec c", "COMP_CWORD": "3", "_LABCTL_COMPLETE": "bash_complete"}
    assert person.types(**words).stdout.split() == ["plain,c1", "plain,c2"]
    assert person.types("down").returncode == 0
    assert person.types(**words).stdout.split() == []


def test_where_users_get_no_namespaces_one_sentence_says_so(person: Person, tmp_path: Path) -> None:
    fake = person.folder / "unshare"
    fake.write_text("#!/bin/sh\necho 'unshare: unshare failed: Operation not permitted' >&2\nexit 1\n")
    fake.chmod(0o755)

    refused = person.types("up", "kubenet", PATH=f"{person.folder}:{os.environ['PATH']}")

    assert refused.returncode == 4
    assert refused.stdout == ""
    assert "users create namespaces: unshare: unshare failed: Operation not permitted" in refused.stderr
    assert "hint:" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_folder_that_is_somebody_elses_is_not_used(person: Person) -> None:
    own = person.folder / "labctl"
    own.mkdir()
    os.chown(own, 4711, 4711)

    refused = person.types("list")

    assert (refused.returncode, "must belong to this user alone" in refused.stderr) == (4, True), refused.stderr

"""Labs without root: built, proven and taken down by a user, in namespaces that end with the last lab."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from labctl.kernel import rootless
from labctl.kernel.host import paths
from tests.support.paths import ROOT

USER = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


class Person:
    """Somebody who types `labctl --rootless ...`, and the folder that is theirs."""

    def __init__(self, folder: Path, prefix: tuple[str, ...]) -> None:
        self.folder, self.prefix = folder, prefix

    def environment(self, **more: str) -> dict[str, str]:
        names = ("PATH", "LANG", "PYTHONPYCACHEPREFIX")
        own = {name: os.environ[name] for name in names if name in os.environ and not self.prefix}
        own.setdefault("PATH", os.environ.get("PATH", os.defpath))
        return {**own, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(self.folder),
                "XDG_RUNTIME_DIR": str(self.folder), **more}  # fmt: skip

    def types(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        command = [*self.prefix, sys.executable, "-m", "labctl", "--rootless", *words]
        own = self.environment(**more)
        return subprocess.run(
            command, capture_output=True, text=True, timeout=90, env=own, cwd=self.folder, check=False
        )

    def document(self, *words: str) -> dict[str, object]:
        done = self.types(*words, "--json")
        found: dict[str, object] = json.loads(done.stdout)
        return found

    @property
    def holder(self) -> int | None:
        """The process that keeps the namespaces, if it lives."""
        try:
            pid = int((self.folder / "labctl/holder").read_text())
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
        except OSError:
            return None
        return pid if state != "Z" else None


@pytest.fixture(params=["root", "nobody"])
def person(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Person]:
    """Root, which has the same rights in a user namespace as a user; and a user, if it may read all files here."""
    folder, prefix = tmp_path / "own", ()
    if request.param == "nobody":
        prefix = USER
        if shutil.which("setpriv") is None:
            pytest.skip("no setpriv here, to become nobody with")
        if subprocess.run([*USER, sys.executable, "-c", f"open({__file__!r})"], capture_output=True).returncode:
            pytest.skip("nobody may read the source tree or its Python here")
        folder = Path(f"/run/netns/of-nobody-{os.getpid()}")  # a folder that the user cannot reach otherwise
    folder.mkdir()
    if prefix:
        os.chown(folder, 65534, 65534)
    someone = Person(folder, prefix)
    yield someone
    someone.types("down", "--all")
    left = someone.holder
    shutil.rmtree(folder)
    assert left is None


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


PROGRAM = """
import labctl
with labctl.up("docker-bridge") as lab:
    print(lab.check().verdict, *lab.trace("c1", "c2").hops)
"""


def test_a_program_of_ones_own_runs_in_the_namespaces_that_the_page_makes(person: Person) -> None:
    page = (ROOT / "docs/rootless.md").read_text()
    command = page.partition("## Your own program")[2].partition("```sh\n")[2].partition("```")[0]
    assert command.endswith("python3 program.py\n")
    own = shlex.join([sys.executable, "-c", PROGRAM])
    words = [*person.prefix, "sh", "-c", command.replace("python3 program.py", own)]
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=90, env=person.environment(), cwd=person.folder, check=False
    )

    assert (done.returncode, done.stdout) == (0, "pass c1 host1 c2\n"), done.stderr

"""The Python API on running labs: build, query, follow and remove them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import labctl
from labctl import api
from labctl.kernel.host import lab_state, paths
from tests.support.scenarios import MINI

pytestmark = pytest.mark.firewall

VERBS = ("check", "down", "load", "plan", "trace", "up")


# ---- running labs ----------------------------------------------------------------------------------------


@pytest.fixture
def clean() -> Iterator[None]:
    assert paths.labs() == {}
    yield
    for name in paths.labs():
        labctl.down(name)


@pytest.fixture(scope="module")
def lab() -> Iterator[labctl.RunningLab]:
    with labctl.up("kubenet", name="api") as made:
        yield made
    assert paths.labs() == {}


def test_a_lab_lives_as_long_as_its_context(clean: None) -> None:
    with pytest.raises(ZeroDivisionError), labctl.up("kubenet", set={"routing": "host"}) as made:  # noqa: PT012
        assert made.name == "kubenet"
        assert made.result is not None
        assert made.result.created
        assert made.status() == ()
        assert labctl.RunningLab().nodes == made.nodes
        again = labctl.up("kubenet", set={"routing": "host"})
        assert again.result is not None
        assert again.result.changes == ()
        with pytest.raises(labctl.UsageError, match="another definition"):
            labctl.up("kubenet")
        raise ZeroDivisionError
    assert paths.labs() == {}
    assert lab_state.labs_with_files() == ()
    assert made.down() == ()
    with pytest.raises(labctl.UsageError, match="no lab runs"):
        labctl.RunningLab()


def test_a_lab_whose_record_is_lost_still_runs_commands_and_goes_down(clean: None) -> None:
    made = labctl.up(MINI)
    lab_state.remove_files("mini")
    found = labctl.RunningLab("mini")

    assert found["c1"].run("true").ok
    with pytest.raises(labctl.UsageError, match="is lost"):
        found.check()
    assert set(found.down()) == set(made.nodes) | {"c1", "c2", "host1", "internet"}
    with pytest.raises(labctl.UsageError, match="the lab is down"):
        made["c1"]


def test_the_command_line_goes_through_it(clean: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from labctl.cli import main

    called: list[str] = []
    for verb in VERBS:
        real = getattr(api, verb)

        def noted(*args: object, _verb: str = verb, _real: object = real, **words: object) -> object:
            called.append(_verb)
            return _real(*args, **words)  # type: ignore[operator]

        monkeypatch.setattr(api, verb, noted)
    for words in ("up kubenet --check", "check -k reach", "trace a b", "down", "validate kubenet"):
        assert main(words.split()) == 0

    assert list(dict.fromkeys(called)) == ["load", "up", "check", "trace", "down"]


def test_its_machines_are_found_by_name(lab: labctl.RunningLab) -> None:
    assert set(lab.nodes) == {"a", "b", "c", "fabric", "internet", "node1", "node2", "vm"}
    assert list(lab) == list(lab.nodes)
    assert len(lab) == 8
    assert "a" in lab
    assert "z" not in lab
    assert str(lab["a"].address) == "10.244.0.2"
    assert repr(lab["a"]) == "<api/a>"
    with pytest.raises(labctl.UsageError, match="no machine 'node3'") as caught:
        lab["node3"]
    assert "did you mean node2" in caught.value.hint


def test_a_command_runs_in_a_machine(lab: labctl.RunningLab) -> None:
    done = lab["a"].run("ping -c1 c")

    assert done.ok, done
    assert "ttl=61" in done.stdout
    assert lab["a"].run(["ip", "-br", "link", "show", "eth0"]).stdout.startswith("eth0@")
    assert lab["a"].run("cat; echo wrong >&2; exit 7", input="told") == labctl.Completed(
        "a", ("sh", "-c", "cat; echo wrong >&2; exit 7"), 7, "told", "wrong\n"
    )
    assert lab["a"].run(["no-such-program"]).returncode == 127
    assert lab["a"].run("kill -9 $$").returncode == 128 + 9
    assert lab["a"].run("cat").stdout == ""
    assert lab["a"].run("readlink /proc/self/fd/* | grep -c pipe").stdout == "2\n"  # and not the one of our own


def test_a_command_has_a_deadline_and_ends_with_all_it_started(lab: labctl.RunningLab, tmp_path: Path) -> None:
    words = f"echo begun; sleep 98.7654 & echo $! >{tmp_path}/pid; wait"
    with pytest.raises(TimeoutError, match=r"not finished in a after 2\.5 s\nbegun"):
        lab["a"].run(words, timeout=2.5)
    child = Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}/cmdline")

    assert not child.exists() or child.read_bytes() == b""  # at most a zombie that its parent did not reap yet


def test_commands_run_side_by_side(lab: labctl.RunningLab) -> None:
    found: dict[str, str] = {}

    def ask(node: str) -> None:
        found[node] = lab[node].run("echo $LABCTL_NODE").stdout.strip()

    threads = [threading.Thread(target=ask, args=(node,)) for node in lab]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {node: node for node in lab}


def test_claims_are_proven_and_packets_followed(lab: labctl.RunningLab, tmp_path: Path) -> None:
    report = lab.check("each other's address", pcap=tmp_path / "packets")

    assert report.verdict == "pass"
    assert report.outcomes
    assert list((tmp_path / "packets").glob("*.pcapng"))
    traced = lab.trace("a", "c")
    assert traced.answered
    assert traced.hops == ("a", "node1", "fabric", "node2", "c")
    assert str(traced).startswith("ICMP echo: a (10.244.0.2) -> c")
    traced.save(tmp_path / "trace.pcapng")
    assert (tmp_path / "trace.pcapng").read_bytes()[:4] == b"\x0a\x0d\x0d\x0a"
    assert lab.trace("a", "c", tcp=80).verdict == "refused"
    assert lab.trace("a", "c", tcp=80, listen=True).answered
    with pytest.raises(labctl.UsageError, match="tcp port 70000"):
        lab.trace("a", "c", tcp=70000)
    with pytest.raises(labctl.UsageError, match="cannot write"):
        traced.save(tmp_path / "no/folder")


def test_a_lost_packet_is_told_and_drift_is_named(lab: labctl.RunningLab) -> None:
    assert lab["fabric"].run("ip route del 10.244.1.0/24 table 100").ok
    lost = labctl.trace("a", "c", lab="api")

    assert lost.verdict == "lost"
    assert lost.hops[-1] == "fabric"
    assert [change.subject.key[0] for change in lab.status()] == ["route"]
    assert lab.check("pods of different nodes see").verdict == "fail"
    assert labctl.up("kubenet", name="api").status() == ()


def test_a_lab_has_a_fault_for_the_time_of_a_block(lab: labctl.RunningLab) -> None:
    with pytest.raises(ZeroDivisionError), lab.fault("forwarding-off", "node1") as on:  # noqa: PT012
        assert on == "node1"
        assert not lab.trace("a", "c").answered
        assert lab.status()
        raise ZeroDivisionError
    assert lab.trace("a", "c").answered
    assert not lab.status()
    with pytest.raises(labctl.UsageError, match="there is no fault"), lab.fault("forwarding-of"):
        pass

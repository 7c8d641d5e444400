"""The pytest plugin, tried on small suites: labs as fixtures, evidence for failures, skips, workers, what it costs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import labctl
from labctl.kernel.host import paths
from labctl.testing import laws
from tests.support.paths import ROOT
from tests.support.pytest_suites import PLUGIN, nothing_left, run_forked

pytest_plugins = ["pytester"]
__all__ = ["nothing_left"]  # a fixture that every test uses
ENDING = r"-\d+-\d+$"  # what makes a lab's name its own


PASSING = """
import pytest, labctl
names = []

@pytest.mark.lab("docker-bridge")
def test_of_its_own(lab):
    assert lab["c1"].run("ping -c1 c2").ok
    names.append(lab.name)

@pytest.mark.lab("docker-bridge")
def test_another(lab):
    names.append(lab.name)

@pytest.mark.lab("docker-bridge", scope="module", set={"mtu": 1400})
@pytest.mark.parametrize("number", range(3))
def test_shared(lab, number):
    assert "mtu 1400" in lab["c1"].run("ip link show eth0").stdout
    names.append(lab.name)

@pytest.mark.lab(scope="session", set={"mtu": 1400})
@pytest.mark.parametrize("lab", ["docker-bridge"], indirect=True)
def test_a_parameter_is_a_scenario(lab):
    assert "mtu 1400" in lab["c1"].run("ip link show eth0").stdout
    names.append(lab.name)

def test_made_by_hand(labs):
    one, two = labs("docker-bridge"), labs("docker-bridge")
    assert one["c1"].address == two["c1"].address
    names.extend([one.name, two.name])

@pytest.fixture(scope="module")
def mine(module_labs):
    return module_labs("docker-bridge", name="mine")

def test_a_fixture_of_ones_own(mine):
    assert mine.name == "mine"

def test_names():
    own, other, *shared, parameter, one, two = names
    assert len({own, other, shared[0], parameter, one, two}) == 6, names
    assert len(shared) == 3 and len(set(shared)) == 1
    from labctl.kernel.host import paths
    assert set(paths.labs()) == {shared[0], parameter, "mine"}
"""


def test_labs_live_for_a_test_a_module_or_a_session(pytester: pytest.Pytester) -> None:
    run_forked(pytester, PASSING).assert_outcomes(passed=9)


FAILING = """
import pytest

@pytest.mark.lab("docker-bridge", set={"mtu": 1400}, scope="module")
class TestIt:
    def test_good(self, lab):
        assert lab["c1"].run("ping -c1 c2").ok

    def test_bad(self, lab):
        lab["c1"].run("ping -c2 -i0.2 -s 77 c2")
        lab["host1"].run("ip route add 198.51.100.0/24 dev docker0")
        assert lab["c1"].run(["false"]).ok

def test_down(labs):
    labs("docker-bridge").down()
    assert 0

@pytest.mark.xfail
@pytest.mark.lab("docker-bridge")
def test_foreseen(lab):
    assert 0

def test_unrelated():
    assert 0
"""


def packets(path: Path) -> list[bytes]:
    """The frames of a pcapng file, as it has them: the packet data of its Enhanced Packet Blocks."""
    data, at, found = path.read_bytes(), 0, []
    while at < len(data):
        kind, length = (int.from_bytes(data[at + shift : at + shift + 4], "little") for shift in (0, 4))
        if kind == 6:
            size = int.from_bytes(data[at + 20 : at + 24], "little")
            found.append(data[at + 28 : at + 28 + size])
        at += length
    return found


@pytest.mark.parametrize("given", [(), ("--labctl-evidence=kept",), ("-o", "labctl_evidence=kept"), ("-n2",)])
def test_a_failing_test_has_the_evidence_of_its_labs(pytester: pytest.Pytester, given: tuple[str, ...]) -> None:
    done = run_forked(pytester, FAILING, *given)
    done.assert_outcomes(passed=1, failed=3, xfailed=1)
    text = done.stdout.str()
    assert text.count("- labctl: docker-bridge-") == 2
    section = next(part for part in re.split(r"^-+ labctl: ", text, flags=re.M)[1:] if "was down" not in part)
    found = re.search(r"packets: (\S+\.pcapng) \((\d+) frames\)", section)
    assert found
    path = Path(found[1])
    if "kept" in " ".join(given):
        assert path.parent.parent == pytester.path / "kept"
    assert path.parent.name == "test_suite.py-TestIt-test_bad"
    asked = [frame for frame in packets(path) if len(frame) == 14 + 20 + 8 + 77]
    assert len(asked) == 2 * 2 * 4, "two questions and two answers, at each of the four devices that they pass"
    assert len(packets(path)) == int(found[2])
    assert not [frame for frame in packets(path) if len(frame) == 14 + 20 + 8 + 56], "the ping of another test"
    assert not list(pytester.path.rglob("*foreseen*")), "a failure that was foreseen is none"
    assert "drift: extra route 198.51.100.0/24 dev docker0" in section
    assert f"run manually: {paths.command_prefix()} up docker-bridge --set mtu=1400\n" in section
    (shown,) = re.findall(r"rules with counters: (\S+)", section)
    assert "MASQUERADE" in Path(shown).read_text()
    assert "the lab was down when the test ended" in text


RESULTS = """
import pytest, labctl

@pytest.fixture(scope="module")
def broken(module_labs):
    lab = module_labs("docker-bridge")
    assert lab["host1"].run("iptables -I FORWARD -i docker0 -j DROP").ok
    lab.trace("c2", "c2")
    return lab

def test_trace(broken):
    for target in ("host1", "host1", "host1", "internet"):
        traced = broken.trace("c1", target)
    assert traced.answered

def test_check(broken):
    assert labctl.check(broken.name).verdict == "pass"

def test_neither(broken):
    assert not broken["c1"].run("echo told; false").ok
    assert 0

def test_good(broken):
    assert not broken.trace("c1", "internet").answered

def test_caught(labs):
    lab = labs("docker-bridge")
    assert lab.check().verdict == "pass"
    assert 0

@pytest.fixture
def torn(broken):
    yield
    assert broken.trace("c2", "internet").answered

def test_teardown(torn):
    pass
"""


@pytest.mark.parametrize("options", [(), ("-n2", "--dist", "loadfile"), ("-p", "no:assertion")])
def test_a_failing_test_shows_its_unproven_claims_and_its_last_traces(
    pytester: pytest.Pytester, options: tuple[str, ...]
) -> None:
    done = run_forked(pytester, RESULTS, "--tb=short", *options)
    counts = done.parseoutcomes()
    assert (counts["passed"], counts["failed"], counts["errors"]) == (2, 4, 1)
    parts = re.split(r"^_+ (?:ERROR at teardown of )?(test_\w+) _+$", done.stdout.str(), flags=re.M)
    texts = dict(zip(parts[1::2], parts[2::2], strict=True))

    assert set(texts) == {"test_trace", "test_check", "test_neither", "test_caught", "test_teardown"}
    for number in (1, 2, 3):
        assert texts["test_trace"].count(f"labctl: trace {number} of the last 3 in docker-bridge-") == 1
    assert texts["test_trace"].count("\nOK  answered") == 2, "the first of four is not shown, and not the fixture's"
    assert texts["test_trace"].count("\nLOST  ") == 1
    assert "filter/FORWARD rule 1: -i docker0 -j DROP" in texts["test_trace"]
    assert "claims of" not in texts["test_trace"]

    claims = texts["test_check"].partition("claims of docker-bridge-")[2].partition("----- labctl: ")[0]
    assert " that are not proven ---" in claims
    assert "\nFAIL " in claims
    assert "    expected a reply" in claims
    assert "PASS" not in claims
    assert "labctl: trace" not in texts["test_check"]

    for quiet in ("test_neither", "test_caught"):
        assert "labctl: trace" not in texts[quiet]
        assert "claims of" not in texts[quiet]
    assert texts["test_teardown"].count("\nLOST  ") == 1
    assert "labctl: trace in docker-bridge-" in texts["test_teardown"]
    if "no:assertion" not in options:
        assert "where False = <Traced lost: ICMP echo: c1 (" in texts["test_trace"]
        assert "'fail' == 'pass'\nE     the last check: <Report fail, docker-bridge-" in texts["test_check"]
        assert max(map(len, texts["test_trace"].partition("- labctl: ")[0].splitlines())) < 300


def test_packets_need_not_be_recorded(pytester: pytest.Pytester) -> None:
    for options in (("--labctl-no-packets",), ("-o", "labctl_packets=false")):
        text = run_forked(pytester, FAILING, "-k", "bad", *options).stdout.str()
        assert "drift: extra route" in text
        assert "packets: " not in text


def test_a_large_lab_is_not_recorded_and_trouble_is_told(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("""
from labctl.testing import recorder
from labctl.errors import KernelError
def no(lab):
    raise KernelError("no ears today")
recorder.create_recorder = no
""")
    done = run_forked(pytester, FAILING, "-k", "bad")
    done.assert_outcomes(failed=1)
    assert "no packets: no ears today" in done.stdout.str()


def test_what_the_kernel_lacks_skips_a_test(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("""
import pytest
from labctl.kernel.apply import features
features.missing_features = lambda wanted, backend="legacy": dict.fromkeys(wanted, "not here")
""")
    done = run_forked(pytester, '''
import pytest

@pytest.mark.lab("azure-cni-transparent-vlan")
def test_it(lab):
    assert 0
''')  # fmt: skip
    done.assert_outcomes(skipped=1)
    assert re.search(r"labctl: lab \S+ cannot be built: this kernel lacks vlan.*: 1 test skipped", done.stdout.str())


UNKNOWN = """
import pytest

@pytest.fixture
def broken():
    raise RuntimeError("not ours")

def test_name(labs):
    labs("docker-bridge")["c3"]

def test_fixture(broken): pass
"""


def test_what_fails_is_shown_at_the_line_of_who_wrote_the_test(pytester: pytest.Pytester) -> None:
    done = run_forked(pytester, UNKNOWN)

    done.assert_outcomes(failed=1, errors=1)
    text = done.stdout.str()
    line = r'>\s+labs\("docker-bridge"\)\["c3"\]\nE\s+labctl.errors.UsageError: lab \S+ has no machine .c3.'
    assert re.search(line, text)
    assert "did you mean c2?" in text
    assert not re.search(r"labctl/\S+\.py:\d", text), "labctl's own lines were shown"


FIREWALLS = """
import pytest
from labctl.testing import assert_laws

@pytest.mark.lab("docker-bridge", firewall="nft")
def test_mark(lab):
    assert "(nf_tables)" in lab["host1"].run("iptables -V").stdout
    assert 0

def test_factory(labs):
    assert "(nf_tables)" in labs("docker-bridge", firewall="nft")["host1"].run("iptables -V").stdout
    assert_laws("docker-bridge", firewall="nft")
"""


def test_the_firewall_can_be_chosen(pytester: pytest.Pytester) -> None:
    done = run_forked(pytester, FIREWALLS)

    done.assert_outcomes(passed=1, failed=1)
    up = f"*run manually: {paths.command_prefix()} up docker-bridge --firewall nft"
    done.stdout.fnmatch_lines(["E       assert 0", up])


TEARDOWN = """
import pytest

@pytest.fixture
def own(labs):
    lab = labs("docker-bridge")
    yield lab
    lab["host1"].run("ip route add 198.51.100.0/24 dev docker0")
    lab["c1"].run("ping -c1 -s 77 c2")
    assert 0, "own"

@pytest.fixture(scope="module")
def shared(module_labs):
    yield module_labs("docker-bridge", set={"mtu": 1400})
    assert 0, "shared"

def test_own(own): pass

def test_shared(shared): pass
"""


def test_a_teardown_that_fails_has_evidence_too(pytester: pytest.Pytester) -> None:
    done = run_forked(pytester, TEARDOWN)

    done.assert_outcomes(passed=2, errors=2)
    sections = re.split(r"^-+ labctl: ", done.stdout.str(), flags=re.M)[1:]
    assert len(sections) == 2
    assert "drift: extra route 198.51.100.0/24 dev docker0" in sections[0]
    found = re.search(r"packets: (\S+\.pcapng)", sections[0])
    assert found
    assert [frame for frame in packets(Path(found[1])) if len(frame) == 14 + 20 + 8 + 77]
    assert f"run manually: {paths.command_prefix()} up docker-bridge --set mtu=1400" in sections[1]
    assert "drift: none" in sections[1]


TAKEN = """
import pytest, labctl
from labctl.testing import assert_laws

@pytest.fixture(scope="module", autouse=True)
def theirs():
    with labctl.up("docker-bridge", name="theirs") as lab:
        assert lab["host1"].run("ip route add 198.51.100.0/24 dev docker0").ok
        yield
        assert [change.kind for change in lab.status()] == ["extra"], "what they did is not there any more"

@pytest.mark.lab("docker-bridge", name="theirs")
def test_mark(lab): pass

def test_factory(labs):
    with pytest.raises(labctl.UsageError, match="a lab theirs runs already, and does not belong to this test"):
        labs("docker-bridge", name="theirs")

def test_laws():
    with pytest.raises(labctl.UsageError, match="a lab theirs runs already"):
        assert_laws("docker-bridge", name="theirs")

def test_own(labs):
    labs("docker-bridge", name="own")["c1"].run("ping -c1 c2")
    assert labs("docker-bridge", name="own").result.changes == ()
"""


def test_a_lab_that_somebody_else_runs_is_left_alone(pytester: pytest.Pytester) -> None:
    run_forked(pytester, TAKEN).assert_outcomes(passed=3, errors=1)


WORKERS = """
import os, pytest

@pytest.mark.lab("docker-bridge", scope="session")
@pytest.mark.parametrize("number", range(6))
def test_shared(lab, number, record_property):
    assert lab["c1"].run("ping -c1 c2").ok
    print("shared", lab.name)

@pytest.mark.lab("docker-bridge")
@pytest.mark.parametrize("number", range(4))
def test_own(lab, number):
    assert lab["c1"].run("ping -c1 c2").ok
    print("own", lab.name)
"""


def test_workers_have_labs_of_their_own(pytester: pytest.Pytester) -> None:
    done = run_forked(pytester, WORKERS, "-n2", "-rP")
    done.assert_outcomes(passed=10)
    shared = re.findall(r"^shared (\S+)$", done.stdout.str(), re.MULTILINE)
    own = re.findall(r"^own (\S+)$", done.stdout.str(), re.MULTILINE)

    assert len(shared) == 6
    assert {re.sub(ENDING, "", name) for name in shared} == {"docker-bridge-gw0", "docker-bridge-gw1"}
    assert len(set(shared)) == 2
    assert len(set(own)) == 4


# ---- the laws, for authors of models ---------------------------------------------------------------------


def test_the_laws_hold_and_a_breach_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from labctl.core.diff import diff
    from labctl.core.resources import Netns
    from labctl.lab import lifecycle

    laws.assert_laws("docker-bridge", set={"mtu": 1400})
    assert paths.labs() == {}

    extra = diff((Netns("stray"),), ())
    monkeypatch.setattr(lifecycle, "status", lambda name, lab: extra)
    with pytest.raises(AssertionError, match=r"after up, the lab differs from its plan:\n.*stray"):
        laws.assert_laws("docker-bridge")
    monkeypatch.undo()
    monkeypatch.setattr(lifecycle, "_repair", lambda *words: extra)
    with pytest.raises(AssertionError, match="a second up still changed the lab"):
        laws.assert_laws("docker-bridge")
    monkeypatch.undo()
    real = lifecycle.down
    monkeypatch.setattr(lifecycle, "down", lambda name, **options: real(name)[1:])
    with pytest.raises(AssertionError, match="after down, nothing is left; removed: "):
        laws.assert_laws("docker-bridge")
    monkeypatch.setattr(lifecycle, "down", lambda name, **options: ())
    with pytest.raises(AssertionError, match=r"after down, .*host1.* is left"):
        laws.assert_laws("docker-bridge", name="left")
    monkeypatch.undo()
    with pytest.raises(labctl.UsageError, match="a lab left runs already"):
        laws.assert_laws("docker-bridge", name="left")
    labctl.down("left")  # which it did not do


def test_a_device_that_appears_outside_is_a_breach(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = iter([["lo"], ["eth0", "lo"]])
    monkeypatch.setattr(laws, "_devices", lambda: next(seen))
    with pytest.raises(AssertionError, match="the machine's devices"):
        laws.assert_laws("docker-bridge")


# ---- the example -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=str)
def test_the_example_project_passes(tmp_path: Path, options: tuple[str, ...]) -> None:
    example = ROOT / "docs/examples/pytest"
    words = [*PLUGIN, "-p", "no:cacheprovider", "-W", "error", f"--basetemp={tmp_path}/base"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words, "--labctl-require", *options, "."],
        cwd=example, capture_output=True, text=True, timeout=120,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\b[5-9] passed", done.stdout)
    assert "skipped" not in done.stdout

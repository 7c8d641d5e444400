"""The command line's contract: options on both sides of the verb, exit codes, errors, JSON, completion."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labctl.cli.session import TerminationSignal
from labctl.core.node_state import NodeState
from labctl.errors import KernelError, LabError, LockError, MissingError, UsageError
from labctl.kernel.firewall import backend
from labctl.kernel.host import paths
from labctl.lab import lifecycle
from tests.support import samples
from tests.support.command_line import Run, error, in_process, pretend_empty_machine

VERBS = [
    "up",
    "down",
    "list",
    "status",
    "check",
    "plan",
    "graph",
    "explain",
    "exec",
    "shell",
    "show",
    "trace",
    "capture",
    "view",
    "compare",
    "policy",
    "break",
    "fix",
    "learn",
    "exercise",
    "handout",
    "class",
    "validate",
    "schema",
    "doctor",
    "run",
]
HEAVY = (
    "yaml", "pyroute2", "iptc", "ctypes", "importlib.metadata", "subprocess", "concurrent.futures",
    "socket", "asyncio", "logging", "xml", "shlex", "difflib",
)  # fmt: skip


@pytest.fixture(autouse=True)
def empty_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    return pretend_empty_machine(monkeypatch, tmp_path)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return in_process(capsys)


def start(tmp_path: Path, *names: str) -> None:
    """Pretend that namespaces of these names are there."""
    for name in names:
        (tmp_path / "netns" / f"labctl.{name}").touch()


def fake(value: Any) -> Callable[..., Any]:
    """A function that takes anything and returns the value, or raises it."""

    def answer(*args: Any, **kwargs: Any) -> Any:
        if isinstance(value, BaseException):
            raise value
        return value

    return answer


# --- help -------------------------------------------------------------------------------------------------


def test_help_lists_the_verbs_of_the_contract_in_its_order(run: Run) -> None:
    code, out, _ = run("--help")
    listed = [line.split()[0] for line in out.partition("Commands:")[2].strip().splitlines()]

    assert (code, listed) == (0, VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself_with_examples(run: Run, verb: str) -> None:
    code, out, err = run(verb, "--help")
    paragraph = out.split("\n\n")[1].strip()

    assert (code, err) == (0, "")
    assert paragraph[0].isupper()
    assert "." in paragraph
    assert "Example" in out
    assert f"labctl {verb}" in out.partition("Example")[2] or f" {verb} " in out.partition("Example")[2]
    assert run(verb, "-h") == (code, out, err)


def test_no_verb_prints_the_help_but_is_no_success(run: Run) -> None:
    code, out, _ = run()

    assert code == 2
    assert out.startswith("Usage: labctl")
    assert error(run("--json")[1])["message"] == "no verb given"


def test_version(run: Run) -> None:
    from labctl import __version__

    assert run("--version") == (0, f"labctl {__version__}\n", "")


@pytest.mark.parametrize("words", ["--help", "up --help", "exec --help", "--version"])
def test_help_loads_nothing_heavy(words: str) -> None:
    # Python 3.10's own uuid, which click loads, brings subprocess along
    heavy = [name for name in HEAVY if name != "subprocess" or sys.version_info >= (3, 11)]
    code = (
        "import sys\nfrom labctl.cli import main\n"
        f"main({words.split()!r})\n"
        f"print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "[]\n")


def test_python_m_labctl_is_labctl() -> None:
    done = subprocess.run([sys.executable, "-m", "labctl", "nosuch"], capture_output=True, text=True)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("labctl: there is no verb 'nosuch'")


# --- bad usage --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("upp kubenet", "did you mean `labctl up`?"),
        ("frobnicate", "the verbs are up, down"),
        ("up", "up: missing argument 'SCENARIO'"),
        ("up kubenet extra", "up: got unexpected extra argument (extra)"),
        ("up kubenet --chek", "did you mean --check"),
        ("up kubenet --check --dry-run", "--dry-run builds none"),
        ("up kubenett", "did you mean kubenet?"),
        ("up ./nosuch.yaml", "nosuch.yaml"),
        ("up kubenet --set", "'--set' requires an argument"),
        ("up kubenet --set routing", "KEY=VALUE"),
        ("up kubenet --set modle=x", "modle"),
        ("up kubenet --name UP/../x", "UP/../x"),
        ("plan kubenet --as shel", "'shel' is not one of 'text', 'shell', 'json'"),
        ("plan", "missing argument 'SCENARIO'"),
        ("down", "no lab runs"),
        ("down kubenet --all", "not both"),
        ("status", "no lab runs"),
        ("status kubenet", "unexpected extra argument"),
        ("status -l kubenet", "no lab 'kubenet' runs"),
        ("check", "no lab runs"),
        ("check --pcapp x", "no such option --pcapp"),
        ("show", "no lab runs"),
        ("exec a -- true", "no lab runs"),
        ("exec a", "missing argument '-- CMD...'"),
        ("exec", "missing argument 'NODE'"),
        ("shell", "missing argument 'NODE'"),
        ("shell a b", "unexpected extra argument"),
        ("validate", "missing argument 'FILE...'"),
        ("validate /nosuch.yaml /dev/null", "/nosuch.yaml:1:1"),
        ("compare", "no scenario is named"),
        ("compare kubenet docker-bridgge", "did you mean docker-bridge?"),
        ("compare kubenett docker-bridgge", "kubenett:1:1: unknown scenario 'kubenett'"),
        ("compare kubenett docker-bridgge", "docker-bridgge:1:1: unknown scenario 'docker-bridgge'"),
        ("compare kubenet --firewall ipfw", "'ipfw' is not one of 'legacy', 'nft'"),
        ("compare kubenet kubenet", "kubenet is named twice"),
        ("compare kubenet --all", "not both"),
        ("compare kubenet /nosuch.yaml", "/nosuch.yaml"),
        ("list extra", "unexpected extra argument"),
        ("schema extra", "unexpected extra argument"),
        ("doctor --fix", "no such option --fix"),
        ("-l", "requires an argument"),
        ("down ../x", "not a valid name of a lab: '../x'"),
        ("status -l a_b", "not a valid name of a lab: 'a_b'"),
        ("--nosuch up kubenet", "no such option --nosuch"),
    ],
)
def test_bad_usage_is_a_sentence_with_a_hint_and_exit_2(run: Run, words: str, says: str) -> None:
    code, out, err = run(*words.split())
    assert (code, out) == (2, "")
    assert says in err
    assert "Traceback" not in err

    code, out, err = run("--json", *words.split())
    found = error(out)
    assert (code, found["code"], err) == (2, 2, "")
    assert set(found) == {"code", "kind", "message", "errors"}
    assert found["errors"]


@pytest.mark.parametrize(
    "words",
    [
        ["--json", "up"],
        ["up", "--json"],
        ["up", "--json", "--nosuch"],
        ["up", "--nosuch", "--json"],
        ["bogus", "--json"],
        ["bogus", "x", "--json"],
        ["-l", "--json"],
        ["down", "", "--json"],
    ],
)
def test_json_may_stand_anywhere_also_for_mistyped_words(run: Run, words: list[str]) -> None:
    code, out, err = run(*words)

    assert (code, error(out)["kind"], err) == (2, "usage", "")


def test_the_json_of_a_commands_own_is_not_ours(run: Run) -> None:
    code, out, err = run("exec", "a", "--", "curl", "--json", "x")

    assert (code, out) == (2, "")
    assert "no lab runs" in err
    code, out, err = run("exec", "--nosuch", "a", "--", "curl", "--json", "x")
    assert (code, out) == (2, "")
    assert "no such option --nosuch" in err


@pytest.mark.parametrize(
    "words", [["down", ""], ["-l", "", "status"], ["list", "--lab="], ["up", "kubenet", "--name", ""]]
)
def test_a_name_is_not_empty(run: Run, words: list[str]) -> None:
    code, out, err = run(*words)

    assert (code, out) == (2, "")
    assert "a lab's name cannot be empty" in err


@pytest.mark.parametrize("name", ["a/b", "..", "-h", "", "ü", "labctl.x.y", "x" * 5000, "a\nb"])
def test_no_name_leads_out_of_a_lab(run: Run, empty_machine: Path, name: str) -> None:
    before = sorted(empty_machine.rglob("*"))
    for words in (["down", "--", name], ["status", f"--lab={name}"], ["exec", f"-l={name}", "--", "true"]):
        code, _, err = run(*words)
        assert code in (0, 2)
        assert "Traceback" not in err

    assert sorted(empty_machine.rglob("*")) == before


# --- which lab --------------------------------------------------------------------------------------------


def test_several_labs_are_listed_and_one_must_be_named(run: Run, empty_machine: Path) -> None:
    start(empty_machine, "one.a", "two.b")
    code, _, err = run("status")

    assert code == 2
    assert "several labs run: one, two" in err


@pytest.mark.parametrize("words", [["-l", "two", "show"], ["show", "-l", "two"], ["--lab=one", "show", "--lab", "two"]])
def test_the_lab_may_be_named_on_both_sides(
    run: Run, empty_machine: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    start(empty_machine, "one.a", "two.b")
    asked: list[Any] = []
    monkeypatch.setattr(lifecycle, "observe", lambda *args: asked.append(args) or ())
    monkeypatch.setattr(
        "labctl.kernel.observe.node_view.read_nodes",
        lambda lab, nodes, details: {node: NodeState(node) for node in nodes},
    )

    assert run(*words)[:2] == (0, "name  role  on  addresses  state\nb                          up\n")
    assert asked == [("two",)]


def test_an_unknown_node_is_named_with_the_nodes_there_are(run: Run, empty_machine: Path) -> None:
    start(empty_machine, "one.node1", "one.a")
    code, _, err = run("show", "nod1")

    assert code == 2
    assert "lab one has no node 'nod1'" in err
    assert "did you mean node1? its nodes are a, node1" in err


# --- root -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        "up kubenet",
        "down",
        "status",
        "check -k x",
        "compare kubenet docker-bridge",
        "show",
        "exec a -- ls -l",
        "shell a",
        "up kubenet --name 'a b' --json",
    ],
)
def test_without_root_the_command_is_given_with_sudo(run: Run, monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    import shlex

    if "a b" in words:
        words = words.replace("'a b'", "ab")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    code, out, err = run(*shlex.split(words))

    assert code == 4
    assert f"sudo labctl {words}" in out + err
    assert "needs root" in out + err


@pytest.mark.parametrize(
    "words",
    ["--help", "list", "list --scenarios", "plan kubenet", "validate kubenet", "schema", "up kubenet --dry-run"],
)
def test_what_changes_nothing_needs_no_root(run: Run, monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    assert run(*words.split())[0] == 0


def test_mistakes_in_a_scenario_come_before_the_lack_of_root(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    file = tmp_path / "bad.yaml"
    file.write_text("name: x\nmodle: kubenet\n")

    assert run("up", str(file))[0] == 2
    assert run("compare", "kubenet", str(file))[0] == 2


def test_a_comparison_has_one_form(run: Run) -> None:
    found = error(run("compare", "kubenet", "--json", "--markdown")[1])

    assert found["message"] == "compare: --json and --markdown cannot be used together"


# --- errors -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raised", "code", "kind"),
    [
        (UsageError("no", "try this"), 2, "usage"),
        (KernelError("cannot add route"), 3, "kernel"),
        (LockError("lab x is held by labctl up (pid 1)"), 3, "lock"),
        (MissingError("iptables-legacy is not here", "apt-get install iptables"), 4, "missing"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_each_error_has_its_exit_code_and_no_traceback(
    run: Run, monkeypatch: pytest.MonkeyPatch, raised: BaseException, code: int, kind: str
) -> None:
    monkeypatch.setattr(lifecycle, "running_labs", fake(raised))
    assert run("list")[:2] == (code, "")
    assert "Traceback" not in run("list")[2]
    found = error(run("list", "--json")[1])

    assert (found["code"], found["kind"]) == (code, kind)
    if isinstance(raised, LabError):
        assert run("list")[2] == f"labctl: {raised}\n".replace("apt-get", f"{paths.sudo()}apt-get")


@pytest.mark.parametrize(
    ("raised", "code"),
    [(KeyboardInterrupt(), 130), (TerminationSignal(143), 143), (TerminationSignal(129), 129)],
    ids=["INT", "TERM", "HUP"],
)
@pytest.mark.parametrize(
    ("before", "after", "options", "says"),
    [
        ((), (), "", "interrupted: rolled back, nothing is left"),
        ((), (), "--keep", "interrupted: rolled back, nothing is left"),
        ((), ("kubenet.a",), "--keep", "--keep: the lab is left incomplete; `{} down kubenet` removes it"),
        (("kubenet.a",), ("kubenet.a",), "", "interrupted: lab kubenet keeps running; `{} up kubenet` repairs"),
        (("kubenet.a",), (), "--replace", "nothing is left, and the lab to be replaced is removed too"),
        (("kubenet.a",), ("kubenet.a",), "--replace", "lab kubenet is left, perhaps incomplete; `{} down kubenet`"),
    ],
)
def test_an_interrupted_up_says_what_became_of_the_lab(
    run: Run,
    empty_machine: Path,
    monkeypatch: pytest.MonkeyPatch,
    raised: BaseException,
    code: int,
    before: tuple[str, ...],
    after: tuple[str, ...],
    options: str,
    says: str,
) -> None:
    def runs(*names: str) -> None:
        for path in (empty_machine / "netns").iterdir():
            path.unlink()
        start(empty_machine, *names)

    def up(*args: Any, **kwargs: Any) -> None:
        runs(*after)
        raise raised

    monkeypatch.setattr(lifecycle, "up", up)
    for more in ([], ["--json"]):
        runs(*before)
        got, out, err = run("up", "kubenet", *options.split(), *more)
        assert got == code
        assert says.format(paths.command_prefix()) in (error(out)["message"] if more else err)
        assert (err if more else out) == ""
        if more:
            assert (error(out)["code"], error(out)["kind"]) == (code, "interrupted")


def test_an_interrupted_check_says_that_the_lab_it_built_runs_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "up", fake(samples.result()))
    monkeypatch.setattr("labctl.checks.runner.run", fake(TerminationSignal(143)))
    code, _, err = run("up", "kubenet", "--check")

    assert (code, err) == (143, "labctl: interrupted: lab kubenet is up and keeps running\n")


def test_our_own_bug_has_a_traceback_and_says_whose_it_is(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "running_labs", fake(ZeroDivisionError("division by zero")))
    code, out, err = run("list")

    assert (code, out) == (70, "")
    assert err.startswith("Traceback")
    assert "this is a bug in labctl" in err
    code, out, err = run("list", "--json")
    assert (code, error(out)["kind"]) == (70, "bug")
    assert "Traceback" in err


def test_mistakes_of_all_files_come_at_once(run: Run, tmp_path: Path) -> None:
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text("name: one\nmodle: kubenet\n")
    two.write_text("name: two\nmodel: kubenett\n")
    code, out, err = run("validate", str(one), "kubenet", str(two))

    assert (code, out) == (2, "kubenet: ok\n")
    assert f"{one}:2:1: " in err
    assert f"{two}:2:8: " in err
    found = error(run("validate", "--json", str(one), "kubenet", str(two))[1])
    assert {(each["file"], each["line"]) for each in found["errors"]} >= {(str(one), 2), (str(two), 2)}


# --- the verbs --------------------------------------------------------------------------------------------


def test_up_reports_in_one_document_also_with_its_check(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "up", fake(samples.result()))
    monkeypatch.setattr("labctl.checks.runner.run", fake(samples.report(samples.PASSED)))
    code, out, err = run("up", "kubenet", "--check", "--json")
    document = json.loads(out)

    assert (code, err) == (0, "")
    assert (document["created"], document["check"]["verdict"]) == (True, "pass")


def test_a_blank_line_parts_the_machines_from_the_checks_in_a_pipe_too(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "up", fake(samples.result()))
    monkeypatch.setattr("labctl.checks.runner.run", fake(samples.report(samples.PASSED)))

    out = run("up", "kubenet", "--check")[1]
    assert "  a c\n\nkubenet: 1 check" in out
    assert "try next" not in out, "a program that reads the output gets what was done, and no more"


def test_commands_to_try_follow_the_checks_on_a_terminal(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "up", fake(samples.result()))
    monkeypatch.setattr("labctl.checks.runner.run", fake(samples.report(samples.PASSED)))
    monkeypatch.setattr("labctl.report.terminal._is_tty", lambda stream: True)

    out = run("up", "kubenet", "--check")[1]
    assert out.index("1 check") < out.index("\ntry next\n") < out.index(" graph\n")


def test_a_dry_run_tells_what_would_be_also_of_a_lab_to_be_replaced(
    run: Run, empty_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "backend_problem", fake(""))  # only root can try to write rules
    new = json.loads(run("up", "kubenet", "--dry-run", "--json")[1])
    start(empty_machine, "kubenet.a")
    other = json.loads(run("up", "kubenet", "--dry-run", "--json", "--replace")[1])

    assert (new["created"], new["replaced"]) == (True, False)
    assert (other["created"], other["replaced"]) == (True, True)


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [([], 0), (["PASSED"], 0), (["SKIPPED"], 0), (["PASSED", "UNSURE"], 1), (["UNSURE", "FAILED"], 1)],
)
def test_up_and_check_exit_1_if_a_claim_is_not_proven(
    run: Run, empty_machine: Path, monkeypatch: pytest.MonkeyPatch, outcomes: list[str], code: int
) -> None:
    start(empty_machine, "kubenet.a")
    report = samples.report(*(getattr(samples, name) for name in outcomes))
    monkeypatch.setattr(lifecycle, "up", fake(samples.result()))
    monkeypatch.setattr(lifecycle, "load_compiled_lab", fake(samples.LAB))
    monkeypatch.setattr("labctl.checks.runner.run", fake(report))

    assert run("up", "kubenet", "--check")[0] == code
    assert run("check")[0] == code
    assert json.loads(run("check", "--json")[1])["verdict"] == report.verdict


def test_checks_are_told_as_they_come_with_evidence_for_failures(
    run: Run, empty_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(empty_machine, "kubenet.a")

    asked = []

    def checks(lab: Any, word: Any, progress: Any, keep: Any, all_pairs: bool) -> Any:
        assert word == "pods"
        asked.append(all_pairs)
        for outcome in (samples.PASSED, samples.FAILED):
            progress(outcome)
        return samples.report(samples.PASSED, samples.FAILED)

    monkeypatch.setattr(lifecycle, "load_compiled_lab", fake(samples.LAB))
    monkeypatch.setattr("labctl.checks.runner.run", checks)
    run("check", "-k", "pods", "--all-pairs")
    code, out, err = run("check", "-k", "pods")

    assert asked == [True, False]
    assert (code, err) == (1, "")
    assert out.splitlines()[:5] == [
        "PASS pods on different nodes see each other's own address",
        "FAIL every pod reaches every pod",
        "    expected a reply",
        "    seen: nothing, at node1/eth0",
        "    run manually: ping -c 1 c",
    ]


def test_junit_is_written_and_its_place_is_looked_at_first(
    run: Run, empty_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(empty_machine, "kubenet.a")
    monkeypatch.setattr(lifecycle, "load_compiled_lab", fake(samples.LAB))
    monkeypatch.setattr("labctl.checks.runner.run", fake(samples.report(samples.FAILED)))
    file = empty_machine / "results.xml"

    assert run("check", "--junit", str(file))[0] == 1
    assert 'failures="1"' in file.read_text()
    monkeypatch.setattr("labctl.checks.runner.run", fake(AssertionError("ran the checks first")))
    for place in (str(empty_machine), str(empty_machine / "no" / "such.xml")):
        code, _, err = run("check", "--junit", place)
        assert (code, err.startswith(f"labctl: cannot write {place}")) == (2, True)


@pytest.mark.parametrize(("changes", "code"), [((), 0), (samples.DRIFT, 1)])
def test_status_exits_1_on_drift(
    run: Run, empty_machine: Path, monkeypatch: pytest.MonkeyPatch, changes: Any, code: int
) -> None:
    start(empty_machine, "kubenet.a")
    monkeypatch.setattr(lifecycle, "load_compiled_lab", fake(samples.LAB))
    monkeypatch.setattr(lifecycle, "status", fake(changes))

    assert run("status")[0] == code
    assert json.loads(run("status", "--json")[1])["drift"] == bool(code)


def test_a_lost_record_asks_for_the_scenario_and_takes_it(
    run: Run, empty_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(empty_machine, "kubenet.a")
    monkeypatch.setattr(lifecycle, "status", fake(()))
    for verb in ("status", "check"):
        code, _, err = run(verb)
        assert (code, "--scenario FILE" in err) == (2, True)

    assert run("status", "--scenario", "kubenet", "--set", "routing=host")[0] == 0
    assert run("status", "--set", "routing=host")[0] == 2


def test_down_of_what_is_not_there_is_a_sentence(run: Run) -> None:
    assert run("down", "kubenet", "kubenet") == (0, "kubenet does not exist: nothing to remove\n", "")
    assert run("down", "--all") == (0, "no lab runs: nothing to remove\n", "")
    gone = {"lab": "gone", "namespaces": 0, "record": False}
    assert json.loads(run("down", "gone", "--json")[1]) == {"labs": [gone]}


@pytest.mark.parametrize("words", ["down --all", "down", "down left", "-l left down"])
def test_down_clears_the_record_of_a_lab_without_namespaces(run: Run, empty_machine: Path, words: str) -> None:
    folder, other = empty_machine / "state/left", empty_machine / "state/not-ours"
    other.mkdir()
    (other / "letter.txt").touch()
    said = []
    for more in ([], ["--json"]):
        folder.mkdir()
        (folder / "definition.json").write_text("{}")
        said.append(run(*words.split(), *more))
        assert not folder.exists()

    assert said[0] == (0, "left does not exist: its record is removed\n", "")
    assert json.loads(said[1][1]) == {"labs": [{"lab": "left", "namespaces": 0, "record": True}]}
    assert (other / "letter.txt").exists()


def test_a_directory_that_only_entering_made_is_a_leftover_too(run: Run, empty_machine: Path) -> None:
    (empty_machine / "state/left/bin").mkdir(parents=True)

    assert run("down", "--all")[1] == "left does not exist: its record is removed\n"
    assert list((empty_machine / "state").iterdir()) == []


def test_a_bare_down_means_the_lab_that_runs_and_no_record(
    run: Run, empty_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (empty_machine / "state/left/bin").mkdir(parents=True)
    start(empty_machine, "one.a")
    monkeypatch.setattr(lifecycle, "down", fake(("a",)))

    assert run("down")[1] == "one is down: 1 namespace removed\n"


def test_down_takes_the_named_labs_the_only_one_or_all(
    run: Run, empty_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone: list[str] = []
    monkeypatch.setattr(lifecycle, "down", lambda name, **options: gone.append(name) or ("a",))
    start(empty_machine, "one.a")
    assert run("down")[:2] == (0, "one is down: 1 namespace removed\n")
    start(empty_machine, "two.b")
    assert run("down")[0] == 2
    assert run("down", "--all")[0] == run("down", "-l", "two")[0] == run("-l", "two", "down", "one")[0] == 0

    assert gone == ["one", "one", "two", "two", "one", "two"]


def test_plan_is_text_or_json(run: Run) -> None:
    assert (
        run("plan", "kubenet", "--as", "json") == run("plan", "kubenet", "--json") == run("--json", "plan", "kubenet")
    )
    document = json.loads(run("plan", "kubenet", "--as", "json", "--name", "other")[1])
    assert document["lab"] == "other"
    code, out, _ = run("plan", "kubenet", "--as", "shell", "--json")
    assert (code, json.loads(out)["error"]["message"]) == (2, "--json and --as shell cannot be used together")
    text = run("plan", "kubenet")[1]
    assert text.startswith("lab kubenet, model kubenet")
    assert not text.endswith("\n\n")


def test_schema_is_json_with_or_without_the_flag(run: Run) -> None:
    assert run("schema") == run("schema", "--json")
    assert "properties" in json.loads(run("schema")[1])


def test_list_reads_no_scenario_and_needs_no_record(run: Run, empty_machine: Path) -> None:
    assert run("list")[1] == f"no lab runs; start one: {paths.command_prefix()} up kubenet\n"
    start(empty_machine, "lost.a", "lost.b")
    assert json.loads(run("list", "--json")[1]) == {
        "labs": [
            {
                "lab": "lost", "model": None, "scenario": None, "nodes": ["a", "b"], "approximate": [],
                "firewall": None, "owner": None,
            }
        ]
    }  # fmt: skip
    assert {each["name"] for each in json.loads(run("list", "--scenarios", "--json")[1])["scenarios"]} >= {
        "docker-bridge", "kubenet", "azure-cni-transparent",
    }  # fmt: skip


@pytest.mark.parametrize(("findings", "code"), [(samples.FINDINGS[:2], 0), (samples.FINDINGS, 4)])
def test_doctor_exits_4_only_if_something_is_missing(
    run: Run, monkeypatch: pytest.MonkeyPatch, findings: Any, code: int
) -> None:
    monkeypatch.setattr("labctl.kernel.host_facts.examine", fake(None))
    monkeypatch.setattr("labctl.lab.doctor.findings", fake(findings))

    assert run("doctor")[0] == code
    assert json.loads(run("doctor", "--json")[1])["ok"] == (code == 0)


# --- completion -------------------------------------------------------------------------------------------


def completed(words: str, *, print_heavy: bool = False) -> list[str]:
    """What bash is offered for the last of these words."""
    all_words = words.split(" ")
    environment = {
        **os.environ,
        "_LABCTL_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(all_words) - 1),
    }
    code = "import sys\nfrom labctl.cli import main\nmain()\n"
    code += f"print([name for name in {HEAVY[:4]!r} if name in sys.modules])" if print_heavy else ""
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return [line.partition(",")[2] or line for line in done.stdout.splitlines() if line]


def test_completion_knows_verbs_scenarios_labs_and_nodes(empty_machine: Path) -> None:
    start(empty_machine, "one.node1", "one.node2", "one.a")
    assert completed("labctl sh") == ["shell", "show"]
    assert completed("labctl up kubenet") == ["kubenet", "kubenet-hostport"]
    assert completed("labctl exec no") == ["node1", "node2"]
    assert completed("labctl trace no") == ["node1", "node2"]
    assert completed("labctl trace node1 node2") == ["node2"]
    assert completed("labctl down ") == ["one"]
    start(empty_machine, "two.x")
    assert completed("labctl exec ") == []
    assert completed("labctl -l two shell ") == ["x"]
    assert completed("labctl exec -l two ") == ["x"]
    assert completed("labctl status -l t") == ["two"]
    assert completed("labctl down one ") == ["two"]


def test_completion_offers_files_where_no_scenario_fits() -> None:
    assert completed("labctl validate ./x") == ["./x"]


def test_completion_loads_nothing_heavy(empty_machine: Path) -> None:
    start(empty_machine, "one.a")

    assert completed("labctl exec ", print_heavy=True) == ["a", "[]"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_the_shell_is_printed(shell: str) -> None:
    environment = {**os.environ, "_LABCTL_COMPLETE": f"{shell}_source"}
    done = subprocess.run([sys.executable, "-m", "labctl"], env=environment, capture_output=True, text=True)

    assert done.returncode == 0
    assert "_LABCTL_COMPLETE" in done.stdout


JAPANESE = """\
name: kantan
model: kubenet
nodes:
  node1: {pods: [a, b]}
checks:
  - say: ポッド a はポッド b に届く 🎉 é
    ping: a -> b
"""


@pytest.mark.parametrize(
    ("environment", "is_readable"),
    [
        ({"PYTHONIOENCODING": "utf-8"}, True),
        ({"LC_ALL": "C.UTF-8"}, True),
        ({"LC_ALL": "C"}, True),
        ({"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, False),
        ({"PYTHONIOENCODING": "ascii"}, False),
        ({"PYTHONIOENCODING": "latin-1"}, False),
    ],
    ids=str,
)
def test_json_keeps_every_script_that_the_output_can_write(
    tmp_path: Path, environment: dict[str, str], is_readable: bool
) -> None:
    (tmp_path / "lab.yaml").write_text(JAPANESE, encoding="utf-8")
    encodings = ("LC_", "LANG", "PYTHONIOENCODING", "PYTHONUTF8", "PYTHONCOERCECLOCALE")
    plain = {key: value for key, value in os.environ.items() if not key.startswith(encodings)}
    command = [sys.executable, "-m", "labctl", "plan", str(tmp_path / "lab.yaml"), "--json"]
    paths_of_python = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, capture_output=True, env={**plain, **paths_of_python, **environment}, check=False)

    assert (done.returncode, done.stderr) == (0, b"")
    assert ("ポッド a はポッド b に届く 🎉 é".encode() in done.stdout) == is_readable
    said = [check["say"] for check in json.loads(done.stdout.decode())["checks"]]
    assert "ポッド a はポッド b に届く 🎉 é" in said
    command[-1] = "--as=text"
    assert subprocess.run(command, capture_output=True, env={**plain, **paths_of_python, **environment}).returncode == 0


def test_errors_in_json_keep_their_script(run: Run) -> None:
    out = run("plan", "ポッド", "--json")[1]

    assert "ポッド" in out
    assert "ポッド" in error(out)["message"]

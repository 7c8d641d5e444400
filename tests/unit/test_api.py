"""The Python API without a kernel: its names, its types, what its import costs, scenarios and mistakes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import labctl
from labctl import errors
from labctl.core.resources import Netns
from labctl.scenario import definition
from tests.support.paths import ROOT
from tests.support.scenarios import MINI

VERBS = ("check", "down", "load", "plan", "trace", "up")


def python(code: str, *options: str) -> str:
    """What a new Python prints for a piece of code, warnings being errors."""
    done = subprocess.run(
        [sys.executable, "-W", "error", *options, "-c", code], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# ---- names -----------------------------------------------------------------------------------------------


def test_the_public_names_are_these() -> None:
    assert labctl.__all__ == sorted(labctl.__all__)
    assert {name for name in labctl.__all__ if name[0].islower()} == set(VERBS)
    assert {name for name in labctl.__all__ if name.endswith("Error")} == {
        name for name in vars(errors) if name.endswith("Error")
    }
    for name in labctl.__all__:
        assert getattr(labctl, name) is not None
        assert name in dir(labctl)
    with pytest.raises(AttributeError, match="no attribute 'upp'"):
        labctl.upp  # type: ignore[attr-defined]  # noqa: B018


def test_every_public_name_is_in_the_manual() -> None:
    page = (ROOT / "docs/api.md").read_text()

    assert [name for name in labctl.__all__ if f"`{name}" not in page and f"labctl.{name}" not in page] == []


def test_all_is_what_a_star_brings() -> None:
    code = "from labctl import *; import labctl; print(sorted(set(labctl.__all__) - set(globals())))"
    assert python(code) == "[]"


@pytest.mark.parametrize("verb", ["plan", "trace", "check"])
def test_a_verb_is_a_function_and_no_module(verb: str) -> None:
    assert python(f"import labctl; print(callable(labctl.{verb}), type(labctl.{verb}).__name__)") == "True function"


def test_importing_it_loads_nothing() -> None:
    code = f"import sys; sys.path.append({str(ROOT)!r}); before = set(sys.modules); import labctl\n"
    code += "print(sorted(set(sys.modules) - before))"

    assert python(code, "-I", "-S", "-B").replace("'__future__', ", "") == "['labctl']"


def test_a_firewall_that_is_none_is_refused_before_anything_is_built() -> None:
    with pytest.raises(labctl.UsageError, match="there is no firewall 'foo'") as caught:
        labctl.load("kubenet", firewall="foo")  # type: ignore[arg-type]

    assert caught.value.hint == "firewall= is legacy or nft"


def test_planning_loads_no_engine() -> None:
    code = (
        "import sys, labctl; labctl.plan('kubenet'); labctl.load('kubenet')\n"
        "print([name for name in ('pyroute2', 'iptc', 'click', 'subprocess') if name in sys.modules])"
    )
    assert python(code) == "[]"


def test_mypy_knows_the_real_types(tmp_path: Path) -> None:
    user = tmp_path / "user.py"
    user.write_text(
        "import labctl\nfrom labctl.core.resources import Interface\n"
        "reveal_type(labctl.plan('kubenet'))\nreveal_type(labctl.load)\nreveal_type(Interface('a', 'eth0').dev)\n"
        "with labctl.up('kubenet', set={'routing': 'host'}) as lab:\n"
        "    reveal_type(lab)\n    reveal_type(lab['a'].run('true').returncode)\n"
        "    reveal_type(lab.trace('a', 'c').answered)\n    reveal_type(lab.check())\n"
        "    reveal_type(labctl.trace('a', 'c', lab=lab))\n"
        "labctl.up(3)\nlabctl.nothing\n"
    )
    words = ["--strict", "--cache-dir", str(tmp_path / "cache"), "--no-color-output", str(user)]
    done = subprocess.run([sys.executable, "-m", "mypy", *words], capture_output=True, text=True, cwd=tmp_path)
    said = [line.partition(": ")[2] for line in done.stdout.replace(str(user), "user.py").splitlines()]
    revealed = [line.partition("Revealed type is ")[2].strip('"') for line in said if "Revealed" in line]

    assert revealed[0].startswith("tuple[labctl.core.resources.Netns | labctl.core.resources.Link"), (
        done.stdout + done.stderr
    )
    assert revealed[1].startswith("def (scenario: str | os.PathLike[str]")
    assert revealed[2:] == [
        "str", "labctl.running_lab.RunningLab", "int", "bool", "labctl.core.results.Report",
        "labctl.running_lab.Traced",
    ]  # fmt: skip
    wrong = [line for line in said if line.startswith("error: ")]
    assert [line.rpartition("[")[2].rstrip("]") for line in wrong] == ["arg-type", "attr-defined"]


def test_a_scenario_is_a_name_a_file_a_text_or_a_mapping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mini.yaml").write_text(MINI)
    (tmp_path / "plain").write_text(MINI)
    monkeypatch.chdir(tmp_path)
    mapping = {
        "name": "mini",
        "model": "docker-bridge",
        "hosts": {"host1": {"containers": ("c1", "c2")}},
        "checks": [{"say": "they meet", "ping": "c1 -> c2"}],
    }
    wanted = labctl.plan(MINI)

    assert labctl.plan("kubenet") == definition.define("kubenet").compiled.plan
    for scenario in (tmp_path / "mini.yaml", "mini.yaml", Path("plain"), mapping, labctl.load(MINI)):
        assert labctl.plan(scenario) == wanted
    assert {item.name for item in wanted if isinstance(item, Netns)} == {"c1", "c2", "host1", "internet"}
    with pytest.raises(labctl.UsageError, match="did you mean kubenet"):
        labctl.load("kubnet")


@pytest.mark.parametrize("what", [None, 7, ["kubenet"], b"kubenet"])
def test_what_is_no_scenario_is_refused_in_a_sentence(what: Any) -> None:
    with pytest.raises(labctl.UsageError, match="is not a scenario") as caught:
        labctl.up(what)

    assert "a path, the YAML itself, or a mapping" in caught.value.hint


def test_a_definition_is_changed_by_what_else_is_given_and_keeps_the_rest() -> None:
    nft = labctl.load("kubenet", firewall="nft", set={"routing": "host"})
    assert labctl.load(nft) is nft
    named = labctl.load(nft, name="other")
    assert (named.name, named.firewall, named.overrides) == ("other", "nft", ("routing=host",))
    assert named.compiled.firewall == "nft"
    assert labctl.load(nft, firewall="legacy").firewall == "legacy"
    assert labctl.load(labctl.load("kubenet"), firewall="nft").compiled.firewall == "nft"
    strict = labctl.load("name: strict\napproximate: false\nmodel: kubenet\nnodes: {node1: {pods: [a]}}\n")
    with pytest.raises(labctl.ScenarioError, match="approximate"):
        labctl.load(strict, approximate=True)


def test_values_are_set_as_on_the_command_line() -> None:
    values = {"routing": "host", "nodes.node1.pods": ["a", "b", "x"], "ip_forwarding": False, "mtu": 1400}
    made = labctl.load("kubenet", name="mine", set=values)

    assert made.overrides == ("routing=host", 'nodes.node1.pods=["a", "b", "x"]', "ip_forwarding=false", "mtu=1400")
    assert made.name == made.compiled.name == "mine"
    assert made.compiled.plan == labctl.plan("kubenet", set=made.overrides)
    assert labctl.load(labctl.load("kubenet", set=["routing=host"]), name="mine", set={"mtu": 1400}).overrides == (
        "routing=host", "mtu=1400",
    )  # fmt: skip
    with pytest.raises(labctl.UsageError, match="is a text"):
        labctl.load("kubenet", set="routing=host")


def test_mistakes_come_all_at_once_each_at_its_place() -> None:
    with pytest.raises(labctl.ScenarioError) as caught:
        labctl.load("name: mini\nmodel: docker-bridge\nhosts: {h: {containrs: [a]}}\nsya: x\n")

    problems = caught.value.problems
    assert [(one.file, one.line) for one in problems] == [("<scenario>", 3), ("<scenario>", 4)]
    assert "containers" in problems[0].hint
    with pytest.raises(labctl.ScenarioError, match="--set routing=hst:1:9"):
        labctl.load("kubenet", set={"routing": "hst"})


def test_without_root_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    for verb in (lambda: labctl.up("kubenet"), labctl.down, labctl.check, lambda: labctl.trace("a", "c")):
        with pytest.raises(labctl.MissingError, match=r"labctl\.[a-z]+ needs root") as caught:
            verb()
        assert "or in a separate user namespace, as docs/rootless.md says" in caught.value.hint

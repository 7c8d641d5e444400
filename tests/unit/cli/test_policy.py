"""The verb `policy`: what it asks, what it prints, its exit codes, its mistakes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from labctl.checks import policy_pairs
from labctl.cli.param_types import POLICY_END, POLICY_FILTER
from labctl.core.scenario_types import Lab
from labctl.kubernetes.policies.policy_matrix import PolicyMatrix
from labctl.lab import lifecycle, records
from tests.support.cluster_policy_cases import policy, rules
from tests.support.command_line import Run, error, in_process, pretend_empty_machine
from tests.support.policy_lab import policy_lab


@pytest.fixture(autouse=True)
def running(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Pretend that the lab with policies runs. The scenario empty.yaml has a policy and no pod."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.yaml").write_text("model: calico\nnodes: {node1: }\npolicies: {p: {podSelector: {}}}\n")
    pretend_empty_machine(monkeypatch, tmp_path)
    (tmp_path / "netns" / "labctl.six-pods.a").touch()
    for module in (lifecycle, records):
        monkeypatch.setattr(module, "load_compiled_lab", lambda *_: policy_lab())


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return in_process(capsys)


def test_the_matrix_of_the_running_lab(run: Run) -> None:
    code, out, err = run("policy", "matrix", "--port", "8080")

    assert (code, err) == (0, "")
    assert "x  a   - X   X X   X X\n" in out
    assert out.endswith("30 pairs: 10 allowed, 20 denied\n")


def test_pods_are_chosen_for_both_sides(run: Run) -> None:
    code, out, _ = run("policy", "matrix", "--port", "8080", "--from", "x", "--from", "c", "--to", "app=web", "--json")
    document = json.loads(out)

    assert code == 0
    assert (document["sources"], document["targets"]) == (["x/a", "x/b", "y/c"], ["x/a", "y/d"])
    assert len(document["pairs"]) == 5


def measured(found: PolicyMatrix, wrong: str) -> PolicyMatrix:
    results: dict[tuple[str, str], Any] = {
        (one.source.machine, one.target.machine): ("connected" if one.passes else "timeout", "") for one in found
    }
    if wrong:
        results["b", "a"] = (wrong, "")
    return found.measured(results)


@pytest.mark.parametrize(("wrong", "code"), [("", 0), ("connected", 1), ("unknown", 1)])
def test_a_measured_matrix_fails_if_a_pair_differs_or_is_not_measured(
    run: Run, monkeypatch: pytest.MonkeyPatch, wrong: str, code: int
) -> None:
    monkeypatch.setattr(policy_pairs, "measure", lambda _, found: measured(found, wrong))
    done, out, _ = run("policy", "matrix", "--port", "8080", "--live")

    assert done == code
    assert "measured" in out
    assert ("b -> a: " in out) == bool(wrong)


def test_live_needs_a_running_lab_and_root(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    code, _, err = run("policy", "matrix", "--live", "--scenario", "kubenet")
    assert (code, "--live and --scenario cannot be used together" in err) == (2, True)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    code, _, err = run("policy", "matrix", "--live")
    assert (code, "needs root" in err) == (4, True)
    assert run("policy", "matrix")[0] == 0


def test_why_answers_in_sentences_and_succeeds(run: Run) -> None:
    code, out, _ = run("policy", "why", "b", "a", "--tcp", "8080")

    assert code == 0
    assert out.startswith("b -> a, TCP 8080: denied\n")
    assert "NetworkPolicy x/deny-all (egress) denies it: no rule allows TCP 8080 to a" in out


def test_why_as_a_document(run: Run) -> None:
    code, out, _ = run("--json", "policy", "why", "c", "x/web", "--tcp", "80")
    document = json.loads(out)

    assert (code, document["allowed"], document["service"]) == (0, True, "x/web")
    assert [one["port"] for one in document["connections"]] == [8080]


def test_every_rule_is_shown_with_v(run: Run) -> None:
    assert run("policy", "why", "b", "a", "--tcp", "8080", "-v")[0] == 0


@pytest.mark.parametrize(
    ("words", "what", "hint"),
    [
        (("why", "b", "a"), "policy why: the question names no port", "labctl policy why a b --tcp 80"),
        (("why", "b", "a", "--tcp", "1", "--udp", "2"), "the question has --tcp and --udp", "such as"),
        (("why", "b", "x/aa", "--tcp", "80"), "has no pod, Service, machine or address 'x/aa'", "did you mean x/a?"),
        (("matrix", "--from", "x/aa"), "no pod is meant by 'x/aa'", "did you mean x/a?"),
        (("matrix", "--port", "99999"), "'99999' is not a whole number from 1 to 65535", ""),
        (("matrix", "--set", "a=b"), "--set needs --scenario FILE", "has its values"),
        (("matrix", "--manifest", "p.yaml"), "--manifest needs --scenario FILE", "has its manifests"),
        ((), "policy: missing command", "labctl policy --help"),
        (("matrx",), "policy: there is no 'matrx'", "did you mean `labctl policy matrix`?"),
        (("matrix", "--scenario", "docker-bridge"), "lab docker-bridge has no pods", "Kubernetes model"),
        (("matrix", "--scenario", "empty.yaml"), "lab empty has no pods", "Kubernetes model"),
    ],
)
def test_mistakes_are_explained(run: Run, words: tuple[str, ...], what: str, hint: str) -> None:
    code, out, _ = run("policy", *words, "--json")

    assert code == 2
    assert what in error(out)["message"]
    assert hint in error(out)["errors"][0]["hint"]


def test_a_lab_without_policies_allows_everything(run: Run) -> None:
    code, out, _ = run("policy", "matrix", "--scenario", "kubenet")

    assert (code, out.splitlines()[-1]) == (0, "6 pairs: 6 allowed, 0 denied")


def test_a_manifest_is_asked_without_a_lab(run: Run, tmp_path: Path) -> None:
    guard = policy({"namespaces": {}}, ingress=rules("from", ("Deny", {"namespaces": {}}, {})))
    item = {"apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy"}
    (tmp_path / "p.json").write_text(json.dumps({**item, "metadata": {"name": "guard"}, "spec": guard}))
    code, out, _ = run("policy", "matrix", "--scenario", "calico", "--manifest", str(tmp_path / "p.json"))

    assert code == 0
    assert "0 allowed" in out.splitlines()[-1]


def test_names_are_completed() -> None:
    ends, chosen = POLICY_END.names(policy_lab()), POLICY_FILTER.names(policy_lab())

    assert {"a", "x/a", "x/web", "internet"} <= set(ends)
    assert {"a", "x/a", "x", "y"} <= set(chosen)
    assert not {"x/web", "internet"} & set(chosen)
    bare: Lab = replace(policy_lab(), kubernetes=None)
    assert POLICY_END.names(bare) == POLICY_FILTER.names(bare) == ()

"""The verb `explain`: a lab, its machines and objects, and the terms of the glossary."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

import labctl
from labctl.cli.verbs.explain import ExplainedObjectParam, ExplainedParam, explain
from labctl.lab import records
from tests.support.command_line import Run, error, in_process, pretend_empty_machine


@pytest.fixture(autouse=True)
def empty_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    return pretend_empty_machine(monkeypatch, tmp_path)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return in_process(capsys)


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Pretend that a lab runs which is called as a scenario of another model, and has a machine `fabric`."""
    for node in ("node1", "fabric", "a"):
        (tmp_path / "netns" / f"labctl.flannel.{node}").touch()
    known = labctl.load("kubenet", name="flannel").compiled
    answer: Callable[..., Any] = lambda *_: known  # noqa: E731
    monkeypatch.setattr(records, "load_compiled_lab", answer)


def test_a_lab_has_an_overview(run: Run) -> None:
    code, out, err = run("explain", "kubenet")

    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("lab kubenet, model kubenet: ")
    assert lines[1] == "It follows kubenet of Kubernetes 1.23 (dockershim) with AKS's agents."
    assert any(line.split()[:2] == ["node1", "35"] for line in lines)
    assert any(line.startswith("the CNI plugin bridge  ") for line in lines)
    assert lines[-2:] == ["next: labctl explain kubenet node1", "      labctl explain kubenet node1 route"]


def test_a_machine_has_a_list_of_its_objects(run: Run) -> None:
    code, out, _ = run("explain", "kubenet", "node1")

    assert code == 0
    assert out.startswith(
        "node1\n  namespace node1\n      It is a node of the cluster, a machine that runs pods (a, b). [labctl]\n"
    )
    same = "  sysctl net.ipv4.conf.all.rp_filter = 0\n  sysctl net.ipv4.conf.default.rp_filter = 0\n"
    assert same in out, "objects with one sentence are together"
    assert "without" not in out


def test_an_object_is_explained_in_full(run: Run) -> None:
    code, out, _ = run("explain", "kubenet", "fabric", "10.244.1.0/24")

    assert code == 0
    assert out == (
        "fabric: route 10.244.1.0/24 via 10.224.0.5 dev node2 table 100 onlink\n"
        "  why       It leads packets for 10.244.1.0/24 to node2, where its pods are (c). Only this user-defined route"
        " (UDR) says so: the virtual network itself knows machines, not pods, and the nodes know only their own pods.\n"
        "  made by   cloud-provider-azure\n"
        "  source    kubernetes-sigs/cloud-provider-azure, pkg/provider/azure_routes.go\n"
        "  without   The fabric lacks its route to pods of a node (Azure: user-defined route, UDR; Google Cloud: custom"
        " route). Packets to these pods end in the fabric, or take a less specific route.\n"
        "            labctl break udr-missing fabric/10.244.1.0/24@100\n"
        "  if wrong  A route silently discards packets instead of forwarding them. (route-blackhole)\n"
        "            A route of type unreachable has taken the place of the right one. (route-unreachable)\n"
        "            A route of type prohibit has taken the place of the right one. (route-prohibit)\n"
        "            A route sends packets out of the wrong device. (route-wrong-device)\n"
        "  command   ip route add 10.244.1.0/24 via 10.224.0.5 dev node2 table 100 onlink\n"
        "  runs in   fabric\n"
    )


def test_verbose_explains_many_objects_in_full(run: Run) -> None:
    code, out, _ = run("explain", "kubenet", "a", "-v")

    assert code == 0
    assert out.count("\n  why ") == 7


def test_values_are_those_of_the_explained_lab(run: Run) -> None:
    code, out, _ = run("explain", "kubenet", "--set", "routing=host", "node1", "10.244.1.0/24")

    assert code == 0
    assert "  made by   the route controller\n" in out


def test_the_document_has_each_object_with_its_source_and_faults(run: Run) -> None:
    document = json.loads(run("explain", "kubenet", "node1", "cbr0", "--json")[1])

    assert (document["lab"], document["model"]) == ("kubenet", "kubenet")
    link, address = document["objects"]
    assert (link["machine"], link["kind"], link["in"]) == ("node1", "link", "node1")
    assert link["why"].startswith("It connects the pods of node1")
    assert link["source"]["project"] == "kubernetes/kubernetes"
    assert {one["fault"] for one in address["without"] if one["removes"]} == {"address-missing"}
    assert address["commands"] == ["ip addr add 10.244.0.1/24 dev cbr0"]


def test_every_object_of_a_lab_is_in_its_document(run: Run) -> None:
    lab = labctl.load("pods").compiled
    document = json.loads(run("explain", "pods", "--json")[1])

    rules = sum(len(getattr(item, "rules", ())) for item in lab.plan)
    assert len(document["objects"]) == len(lab.plan) + rules


def test_a_term_of_the_glossary(run: Run) -> None:
    code, out, err = run("explain", "masquerade")

    assert (code, err) == (0, "")
    assert out.startswith("Masquerade\n\nSNAT to the address of the device by which the packet leaves.")
    assert out.endswith("see also: pod cidr\n")
    assert run("explain", "pod", "CIDR")[1].startswith("Pod CIDR\n")
    assert json.loads(run("explain", "ttl", "--json")[1])["term"] == "TTL"


def test_a_term_in_japanese_is_found_by_words_of_both_languages_and_json_stays_english(run: Run) -> None:
    code, out, err = run("explain", "bridge", "--lang", "ja")

    assert (code, err) == (0, "")
    assert out.startswith("ブリッジ\n\nカーネルの仮想スイッチです。")
    assert run("explain", "ブリッジ", "--lang", "ja")[1] == out
    assert json.loads(run("explain", "bridge", "--lang", "ja", "--json")[1])["term"] == "Bridge"
    assert run("explain", "ブリッジ", "--lang", "en")[0] == 2


@pytest.mark.usefixtures("running")
def test_a_running_lab_comes_first_then_a_scenario_then_its_nodes_then_terms(run: Run) -> None:
    assert run("explain", "flannel")[1].startswith("lab flannel, model kubenet: ")
    assert run("explain", "flannel", "--set", "mtu=1400")[1].startswith("lab flannel, model flannel: ")
    assert run("explain", "docker-bridge")[1].startswith("lab docker-bridge, ")
    for words in (["node1", "ip_forward"], ["node1/ip_forward"], ["node1", "ip_forward", "-l", "flannel"]):
        assert run("explain", *words)[1].startswith("node1: sysctl net.ipv4.ip_forward = 1\n")
    code, out, err = run("explain", "fabric")
    assert (code, out.splitlines()[0]) == (0, "fabric")
    assert err == "`fabric` is also a term: labctl explain --term fabric\n"
    assert run("explain", "--term", "fabric")[1].startswith("Fabric\n")
    assert run("explain", "overlay")[1].startswith("Overlay and underlay\n")


@pytest.mark.usefixtures("running")
def test_an_object_of_the_running_lab_is_found_without_its_machine(run: Run) -> None:
    code, out, err = run("explain", "veth86f7e437")

    assert (code, err) == (0, "")
    assert out.startswith("node1: link veth86f7e437 type veth peer a/eth0")
    assert run("explain", "10.244.1.2")[1].startswith("c: address 10.244.1.2/24 dev eth0\n")
    assert run("explain", "masquerade")[1].startswith("Masquerade\n"), "a term comes first"
    assert "there is nothing named 'veth0'" in run("explain", "veth0")[2]
    assert "the glossary has no term 'veth86f7e437'" in run("explain", "--term", "veth86f7e437")[2]


@pytest.mark.usefixtures("running")
def test_values_need_a_scenario(run: Run) -> None:
    code, out, _ = run("explain", "node1", "--set", "mtu=1400", "--json")

    assert code == 2
    assert error(out)["message"] == "--set needs a scenario"


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["masqerade"], "there is nothing named 'masqerade' to explain", "did you mean masquerade?"),
        (["kubnet"], "there is nothing named 'kubnet' to explain", "did you mean kubenet?"),
        (["kubenet", "nod1"], "lab kubenet has no object 'nod1'", "did you mean node1?"),
        (["masqerade", "--term"], "the glossary has no term 'masqerade'", "did you mean masquerade?"),
        (["kubenet", "--term"], "the glossary has no term 'kubenet'", None),
        (["no/such.yaml"], "cannot read 'no/such.yaml'", None),
    ],
)
def test_mistakes(run: Run, words: list[str], message: str, hint: str | None) -> None:
    code, out, _ = run("explain", *words, "--json")

    assert code == 2
    assert error(out)["message"].startswith(message)
    assert hint in (None, error(out)["errors"][0]["hint"])


def completed(param: click.ParamType[Any], incomplete: str, **given: Any) -> list[str]:
    ctx = click.Context(explain, obj=None)
    ctx.params = given
    return [item.value for item in param.shell_complete(ctx, explain.params[0], incomplete)]


@pytest.mark.usefixtures("running")
def test_completion_has_labs_nodes_scenarios_and_terms() -> None:
    assert completed(ExplainedParam(), "fl")[0] == "flannel"
    assert completed(ExplainedParam(), "fl").count("flannel") == 1
    assert "flannel-udp" in completed(ExplainedParam(), "fl")
    assert completed(ExplainedParam(), "masq") == ["masquerade"]
    assert completed(ExplainedParam(), "node1") == ["node1"]


def test_completion_of_objects_has_machines_then_names() -> None:
    assert completed(ExplainedObjectParam(), "no", subject="kubenet") == ["node1", "node2"]
    assert completed(ExplainedObjectParam(), "cb", subject="kubenet", words=("node1",)) == ["cbr0"]
    assert completed(ExplainedObjectParam(), "", subject="nothing") == []


def test_every_node_is_explained_in_80_columns(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only commands are wider, so that they can be pasted."""
    from labctl.report.terminal import Terminal

    monkeypatch.setattr(Terminal, "width", property(lambda self: 80))
    monkeypatch.setattr("labctl.report.terminal._is_tty", lambda stream: True)
    monkeypatch.setattr("labctl.report.terminal._columns", lambda: 80)
    monkeypatch.setenv("NO_COLOR", "1")
    for words in (["kubenet"], ["kubenet", "node1"], ["calico", "node1"], ["services", "fabric"], ["ttl"]):
        lines = run("explain", *words)[1].splitlines()
        assert [line for line in lines if len(line) > 80 and len(line.split()) > 3] == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["plan", "kubenet", "--why"], "--why needs --as shell"),
        (["plan", "kubenet", "--as", "shell", "--why", "--json"], "--json and --as shell cannot be used together"),
        (["show", "--why"], "--why needs a node"),
        (["show", "a", "--why", "--json"], "--why and --json cannot be used together"),
    ],
)
def test_why_where_it_cannot_be(run: Run, words: list[str], message: str) -> None:
    code, out, err = run(*words)

    assert code == 2
    assert message in out + err


def test_why_in_a_script_is_a_comment_before_each_object(run: Run) -> None:
    plain = run("plan", "kubenet", "--as", "shell")[1].splitlines()
    commented = run("plan", "kubenet", "--as", "shell", "--why")[1].splitlines()

    assert [line for line in commented if not line.startswith("#   ")] == plain
    at = commented.index("in_node fabric ip route add 10.244.1.0/24 via 10.224.0.5 dev node2 table 100 onlink")
    assert commented[at - 1].endswith("[cloud-provider-azure]")
    masquerade = next(number for number, line in enumerate(commented) if line.endswith("-j MASQUERADE"))
    assert commented[masquerade - 1].endswith("[ip-masq-agent]")

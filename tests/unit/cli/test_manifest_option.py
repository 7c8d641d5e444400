"""`--manifest FILE` and the warnings: on the command line, in the record of a lab, and in JSON documents."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

import labctl
from labctl.compare.run import ComparedScenario
from labctl.compare.table import Table, table
from labctl.errors import ScenarioError, UsageError
from labctl.kernel.host import paths
from labctl.lab import records
from labctl.scenario.definition import Definition, compile_definition, manifest_key
from tests.support.command_line import Run, error, in_process, pretend_empty_machine

SERVICE = """\
apiVersion: v1
kind: Service
metadata: {name: %s}
spec: {ports: [{port: 80, appProtocol: http}], selector: {app: x}}
"""
WARNING = "not used: spec.ports.appProtocol (1 object)"


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    state = pretend_empty_machine(monkeypatch, tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "web.yaml").write_text(SERVICE % "web")
    (tmp_path / "db.yaml").write_text(SERVICE % "db")
    return state


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return in_process(capsys)


def services(definition: Definition) -> list[str]:
    return [str(one) for one in compile_definition(definition).kubernetes.cluster.services]


def test_a_manifest_is_relative_to_the_current_folder_and_several_are_possible() -> None:
    definition = labctl.load("kubenet", manifests=["web.yaml", Path("db.yaml")])

    assert services(definition) == ["default/web", "default/db"]
    assert definition.manifests == ("web.yaml", "db.yaml")


def test_the_record_of_a_lab_has_the_texts_of_its_manifests(tmp_path: Path) -> None:
    definition = labctl.load("kubenet", name="t", manifests=["web.yaml"])
    records.save_definition(definition, definition.compiled)
    (tmp_path / "web.yaml").unlink()

    recorded = records.load_definition("t")

    assert recorded is not None
    assert dict(recorded.files) == {manifest_key("web.yaml"): SERVICE % "web"}
    assert compile_definition(recorded).plan == definition.compiled.plan


def test_a_definition_with_another_name_keeps_its_manifests_and_takes_further_ones(tmp_path: Path) -> None:
    first = labctl.load("kubenet", manifests=["web.yaml"])
    (tmp_path / "web.yaml").unlink()

    second = labctl.load(first, name="other", manifests=["db.yaml"])

    assert services(second) == ["default/web", "default/db"]
    assert second.manifests == ("web.yaml", "db.yaml")


def test_the_standard_input_is_a_manifest_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO((SERVICE % "typed").encode())))

    assert services(labctl.load("kubenet", manifests=["-"])) == ["default/typed"]


def test_a_mistake_has_its_place_in_the_manifest(tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text((SERVICE % "web").replace("80", "none"))

    with pytest.raises(ScenarioError) as caught:
        labctl.load("kubenet", manifests=["web.yaml"])

    assert str(caught.value).startswith("web.yaml:4:23: Service web: spec.ports[0].port: expected a whole number")
    with pytest.raises(UsageError, match=r"cannot read 'no-such\.yaml'"):
        labctl.load("kubenet", manifests=["no-such.yaml"])


def test_a_manifest_is_refused_for_a_model_without_objects_of_kubernetes() -> None:
    with pytest.raises(ScenarioError, match=r"--manifest web\.yaml:1:1: this model has no objects of Kubernetes"):
        labctl.load("docker-bridge", manifests=["web.yaml"])


def test_plan_and_validate_print_warnings_on_standard_error(run: Run) -> None:
    code, out, err = run("plan", "kubenet", "--manifest", "web.yaml")
    assert code == 0
    assert f"warning: {WARNING}\n" in err
    assert "KUBE-SERVICES" in out
    assert WARNING not in out

    code, out, err = run("validate", "kubenet", "--manifest=web.yaml")
    assert (code, out.strip()) == (0, "kubenet: ok")
    assert f"warning: {WARNING}\n" in err


def test_json_documents_have_the_warnings(run: Run) -> None:
    code, out, err = run("plan", "kubenet", "--manifest", "web.yaml", "--json")
    assert (code, err) == (0, "")
    assert WARNING in json.loads(out)["warnings"]

    code, out, _ = run("validate", "kubenet", "--manifest", "web.yaml", "--json")
    assert WARNING in json.loads(out)["files"][0]["warnings"]


def test_a_running_lab_needs_its_scenario_for_further_manifests(run: Run) -> None:
    (paths.netns_dir() / "labctl.kubenet.node1").touch()

    code, out, _ = run("status", "--manifest", "web.yaml", "--json")

    assert code == 2
    assert error(out)["message"] == "--manifest needs --scenario FILE"


@pytest.mark.parametrize("text", ["", "# nothing\n---\n---\n", '{"kind": "List", "apiVersion": "v1", "items": []}'])
def test_a_manifest_without_objects_is_refused_as_by_kubectl(run: Run, tmp_path: Path, text: str) -> None:
    (tmp_path / "empty.yaml").write_text(text)

    code, _, err = run("plan", "kubenet", "--manifest", "empty.yaml", "--manifest", "web.yaml")

    assert code == 2
    assert "empty.yaml:1:1: the manifest has no objects\n" in err
    (tmp_path / "empty.yaml").write_text("kind: ConfigMap\napiVersion: v1\nmetadata: {name: x}\n")
    assert run("plan", "kubenet", "--manifest", "empty.yaml")[0] == 0  # an object that no part of labctl reads


def test_the_script_names_the_values_and_manifests_of_its_lab(run: Run) -> None:
    words = ("kubenet", "--name", "x", "--set", "routing=host", "--manifest", "web.yaml", "--manifest", "db.yaml")

    _, out, _ = run("plan", *words, "--as", "shell", "--firewall", "nft")

    told = "# The equivalent of `labctl up " + " ".join(words) + " --firewall nft`."
    assert told in out
    assert "`labctl down x` removes the lab" in out
    assert "`labctl up kubenet`." in run("plan", "kubenet", "--as", "shell")[1]


def test_a_comparison_gives_each_scenario_the_manifests(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[list[str]] = []

    def compare(entries: list[ComparedScenario], *_: object, **__: object) -> Table:
        found.extend(services(one.definition) for one in entries)
        return table([], 0.0)

    monkeypatch.setattr("labctl.compare.run.compare", compare)
    monkeypatch.setattr("labctl.cli.session.Session.require_root", lambda _: None)

    run("compare", "kubenet", "flannel", "--manifest", "web.yaml", "--json")

    assert found == [["default/web"], ["default/web"]]


def test_a_comparison_of_all_scenarios_has_no_manifests(run: Run) -> None:
    code, out, _ = run("compare", "--all", "--manifest", "web.yaml", "--json")

    assert (code, error(out)["message"]) == (2, "compare: --all and --manifest cannot be used together")

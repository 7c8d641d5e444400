"""How a word of the command line finds a scenario."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from labctl import models
from labctl.errors import UsageError
from labctl.scenario import catalog


def test_the_built_in_scenarios() -> None:
    assert {"docker-bridge", "kubenet", "azure-cni-transparent", "raw-dual-stack"} <= set(catalog.names())
    assert {"azure-cni-bridge", "azure-cni-bridge-tunnel", "azure-cni-overlay"} <= set(catalog.names())
    assert list(catalog.names()) == sorted(catalog.names())


@pytest.mark.parametrize("name", catalog.names())
def test_a_name_finds_its_file_and_text(name: str) -> None:
    file, text = catalog.find(name)
    assert Path(file).name == f"{name}.yaml"
    assert Path(file).read_text() == text
    assert "model:" in text


@pytest.mark.parametrize(("alias", "name"), catalog.ALIASES.items())
def test_the_name_of_a_product_finds_its_usual_network(alias: str, name: str) -> None:
    assert catalog.find(alias) == catalog.find(name)
    assert alias not in catalog.names()
    assert name.startswith(("azure", alias, "docker", "podman"))


def test_products_that_people_type() -> None:
    assert catalog.ALIASES["docker"] == "docker-bridge"
    assert catalog.ALIASES["eks"] == "eks-vpc-cni"
    assert {"aks", "gke"} <= set(catalog.ALIASES)


@pytest.mark.parametrize("name", ["my.yaml", "my.yml", "sub/mine"])
def test_a_word_with_a_slash_or_an_ending_is_a_file(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / name).write_text("model: raw\n")
    assert catalog.find(name) == (name, "model: raw\n")


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("kubnet", "did you mean kubenet?"),
        ("dcoker", "did you mean docker?"),
        ("docker-brige", "did you mean docker-bridge?"),
        ("zzz", "`labctl list --scenarios` shows the names"),
        ("", "shows the names"),
        ("-h", "shows the names"),
        ("..", "shows the names"),
        ("x" * 100_000, "shows the names"),
    ],
)
def test_an_unknown_name_gets_a_hint(word: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        catalog.find(word)
    assert hint in caught.value.hint


def test_a_file_here_without_an_ending_is_pointed_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("qqq").write_text("model: raw\n")
    with pytest.raises(UsageError) as caught:
        catalog.find("qqq")
    assert caught.value.hint == "for the file, write ./qqq"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read '.*gone\.yaml': No such file or directory"):
        catalog.find(str(tmp_path / "gone.yaml"))


def test_entries_say_what_a_scenario_shows_and_how_true_it_is() -> None:
    entries = {entry.name: entry for entry in catalog.entries()}
    assert tuple(entries) == catalog.names()
    assert all(len(entry.title) > 10 and entry.title.isprintable() for entry in entries.values())
    assert entries["raw-dual-stack"].title.endswith("(model raw)")
    assert entries["docker-icc"].model == "docker-bridge"
    for entry in entries.values():
        assert entry.parts == models.find_model(entry.model).PARTS


def test_entries_read_no_yaml_and_import_no_model() -> None:
    code = (
        "import sys, labctl.scenario.catalog as c; c.entries();"
        "sys.exit(any(m in sys.modules for m in ('yaml', 'pyroute2', 'labctl.models')))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=catalog.folder().parent).returncode == 0

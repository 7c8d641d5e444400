"""--lang and the language of the environment: what it changes, and what it leaves alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from labctl.kernel.firewall import commands
from labctl.kernel.host import child_process
from labctl.kernel.probes import clients
from labctl.translation import language
from tests.support.command_line import Run, error, in_process, pretend_empty_machine
from tests.support.paths import ROOT

USAGE = {"en": "Usage: labctl", "ja": "使い方: labctl"}


@pytest.fixture
def labctl(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Run]:
    pretend_empty_machine(monkeypatch, tmp_path)
    for name in language.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    yield in_process(capsys)
    language.use(language.ORIGINAL)


@pytest.mark.parametrize(
    "words",
    [
        ("--lang", "ja", "list", "--help"),
        ("list", "--lang", "ja", "--help"),
        ("list", "--help", "--lang=ja"),
        ("--lang", "ja_JP.UTF-8", "--help"),
        ("exercise", "list", "--lang", "ja", "--help"),
    ],
)
def test_the_language_is_given_before_or_after_the_verb(labctl: Run, words: tuple[str, ...]) -> None:
    code, out, _ = labctl(*words)

    assert (code, out.startswith(USAGE["ja"])) == (0, True)
    assert labctl("list", "--help")[1].startswith(USAGE["en"]), "the next run speaks its own language"


@pytest.mark.parametrize(
    ("variables", "spoken"),
    [
        ({"LANG": "ja_JP.UTF-8"}, "ja"),
        ({"LANG": "ja_JP.UTF-8", "LC_ALL": "C"}, "en"),
        ({"LANG": "C", "LABCTL_LANG": "ja"}, "ja"),
        ({"LABCTL_LANG": "xx"}, "en"),
        ({"LANG": "ja_JP.UTF-8", "LANGUAGE": "fr"}, "ja"),
    ],
)
def test_without_it_the_environment_decides(
    labctl: Run, variables: dict[str, str], spoken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert labctl("list", "--help")[1].startswith(USAGE[spoken])
    assert labctl("--lang", "en", "list", "--help")[1].startswith(USAGE["en"])


@pytest.mark.parametrize("value", ["xx", "japanese", "", "../../etc"])
def test_an_unknown_language_is_an_error_that_lists_the_known_ones(labctl: Run, value: str) -> None:
    code, out, err = labctl("--lang", value, "list")

    assert (code, out) == (2, "")
    assert f"there is no language {value!r}" in err
    assert "the languages are en, ja" in err


def test_the_messages_of_click_are_translated(labctl: Run) -> None:
    assert "引数がありません: 'SCENARIO'" in labctl("--lang", "ja", "up")[2]
    assert "余分な引数があります (b c)" in labctl("up", "a", "b", "c", "--lang", "ja")[2]
    assert "option '--lang' requires" in labctl("list", "--lang")[2]


def test_a_command_for_a_machine_keeps_its_own_option(labctl: Run) -> None:
    for words in (("exec", "a", "--", "ls", "--lang", "ja"), ("exec", "a", "--", "ls", "--lang=xx")):
        assert "there is no language" not in labctl(*words)[2]
        assert language.current_language() == "en"


def test_documents_for_programs_are_english(labctl: Run) -> None:
    assert labctl("exercise", "list", "--json")[1] == labctl("--lang", "ja", "exercise", "list", "--json")[1]
    code, out, _ = labctl("--lang", "ja", "status", "--json")

    assert code == 2
    assert error(out)["message"].isascii()
    assert json.loads(out) == json.loads(labctl("status", "--json")[1])


def test_english_reads_no_catalogue() -> None:
    script = """
import sys
opened = []
sys.addaudithook(lambda event, args: event == "open" and opened.append(str(args[0])))
from labctl.cli import main
main(["list", "--help"])
main(["list", "--lang", "en"])
assert not [name for name in opened if name.endswith(".mo")], opened
main(["list", "--lang", "ja"])
assert [name for name in opened if name.endswith("labctl.mo")], opened
"""
    environment = {**os.environ, "LABCTL_LANG": "en"}
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment, check=True, timeout=60)


@pytest.mark.parametrize("variable", ["LANG", "LANGUAGE", "LC_ALL", "LC_MESSAGES"])
def test_programs_whose_output_is_read_speak_english(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stop(Exception):
        pass

    environments: list[Any] = []

    def record(*_: object, environment: dict[str, str] | None = None, **__: object) -> None:
        environments.append(environment)
        raise Stop

    monkeypatch.setenv(variable, "ja_JP.UTF-8")
    monkeypatch.setattr(child_process, "Child", record)
    with pytest.raises(Stop):
        clients.Ping("/bin/ping", ip_address("10.0.0.1"), b"marker")
    with pytest.raises(Stop):
        commands.run(["iptables-save"])

    assert [one["LC_ALL"] for one in environments] == ["C", "C"], "LC_ALL=C also overrides LANGUAGE"


def test_the_environment_of_commands_in_machines_is_not_changed(labctl: Run) -> None:
    before = dict(os.environ)
    labctl("--lang", "ja", "list")

    assert dict(os.environ) == before

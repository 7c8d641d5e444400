"""Labs with rules of iptables-nft: chosen by trying, kept with the lab, otherwise the same lab."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from labctl.checks import runner
from labctl.core.diff import diff
from labctl.core.iptables import Backend, rule
from labctl.core.resources import Chain, IpSet, Netns
from labctl.errors import KernelError, MissingError, UsageError
from labctl.kernel.apply import features
from labctl.kernel.cni.plugins import Plugins
from labctl.kernel.firewall import backend, chains
from labctl.kernel.host import lab_state, paths
from labctl.kernel.namespaces.thread import NetnsThread
from labctl.kernel.netlink import ipset, nft_tables
from labctl.lab import lifecycle
from labctl.render.resources import change_lines
from labctl.report.shell_script import plan_script
from tests.support import forked, kernels, plugins
from tests.support.drift import drift
from tests.support.paths import ROOT
from tests.support.rule_forms import FILTER, MANGLE, NAT, TOOLS_ONLY, chains_of, creations
from tests.support.trace_cases import CASES, LABS, Case
from tests.support.traces import broken, traced


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    yield
    for name in paths.labs():
        lifecycle.down(name)


def run(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
    command, own = [forked.labctl_program(), *words], {**os.environ, **more}
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False, env=own)


def legacy_tables(name: str, nodes: tuple[str, ...]) -> list[str]:
    """The legacy tables that there are anywhere in a lab; to look makes none."""
    with NetnsThread() as inside:
        return [
            table
            for node in nodes
            for listed in ("ip_tables_names", "ip6_tables_names")
            for table in inside.run(paths.netns_path(name, node), chains.tools.legacy_tables, listed)
        ]


def no_legacy(fd: int, table: str) -> None:
    raise OSError(2, f"table {table}: No such file or directory")


@pytest.mark.parametrize(("scenario", "approximate"), kernels.built_in())
def test_every_scenario_is_the_same_lab_with_nft(scenario: str, approximate: tuple[str, ...]) -> None:
    plugins.skip_without(scenario)
    definition = lifecycle.with_firewall(kernels.define(scenario, approximate=approximate), "nft")
    first = lifecycle.up(definition)
    name = first.lab.name
    assert drift(name) == []
    assert lifecycle.up(definition).changes == ()
    outcomes = runner.run(lifecycle.load_compiled_lab(name)).outcomes
    assert [(one.check.say, one.verdict, one.evidence) for one in outcomes if one.verdict != "pass"] == []
    nodes = tuple(item.name for item in first.lab.plan if isinstance(item, Netns))
    assert legacy_tables(name, nodes) == []
    if any(isinstance(item, Chain) and item.family == "ip" for item in first.lab.plan):
        with NetnsThread() as inside:
            seen = {one for node in nodes for one in inside.run(paths.netns_path(name, node), nft_tables.tables)}
        assert seen & {("ip", "nat"), ("ip", "filter"), ("ip", "mangle"), ("ip", "raw")}
    lifecycle.down(name)
    assert paths.labs() == {}
    assert not lab_state.directory(name).exists()


# ---- which one, and how long


@kernels.LEGACY
def test_legacy_is_the_first_choice_and_nft_where_there_is_no_legacy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(backend.VARIABLE, raising=False)
    assert backend.choose(None, print) == "legacy"
    monkeypatch.setattr(backend, "probe_legacy_table", no_legacy)
    assert backend.choose(None, print) == "nft"
    assert lifecycle.up(lifecycle.define("kubenet")).lab.firewall == "nft"
    assert drift("kubenet") == []


@kernels.LEGACY
def test_to_try_a_back_end_changes_nothing_here() -> None:
    here = os.readlink("/proc/thread-self/ns/net")
    tables = Path("/proc/self/net/ip_tables_names").read_text(), nft_tables.tables()
    assert (backend.backend_problem("legacy"), backend.backend_problem("nft")) == ("", "")
    assert os.readlink("/proc/thread-self/ns/net") == here
    assert (Path("/proc/self/net/ip_tables_names").read_text(), nft_tables.tables()) == tables


def test_without_any_firewall_a_lab_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "probe_legacy_table", no_legacy)
    monkeypatch.setattr(backend.commands, "try_restore", lambda *words: "iptables-nft: cannot init")
    with pytest.raises(MissingError, match=r"no legacy table filter.*; iptables-nft: .*cannot init") as caught:
        lifecycle.up(lifecycle.define("kubenet"))
    assert caught.value.code == 4
    assert "modprobe ip_tables" in caught.value.hint
    assert "modprobe nf_tables" in caught.value.hint
    assert paths.labs() == {}
    with pytest.raises(MissingError, match="iptables-legacy: ") as caught:
        backend.choose("legacy", print)
    assert "--firewall nft" in caught.value.hint


def test_who_may_try_nothing_gets_the_usual_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "backend_problem", lambda name: pytest.fail("it was tried"))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert (backend.choose(None, print), backend.choose("nft", print)) == ("legacy", "nft")
    assert backend.choose(backend.requested_backend(None), print) in ("legacy", "nft")


def test_a_wish_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(backend.VARIABLE, "ipfw")
    with pytest.raises(UsageError, match="no firewall 'ipfw'"):
        lifecycle.up(lifecycle.define("kubenet"))
    assert backend.requested_backend("nft") == "nft"


@kernels.LEGACY
def test_a_running_lab_keeps_the_back_end_that_it_was_built_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(backend.VARIABLE, "nft")
    assert lifecycle.up(lifecycle.define("kubenet")).lab.firewall == "nft"
    for wish in ("legacy", ""):  # of new labs
        monkeypatch.setenv(backend.VARIABLE, wish)
        assert lifecycle.up(lifecycle.define("kubenet")).changes == ()
    assert [one.firewall for one in lifecycle.running_labs()] == ["nft"]
    assert lifecycle.load_compiled_lab("kubenet").firewall == "nft"
    with pytest.raises(UsageError, match=r"another definition runs .*with --firewall nft"):
        lifecycle.up(lifecycle.define("kubenet", firewall="legacy"))
    assert lifecycle.up(lifecycle.define("kubenet", firewall="legacy"), replace=True).lab.firewall == "legacy"
    assert drift("kubenet") == []


@pytest.mark.parametrize("name", [pytest.param("legacy", marks=kernels.LEGACY), "nft"])
def test_where_the_record_is_lost_the_namespaces_tell_the_back_end(name: Backend) -> None:
    lifecycle.up(lifecycle.define("kubenet", firewall=name))
    lab_state.remove_files("kubenet")
    assert backend.backend_of("kubenet") == name
    assert lifecycle.load_compiled_lab("kubenet", "kubenet").firewall == name
    assert lifecycle.up(lifecycle.define("kubenet")).changes == ()


def test_the_command_line_speaks_of_it_and_a_person_meets_it_inside() -> None:
    done = run("up", "kubenet", "--firewall", "nft", "-v")
    assert done.returncode == 0, done.stderr
    assert "labctl.kubenet.node1 iptables-nft -t nat -A POSTROUTING" in done.stdout
    assert "firewall: rules are written with iptables-nft" in done.stdout
    assert "(nf_tables)" in run("exec", "node1", "--", "iptables", "-V").stdout
    rules = run("exec", "node1", "--", "iptables", "-t", "nat", "-S").stdout
    assert "-A IP-MASQ-AGENT -d 10.244.0.0/16" in rules
    assert "IP-MASQ-AGENT" in run("show", "node1").stdout
    assert run("status").returncode == 0
    refused = run("up", "kubenet", "--firewall", "legacy")
    assert (refused.returncode, "with --firewall nft" in refused.stderr) == (2, True)
    wrong = run("up", "kubenet", "--firewall", "ipfw")
    assert (wrong.returncode, "ipfw" in wrong.stderr) == (2, True)


@pytest.mark.parametrize(
    ("wish", "words", "named"), [("nft", (), "nft"), ("nft", ("--firewall", "legacy"), "legacy"), ("", (), "legacy")]
)
def test_a_plan_names_the_iptables_that_is_wished_for(wish: str, words: tuple[str, ...], named: str) -> None:
    done = run("plan", "kubenet", "--as", "shell", *words, **{backend.VARIABLE: wish})
    found = {word for word in done.stdout.split() if word.startswith("iptables-")}

    assert found == {f"iptables-{named}"}
    assert run("plan", "kubenet", **{backend.VARIABLE: "ipfw"}).returncode == 2


@pytest.mark.parametrize("scenario", ["kubenet", "docker-publish", "cni"])
def test_the_script_of_a_plan_builds_the_same_lab_with_nft(scenario: str) -> None:
    plugins.skip_without(scenario)
    wanted = lifecycle.compile_definition(lifecycle.define(scenario, firewall="nft"))
    typed = list(plan_script(wanted, lambda node: paths.netns_name(wanted.name, node), str(paths.state_dir())))
    assert any("iptables-nft -t nat" in line for line in typed) or scenario == "cni"
    assert not any("legacy" in line for line in typed)
    environment = {**os.environ, "LABCTL_PYTHON": sys.executable}
    done = subprocess.run(
        ["sh", "-s"], input="\n".join(typed), cwd=ROOT, capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert legacy_tables(wanted.name, paths.labs()[wanted.name]) == []
    if scenario != "cni":  # what plugins made is wanted only their runtime knows
        assert backend.backend_of(wanted.name) == "nft"
        assert [line for change in lifecycle.status(wanted.name, wanted) for line in change_lines(change)] == []


# ---- rules, read and written


@pytest.mark.parametrize(
    ("table", "text"),
    [
        *(pytest.param("nat", text, id=text) for text in NAT if "! -d 0.0.0.0/0" not in text),
        *(pytest.param("filter", text, id=text) for text in FILTER),
        *(pytest.param("mangle", text, id=text) for text in MANGLE),
        *(pytest.param(table, text, id=text) for table, text in TOOLS_ONLY if "CONNMARK" not in text),
    ],
)
def test_a_rule_is_read_back_from_nft_as_it_is_planned(fresh: Any, table: str, text: str) -> None:
    wanted = chains_of(table, [text])
    fresh(chains.write, "n", creations(wanted), None, "nft")
    assert diff(wanted, fresh(chains.read_chains, "n", (), "nft")) == ()
    assert fresh(chains.tools.legacy_tables, "ip_tables_names") == []


def test_chains_change_in_place_and_keep_the_counters_of_others(fresh: Any) -> None:
    busy, old = chains_of("filter", ["-j ACCEPT"])[0], Chain("n", "filter", "FORWARD", (rule("-j FORMS"),), "DROP")
    fresh(chains.write, "n", creations((busy, old)), None, "nft")
    fresh(subprocess.run, "printf '*filter\\n[7:70] -A OUTPUT -j ACCEPT\\nCOMMIT\\n' | iptables-nft-restore -n -c",
          shell=True, check=True)  # fmt: skip
    wanted = (replace(old, rules=(rule("-p tcp -j ACCEPT"),), policy="ACCEPT"),)
    kept = Chain("n", "filter", "OUTPUT", (rule("-j ACCEPT"),), "ACCEPT")
    fresh(chains.write, "n", diff((*wanted, kept), fresh(chains.read_chains, "n", (), "nft")), None, "nft")
    assert diff((*wanted, kept), fresh(chains.read_chains, "n", (), "nft")) == ()
    counted = {one.chain.name: one for one in fresh(chains.read_chain_counters, "n", "nft")}
    assert counted["OUTPUT"].rule_counters == ((7, 70),)
    assert "FORMS" not in counted


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("-j MASQUERADE", "the kernel refused it (Invalid argument)"),
        ("-j NOSUCH", "NOSUCH"),
        ("-m statistic --mode often --every 2", "often"),
        ("-m set --match-set nosuch src", "Set nosuch doesn't exist"),
    ],
)
def test_a_refused_rule_is_named(fresh: Any, text: str, cause: str) -> None:
    good, bad = rule("-j ACCEPT"), rule(text)
    with pytest.raises(KernelError) as caught:
        fresh(
            chains.write, "n", creations((Chain("n", "filter", "FORWARD", (good, bad, good), "ACCEPT"),)), None, "nft"
        )
    assert f"rule '-A FORWARD {bad}' in table filter of n" in caught.value.message
    assert cause in caught.value.message


def test_rules_of_sets_are_written_and_read(fresh: Any) -> None:
    members = IpSet("n", "pods", "hash:net", ("10.1.0.0/16",))
    chain = Chain("n", "filter", "FORWARD", (rule("-m set ! --match-set pods src -j DROP"),), "ACCEPT")
    fresh(ipset.write, "n", creations((members,)))  # type: ignore[arg-type]
    fresh(chains.write, "n", creations((chain,)), None, "nft")
    assert diff((chain,), fresh(chains.read_chains, "n", (), "nft")) == ()


@kernels.LEGACY
def test_the_extensions_of_either_back_end_are_asked_for_where_they_are() -> None:
    asked = ("-m set", "-j NFLOG", "-m icmp", "-m icmp6", "-m nosuch", "-j NOSUCH")
    for name in ("legacy", "nft"):
        assert set(features.missing_features(asked, name)) == {"-m nosuch", "-j NOSUCH"}


def test_plugins_find_the_labs_own_iptables() -> None:
    lifecycle.up(lifecycle.define("kubenet", firewall="nft"))
    with Plugins("kubenet") as called:
        path = called._tools()["PATH"].split(":")[0]
    said = subprocess.run([f"{path}/iptables", "-V"], capture_output=True, text=True, check=True)
    assert "(nf_tables)" in said.stdout


# ---- the trace

FEW = ("by-mark", "drop-tcp", "drop-6", "drop-policy", "drop-chain", "drop-output", "reject-udp-6", "bridge-nf-on")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    for name, text in LABS.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder


@kernels.LEGACY
@pytest.mark.parametrize("case", [case for case in CASES if case.name in FEW], ids=lambda case: case.name)
def test_a_trace_names_the_same_rules_with_both(case: Case, pairs: Path) -> None:
    told = []
    for name in ("legacy", "nft"):
        lifecycle.up(lifecycle.define(str(pairs / f"{case.lab}.yaml"), firewall=name))
        for command in case.breaks:
            broken(case.lab, command)
        evidence, story = traced(case.lab, case.probe)
        # nft reports the mark after a rule, legacy the mark before; nft may omit a chain without rules and policy
        met = [replace(one, mark=0) for one in evidence.rule_hits if (one.kind, one.target) != ("policy", "ACCEPT")]
        told.append((story.verdict, story.why and story.why.sentence, met))
        lifecycle.down(case.lab)
    assert told[0] == told[1]
    assert told[0][2] != []

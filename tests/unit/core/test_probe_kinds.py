"""The kinds of probes: one place knows how a check of each kind becomes text, and the language has a key for each."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from labctl.core.probe_kinds import PROBE_KEYS, PROBE_KINDS, ProbeKind, probe_kind, probe_text
from labctl.core.scenario_types import Check
from labctl.render.checks import check_lines
from labctl.scenario.check_language import CHECK
from labctl.scenario.definition import parse_and_compile

LAB = "model: kubenet\nnodes: {node1: {pods: [a, b]}, node2: {pods: [c]}}\n"
ADDRESS = ip_address("10.0.0.1")


def parsed(text: str) -> Check:
    return parse_and_compile(f"{LAB}checks: [{{{text}}}]\n", "t.yaml")[0].checks[0]


@pytest.mark.parametrize(
    ("written", "sentence", "line", "plan_line", "page_cell", "command"),
    [
        (
            "ping: a -> c, size: 1422, expect: fail",
            "a does not reach c with 1422 bytes",
            "ping a -> c size 1422",
            "ping a -> c, size 1422, expect fail",
            "`ping: a -> c`, expect fail",
            "exec a -- ping -n -c 1 -M do -s 1422 10.0.0.1",
        ),
        (
            'tcp: "a -> c:80", listen: "b:8080"',
            "a reaches c on tcp port 80",
            "tcp a -> c:80",
            "tcp a -> c:80, answered by b:8080",
            "`tcp: a -> c:80`, answered by b:8080",
            "trace a 10.0.0.1 --tcp 80",
        ),
        (
            'udp: "a -> c:53", expect: timeout',
            "a gets no answer from c on udp port 53",
            "udp a -> c:53",
            "udp a -> c:53, expect timeout",
            "`udp: a -> c:53`, expect timeout",
            "trace a 10.0.0.1 --udp 53 --listen",
        ),
        (
            'udp: "a:4000 -> c:53"',
            "a reaches c on udp port 53 from source port 4000",
            "udp a:4000 -> c:53",
            "udp a:4000 -> c:53",
            "`udp: a:4000 -> c:53`",
            "trace a 10.0.0.1 --udp 53 --sport 4000 --listen",
        ),
        (
            'tcp: "a:4000 -> c:80", expect: refused',
            "c refuses a on tcp port 80 from source port 4000",
            "tcp a:4000 -> c:80",
            "tcp a:4000 -> c:80, expect refused",
            "`tcp: a:4000 -> c:80`, expect refused",
            "trace a 10.0.0.1 --tcp 80 --sport 4000",
        ),
        (
            "mesh: pods",
            "every pod reaches every pod and is seen with its own address",
            "mesh a b c -> a b c",
            "mesh of 1 group, 6 pairs",
            "every pair",
            "exec a -- ping -n -c 1 10.0.0.1",
        ),
    ],
)
def test_a_check_becomes_text(
    written: str, sentence: str, line: str, plan_line: str, page_cell: str, command: str
) -> None:
    check = parsed(written)
    kind = probe_kind(check)
    assert check.say == sentence
    assert probe_text(check) == line
    assert list(check_lines(check)) == [sentence, f"    {plan_line}"]
    assert kind.page_cell(check) == page_cell
    assert kind.command(replace(check, source="a"), ADDRESS) == command  # a mesh has no single source


def test_check_of_plugins_is_only_for_models() -> None:
    check = Check("x", "cni")
    assert probe_kind(check).key == ""
    assert probe_text(check) == "CNI CHECK of every pod"
    assert list(check_lines(check)) == ["x", "    CNI CHECK of every pod"]


def test_the_language_has_a_key_for_every_kind_that_a_file_can_ask_for() -> None:
    keys = [key.name for key in CHECK.keys]
    in_order = ["ping", "tcp", "udp", "http", "balance", "port_in_use", "mesh"]
    assert [key for key in keys if key in PROBE_KEYS] == in_order
    assert {name for kind in PROBE_KINDS.values() for name in kind.check_keys} <= set(keys)
    assert all(kind.name == name for name, kind in PROBE_KINDS.items())


@pytest.mark.parametrize("kind", PROBE_KINDS.values(), ids=PROBE_KINDS)
def test_a_kind_with_a_path_has_a_protocol_for_both_versions_of_ip(kind: ProbeKind) -> None:
    if kind.has_path:
        protocols = {"ping": ["icmp", "ipv6-icmp"], "http": ["tcp", "tcp"]}.get(kind.name, [kind.name] * 2)
        assert [kind.ip_protocol(version) for version in (4, 6)] == protocols


def test_the_sentence_names_what_is_seen() -> None:
    check = parsed("ping: a -> c, see: {at: node1/cbr0, src: a, ttl: 64, direction: in}")
    assert check.say == "a reaches c, seen at node1/cbr0 as a > any with ttl 64 entering"
    assert probe_kind(check).sentence(replace(check, sees=())) == "a reaches c"

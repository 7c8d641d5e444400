"""The rules of the kube-proxy model are those that the real kube-proxy wrote, of each release, in each situation.

The files of tests/golden/kube-proxy are normalised outputs of iptables-save and ip6tables-save (1.8.9) after
`kube-proxy --config CONFIG` of these versions with these API objects. `scripts/kube-proxy-compare DIR --save FOLDER`
writes them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.kube_proxy_cases import Case
from tests.support.kube_proxy_saved import expected_lines, modelled_lines, saved_cases

CASES = saved_cases(Path(__file__).resolve().parents[2] / "golden/kube-proxy")


def test_all_releases_are_there() -> None:
    assert {name.split("/")[0] for name in CASES} == {"1.28.3", "1.30.3", "1.31.14", "1.33.13", "1.35.6", "1.36.3"}
    assert len(CASES) > 450


@pytest.mark.parametrize("name", CASES)
def test_the_rules_are_those_of_kube_proxy(name: str) -> None:
    case, _ = CASES[name]

    assert modelled_lines(case) == expected_lines(name, CASES)


def test_another_endpoint_is_a_difference() -> None:
    case, _ = CASES["1.36.3/clusterip-2ep"]
    items = [dict(item) for item in case.items or ()]
    items[-1]["endpoints"] = items[-1]["endpoints"][:1]

    assert modelled_lines(replace(case, items=tuple(items))) != expected_lines("1.36.3/clusterip-2ep", CASES)


def settings(case: Case, **changed: object) -> Case:
    return replace(case, document={**case.document, "config": {**case.document["config"], **changed}})


def test_the_mark_is_that_of_the_configuration() -> None:
    case, _ = CASES["1.36.3/nodeport"]
    lines = modelled_lines(settings(case, iptables={"masqueradeBit": 3}))

    assert "ip nat KUBE-MARK-MASQ 1: -j MARK --set-xmark 0x8/0x8" in lines
    assert not any("0x4000" in line for line in lines)


def test_pods_are_known_by_the_prefix_of_their_devices() -> None:
    case, _ = CASES["1.36.3/nodeport-local-with"]
    detect = {"interfaceNamePrefix": "veth"}
    lines = modelled_lines(settings(case, clusterCIDR="", detectLocalMode="InterfaceNamePrefix", detectLocal=detect))

    assert any('-i veth+ -m comment --comment "pod traffic for' in line for line in lines)


def test_invalid_packets_pass_if_conntrack_is_liberal() -> None:
    case, _ = CASES["1.36.3/empty"]
    lines = modelled_lines(settings(case, conntrack={"tcpBeLiberal": True}))

    assert not any("INVALID" in line for line in lines)
    assert any("INVALID" in line for line in modelled_lines(case))

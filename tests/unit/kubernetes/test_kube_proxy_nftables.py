"""The table of the kube-proxy model in mode nftables is the one that the real kube-proxy wrote, in each release.

The files of tests/golden/kube-proxy/nftables are normalised outputs of `nft list ruleset` (1.0.6) after `kube-proxy
--config CONFIG` of these versions with these API objects. `scripts/kube-proxy-compare DIR --save FOLDER` writes them.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from labctl.kubernetes.services.kube_proxy_nft_table import duration, interval_set
from tests.support.kube_proxy_cases import Case
from tests.support.kube_proxy_saved import emptied_chains, expected_lines, modelled_lines, saved_cases

CASES = saved_cases(Path(__file__).resolve().parents[2] / "golden/kube-proxy", "nftables")


def test_all_releases_are_there() -> None:
    assert {name.split("/")[0] for name in CASES} == {"1.30.3", "1.31.14", "1.33.13", "1.35.6", "1.36.3"}
    assert len(CASES) > 390


@pytest.mark.parametrize("name", CASES)
def test_the_table_is_that_of_kube_proxy(name: str) -> None:
    case, _ = CASES[name]

    assert modelled_lines(case) == expected_lines(name, CASES)


def test_the_chains_of_a_deleted_service_are_empty_until_a_later_transaction() -> None:
    """A plan is what stands after it: the model does not write them."""
    found = {name: emptied_chains(lines) for name, (_, lines) in CASES.items()}
    (left,) = {frozenset(chains) for chains in found.values() if chains}

    assert {name for name, chains in found.items() if chains} == {
        f"{version}/step-delete-service.step1" for version in ("1.30.3", "1.31.14", "1.33.13")
    }
    for name in (name for name, chains in found.items() if chains):
        assert left == CASES[name][0].gone


def settings(name: str, **changed: object) -> Case:
    case, _ = CASES[name]
    return replace(case, document={**case.document, "config": {**case.document["config"], **changed}})


def test_another_endpoint_is_a_difference() -> None:
    case, _ = CASES["1.36.3/clusterip-2ep"]
    items = [dict(item) for item in case.items or ()]
    items[-1]["endpoints"] = items[-1]["endpoints"][:1]

    assert modelled_lines(replace(case, items=tuple(items))) != expected_lines("1.36.3/clusterip-2ep", CASES)


@pytest.mark.parametrize("version", ["1.31.14", "1.36.3"])
def test_the_mark_is_that_of_the_configuration(version: str) -> None:
    lines = modelled_lines(settings(f"{version}/nodeport", nftables={"masqueradeBit": 3}))

    assert any("meta mark set meta mark | 0x00000008" in line for line in lines)
    assert not any("0x00004000" in line for line in lines)


def test_a_device_that_is_not_there_leaves_no_table() -> None:
    """Until 1.32 kube-proxy writes `iif`, and nft needs the device for that."""
    lines = modelled_lines(settings("1.31.14/detect-bridge"))
    with_device = settings("1.31.14/detect-bridge", detectLocal={"bridgeInterface": "eth0"})

    assert not any(line.startswith("ip ") for line in lines)
    assert any(line.startswith("ip6 ") for line in lines), "no Service has IPv6, so no rule names the device"
    assert any('iif != "eth0" jump mark-for-masquerade' in line for line in modelled_lines(with_device))


def test_pods_are_known_by_the_prefix_of_their_devices() -> None:
    detect = {"interfaceNamePrefix": "veth"}
    changed = {"clusterCIDR": "", "detectLocalMode": "InterfaceNamePrefix", "detectLocal": detect}
    lines = modelled_lines(settings("1.36.3/nodeport-local-with", **changed))

    assert any('iifname "veth*" goto service-' in line for line in lines)
    assert any('iifname != "veth*" meta mark set' in line for line in lines)


def test_1_31_drops_unallocated_cluster_ips_with_the_gate() -> None:
    gated = modelled_lines(settings("1.31.14/empty", featureGates={"MultiCIDRServiceAllocator": True}))

    assert any("10.96.0.0/16 drop" in line for line in gated)
    assert not any("10.96.0.0/16 drop" in line for line in modelled_lines(CASES["1.31.14/empty"][0]))


def test_a_release_without_the_mode_is_refused() -> None:
    with pytest.raises(ValueError, match=r"kube-proxy 1\.28 in mode nftables are not known"):
        modelled_lines(replace(CASES["1.30.3/empty"][0], version="1.28.3"))


@pytest.mark.parametrize(
    ("texts", "printed"),
    [
        (["10.0.0.0/16"], "10.0.0.0/16"),
        (["10.0.0.7/32"], "10.0.0.7"),
        (["0.0.0.0/0"], "0.0.0.0/0"),
        (["0.0.0.0/0", "192.0.2.10/32"], "{ 0.0.0.0/0 }"),
        (["203.0.113.0/24", "198.51.100.7/32"], "{ 198.51.100.7, 203.0.113.0/24 }"),
        (["10.0.0.128/25", "10.0.0.0/25"], "{ 10.0.0.0/24 }"),
        (["10.0.0.0/24", "10.0.1.0/25"], "{ 10.0.0.0-10.0.1.127 }"),
        (["10.0.0.0/16", "10.0.1.0/25"], "{ 10.0.0.0/16 }"),
        (["fd00::/64", "fd00:0:0:1::/64", "2001:db8::1/128"], "{ 2001:db8::1, fd00::/63 }"),
    ],
)
def test_ranges_as_nft_prints_them(texts: list[str], printed: str) -> None:
    assert interval_set(map(ip_network, texts)) == printed


def test_an_address_among_ranges() -> None:
    assert interval_set([ip_network("192.0.2.0/24"), ip_address("198.51.100.1")]) == "{ 192.0.2.0/24, 198.51.100.1 }"


@pytest.mark.parametrize(
    ("seconds", "printed"), [(60, "1m"), (10800, "3h"), (90, "1m30s"), (86400, "1d"), (93784, "1d2h3m4s"), (1, "1s")]
)
def test_durations_as_nft_prints_them(seconds: int, printed: str) -> None:
    assert duration(seconds) == printed

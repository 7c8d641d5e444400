"""The words of CNI: results in the shape of each version, errors, versions, names."""

from __future__ import annotations

import json
from typing import Any

import pytest

from labctl.cni import spec
from labctl.cni.spec import DecodeError

RESULTS: dict[str, dict[str, Any]] = {
    "0.2.0": {
        "cniVersion": "0.2.0",
        "ip4": {"ip": "10.1.0.5/16", "gateway": "10.1.0.1", "routes": [{"dst": "0.0.0.0/0"}]},
        "ip6": {"ip": "2001:db8::5/64", "routes": [{"dst": "::/0", "gw": "2001:db8::1"}]},
        "dns": {"nameservers": ["10.1.0.1"]},
    },
    "0.4.0": {
        "cniVersion": "0.4.0",
        "interfaces": [{"name": "cni0", "mac": "02:00:00:00:00:01"}, {"name": "eth0", "sandbox": "/run/netns/a"}],
        "ips": [{"version": "4", "interface": 1, "address": "10.1.0.5/16", "gateway": "10.1.0.1"}],
        "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}],
        "dns": {},
    },
    "1.1.0": {
        "cniVersion": "1.1.0",
        "interfaces": [{"name": "eth0", "mtu": 1400, "sandbox": "/run/netns/a"}],
        "ips": [{"interface": 0, "address": "10.1.0.5/16"}, {"address": "2001:db8::5/64"}],
        "routes": [{"dst": "0.0.0.0/0", "mtu": 1300, "advmss": 1200, "priority": 7, "table": 9, "scope": 253}],
        "dns": {"search": ["example.com"]},
    },
}


@pytest.mark.parametrize("version", RESULTS)
def test_a_result_is_read_and_written_in_its_versions_shape(version: str) -> None:
    result = spec.read_result(json.dumps(RESULTS[version]))
    assert result.version == version
    assert spec.result_json(result) == RESULTS[version]


def test_a_result_is_told_in_another_versions_shape() -> None:
    newest = spec.result_from_json(RESULTS["1.1.0"])
    older = spec.result_json(newest, "0.4.0")
    assert older["ips"][0] == {"version": "4", "interface": 0, "address": "10.1.0.5/16"}
    assert older["routes"] == [{"dst": "0.0.0.0/0"}]
    assert "mtu" not in older["interfaces"][0]
    assert spec.result_json(newest, "0.2.0")["ip6"] == {"ip": "2001:db8::5/64"}


def test_the_containers_addresses_are_those_of_its_device() -> None:
    result = spec.result_from_json(RESULTS["0.4.0"])
    assert [str(one) for one in result.addresses("eth0")] == ["10.1.0.5/16"]
    assert result.addresses("cni0") == ()
    assert [str(one) for one in spec.result_from_json(RESULTS["1.1.0"]).addresses("eth0")] == [
        "10.1.0.5/16",
        "2001:db8::5/64",
    ]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "not JSON"),
        ("[]", "not a JSON object"),
        ('{"cniVersion": "1.0"}', "'1.0' is not a CNI version"),
        ('{"cniVersion": "1.0.0", "ips": [{"address": "nine"}]}', "not a CNI result"),
        ('{"cniVersion": "1.0.0", "ips": [{}]}', "not a CNI result"),
        ('{"cniVersion": "1.0.0", "interfaces": [3]}', "not a CNI result"),
        ('{"cniVersion": "1.0.0", "interfaces": [{}]}', "an interface without a name"),
        ('{"cniVersion": "1.0.0", "ips": [{"address": 5}]}', "address 5 is not a text"),
        ('{"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.5"}]}', "not an address with a prefix length"),
        ('{"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.5/24", "interface": "0"}]}', "not a number of 32 bits"),
        ('{"cniVersion": "1.0.0", "ips": [{"address": "fe80::1%eth0/64"}]}', "not an address with a prefix length"),
        ('{"cniVersion": "1.0.0", "routes": [{"dst": "::/0", "table": 4294967296}]}', "not a number of 32 bits"),
        ('{"cniVersion": "1.0.0", "dns": [["a", "b"]]}', "dns .* is not an object"),
        ('{"cniVersion": 1.1}', "1.1 is not a CNI version"),
        ('{"cniVersion": "1.0.0", "routes": {"dst": "::/0"}}', "routes is not a list of objects"),
        ('{"ip4": [1]}', "ip4 .* is not an object"),
        ('{"x": ' * 5000, "nests too deeply|not JSON"),
        ('{"mtu": Infinity}', "Infinity is not a JSON value"),
    ],
)
def test_what_is_no_result_is_refused(text: str, what: str) -> None:
    with pytest.raises(DecodeError, match=what):
        spec.read_result(text)


def test_an_address_of_no_interface_is_the_containers() -> None:
    result = spec.result_from_json({"cniVersion": "0.3.0", "ips": [{"address": "10.1.0.5/16", "interface": -1}]})
    assert [str(one) for one in result.addresses("eth0")] == ["10.1.0.5/16"]


def test_an_error_is_read_told_and_written() -> None:
    text = '{"cniVersion": "1.0.0", "code": 7, "msg": "no", "details": "subnet is missing"}'
    error = spec.read_error(text)
    assert str(error) == "no: subnet is missing (code 7)"
    assert error.meaning == "the network configuration is wrong"
    assert spec.error_json(error) == json.loads(text)
    assert spec.Error(123, "x").meaning == "the plugin's own code"
    assert spec.Error(42, "x").meaning == "reserved"
    assert spec.error_json(spec.Error(11, "later")) == {"cniVersion": "1.1.0", "code": 11, "msg": "later"}
    for wrong in ("{}", '{"code": "7", "msg": "x"}', "panic: nil"):
        with pytest.raises(DecodeError):
            spec.read_error(wrong)


def test_versions_are_compared_as_numbers_and_know_their_commands() -> None:
    assert spec.at_least("0.10.0", "0.4.0")
    assert not spec.at_least("0.3.1", "0.4.0")
    assert [spec.supports("1.0.0", command) for command in ("ADD", "CHECK", "GC", "STATUS")] == [
        True,
        True,
        False,
        False,
    ]
    assert spec.supports("1.1.0", "GC")
    assert spec.read_versions('{"cniVersion": "1.0.0", "supportedVersions": ["0.4.0"]}') == ("0.4.0",)
    for wrong in ("{}", '{"supportedVersions": "0.4.0"}'):
        with pytest.raises(DecodeError):
            spec.read_versions(wrong)
    for wrong in ("v1.0.0", "1", "1.0.0.0", ""):
        with pytest.raises(DecodeError):
            spec.version_tuple(wrong)


def test_names_are_held_to_the_specification() -> None:
    assert [spec.is_container_id(text) for text in ("a-1_x.y", "-a", "", "a/b")] == [True, False, False, False]
    assert [spec.is_network_name(text) for text in ("k8s.pods", ".x", "a b")] == [True, False, False]
    names = ("eth0", "", "..", "a/b", "a:b", "sixteen-letters-")
    assert [spec.is_ifname(text) for text in names] == [True, False, False, False, False, False]

"""labctl's CNI plugin without a kernel: what it receives, the plan that it makes, and its answer.

`pytest tests/unit/cni_plugin/test_wiring.py --update-golden` renews the golden results; read the difference.
"""

from __future__ import annotations

import json
from hashlib import sha512
from ipaddress import IPv4Interface, IPv4Network
from typing import Any

import pytest

from labctl.cni.spec import VALID_ATTACHMENTS, VALID_ATTACHMENTS_KEYS, read_result, result_json
from labctl.cni_plugin import config, iptables_rules, wiring
from labctl.cni_plugin.config import SUPPORTED_VERSIONS, Failure
from labctl.cni_plugin.wiring import HOST, POD
from labctl.core.iptables import FirewallRule, rule
from labctl.core.resources import Address, Interface, Link, Plan, Route
from labctl.render.resources import resource_line
from tests.support.cni_node import CONF
from tests.support.golden import Golden

ENV = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "c-one", "CNI_NETNS": "/n/a", "CNI_IFNAME": "eth0", "CNI_PATH": "/p"}
GIVEN = {
    "cniVersion": "1.1.0",
    "ips": [{"address": "10.9.0.2/24", "gateway": "10.9.0.1"}],
    "routes": [{"dst": "0.0.0.0/0"}],
}
ADDRESSES = (IPv4Interface("10.9.0.2/24"),)


def asked(env: dict[str, str] | None = None, **keys: Any) -> config.Request:
    return config.parse_request({**ENV, **(env or {})}, json.dumps(CONF | keys))


def refused(env: dict[str, str] | None = None, text: str | None = None, **keys: Any) -> tuple[int, str]:
    with pytest.raises(Failure) as caught:
        config.parse_request({**ENV, **(env or {})}, json.dumps(CONF | keys) if text is None else text)
    error = caught.value.error
    return error.code, f"{error.msg} | {error.details}"


# ---- what it receives --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "keys", "code", "words"),
    [
        ({"CNI_COMMAND": "ADDD"}, {}, 4, "CNI_COMMAND is 'ADDD'"),
        ({"CNI_NETNS": ""}, {}, 4, "ADD needs CNI_NETNS"),
        ({"CNI_CONTAINERID": "-a"}, {}, 4, "'-a' is not a container id"),
        ({"CNI_IFNAME": "a/b"}, {}, 4, "'a/b' is not a valid name for a device"),
        ({"CNI_IFNAME": "sixteen-letters-x"}, {}, 4, "is not a valid name for a device"),
        ({}, {"cniVersion": "0.2.0"}, 1, "cniVersion 0.2.0 is not supported | supported are 0.3.0, 0.3.1"),
        ({}, {"cniVersion": "2.0.0"}, 1, "not supported"),
        ({"CNI_COMMAND": "GC"}, {"cniVersion": "1.0.0"}, 1, "cniVersion 1.0.0 has no GC"),
        ({"CNI_COMMAND": "STATUS"}, {"cniVersion": "1.0.0"}, 1, "has no STATUS"),
        ({}, {"name": "-net"}, 7, "'-net' is not a valid name for a network"),
        ({}, {"shape": "star"}, 7, "shape 'star' is none of bridge, routed"),
        ({}, {"hairpinMod": True}, 2, "unknown key 'hairpinMod', which is true | did you mean 'hairpinMode'?"),
        ({}, {"ipMasq": "yes"}, 7, "ipMasq 'yes' is not of the kind true or false"),
        ({}, {"mtu": True}, 7, "mtu True is not of the kind number"),
        ({}, {"mtu": 20}, 7, "mtu 20 is out of bounds"),
        ({}, {"hairpinMode": True, "promiscMode": True}, 7, "cannot both be on"),
        ({}, {"shape": "routed", "bridge": "br0"}, 2, "bridge (here \"br0\") has no meaning with shape 'routed'"),
        ({}, {"bridge": "a/b"}, 7, "'a/b' is not a valid name for a device"),
        ({}, {"ipam": {}}, 7, "ipam.type is missing"),
        ({}, {"ipam": {"type": "../x"}}, 7, "ipam.type '../x' is not the name of an executable"),
        ({}, {"ipam": {"type": ["x"]}}, 7, "ipam.type ['x'] is not the name of an executable"),
        ({}, {"ipam": {"type": "x\0"}}, 7, "is not the name of an executable"),
        ({}, {"runtimeConfig": {"mac": "02"}}, 7, "'02' is not a MAC address"),
        ({"CNI_ARGS": "MAC=02"}, {}, 7, "'02' is not a MAC address"),
        ({"CNI_ARGS": "IgnoreUnknown=1;K8S"}, {}, 4, "CNI_ARGS has 'K8S', which is not a pair"),
        ({"CNI_COMMAND": "CHECK"}, {}, 7, "CHECK needs prevResult"),
        ({}, {"prevResult": {"ips": [{"address": "x"}]}}, 6, "prevResult: "),
        ({"CNI_COMMAND": "GC"}, {VALID_ATTACHMENTS: [{"containerID": "a"}]}, 6, "containerID and ifname"),
        ({"CNI_COMMAND": "GC"}, {VALID_ATTACHMENTS: "all"}, 6, "containerID and ifname"),
        ({"CNI_COMMAND": "GC"}, {VALID_ATTACHMENTS: [{"containerID": "a", "ifname": 0}]}, 6, "containerID and ifname"),
        ({"CNI_COMMAND": "GC"}, {}, 7, f"GC needs {VALID_ATTACHMENTS}"),
        ({"CNI_IFNAME": "eth\udcff"}, {}, 4, "CNI_IFNAME 'eth\\udcff' is not a valid name for a device"),
        ({"CNI_IFNAME": "eth%d"}, {}, 4, "CNI_IFNAME 'eth%d' is not a valid name for a device"),
        ({"CNI_CONTAINERID": "c\udcff"}, {}, 4, "CNI_CONTAINERID 'c\\udcff' is not a container id"),
        ({}, {"bridge": "br\0"}, 7, "is not a valid name for a device"),
        ({}, {"name": "n" * 5000 + " "}, 7, "is not a valid name for a network"),
        ({}, {"dns": "10.9.0.1"}, 7, "dns '10.9.0.1' is not an object"),
        ({}, {"dns": ["10.9.0.1"]}, 7, "dns ['10.9.0.1'] is not an object"),
        ({}, {"prevResult": "x"}, 6, "prevResult: 'x' is not an object"),
        ({}, {"prevResult": {"ips": {"address": "10.9.0.2/24"}}}, 6, "prevResult: "),
        ({}, {"prevResult": {"interfaces": [{"name": "eth0", "mac": 5}]}}, 6, "mac 5 is not a text"),
        ({}, {"prevResult": {"routes": [{"dst": "0.0.0.0/0", "mtu": "1400"}]}}, 6, "mtu '1400' is not a number"),
        ({}, {"ipMasqBackend": "ipfw"}, 7, "ipMasqBackend 'ipfw' is none of iptables, nftables"),
        ({}, {"ipMasqBackend": True}, 7, "ipMasqBackend True is not of the kind text"),
        ({}, {"macspoofchk": True}, 2, "not support macspoofchk (here true)"),
        ({}, {"vlan": 100}, 2, "not support vlan (here 100)"),
        ({}, {"forceAddress": True}, 2, "not support forceAddress (here true)"),
        ({}, {"portIsolation": "yes"}, 7, "portIsolation 'yes' is not of the kind true or false"),
        ({}, {"shape": "routed", "portIsolation": True}, 2, "portIsolation (here true) has no meaning"),
    ],
)
def test_bad_input_is_refused_with_the_specifications_code(
    env: dict[str, str], keys: dict[str, Any], code: int, words: str
) -> None:
    found, said = refused(env, **keys)
    assert (found, words in said) == (code, True), said


@pytest.mark.parametrize("depth", [200, 900, 100_000])
@pytest.mark.parametrize("around", ["{}", '{{"cniVersion": "1.1.0", "name": "net", "ipam": {{"type": "x", "y": {}}}}}'])
def test_what_nests_too_deeply_cannot_be_decoded(around: str, depth: int) -> None:
    code, said = refused(text=around.format("[" * depth + "]" * depth))
    assert (code, "nests too deeply" in said or "not a JSON object" in said) == (6, True), said


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"mtu": NaN}', '{"mtu": -Infinity}', "\ufeff{}"])
def test_what_is_no_object_cannot_be_decoded(text: str) -> None:
    assert refused(text=text)[0] == 6


def test_keys_of_the_reference_plugin_that_ask_for_nothing_are_let_pass() -> None:
    keys = {"ipMasqBackend": "iptables", "macspoofchk": False, "vlan": 0, "preserveDefaultVlan": True, "vlanTrunk": []}
    assert asked(**keys, portIsolation=True).config.isolated


def test_a_message_does_not_repeat_a_long_value() -> None:
    for keys in ({"name": "n " * 9999}, {"x" * 9999: 1}, {"bridge": "b" * 9999}, {"vlan": list(range(9999))}):
        assert len(refused(**keys)[1]) < 400


def test_a_gc_reads_the_key_of_the_text_and_that_of_its_drafts() -> None:
    gc = {"CNI_COMMAND": "GC"}
    one, other = ([{"containerID": name, "ifname": "eth0"}] for name in "ab")
    draft = {VALID_ATTACHMENTS_KEYS[1]: other}
    assert asked(gc, **draft).config.valid_attachments == {("b", "eth0")}
    assert asked(gc, **draft, **{VALID_ATTACHMENTS: one}).config.valid_attachments == {("a", "eth0")}
    assert asked(gc, **{VALID_ATTACHMENTS: None}).config.valid_attachments == frozenset()  # libcni's empty list


def test_ports_can_be_isolated() -> None:
    plan = wiring.wiring(asked(portIsolation=True), read_result(json.dumps(GIVEN)), ipv6=False)
    assert {item.at.ns: item.isolated for item in plan if isinstance(item, Link) and item.kind == "veth"} == {
        HOST: True,
        POD: False,
    }


def test_an_alias_of_others_is_no_owner() -> None:
    assert wiring.parse_link_alias("labctl-cni net c eth0 nonsense", "net") is None
    assert wiring.parse_link_alias("labctl-cni net c eth0 10.9.0.2/24", "net") == wiring.LinkAlias(
        "c", "eth0", ADDRESSES
    )


def test_keys_of_the_runtime_and_of_extensions_are_let_pass() -> None:
    assert asked(**{"dns": {}, "args": {"cni": {}}, "cni.dev/other": 1, "disableCheck": True}).config.name == "net"


def test_the_wiring_of_both_shapes_in_words() -> None:
    given = read_result(json.dumps(GIVEN))
    bridge = [resource_line(item) for item in wiring.wiring(asked(isGateway=True), given, ipv6=False)]
    routed = [resource_line(item) for item in wiring.wiring(asked(shape="routed"), given, ipv6=False)]

    assert bridge == [
        "link cni0 type bridge addrgenmode eui64 up",
        "link vethc2a6f08b type veth peer pod/eth0 txqueuelen 0 master cni0 addrgenmode eui64 up",
        "link eth0 type veth peer host/vethc2a6f08b txqueuelen 0 addrgenmode eui64 up",
        "sysctl net.ipv4.conf.eth0.arp_notify = 1",
        "address 10.9.0.2/24 dev eth0",
        "address 10.9.0.1/24 dev cni0",
        "sysctl net.ipv4.ip_forward = 1",
        "route default via 10.9.0.1 dev eth0",
    ]
    assert routed == [
        "link vethc2a6f08b type veth peer pod/eth0 txqueuelen 0 addrgenmode eui64 up",
        "link eth0 type veth peer host/vethc2a6f08b txqueuelen 0 addrgenmode eui64 up",
        "sysctl net.ipv4.ip_forward = 1",
        "address 10.9.0.2/24 dev eth0, without the route to its subnet",
        "route 10.9.0.1 dev eth0 src 10.9.0.2",
        "route 10.9.0.0/24 via 10.9.0.1 dev eth0 src 10.9.0.2",
        "address 10.9.0.1/32 dev vethc2a6f08b",
        "route 10.9.0.2 dev vethc2a6f08b scope host",
        "route default via 10.9.0.1 dev eth0",
    ]


def test_the_default_gateway_is_given_once() -> None:
    given, without = read_result(json.dumps(GIVEN)), read_result(json.dumps({**GIVEN, "routes": []}))
    request = asked(isDefaultGateway=True)

    assert [str(route.gw) for route in wiring.complete_ipam_result(request, without).routes] == ["10.9.0.1"]
    assert wiring.complete_ipam_result(request, given).routes == given.routes


def test_only_a_gateway_is_made_up() -> None:
    bare = read_result(json.dumps({**GIVEN, "ips": [{"address": "10.9.0.2/24"}]}))

    for keys, told in (({}, None), ({"isGateway": True}, "10.9.0.1"), ({"shape": "routed"}, "10.9.0.1")):
        given = wiring.complete_ipam_result(asked(**keys), bare)
        (default,) = [one for one in wiring.wiring(asked(**keys), given, ipv6=False) if is_default(one)]
        assert [str(one) for one in (given.ips[0].gateway, default.via)] == [str(told)] * 2
    with pytest.raises(Failure, match="is the address of its subnet's gateway"):
        wiring.complete_ipam_result(
            asked(isGateway=True), read_result('{"cniVersion": "1.0.0", "ips": [{"address": "10.9.0.1/24"}]}')
        )


def is_default(item: object) -> bool:
    return isinstance(item, Route) and item.dst == wiring.DEFAULT_DESTINATION


def wired(request: config.Request, *there: Any) -> Plan:
    return wiring.wiring(request, read_result(json.dumps(GIVEN)), ipv6=False, existing=there)


def test_a_bridge_that_is_there_is_taken_as_it_is() -> None:
    at = Interface(HOST, "cni0")
    theirs = Link(
        at, "bridge", mtu=1300, mac="02:00:00:00:00:01", promisc=True, up=False, options=(("stp_state", "1"),)
    )

    assert wired(asked(), theirs)[0] == Link(at, "bridge", mtu=1300, promisc=True, options=(("stp_state", "1"),))
    assert wired(asked(isGateway=True), theirs)[0].mac == theirs.mac
    with pytest.raises(Failure, match="cni0 exists and is not a bridge, but a veth"):
        wired(asked(), Link(at, "veth"))
    with pytest.raises(Failure, match=r"cni0 has another address than 10.9.0.1/24: 192.0.2.1/24"):
        wired(asked(isGateway=True), theirs, Address(at, IPv4Interface("192.0.2.1/24")))


def test_a_route_of_another_device_stays() -> None:
    default = Route(POD, wiring.DEFAULT_DESTINATION, dev="net0")

    assert not any(map(is_default, wired(asked(), default)))
    assert any(map(is_default, wired(asked(), Route(POD, wiring.DEFAULT_DESTINATION, dev="eth0"))))
    with pytest.raises(Failure, match=r"10.9.0.0/24 is routed by net0 already in /n/a"):
        wired(asked(shape="routed"), Route(POD, IPv4Network("10.9.0.0/24"), dev="net0"))


def test_what_an_alias_says_can_be_read_again() -> None:
    request, given = asked(), read_result(json.dumps(GIVEN))
    alias = wiring.link_alias(request, given)

    assert alias == "labctl-cni net c-one eth0 10.9.0.2/24"
    assert wiring.parse_link_alias(alias, "net") == wiring.LinkAlias("c-one", "eth0", (IPv4Interface("10.9.0.2/24"),))
    assert wiring.parse_link_alias(alias, "other") is None
    assert wiring.parse_link_alias("somebody's own words", "net") is None
    with pytest.raises(Failure, match="too long together, by 17 bytes"):
        wiring.link_alias(asked({"CNI_CONTAINERID": "c" * 240}), given)


@pytest.mark.parametrize(
    ("env", "keys", "mac"),
    [
        ({}, {}, None),
        ({"CNI_ARGS": "IgnoreUnknown=1;MAC=02:00:00:00:00:0A"}, {}, "02:00:00:00:00:0a"),
        ({"CNI_ARGS": "MAC=02:00:00:00:00:0a"}, {"args": {"cni": {"mac": "02:00:00:00:00:0b"}}}, "02:00:00:00:00:0b"),
        ({}, {"args": {"cni": {"mac": "x"}}, "runtimeConfig": {"mac": "02:00:00:00:00:0c"}}, "02:00:00:00:00:0c"),
    ],
)
def test_a_mac_address_is_asked_for_in_three_places(env: dict[str, str], keys: dict[str, Any], mac: str | None) -> None:
    assert asked(env, **keys).config.mac == mac


def test_the_networks_own_dns_goes_before_ipams() -> None:
    given = read_result(json.dumps({**GIVEN, "dns": {"nameservers": ["10.9.0.1"]}}))

    assert wiring.add_result(asked(), given, {}).dns == {"nameservers": ["10.9.0.1"]}
    assert wiring.add_result(asked(dns={"domain": "lab", "search": []}), given, {}).dns == {"domain": "lab"}


@pytest.mark.parametrize("netns", ["/n/a", ""])
def test_a_result_tells_whose_an_address_is(netns: str) -> None:
    previous = {
        "interfaces": [{"name": "eth0"}, {"name": "eth0", "sandbox": "/n/a"}, {"name": "eth1", "sandbox": "/n/a"}],
        "ips": [{"address": f"10.9.0.{number}/24", "interface": number} for number in range(3)],
    }
    request = asked({"CNI_COMMAND": "DEL", "CNI_NETNS": netns}, prevResult=previous)
    assert [str(one.address) for one in wiring.attachment_part(request).ips] == ["10.9.0.1/24"]


@pytest.mark.parametrize("shape", ["bridge", "routed"])
def test_results_in_every_version_are_as_they_were(shape: str, golden: Golden) -> None:
    found: dict[str, Any] = {}
    for version in SUPPORTED_VERSIONS:
        request = asked(cniVersion=version, shape=shape, dns={"nameservers": ["10.9.0.1"]})
        given = read_result(
            json.dumps({**GIVEN, "routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.8.0.0/16", "mtu": 1400}]})
        )
        ends = (Interface(HOST, "cni0"), Interface(HOST, wiring.host_veth_name(request)), Interface(POD, "eth0"))
        macs = {port: f"02:00:00:00:00:0{number}" for number, port in enumerate(ends)}
        found[version] = result_json(wiring.add_result(request, given, macs))
    golden(f"cni/result-{shape}.json").check(json.dumps(found, indent=2) + "\n")


def test_masquerading_is_written_as_the_reference_documents_it() -> None:
    (rules,) = iptables_rules.rules(asked(ipMasq=True).config, "c-one", ADDRESSES)
    name, about = iptables_rules.chain_name("net", "c-one"), '-m comment --comment "name: \\"net\\" id: \\"c-one\\""'

    assert name == "CNI-" + sha512(b"netc-one").hexdigest()[:24]
    assert rules.appends == (
        (name, f"-d 10.9.0.0/24 {about} -j ACCEPT"),
        (name, f"! -d 224.0.0.0/4 {about} -j MASQUERADE"),
        ("POSTROUTING", f"-s 10.9.0.2/32 {about} -j {name}"),
    )


def test_a_result_goes_on_after_the_one_before() -> None:
    before = {"interfaces": [{"name": "lo0"}], "ips": [{"address": "192.0.2.1/24", "interface": 0}]}
    request = asked(prevResult=before)
    made = wiring.add_result(request, read_result(json.dumps(GIVEN)), {Interface(POD, "eth0"): "02:00:00:00:00:01"})

    assert [one.name for one in made.interfaces] == ["lo0", "cni0", wiring.host_veth_name(request), "eth0"]
    assert [(str(one.address), one.interface) for one in made.ips] == [("192.0.2.1/24", 0), ("10.9.0.2/24", 3)]


def test_accepting_is_written_as_the_plugin_firewall_does() -> None:
    (rules,) = iptables_rules.rules(asked(firewall=True).config, "c-one", ADDRESSES)

    assert (rules.table, rules.chains, rules.shared_chains) == ("filter", (), ("CNI-FORWARD", "CNI-ADMIN"))
    assert rules.inserts == (
        ("FORWARD", '-m comment --comment "CNI firewall plugin rules" -j CNI-FORWARD'),
        ("CNI-FORWARD", '-m comment --comment "CNI firewall plugin admin overrides" -j CNI-ADMIN'),
    )
    assert rules.appends == (
        ("CNI-FORWARD", "-d 10.9.0.2/32 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"),
        ("CNI-FORWARD", "-s 10.9.0.2/32 -j ACCEPT"),
    )


def test_only_this_networks_rules_are_left_over() -> None:
    def jump(network: str, container: str, number: int) -> tuple[str, FirewallRule]:
        said, chain = iptables_rules.comment(network, container), iptables_rules.chain_name(network, container)
        words = ("-s", f"10.9.0.{number}/32", "-m", "comment", "--comment", said, "-j", chain)
        return "POSTROUTING", FirewallRule(words)

    there = [jump("net", "a", 2), jump("net", "b", 3), jump("other", "a", 4), ("POSTROUTING", rule("-j MASQUERADE"))]
    plugin_config = asked(firewall=True).config
    nat, accepts = iptables_rules.stale_rules(plugin_config, lambda container: container != "a", there)

    assert nat.chains == (iptables_rules.chain_name("net", "b"),)
    assert accepts.appends[1] == ("CNI-FORWARD", "-s 10.9.0.3/32 -j ACCEPT")
    assert list(iptables_rules.stale_rules(plugin_config, lambda container: False, there)) == []


@pytest.mark.parametrize("source", ["", "-s 10.9.0.0/24 ", "! -s 10.9.0.2/32 "])
def test_a_rule_of_others_that_looks_like_one_of_ours_stops_nothing(source: str) -> None:
    text = source + '-m comment --comment "name: \\"net\\" id: \\"c-one\\"" -j CNI-abc'
    rules = [("POSTROUTING", rule(text))]
    found = list(iptables_rules.stale_rules(asked(firewall=True).config, lambda container: True, rules))
    assert [one.table for one in found] == ["nat", "filter"]
    assert iptables_rules.masqueraded_containers(asked().config, rules) == ("c-one",)

"""What a runtime says to plugins: every command's calls, held by golden JSON; capabilities, order, prevResult.

`pytest tests/unit/cni_runtime/test_invocation.py --update-golden` renews them; read the difference then.
"""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest

from labctl.cni.conflist import capabilities, parse_config_list
from labctl.cni.spec import Error
from labctl.cni_runtime.invocation import MODELS, PluginCall, calls, container_of, takes_prev_result, version_call
from labctl.cni_runtime.known_issues import is_known_del_error, known_crash, known_issue
from labctl.core.resources import Attachment, Route
from labctl.kernel.cni import plugins
from labctl.models import model_names
from tests.support.golden import Golden

LIST: dict[str, Any] = {
    "cniVersion": "0.4.0",
    "cniVersions": ["1.0.0", "1.1.0", "0.3.1"],
    "name": "pods",
    "plugins": [
        {
            "type": "bridge",
            "unknown": {"of": ["the", "plugin"]},
            "capabilities": {"mac": True, "ips": False, "ipRanges": True},
            "ipam": {"type": "host-local", "dataDir": "/var/lib/cni", "subnet": "10.244.0.0/24"},
        },
        {"type": "portmap", "capabilities": {"portMappings": True, "mac": False}, "runtimeConfig": {"no": 1}},
        {"type": "tuning", "capabilities": {"bandwidth": True}},
    ],
}
ARGS = {
    "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}],
    "mac": "02:00:00:00:00:0a",
    "ips": ["10.244.0.9/24"],
    "ipRanges": [[{"subnet": "10.244.0.0/24"}]],
}
ITEM = Attachment("a", "node1", json.dumps(LIST), json.dumps(ARGS))


def made(command: str, version: str | None = None) -> list[dict[str, Any]]:
    """The calls of a command, as plain data; those of ADD and CHECK with the previous result."""
    text = json.dumps(LIST if version is None else {**LIST, "cniVersion": version, "cniVersions": []})
    pod = None if command in ("GC", "STATUS") else container_of(ITEM, "/run/netns/labctl.lab.a")
    valid = (("a", "eth0"), ("b", "eth0")) if command == "GC" else ()
    what = parse_config_list(text)
    previous = {"cniVersion": what.version, "ips": []}
    found = []
    for number, call in enumerate(calls(command, what, "/usr/lib/cni", "/run/labctl/lab/cni/data/node1", pod, valid)):
        told = takes_prev_result(command, what.version) or (command == "ADD" and number > 0)
        config = json.loads(call.stdin_text(previous if told else None))
        found.append({"plugin": call.plugin, "environment": call.environment, "stdin": config})
    return found


@pytest.mark.parametrize("command", ["ADD", "CHECK", "DEL", "GC", "STATUS"])
def test_the_calls_of_a_command_are_the_golden_ones(command: str, golden: Golden) -> None:
    golden(f"cni/{command.lower()}.json").check(json.dumps(made(command), indent=2) + "\n")


def test_a_del_goes_backward_and_everything_else_forward() -> None:
    order = ["bridge", "portmap", "tuning"]
    for command in ("ADD", "CHECK", "GC", "STATUS"):
        assert [one["plugin"] for one in made(command)] == order
    assert [one["plugin"] for one in made("DEL")] == order[::-1]


def test_a_plugin_is_told_only_what_it_declares_as_true() -> None:
    told = [one["stdin"].get("runtimeConfig") for one in made("ADD")]
    assert told == [{"mac": ARGS["mac"], "ipRanges": ARGS["ipRanges"]}, {"portMappings": ARGS["portMappings"]}, None]
    assert capabilities(parse_config_list(json.dumps(LIST)).plugins) == {"mac", "ipRanges", "portMappings", "bandwidth"}
    assert not any("capabilities" in one["stdin"] for command in ("ADD", "DEL", "GC") for one in made(command))


def test_plugins_write_in_the_labs_folder_whatever_the_list_says() -> None:
    bridge, portmap, tuning = (one["stdin"] for one in made("ADD"))
    assert bridge["ipam"]["dataDir"] == "/run/labctl/lab/cni/data/node1/host-local"
    assert tuning["dataDir"] == "/run/labctl/lab/cni/data/node1/tuning"
    assert "dataDir" not in portmap


def test_a_del_is_told_the_result_since_0_4_0() -> None:
    assert all("prevResult" in one["stdin"] for one in made("DEL", "0.4.0"))
    assert not any("prevResult" in one["stdin"] for one in made("DEL", "0.3.1"))
    assert ["prevResult" in one["stdin"] for one in made("ADD", "0.3.1")] == [False, True, True]


def test_the_latest_version_of_the_list_is_spoken() -> None:
    what = parse_config_list(json.dumps(LIST))
    assert what.version == "1.1.0"
    assert what.types == ("bridge", "host-local", "portmap", "tuning")
    assert version_call("bridge", "1.1.0", "/x").stdin_text() == '{"cniVersion": "1.1.0"}'


@pytest.mark.parametrize(
    ("more", "check", "collects"),
    [
        ({"cniVersion": "0.3.1"}, "cniVersion 0.3.1 has no CHECK (0.4.0 and later have it)", False),
        ({"cniVersion": "1.0.0"}, "", False),
        ({"cniVersion": "1.1.0"}, "", True),
        ({"cniVersion": "1.1.0", "disableCheck": True, "disableGC": True}, "the list has disableCheck: true", False),
    ],
)
def test_what_a_network_can_be_asked(more: dict[str, Any], check: str, collects: bool) -> None:
    what = parse_config_list(json.dumps({**LIST, "cniVersions": [], **more}))
    assert what.no_check_reason == check
    assert what.supports_gc is collects


def test_a_call_needs_a_pod_or_none() -> None:
    what, pod = parse_config_list(json.dumps(LIST)), container_of(ITEM, "")
    for command, whose in (("ADD", None), ("GC", pod), ("ADDD", pod)):
        with pytest.raises(ValueError, match="cannot be made"):
            calls(command, what, "", "", whose)


def check_call(plugin: str, **keys: Any) -> PluginCall:
    return PluginCall(plugin, "CHECK", {}, {"type": plugin, **keys})


def test_only_the_known_mistake_of_portmap_is_not_believed() -> None:
    four = {"cniVersion": "0.4.0", "ips": [{"version": "4", "address": "10.0.0.2/24"}]}
    both = {"cniVersion": "0.4.0", "ips": [*four["ips"], {"version": "6", "address": "2001:db8::2/64"}]}
    wrong = Error(999, "could not check ipv6 dnat: chain CNI-DN-x not found in iptables table nat")
    portmap = check_call("portmap")
    assert "819" in known_issue(portmap, wrong, four, tuple)
    assert known_issue(portmap, wrong, both, tuple) == ""
    assert known_issue(check_call("bridge"), wrong, four, tuple) == ""
    assert known_issue(portmap, Error(999, "could not check ipv4 dnat: no"), four, tuple) == ""
    assert known_issue(portmap, wrong, {"ips": 3}, tuple) == ""
    rule = "could not check ipv6 dnat: rule [-p tcp --dport 80 -j DNAT --to-destination {}:80] in chain x not found"
    assert "819" in known_issue(portmap, Error(999, rule.format("10.0.0.2")), both, tuple)
    assert known_issue(portmap, Error(999, rule.format("[2001:db8::2]")), both, tuple) == ""


@pytest.mark.parametrize(
    ("ip", "mask", "network"),
    [("10.244.0.0", "ffff0000", "10.244.0.0/16"), ("fd00:1::", "f" * 16 + "0" * 16, "fd00:1::/64")],
)
def test_a_route_without_a_gateway_is_looked_for_in_the_pod(ip: str, mask: str, network: str) -> None:
    error = Error(999, f"Expected Route {{Dst:{{IP:{ip} Mask:{mask}}} GW:<nil>}} not found in routing table")
    there = Route("a", ip_network(network), ip_network(network)[1], "eth0")
    assert "886" in known_issue(check_call("bridge"), error, {}, lambda: (there,))
    assert known_issue(check_call("bridge"), error, {}, tuple) == ""
    assert known_issue(check_call("bridge"), error, {}, lambda: (replace(there, via=None),)) == ""
    broken = Error(999, error.msg.replace(ip, "nowhere"))
    assert known_issue(check_call("bridge"), broken, {}, lambda: (there,)) == ""


NOT_THERE = {
    "nft": "iptables v1.8.9 (nf_tables): Chain 'CNI-98d2' does not exist\nTry `iptables -h' for more information.\n",
    "legacy": "iptables v1.8.9 (legacy): Couldn't load target `CNI-98d2':No such file or directory\n\nTry ...\n",
}


@pytest.mark.parametrize("backend", NOT_THERE)
def test_a_del_that_misses_a_chain_of_iptables_is_known(backend: str) -> None:
    run = (
        'running [/usr/sbin/{} -t nat -D POSTROUTING -s 10.244.1.3 -j CNI-98d2 -m comment --comment name: "kubenet"'
        ' id: "c-two" --wait]: exit status 2: {}'
    )
    four, six = (run.format(tool, NOT_THERE[backend]) for tool in ("iptables", "ip6tables"))
    with_nft = check_call("bridge", ipMasqBackend="nftables")
    assert is_known_del_error(with_nft, Error(999, four))
    assert is_known_del_error(with_nft, Error(999, f"{four}\n{six}"))
    assert not is_known_del_error(check_call("bridge"), Error(999, four))
    assert not is_known_del_error(with_nft, Error(999, f"cannot remove eth0\n{four}"))
    assert not is_known_del_error(with_nft, Error(999, four.replace("-j CNI-98d2", "-j CNI-0000")))
    assert not is_known_del_error(with_nft, Error(999, f"{four}\nrunning [/usr/sbin/nft -f -]: no"))


def test_a_check_that_asks_for_ipam_without_any_is_known() -> None:
    error = Error(999, "no plugin name provided")
    assert "known bug" in known_issue(check_call("bridge", ipam={}), error, {}, tuple)
    assert "known bug" in known_issue(check_call("bridge"), error, {}, tuple)
    assert known_issue(check_call("bridge", ipam={"type": "static"}), error, {}, tuple) == ""


def test_a_crash_of_bandwidth_without_a_limit_is_known() -> None:
    assert "1221" in known_crash(check_call("bandwidth"), 2)
    assert known_crash(check_call("bandwidth"), 1) == ""
    assert known_crash(check_call("bridge"), 2) == ""
    for limited in ({"runtimeConfig": {"bandwidth": {"ingressRate": 9}}}, {"ingressRate": 9}, {"egressRate": 9}):
        assert known_crash(check_call("bandwidth", **limited), 2) == ""


def test_the_models_that_a_hint_names_exist() -> None:
    assert set(MODELS.values()) <= set(model_names())
    for name, model in MODELS.items():
        assert f"model: {model} " in plugins._missing_plugin_hint(name, "")
    assert plugins._missing_plugin_hint("bridge", "") == plugins.PACKAGE
    assert "did you mean 'bridge'?" in plugins._missing_plugin_hint("brigde", "")

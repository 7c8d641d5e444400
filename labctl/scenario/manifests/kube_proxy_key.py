"""The key `kube_proxy` of a scenario, in the words of KubeProxyConfiguration, and the settings of a cluster."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from labctl.kubernetes.api.declared import Declared
from labctl.kubernetes.services.kube_proxy_config import IPTABLES, MODES, NFTABLES, Release
from labctl.scenario import values
from labctl.scenario.document import Position, Reader, quote_text
from labctl.scenario.field_types import InvalidValue, Key, ListOf, Located, Scalar, Section, plain_values

OLDEST, NEWEST = Release(1, 28), Release(1, 36)  # the releases of kube-proxy whose rules are known


FIRST_WITH_NFTABLES = Release(1, 29)  # alpha there


def _release(text: str) -> str:
    try:
        found = Release.parse(text)
    except ValueError as error:
        raise InvalidValue(str(error)) from None
    if not OLDEST <= found <= NEWEST:
        known = f"labctl knows {OLDEST} to {NEWEST}"
        raise InvalidValue(f"the rules of kube-proxy {text} are not known", known)
    return text


def _range_or_primary(text: str) -> str:
    return text if text == "primary" else str(values.network().convert(text))


def _cluster_cidr(text: str) -> str:
    return ",".join(str(values.network().convert(one.strip())) for one in text.split(","))


def _gate(text: str) -> str:
    if not re.fullmatch("[A-Z][A-Za-z0-9]*", text):
        raise InvalidValue(f"{quote_text(text)} is not the name of a feature gate")
    return text


def _mode(text: str) -> str:
    if text == "ipvs":
        hint = "write mode: nftables, which replaces it; Kubernetes removes ipvs in 1.43"
        raise InvalidValue("labctl has no kube-proxy in mode ipvs", hint)
    if text not in MODES:
        raise InvalidValue(f"{quote_text(text)} is not a mode of kube-proxy", f"modes: {', '.join(MODES)}")
    return text


DEVICE_KEYS = {"BridgeInterface": "bridgeInterface", "InterfaceNamePrefix": "interfaceNamePrefix"}
MODE = Scalar("iptables or nftables", _mode, {"enum": [*MODES]})
RELEASE = Scalar("a release of Kubernetes, such as 1.33", _release, {"type": ["string", "number"]})
ADDRESSES = Scalar("a range, or primary", _range_or_primary, {"type": "string"})
CLUSTER_CIDR = Scalar("a range, or one of each family with a comma between", _cluster_cidr, {"type": "string"})
DEVICE = Scalar("the name of a device, or its beginning", str, {"type": "string"})
GATES = Section(
    "featureGates",
    tuple(
        Key(name, values.BOOLEAN, "a feature gate of kube-proxy", "as in the release")
        for name in ("MultiCIDRServiceAllocator", "PreferSameTrafficDistribution", "ServiceTrafficDistribution")
    ),
)
KUBE_PROXY = Section(
    "kube_proxy",
    (
        Key("version", RELEASE, "the release of kube-proxy", "1.35"),
        Key("mode", MODE, "what kube-proxy writes its rules with", IPTABLES),
        Key(
            "clusterCIDR", CLUSTER_CIDR, "the range by which kube-proxy recognises pods", "as the model's clusters have"
        ),
        Key(
            "detectLocalMode",
            values.choice("ClusterCIDR", *DEVICE_KEYS),
            "how kube-proxy recognises packets of pods",
            "ClusterCIDR",
        ),
        Key(
            "detectLocal",
            Section(
                "detectLocal",
                (
                    Key("bridgeInterface", DEVICE, "the bridge of the pods, for BridgeInterface"),
                    Key("interfaceNamePrefix", DEVICE, "the beginning of the pods' devices, for InterfaceNamePrefix"),
                ),
            ),
            "the devices of pods",
        ),
        Key(
            "iptables",
            Section(
                "iptables",
                (
                    Key("masqueradeAll", values.BOOLEAN, "masquerade everything that goes to a Service", "false"),
                    Key("masqueradeBit", values.integer(0, 31), "the bit of the mark", "14"),
                    Key("localhostNodePorts", values.BOOLEAN, "nodePorts at 127.0.0.1", "true"),
                ),
            ),
            "settings of the mode iptables",
        ),
        Key(
            "nftables",
            Section(
                "nftables",
                (
                    Key("masqueradeAll", values.BOOLEAN, "masquerade everything that goes to a Service", "false"),
                    Key("masqueradeBit", values.integer(0, 31), "the bit of the mark", "14"),
                ),
            ),
            "settings of the mode nftables",
        ),
        Key(
            "nodePortAddresses",
            ListOf(ADDRESSES),
            "the addresses of nodes that have nodePorts",
            "all; in mode nftables, the main one",
        ),
        Key(
            "conntrack",
            Section("conntrack", (Key("tcpBeLiberal", values.BOOLEAN, "no rule drops INVALID packets", "false"),)),
            "settings of conntrack",
        ),
        Key("featureGates", GATES, "feature gates"),
        Key("nfacct", values.BOOLEAN, "count dropped packets in nfacct objects, from 1.31 on", "false"),
    ),
)


_NOTHING = Located({}, Position(""), Position(""))


def with_settings(declared: Declared, located: Mapping[str, Located], reader: Reader) -> Declared:
    """The declaration with the settings of the cluster that were read."""
    if "kube_proxy" in located:
        found = located["kube_proxy"].value
        mode = found.get("detectLocalMode")
        wanted = DEVICE_KEYS.get(mode.value) if mode is not None else None
        if mode is not None and wanted and wanted not in found.get("detectLocal", _NOTHING).value:
            hint = f"write detectLocal: {{{wanted}: ...}}"
            reader.add_problem(mode.at, f"kube_proxy: detectLocalMode {mode.value} needs the device", hint)
        _check_mode(found, reader)
        declared = dataclasses.replace(declared, kube_proxy=_plain(located["kube_proxy"].value))
    if "policy_engine" in located:
        declared = dataclasses.replace(declared, policy_engine=located["policy_engine"].value)
    if (found := located.get("service_cidr")) is not None and isinstance(found.value, tuple):
        ranges = tuple(one.value for one in found.value if isinstance(one, Located))
        declared = dataclasses.replace(declared, service_cidrs=ranges)
    return declared


def _check_mode(found: Mapping[str, Located], reader: Reader) -> None:
    """Report settings that the mode does not have."""
    mode, version = found.get("mode"), found.get("version")
    if mode is None or mode.value != NFTABLES:
        if (section := found.get("nftables")) is not None:
            reader.add_problem(section.at, "kube_proxy: nftables is read in mode nftables", "write mode: nftables")
        return
    if version is not None and not (release := Release.parse(str(version.value))).is_known_in_nftables_mode:
        what = (
            f"kube-proxy {release} has no mode nftables"
            if release < FIRST_WITH_NFTABLES
            else f"the rules of kube-proxy {release} in mode nftables are not known"
        )
        reader.add_problem(version.at, f"kube_proxy: {what}", f"labctl knows 1.30 to {NEWEST}")
    if (section := found.get("iptables")) is not None:
        reader.add_problem(section.at, "kube_proxy: iptables is read in mode iptables", "write nftables: for this mode")


def _plain(found: Mapping[str, Located]) -> dict[str, Any]:
    """The values of a section, without their places."""
    return {
        name: _plain(one.value)
        if isinstance(one.value, dict)
        else list(plain_values({name: one})[name])
        if isinstance(one.value, tuple)
        else one.value
        for name, one in found.items()
    }

"""The input of labctl's CNI plugin: environment and configuration, read and validated. Pure.

Follows section 3 of SPEC.md 1.1.0 of containernetworking/cni; the keys are those of the reference plugins `bridge`
and `ptp` (containernetworking/plugins); the key `firewall` does the work of the plugin `firewall`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from labctl.cni.spec import (
    DECODING_FAILURE,
    INCOMPATIBLE_CNI_VERSION,
    INVALID_ENVIRONMENT_VARIABLES,
    INVALID_NETWORK_CONFIG,
    UNSUPPORTED_FIELD,
    VALID_ATTACHMENTS,
    VALID_ATTACHMENTS_KEYS,
    VERSIONS,
    DecodeError,
    Error,
    Json,
    Result,
    is_container_id,
    is_executable_name,
    is_ifname,
    is_network_name,
    json_object,
    result_from_json,
    short_value,
    supports,
    version_tuple,
)
from labctl.core.names import did_you_mean

SUPPORTED_VERSIONS = tuple(version for version in VERSIONS if version_tuple(version) >= (0, 3, 0))
SHAPES = ("bridge", "routed")
MASQUERADE_BACKENDS = ("iptables", "nftables")
REQUIRED_VARIABLES = {
    "ADD": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"),
    "CHECK": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"),
    "DEL": ("CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"),
    "GC": ("CNI_PATH",),
    "STATUS": ("CNI_PATH",),
    "VERSION": (),
}
# key -> the attribute of Config, its type, and the `shape` that it belongs to ("" for both)
KEYS: dict[str, tuple[str, type, str]] = {
    "shape": ("shape", str, ""),
    "ipam": ("ipam", dict, ""),
    "ipMasq": ("ip_masq", bool, ""),
    "ipMasqBackend": ("ip_masq_backend", str, ""),
    "mtu": ("mtu", int, ""),
    "firewall": ("firewall", bool, ""),
    "bridge": ("bridge", str, "bridge"),
    "isGateway": ("is_gateway", bool, "bridge"),
    "isDefaultGateway": ("is_default_gateway", bool, "bridge"),
    "hairpinMode": ("hairpin", bool, "bridge"),
    "promiscMode": ("promisc", bool, "bridge"),
    "portIsolation": ("isolated", bool, "bridge"),
}
# keys of the reference plugins for which labctl-cni does nothing: the values that ask for nothing, and what it lacks
REFERENCE_KEYS: dict[str, tuple[tuple[Any, ...], str]] = {
    "macspoofchk": ((False,), "labctl-cni filters no MAC addresses, as the plugin bridge does with rules of nft"),
    "vlan": ((0,), "the bridges of labctl-cni have no VLANs"),
    "vlanTrunk": (([],), "the bridges of labctl-cni have no VLANs"),
    "preserveDefaultVlan": ((False, True), ""),  # it has no effect without vlan
    "forceAddress": ((False,), "a bridge with another address is refused, and keeps that address"),
    "disableContainerInterface": ((False,), "the container's device is always up"),
    "enabledad": ((False,), "labctl-cni has no IPv6, so no duplicate address detection"),
}
RUNTIME_KEYS = (
    "cniVersion", "cniVersions", "name", "type", "args", "capabilities", "dns", "runtimeConfig", "prevResult",
    "disableCheck", "disableGC",
)  # fmt: skip
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


class Failure(Exception):
    """A failed call of the plugin, with its error as the specification defines it."""

    def __init__(self, code: int, msg: str, details: str = "") -> None:
        super().__init__(msg)
        self.error = Error(code, msg, details)


@dataclass(frozen=True, slots=True)
class Config:
    """A validated network configuration. `raw` is the original, which IPAM plugins get as a whole."""

    version: str
    name: str
    shape: str = "bridge"
    bridge: str = "cni0"
    is_gateway: bool = False
    is_default_gateway: bool = False
    ip_masq: bool = False
    ip_masq_backend: str = ""  # one of MASQUERADE_BACKENDS; "": iptables, unless only nft is installed
    hairpin: bool = False
    promisc: bool = False
    isolated: bool = False
    firewall: bool = False
    mtu: int = 0  # bytes; 0 is the kernel's default
    mac: str | None = None  # of the container's device, if the runtime wants a certain one
    ipam: Json = field(default_factory=dict, hash=False)
    prev_result: Result | None = None
    valid_attachments: frozenset[tuple[str, str]] = frozenset()  # of a GC: the attachments that stay
    raw: Json = field(default_factory=dict, hash=False)

    @property
    def gateway(self) -> bool:
        """Whether the node has the gateway's address and forwards packets."""
        return self.is_gateway or self.is_default_gateway or self.shape == "routed"


@dataclass(frozen=True, slots=True)
class Request:
    """One call: the command, its container, and the configuration. `netns` may be empty for a DEL."""

    command: str
    config: Config
    container_id: str = ""
    netns: str = ""
    ifname: str = ""


def command_of(environment: Mapping[str, str]) -> str:
    """The command in an environment, after its variables are validated. Raises Failure."""
    command = environment.get("CNI_COMMAND", "")
    if command not in REQUIRED_VARIABLES:
        commands = ", ".join(REQUIRED_VARIABLES)
        raise Failure(
            INVALID_ENVIRONMENT_VARIABLES, f"CNI_COMMAND is {short_value(command)}, which is none of {commands}"
        )
    missing = [name for name in REQUIRED_VARIABLES[command] if not environment.get(name)]
    if missing:
        raise Failure(
            INVALID_ENVIRONMENT_VARIABLES, f"{command} needs {' and '.join(missing)}", "set it in the environment"
        )
    container, ifname = environment.get("CNI_CONTAINERID", ""), environment.get("CNI_IFNAME", "")
    if "CNI_CONTAINERID" in REQUIRED_VARIABLES[command]:
        if not is_container_id(container):
            raise Failure(
                INVALID_ENVIRONMENT_VARIABLES, f"CNI_CONTAINERID {short_value(container)} is not a container id"
            )
        if not is_ifname(ifname):
            raise Failure(
                INVALID_ENVIRONMENT_VARIABLES, f"CNI_IFNAME {short_value(ifname)} is not a valid name for a device"
            )
    return command


def parse_request(environment: Mapping[str, str], text: str) -> Request:
    """The call that an environment and the text of standard input describe. Raises Failure."""
    command = command_of(environment)
    if command == "VERSION":
        return Request(command, Config(_version_of_request(text), ""))
    config = _config(command, text, _parse_cni_args(environment.get("CNI_ARGS", "")))
    names = (environment.get(name, "") for name in ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"))
    return Request(command, config, *names)


def _version_of_request(text: str) -> str:
    """The cniVersion of a VERSION call; before 1.1.0 its standard input could be empty."""
    try:
        version = json_object(text, "configuration").get("cniVersion")
        return version if isinstance(version, str) and version_tuple(version) else SUPPORTED_VERSIONS[-1]
    except DecodeError:
        return SUPPORTED_VERSIONS[-1]


def _parse_cni_args(text: str) -> dict[str, str]:
    """CNI_ARGS, pairs separated by `;`. Only `MAC` is for this plugin; an IPAM plugin may use others."""
    pairs = [pair.partition("=") for pair in text.split(";") if pair]
    broken = ["".join(pair) for pair in pairs if not pair[0] or not pair[1]]
    if broken:
        raise Failure(
            INVALID_ENVIRONMENT_VARIABLES,
            f"CNI_ARGS has {short_value(broken[0])}, which is not a pair",
            "write KEY=VALUE;KEY=VALUE",
        )
    return {key: value for key, _, value in pairs}


def _config(command: str, text: str, arguments: Mapping[str, str]) -> Config:
    try:
        data = json_object(text, "configuration")
    except DecodeError as error:
        raise Failure(DECODING_FAILURE, str(error)) from None
    version = data.get("cniVersion", "0.1.0")
    if version not in SUPPORTED_VERSIONS:
        raise Failure(
            INCOMPATIBLE_CNI_VERSION,
            f"cniVersion {version if isinstance(version, str) else short_value(version):.60} is not supported",
            f"supported are {', '.join(SUPPORTED_VERSIONS)}",
        )
    if not supports(version, command):
        raise Failure(INCOMPATIBLE_CNI_VERSION, f"cniVersion {version} has no {command}")
    name = data.get("name")
    if not isinstance(name, str) or not is_network_name(name):
        raise Failure(INVALID_NETWORK_CONFIG, f"name {short_value(name)} is not a valid name for a network")
    if not isinstance(data.get("dns") or {}, dict):
        raise Failure(INVALID_NETWORK_CONFIG, f"dns {short_value(data['dns'])} is not an object")
    values = _values(data)
    mac, previous = _mac(data, arguments), _parse_prev_result(command, data)
    valid = _parse_valid_attachments(data) if command == "GC" else frozenset()
    return Config(version, name, **values, mac=mac, prev_result=previous, valid_attachments=valid, raw=data)


def _values(data: Json) -> dict[str, Any]:
    """The plugin's keys, each checked for its type and its `shape`."""
    known = {*KEYS, *REFERENCE_KEYS, *RUNTIME_KEYS}
    unknown = [key for key in data if key not in known and "/" not in key]
    if unknown:
        hint = did_you_mean(unknown[0], KEYS, quote=repr) or f"known are {', '.join(KEYS)}"
        message = f"unknown key {short_value(unknown[0])}, which is {_json_text(data[unknown[0]])}"
        raise Failure(UNSUPPORTED_FIELD, message, hint)
    _refuse_reference_keys(data)
    shape = data.get("shape", "bridge")
    if shape not in SHAPES:
        raise Failure(INVALID_NETWORK_CONFIG, f"shape {short_value(shape)} is none of {', '.join(SHAPES)}")
    found: dict[str, Any] = {}
    for key, (attribute, kind, required_shape) in KEYS.items():
        if key not in data:
            continue
        value = data[key]
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            message = f"{key} {short_value(value)} is not of the kind {_TYPE_NAMES[kind]}"
            raise Failure(INVALID_NETWORK_CONFIG, message)
        if required_shape and required_shape != shape:
            message = f"{key} (here {_json_text(value)}) has no meaning with shape {shape!r}"
            raise Failure(UNSUPPORTED_FIELD, message, f"use it with shape {required_shape!r}")
        found[attribute] = value
    _validate(found)
    return found


def _refuse_reference_keys(data: Json) -> None:
    """Refuse a key of a reference plugin that asks for something that labctl-cni does not do."""
    for key, (harmless, reason) in REFERENCE_KEYS.items():
        value = data.get(key)
        if value is not None and not any(value == other and type(value) is type(other) for other in harmless):
            message = f"labctl-cni does not support {key} (here {_json_text(value)}), a key of the plugin bridge"
            raise Failure(UNSUPPORTED_FIELD, message, reason or "true or false")


def _json_text(value: Any) -> str:
    """A value as JSON for a message: at most 60 characters."""
    return f"{json.dumps(value, ensure_ascii=False):.60}"


_TYPE_NAMES = {str: "text", dict: "object", bool: "true or false", int: "number"}


def _validate(found: dict[str, Any]) -> None:
    """Refuse keys with invalid values, and keys that exclude each other."""
    if found.get("hairpin") and found.get("promisc"):
        raise Failure(INVALID_NETWORK_CONFIG, "hairpinMode and promiscMode cannot both be on", "keep one of them")
    backend = found.get("ip_masq_backend", "")
    if backend and backend not in MASQUERADE_BACKENDS:
        message = f"ipMasqBackend {short_value(backend)} is none of {', '.join(MASQUERADE_BACKENDS)}"
        raise Failure(INVALID_NETWORK_CONFIG, message)
    if "bridge" in found and not is_ifname(found["bridge"]):
        raise Failure(INVALID_NETWORK_CONFIG, f"bridge {short_value(found['bridge'])} is not a valid name for a device")
    if not 0 <= found.get("mtu", 0) <= 65535 or 0 < found.get("mtu", 0) < 68:
        raise Failure(
            INVALID_NETWORK_CONFIG,
            f"mtu {short_value(found['mtu'])} is out of bounds",
            "from 68 to 65535, or 0 for the kernel's",
        )
    kind = found.get("ipam", {}).get("type")
    if kind is None or kind == "":
        raise Failure(INVALID_NETWORK_CONFIG, "ipam.type is missing", "name the IPAM plugin, such as host-local")
    if not isinstance(kind, str) or not is_executable_name(kind):
        message = f"ipam.type {short_value(kind)} is not the name of an executable"
        raise Failure(INVALID_NETWORK_CONFIG, message, "name the IPAM plugin, such as host-local")


def _mac(data: Json, arguments: Mapping[str, str]) -> str | None:
    """The wanted MAC address: CNI_ARGS, then args.cni, then runtimeConfig; the last one counts, as in the reference
    plugins."""
    mac = arguments.get("MAC") or None
    for path in (("args", "cni"), ("runtimeConfig",)):
        inner: Any = data
        for key in path:
            inner = inner.get(key) if isinstance(inner, dict) else None
        mac = inner["mac"] if isinstance(inner, dict) and inner.get("mac") else mac
    if mac is not None and not (isinstance(mac, str) and _MAC.fullmatch(mac.lower())):
        raise Failure(
            INVALID_NETWORK_CONFIG, f"{short_value(mac)} is not a MAC address", "write it like 02:00:00:00:00:01"
        )
    return None if mac is None else mac.lower()


def _parse_prev_result(command: str, data: Json) -> Result | None:
    prev_result = data.get("prevResult")
    if prev_result is None:
        if command == "CHECK":
            raise Failure(INVALID_NETWORK_CONFIG, "CHECK needs prevResult", "give the final result of the ADD")
        return None
    try:
        if not isinstance(prev_result, dict):
            raise DecodeError(f"{short_value(prev_result)} is not an object")
        return result_from_json({"cniVersion": data["cniVersion"], **prev_result})
    except DecodeError as error:
        raise Failure(DECODING_FAILURE, f"prevResult: {error}") from None


def _parse_valid_attachments(data: Json) -> frozenset[tuple[str, str]]:
    """The attachments that stay, of a GC. Without the key, it is not known what is valid, and nothing may be removed;
    `null` is libcni's empty list."""
    key = next((key for key in VALID_ATTACHMENTS_KEYS if key in data), None)
    if key is None:
        raise Failure(INVALID_NETWORK_CONFIG, f"GC needs {VALID_ATTACHMENTS}", "a list of the attachments that stay")
    attachments = data[key] or []
    if not isinstance(attachments, list) or not all(_is_attachment(item) for item in attachments):
        raise Failure(DECODING_FAILURE, f"{key} needs objects with containerID and ifname")
    return frozenset((item["containerID"], item["ifname"]) for item in attachments)


def _is_attachment(item: Any) -> bool:
    return isinstance(item, dict) and all(isinstance(item.get(key), str) for key in ("containerID", "ifname"))

"""The types of the CNI specification: versions, commands, results and errors, as frozen data. Nothing here does I/O.

Follows SPEC.md 1.1.0 of containernetworking/cni. Both sides use it: the runtime that calls plugins, and a
plugin that is called. Results exist in three formats, and each is read and written in the format of its version:

    0.1.0, 0.2.0          {"ip4": {"ip", "gateway", "routes"}, "ip6": {...}, "dns"}
    0.3.0, 0.3.1, 0.4.0   {"interfaces", "ips": [{"version": "4", "address", ...}], "routes", "dns"}
    1.0.0, 1.1.0          the same, without ips[].version; 1.1.0 adds mtu, advmss, priority, table and scope
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface, ip_network
from typing import Any, TypeAlias

from labctl.core.resources import IP, InterfaceAddress, Net

Json: TypeAlias = dict[str, Any]

VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")  # all published versions
COMMANDS = ("ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION")
MIN_VERSION = {"CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}  # the first version with a command
PREV_RESULT_ON_DEL = "0.4.0"  # since this version a DEL gets the result of the ADD
VALID_ATTACHMENTS = "cni.dev/valid-attachments"  # the key of a GC's configuration, as SPEC.md has it
# both keys that libcni writes, with one value: drafts of the text had the second one (containernetworking/cni#1101)
VALID_ATTACHMENTS_KEYS = (VALID_ATTACHMENTS, "cni.dev/attachments")

INCOMPATIBLE_CNI_VERSION, UNSUPPORTED_FIELD, UNKNOWN_CONTAINER, INVALID_ENVIRONMENT_VARIABLES = 1, 2, 3, 4
IO_FAILURE, DECODING_FAILURE, INVALID_NETWORK_CONFIG, TRY_AGAIN_LATER = 5, 6, 7, 11
PLUGIN_NOT_AVAILABLE, LIMITED_CONNECTIVITY = 50, 51  # of STATUS, see MEANING
FIRST_PLUGIN_CODE = 100  # the first code for a plugin's own errors
MEANING = {
    INCOMPATIBLE_CNI_VERSION: "incompatible CNI version",
    UNSUPPORTED_FIELD: "a field of the configuration is not supported",
    UNKNOWN_CONTAINER: "the container is unknown or does not exist",
    INVALID_ENVIRONMENT_VARIABLES: "a CNI_* variable is missing or wrong",
    IO_FAILURE: "something could not be read or written",
    DECODING_FAILURE: "the configuration could not be decoded",
    INVALID_NETWORK_CONFIG: "the network configuration is wrong",
    TRY_AGAIN_LATER: "try again later",
    PLUGIN_NOT_AVAILABLE: "the plugin cannot serve an ADD now",
    LIMITED_CONNECTIVITY: "the plugin cannot serve an ADD now, and containers that it attached may have lost"
    " their network",
}

MAX_JSON_DEPTH = 100  # levels of objects and lists in a document; a configuration has about ten

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_CIDR = re.compile(r"[0-9A-Fa-f:.]+/[0-9]{1,3}")


class DecodeError(ValueError):
    """A text that is not a CNI result, error or version; the message says what is wrong with it."""


def version_tuple(version: str) -> tuple[int, int, int]:
    """A version as numbers to compare. Raises DecodeError for an invalid version, such as `1.0` or `v1.0.0`."""
    found = re.fullmatch(r"([0-9]{1,9})\.([0-9]{1,9})\.([0-9]{1,9})", version)
    if found is None:
        raise DecodeError(f"{short_value(version)} is not a CNI version")
    return int(found[1]), int(found[2]), int(found[3])


def at_least(version: str, floor: str) -> bool:
    """Whether a version is `floor` or later. Raises DecodeError."""
    return version_tuple(version) >= version_tuple(floor)


def supports(version: str, command: str) -> bool:
    """Whether a version has a command. Raises DecodeError."""
    return at_least(version, MIN_VERSION.get(command, "0.0.0"))


def is_container_id(text: str) -> bool:
    """Whether a text can be CNI_CONTAINERID: the first character is alphanumeric, later ones also `_`, `.` and `-`."""
    return _NAME.fullmatch(text) is not None


def is_network_name(text: str) -> bool:
    """Whether a text can be a network's name: the rule of a container's id."""
    return _NAME.fullmatch(text) is not None


def is_ifname(text: str) -> bool:
    """Whether a text can be CNI_IFNAME: 1 to 15 bytes of UTF-8, no `/`, `:` or space, neither `.` nor `..`.

    `%` is refused as well: the kernel replaces `%d` in the name of a new device by a number.
    """
    try:
        size = len(text.encode())
    except UnicodeEncodeError:  # a byte of the environment that is not UTF-8
        return False
    return 0 < size <= 15 and text not in (".", "..") and not re.search(r"[/:%\s\0]", text)


def is_executable_name(text: str) -> bool:
    """Whether a text can be the `type` of a plugin: the name of a file in a folder of CNI_PATH."""
    return 0 < len(text) <= 255 and text not in (".", "..") and text.isprintable() and "/" not in text


def short_value(value: object) -> str:
    """A value of somebody's input for a message: at most 60 characters of its repr."""
    text = repr(value[:100] if isinstance(value, str) else value)
    return text if len(text) <= 60 else f"{text[:59]}…"


@dataclass(frozen=True, slots=True)
class ResultInterface:
    """A device that a plugin created. `sandbox` is the path of its namespace, empty for a device on the node."""

    name: str
    mac: str = ""
    sandbox: str = ""
    mtu: int | None = None


@dataclass(frozen=True, slots=True)
class IpConfig:
    """An address that a plugin assigned. `interface` is an index into the result's interfaces."""

    address: InterfaceAddress
    gateway: IP | None = None
    interface: int | None = None


@dataclass(frozen=True, slots=True)
class RouteConfig:
    """A route of a result. Without `gw` it uses the gateway of an address of its family."""

    dst: Net
    gw: IP | None = None
    mtu: int | None = None
    advmss: int | None = None
    priority: int | None = None
    table: int | None = None
    scope: int | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a successful ADD (without interfaces from an IPAM plugin)."""

    version: str
    interfaces: tuple[ResultInterface, ...] = ()
    ips: tuple[IpConfig, ...] = ()
    routes: tuple[RouteConfig, ...] = ()
    dns: Json = field(default_factory=dict, hash=False)

    def addresses(self, ifname: str) -> tuple[InterfaceAddress, ...]:
        """The addresses of a device in the container, and those without an interface, which are the container's too."""
        return tuple(item.address for item in self.ips if self._is_in_container(item.interface, ifname))

    def _is_in_container(self, index: int | None, ifname: str) -> bool:
        if index is None:
            return True
        if not 0 <= index < len(self.interfaces):
            return False
        interface = self.interfaces[index]
        return bool(interface.sandbox) and interface.name == ifname


@dataclass(frozen=True, slots=True)
class Error:
    """The error that a plugin prints on its standard output when it fails."""

    code: int
    msg: str
    details: str = ""
    version: str = ""

    def __str__(self) -> str:
        """One sentence: the message, its details, the code."""
        text = f"{self.msg}: {self.details}" if self.details else self.msg
        return f"{text} (code {self.code})"

    @property
    def meaning(self) -> str:
        """The meaning of the code in the specification; codes from 100 are defined by the plugin."""
        return MEANING.get(self.code, "the plugin's own code" if self.code >= FIRST_PLUGIN_CODE else "reserved")


def read_result(text: str) -> Result:
    """A result from a plugin's standard output, in any version's format. Raises DecodeError."""
    return result_from_json(json_object(text, "result"))


def result_from_json(data: Json) -> Result:
    """A result from its JSON object, in any version's format. Raises DecodeError, also for values of a wrong type."""
    version = data.get("cniVersion") or "0.1.0"
    if not isinstance(version, str):
        raise DecodeError(f"{short_value(version)} is not a CNI version")
    try:
        if not at_least(version, "0.3.0"):
            return _old(version, data)
        return Result(
            version,
            tuple(_interface(item) for item in _objects(data, "interfaces")),
            tuple(_ip(item) for item in _objects(data, "ips")),
            tuple(_route(item) for item in _objects(data, "routes")),
            _dns(data),
        )
    except DecodeError:
        raise
    except ValueError as error:
        raise DecodeError(f"this is not a CNI result: {error}") from None


def result_json(result: Result, version: str | None = None) -> Json:
    """A result as the JSON object of a version (default: its own). Raises DecodeError for an invalid version."""
    version = version if version is not None else result.version
    if not at_least(version, "0.3.0"):
        return _old_json(result, version)
    data: Json = {"cniVersion": version}
    if result.interfaces:
        data["interfaces"] = [_interface_json(item, version) for item in result.interfaces]
    if result.ips:
        data["ips"] = [_ip_json(item, version) for item in result.ips]
    if result.routes:
        data["routes"] = [_route_json(item, version) for item in result.routes]
    return {**data, "dns": result.dns}


def read_error(text: str) -> Error:
    """An error from a plugin's standard output. Raises DecodeError if it is not one."""
    data = json_object(text, "error")
    if type(data.get("code")) is not int or not isinstance(data.get("msg"), str):
        raise DecodeError("a CNI error has a code (a number) and a msg (a text)")
    return Error(data["code"], data["msg"], str(data.get("details") or ""), str(data.get("cniVersion") or ""))


def error_json(error: Error) -> Json:
    """An error as the JSON object that a plugin prints."""
    details = {"details": error.details} if error.details else {}
    return {"cniVersion": error.version or VERSIONS[-1], "code": error.code, "msg": error.msg, **details}


def read_versions(text: str) -> tuple[str, ...]:
    """The supported versions in a plugin's answer to VERSION. Raises DecodeError."""
    data = json_object(text, "answer to VERSION")
    found = data.get("supportedVersions")
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise DecodeError("an answer to VERSION needs a list of supportedVersions")
    return tuple(found)


def json_object(text: str, document_kind: str) -> Json:
    """The JSON object in a text; `document_kind` names it in the message. Raises DecodeError.

    NaN and Infinity, which Python's parser accepts, are not JSON.
    """
    try:
        data = json.loads(text, parse_constant=_refuse_constant)
    except ValueError as error:
        raise DecodeError(f"this {document_kind} is not JSON: {error}") from None
    except RecursionError:
        raise DecodeError(f"this {document_kind} nests too deeply") from None
    if not isinstance(data, dict):
        raise DecodeError(f"this {document_kind} is not a JSON object")
    if _is_deeper(data, MAX_JSON_DEPTH):
        raise DecodeError(f"this {document_kind} nests too deeply, by more than {MAX_JSON_DEPTH} levels")
    return data


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")


def _is_deeper(value: Any, limit: int) -> bool:
    """Whether a value has more levels of objects and lists than `limit`."""
    level: list[Any] = [value]
    for _ in range(limit):
        level = [
            inner
            for item in level
            for inner in (item.values() if isinstance(item, dict) else item)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return False
    return True


def _objects(data: Json, key: str) -> list[Json]:
    """A list of objects; a missing one and `null` are an empty list."""
    found = data.get(key)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise ValueError(f"{key} is not a list of objects")
    return found


def _text(item: Json, key: str) -> str:
    """A text; a missing one and `null` are empty."""
    found = item.get(key)
    if found is not None and not isinstance(found, str):
        raise ValueError(f"{key} {short_value(found)} is not a text")
    return found or ""


def _number(item: Json, key: str) -> int | None:
    """A number from 0 to 2^32 - 1, or None if it is missing or `null`."""
    found = item.get(key)
    if found is not None and (type(found) is not int or not 0 <= found < 2**32):
        raise ValueError(f"{key} {short_value(found)} is not a number of 32 bits")
    return found


def _cidr(item: Json, key: str) -> str:
    """An address or a range with its prefix length, as text."""
    found = _text(item, key)
    if not _CIDR.fullmatch(found):
        raise ValueError(f"{key} {short_value(found)} is not an address with a prefix length")
    return found


def _gateway(item: Json, key: str) -> IP | None:
    return ip_address(text) if (text := _text(item, key)) else None


def _dns(data: Json) -> Json:
    found = data.get("dns")
    if found is not None and not isinstance(found, dict):
        raise ValueError(f"dns {short_value(found)} is not an object")
    return dict(found or {})


def _interface(item: Json) -> ResultInterface:
    if not _text(item, "name"):
        raise ValueError("an interface without a name")
    return ResultInterface(item["name"], _text(item, "mac"), _text(item, "sandbox"), _number(item, "mtu"))


def _ip(item: Json) -> IpConfig:
    without_interface = item.get("interface") == -1  # so plugins of 0.3.0 wrote an address of no interface
    index = None if without_interface else _number(item, "interface")
    return IpConfig(ip_interface(_cidr(item, "address")), _gateway(item, "gateway"), index)


def _route(item: Json) -> RouteConfig:
    options = (_number(item, key) for key in ("mtu", "advmss", "priority", "table", "scope"))
    return RouteConfig(ip_network(_cidr(item, "dst"), strict=False), _gateway(item, "gw"), *options)


def _old(version: str, data: Json) -> Result:
    ips: list[IpConfig] = []
    routes: list[RouteConfig] = []
    for family in ("ip4", "ip6"):
        item = data.get(family)
        if item is not None and not isinstance(item, dict):
            raise ValueError(f"{family} {short_value(item)} is not an object")
        if item:
            ips.append(IpConfig(ip_interface(_cidr(item, "ip")), _gateway(item, "gateway")))
            routes += [_route(route) for route in _objects(item, "routes")]
    return Result(version, (), tuple(ips), tuple(routes), _dns(data))


def _interface_json(item: ResultInterface, version: str) -> Json:
    data: Json = {"name": item.name}
    if item.mac:
        data["mac"] = item.mac
    if item.mtu is not None and at_least(version, "1.1.0"):
        data["mtu"] = item.mtu
    return {**data, "sandbox": item.sandbox} if item.sandbox else data


def _ip_json(item: IpConfig, version: str) -> Json:
    data: Json = {} if at_least(version, "1.0.0") else {"version": str(item.address.version)}
    if item.interface is not None:
        data["interface"] = item.interface
    data["address"] = str(item.address)
    return {**data, "gateway": str(item.gateway)} if item.gateway is not None else data


def _route_json(item: RouteConfig, version: str) -> Json:
    data: Json = {"dst": str(item.dst)} | ({"gw": str(item.gw)} if item.gw is not None else {})
    if at_least(version, "1.1.0"):
        options = {key: getattr(item, key) for key in ("mtu", "advmss", "priority", "table", "scope")}
        data |= {key: value for key, value in options.items() if value is not None}
    return data


def _old_json(result: Result, version: str) -> Json:
    """The format before 0.3.0: one address of each family and no interfaces."""
    version_tuple(version)
    data: Json = {"cniVersion": version}
    for key, kind in (("ip4", IPv4Interface), ("ip6", IPv6Interface)):
        item = next((item for item in result.ips if isinstance(item.address, kind)), None)
        if item is None:
            continue
        family: Json = {"ip": str(item.address)} | ({"gateway": str(item.gateway)} if item.gateway else {})
        routes = [_route_json(route, version) for route in result.routes if route.dst.version == item.address.version]
        data[key] = {**family, "routes": routes} if routes else family
    return {**data, "dns": result.dns}

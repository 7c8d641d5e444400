"""Scalar types of the scenario language: names, numbers, durations, ranges, addresses, points.

YAML readers convert some texts to numbers and booleans. The schemas here allow these forms too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

from labctl.core.resources import IP, Interface
from labctl.scenario.document import quote_text
from labctl.scenario.field_types import InvalidValue, Json, Scalar, suggest


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    if not text.isprintable():
        raise InvalidValue("control characters are not allowed")
    if len(text) > 400:
        raise InvalidValue(f"the sentence has {len(text)} characters", "at most 400 are allowed")
    return text


SENTENCE = Scalar("a sentence", _sentence, {"type": ["string", "number", "boolean"]})


def _label(text: str) -> str:
    """A DNS label that no tool can mistake for an option, a path, a number or an address."""
    if re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", text):
        if re.fullmatch(r"[0-9]+|0x[0-9a-f]*", text):
            raise InvalidValue(
                f"{quote_text(text)} is a number, and ping would read it as an address", "begin with a letter"
            )
        return text
    what = f"{quote_text(text)} is not a valid name"
    if not text:
        raise InvalidValue("an empty text is not a valid name")
    if len(text) > 63:
        raise InvalidValue(f"{what}: {len(text)} characters, but at most 63 are allowed", "names are DNS labels")
    if text.startswith("-") or text.endswith("-"):
        raise InvalidValue(f"{what}: it {'begins' if text[0] == '-' else 'ends'} with a dash", "names are DNS labels")
    odd = next((letter for letter in text if not re.match("[-a-z0-9]", letter)), "")
    hint = (
        f"write {text.lower()!r}" if re.fullmatch("[-a-zA-Z0-9]+", text) else "a name is a DNS label: a-z, 0-9 and '-'"
    )
    raise InvalidValue(f"{what}: {odd!a} is not allowed", hint)


LABEL_PATTERN = "^(?!([0-9]+|0x[0-9a-f]*)$)[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
LABEL = Scalar("a name", _label, {"type": "string", "pattern": LABEL_PATTERN})


def choice(*words: str) -> Scalar:
    """One word of several."""

    def convert(text: str) -> str:
        if text not in words:
            raise InvalidValue(f"{quote_text(text)} is not one of {', '.join(words)}", suggest(text, words))
        return text

    return Scalar(f"one of {', '.join(words)}", convert, {"enum": [*words, *_as_numbers(words)]})


def _as_numbers(words: Iterable[str]) -> list[float]:
    """The numbers that YAML readers make of texts such as `28`. labctl accepts both."""
    return [float(word) if "." in word else int(word) for word in words if re.fullmatch(r"\d+(\.\d+)?", word)]


def integer(minimum: int | None = None, maximum: int | None = None) -> Scalar:
    """A whole number within bounds."""
    low, high = minimum, maximum
    bounds = (f" from {low}" if low is not None else "") + (f" up to {high}" if high is not None else "")
    what = f"a whole number{bounds}"

    def convert(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
            raise InvalidValue(f"{quote_text(text)} is not a whole number", f"expected {what}" if bounds else "")
        number = int(text)
        if (low is not None and number < low) or (high is not None and number > high):
            raise InvalidValue(f"{number} is out of bounds", f"expected {what}")
        return number

    json: Json = {"type": "integer"}
    json |= {"minimum": low} if low is not None else {}
    json |= {"maximum": high} if high is not None else {}
    return Scalar(what, convert, json)


def _float(text: str) -> float:
    if not re.fullmatch(r"[+-]?[0-9]{1,18}(\.[0-9]{1,18})?", text):
        raise InvalidValue(f"{quote_text(text)} is not a number")
    return float(text)


NUMBER = Scalar("a number", _float, {"type": "number"})
_BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def _boolean(text: str) -> bool:
    if text.lower() not in _BOOLEANS:
        raise InvalidValue(f"{quote_text(text)} is neither true nor false")
    return _BOOLEANS[text.lower()]


BOOLEAN = Scalar("true or false", _boolean, {"enum": [True, False, "yes", "no", "on", "off", "true", "false"]})


def _duration(text: str) -> float:
    match = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)\s?(ms|s|m)?", text)
    if not match:
        raise InvalidValue(f"{quote_text(text)} is not a duration", "write 500ms, 5s or 1m")
    seconds = float(match[1]) * {"ms": 0.001, "m": 60.0}.get(match[2], 1.0)
    if not 0.01 <= seconds <= 600:
        raise InvalidValue(f"{text} is out of bounds", "from 10ms to 10m")
    return seconds


DURATION_PATTERN = r"^[0-9]{1,6}(\.[0-9]{1,6})?\s?(ms|s|m)?$"
DURATION = Scalar(
    "a duration (500ms, 5s)",
    _duration,
    {"anyOf": [{"type": "number", "minimum": 0.01, "maximum": 600}, {"type": "string", "pattern": DURATION_PATTERN}]},
)


def _rate(text: str) -> int:
    """Bits per second in the notation of Kubernetes' bandwidth annotations: decimal or binary multiples."""
    match = re.fullmatch(r"([0-9]{1,15})(k|K|M|G|Ki|Mi|Gi)?", text)
    if not match:
        raise InvalidValue(f"{quote_text(text)} is not a rate", "write bits per second, such as 10M or 500k")
    power = {"k": 1000, "K": 1000, "M": 1000**2, "G": 1000**3, "Ki": 1024, "Mi": 1024**2, "Gi": 1024**3}
    bits = int(match[1]) * power.get(match[2] or "", 1)
    if not 1000 <= bits <= 10**15:
        raise InvalidValue(f"{text} is out of bounds", "from 1k to 1000000G, in bits per second")
    return bits


RATE_PATTERN = "^[0-9]{1,15}(k|K|M|G|Ki|Mi|Gi)?$"
RATE = Scalar(
    "bits per second (10M, 500k)", _rate, {"anyOf": [{"type": "integer"}, {"type": "string", "pattern": RATE_PATTERN}]}
)


def _version(version: int | None) -> str:
    return f"IPv{version} " if version else ""


RESERVED_RANGES = {
    "0.0.0.0/8": "this network", "127.0.0.0/8": "loopback", "224.0.0.0/4": "multicast", "240.0.0.0/4": "reserved",
}  # fmt: skip
_RESERVED_NETWORKS = {ip_network(text): word for text, word in RESERVED_RANGES.items()}


def _refuse_reserved(text: str, found: Any) -> None:
    """Refuse addresses that no machine can have. 0.0.0.0/0 means everything: the model decides about it."""
    range_ = ip_network(found)
    if range_.prefixlen == 0 or range_.version == 6:
        return
    for kept, word in _RESERVED_NETWORKS.items():
        if range_.overlaps(kept):
            raise InvalidValue(
                f"{quote_text(text)} is not usable for machines: {kept} is {word}", "such as 10.0.0.0/16"
            )


def network(version: int | None = None, *, for_hosts: bool = False) -> Scalar:
    """A range in CIDR notation, of one family or both. With `for_hosts`, only ranges that machines can use."""
    what = f"{'an' if version else 'a'} {_version(version)}range such as"
    what += " 2001:db8::/64" if version == 6 else " 10.0.0.0/16"

    def convert(text: str) -> Any:
        try:
            range_ = ip_network(_require_ascii(text), strict=False)
        except ValueError:
            raise InvalidValue(
                f"{quote_text(text)} is not a valid {_version(version)}range",
                _prefix_length_hint(text) or f"expected {what}",
            ) from None
        _require_family(range_, version)
        if str(range_.network_address) != str(ip_interface(text).ip):
            raise InvalidValue(
                f"{quote_text(text)} has host bits set after /{range_.prefixlen}", f"the range is {range_}"
            )
        if for_hosts:
            _refuse_reserved(text, range_)
        return range_

    return Scalar(what, convert, {"type": "string", "pattern": r"^[0-9a-fA-F:.]+(/[0-9.]+)?$"})


def _prefix_length_hint(text: str) -> str:
    head, slash, length = text.partition("/")
    if slash and length.isdecimal():
        return f"a prefix length is at most {128 if ':' in head else 32}"
    return ""


def _require_ascii(text: str) -> str:
    if not text.isascii() or "%" in text or len(text) > 64:
        raise ValueError(text)
    return text


def _require_family(found: Any, version: int | None) -> None:
    if version not in (None, found.version):
        raise InvalidValue(f"{found} is IPv{found.version}, but IPv{version} is needed here")


def address(version: int | None = None, *, for_hosts: bool = False) -> Scalar:
    """An address without a prefix, of one family or both. With `for_hosts`, only one that a machine can have."""

    def convert(text: str) -> Any:
        try:
            found = ip_address(_require_ascii(text))
        except ValueError:
            hint = "write it without a prefix length" if "/" in text else ""
            raise InvalidValue(f"{quote_text(text)} is not a valid {_version(version)}address", hint) from None
        _require_family(found, version)
        if for_hosts:
            _refuse_reserved(text, found)
        return found

    return Scalar(f"an {_version(version)}address", convert, {"type": "string", "pattern": "^[0-9a-fA-F:.]+$"})


def _interface_address(text: str) -> Any:
    try:
        found = ip_interface(_require_ascii(text))
    except ValueError:
        raise InvalidValue(
            f"{quote_text(text)} is not an address with a prefix length", "such as 192.0.2.1/24"
        ) from None
    if "/" not in text:
        raise InvalidValue(
            f"{text} has no prefix length", f"write {found}" if found.version == 6 else f"such as {text}/24"
        )
    ends = (found.network.network_address, found.network.broadcast_address)
    if found.network.prefixlen < found.max_prefixlen - 1 and found.ip in ends[: 2 if found.version == 4 else 1]:
        raise InvalidValue(
            f"{text} is the {'network' if found.ip == ends[0] else 'broadcast'} address of its range, not a host's"
        )
    return found


INTERFACE_ADDRESS = Scalar(
    "an address with its prefix length", _interface_address, {"type": "string", "pattern": "^[0-9a-fA-F:.]+/[0-9]+$"}
)
DEVICE_PATTERN = "[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}"


def device(text: str) -> str:
    """A device name that the kernel and every tool accept. Raises InvalidValue."""
    if len(text.encode()) > 15:
        raise InvalidValue(
            f"{quote_text(text)} is too long for a device name: {len(text.encode())} bytes, but at most 15 are allowed"
        )
    if not re.fullmatch(DEVICE_PATTERN, text) or text in ("all", "default"):
        raise InvalidValue(
            f"{quote_text(text)} is not a valid device name", "a-z, 0-9, '.', '_' and '-', not beginning with a dash"
        )
    return text


def _interface(text: str) -> Interface:
    machine, slash, dev = text.partition("/")
    if not slash:
        raise InvalidValue(f"{quote_text(text)} is not a point", "a point is MACHINE/DEVICE, such as node1/eth0")
    return Interface(_label(machine), device(dev))


INTERFACE_PATTERN = f"^[a-z0-9]([-a-z0-9]{{0,61}}[a-z0-9])?/{DEVICE_PATTERN}$"
POINT = Scalar("a point such as node1/eth0", _interface, {"type": "string", "pattern": INTERFACE_PATTERN})
DEVICE = Scalar("a device such as eth0", device, {"type": "string", "pattern": f"^{DEVICE_PATTERN}$"})


def _mac(text: str) -> str:
    if not re.fullmatch("[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}", text):
        raise InvalidValue(f"{quote_text(text)} is not a MAC address", "such as 02:00:00:00:00:01")
    if set(text) <= set("0:"):
        raise InvalidValue(f"{text} is not a device's MAC address", "such as 02:00:00:00:00:01")
    if int(text[:2], 16) & 1:
        raise InvalidValue(
            f"{text} is a group address, not a device's", "the first byte of a device's MAC address is even"
        )
    return text.lower()


MAC = Scalar("a MAC address", _mac, {"type": "string", "pattern": "^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$"})


def target(text: str) -> str | Interface | IP:
    """The source or destination of a packet: the name of a machine or Service, a point or an address. Raises
    InvalidValue."""
    try:
        found = ip_address(_require_ascii(text))
    except ValueError:
        if "/" in text:
            return _interface(text)
        return (
            ".".join(map(_label, text.split("."))) if re.fullmatch("[a-z][^.]*([.][^.]+){1,4}", text) else _label(text)
        )
    if found.is_unspecified or found.is_multicast:
        raise InvalidValue(f"{text} cannot be a machine's address")
    return found


def _target(text: str) -> str:
    return str(target(text))


TARGET = Scalar("a machine, a point or an address", _target, {"type": "string"})

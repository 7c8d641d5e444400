"""What a page may ask for: the keys of each request and their values. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from labctl.core.names import did_you_mean
from labctl.errors import UsageError
from labctl.tracing import MAX_PAYLOAD_BYTES

Document: TypeAlias = dict[str, Any]
MAX_BODY_BYTES = 16_384
MAX_TEXT = 400  # characters of a name, of a filter


def _text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_TEXT and value.isprintable()


def _number(first: int, last: int) -> Callable[[object], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and first <= value <= last


def _flag(value: object) -> bool:
    return isinstance(value, bool)


def _protocol(value: object) -> bool:
    return value in ("icmp", "tcp", "udp")


def _lesson_action(value: object) -> bool:
    return value in ("next", "skip", "back")


TEXT, FLAG = (_text, "a text"), (_flag, "true or false")
PORT = (_number(1, 65535), "a number from 1 to 65535")
Fields: TypeAlias = Mapping[str, tuple[Callable[[object], bool], str]]
FIELDS: Mapping[str, Fields] = {
    "trace": {
        "from": TEXT,
        "to": TEXT,
        "protocol": (_protocol, "icmp, tcp or udp"),
        "port": PORT,
        "listen": FLAG,
        "size": (_number(1, MAX_PAYLOAD_BYTES), f"a number from 1 to {MAX_PAYLOAD_BYTES}"),
    },
    "check": {"word": TEXT},
    "break": {"fault": TEXT, "object": TEXT, "random": FLAG, "seed": (_number(0, 2**31), "a number")},
    "fix": {"fault": TEXT, "object": TEXT},
    "capture": {"point": TEXT, "filter": TEXT},
    "lesson": {"action": (_lesson_action, "next, skip or back"), "answer": TEXT},
}
NEEDED: Mapping[str, tuple[str, ...]] = {"trace": ("from", "to"), "lesson": ("action",)}


def parse(verb: str, body: bytes) -> Document:
    """The arguments of a request. A key with the value null or "" counts as not given. Raises UsageError."""
    try:
        found = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        raise UsageError("the request is not JSON") from None
    if not isinstance(found, dict):
        raise UsageError("the request is not a JSON object")
    fields = FIELDS[verb]
    arguments = {key: value for key, value in found.items() if value is not None and value != ""}
    for key, value in arguments.items():
        if key not in fields:
            raise UsageError(
                f"{verb} has no key {key!r}", did_you_mean(key, fields) or f"its keys: {', '.join(fields)}"
            )
        accepts, what = fields[key]
        if not accepts(value):
            raise UsageError(f"{verb}: {key} must be {what}")
    for key in NEEDED.get(verb, ()):
        if key not in arguments:
            raise UsageError(f"{verb} needs {key}")
    if verb == "break" and ("fault" in arguments) == bool(arguments.get("random")):
        hint = '{"fault": "route-missing"} or {"random": true}'
        raise UsageError("break needs either a fault or random", hint)
    return arguments

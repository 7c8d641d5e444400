"""What the server and its worker processes write to each other: one JSON document a line. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from labctl.errors import LabError

Document: TypeAlias = dict[str, Any]
MAX_LINE_BYTES = 64 * 1024 * 1024  # of an answer: the state of a lab with thousands of machines is smaller


def encode(document: Document) -> bytes:
    """A document as a line."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def error_document(error: LabError) -> Document:
    """An error, with the hint as it was written."""
    return {"error": str(error) if error.problems else error.message, "hint": error.hint, "kind": error.kind}


class Lines:
    """Documents from the pieces in which a pipe delivers them."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def add(self, data: bytes) -> list[Document]:
        """The documents that are complete now. Raises ValueError if a line is too long or is no document."""
        self._rest += data
        *lines, rest = self._rest.split(b"\n")
        self._rest = bytearray(rest)
        if len(rest) > MAX_LINE_BYTES:
            raise ValueError("a line is too long")
        return [json.loads(line) for line in lines]

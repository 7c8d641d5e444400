"""Texts that a reader of a record shall not read by accident: compressed, in base 64. This is not an encryption.

Fast to import: `labctl exec` reads records.
"""

from __future__ import annotations

MAX_TEXT_BYTES = 32 * 1024 * 1024


def encode(text: str) -> str:
    """The text in its encoded form."""
    import base64
    import zlib

    return base64.b64encode(zlib.compress(text.encode("utf-8", "surrogateescape"))).decode()


def decode(encoded: str) -> str:
    """The text of an encoded form. Raises ValueError if it is none, or the text is too large."""
    import base64
    import zlib

    try:
        unpacker = zlib.decompressobj()
        data = unpacker.decompress(base64.b64decode(encoded, validate=True), MAX_TEXT_BYTES)
    except zlib.error as error:
        raise ValueError(f"it is not an encoded text: {error}") from None
    if not unpacker.eof:
        raise ValueError("it is not a complete encoded text, or it is too large")
    return data.decode("utf-8", "surrogateescape")

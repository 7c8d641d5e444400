"""The names of the firewall chains that Kubernetes components make for each Service, endpoint or policy. Pure."""

from __future__ import annotations

from hashlib import sha256

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"  # of base32 (RFC 4648)
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]  # the characters of ten bits


def chain_hash(text: str) -> str:
    """The 16 characters that stand for a text in a chain's name: the beginning of the base32 of its SHA-256. kube-proxy
    and kube-router use it, because a chain's name has at most 28 characters."""
    number = int.from_bytes(sha256(text.encode()).digest()[:10], "big")  # ten bytes are sixteen characters
    return "".join(
        [_PAIRS[number >> shift & 1023] for shift in range(70, -1, -10)]
    )  # b32encode takes five times as long

"""The names of the firewall chains that Kubernetes components make for each Service, endpoint or policy. Pure."""

from __future__ import annotations

from base64 import b32encode
from hashlib import sha256


def chain_hash(text: str) -> str:
    """The 16 characters that stand for a text in a chain's name: the beginning of the base32 of its SHA-256. kube-proxy
    and kube-router use it, because a chain's name has at most 28 characters."""
    return b32encode(sha256(text.encode()).digest()[:10]).decode()  # ten bytes are sixteen characters

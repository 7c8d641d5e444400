"""The texts in nft's language of tests/golden/nft_dumps, and a raw scenario around each."""

from __future__ import annotations

import re

from tests.support.paths import GOLDEN

NFT_DUMPS = {path.stem: path.read_text() for path in sorted((GOLDEN / "nft_dumps").glob("*.nft"))}
REAL = [name for name in NFT_DUMPS if re.search(r"-\d+\.\d+\.\d+$", name)]


def scenario(text: str) -> str:
    """A raw scenario of one machine with this text."""
    lines = "".join(f"    {line}\n" if line else "\n" for line in text.split("\n"))
    devices = "".join(f"  - bridge: node/eth{number}\n" for number in range(3))
    return f"name: pasted\nmodel: raw\nnamespaces: [node]\nlinks:\n{devices}nftables:\n  node: |\n{lines}"

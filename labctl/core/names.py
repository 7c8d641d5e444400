"""Names in messages: "did you mean x?", and many names in one line. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from ipaddress import ip_address

from labctl.core.sentence import sentence

MAX_COMPARED_LENGTH = 64  # difflib is slow on long texts: names are compared up to this length


def did_you_mean(name: str, candidates: Iterable[str], cutoff: float = 0.6, quote: Callable[[str], str] = str) -> str:
    """The hint "did you mean x?" with the candidate that is most similar to a name; "" if none is similar.

    `cutoff` is the least similarity that counts, from 0 to 1 as difflib measures it. `quote` is how the candidate is
    written in the hint.
    """
    import difflib  # only after a mistake: no command that succeeds needs it

    known = [item for item in candidates if len(item) <= MAX_COMPARED_LENGTH]
    close = difflib.get_close_matches(name[:MAX_COMPARED_LENGTH], known, 1, cutoff)
    return f"did you mean {quote(close[0])}?" if close else ""


def summarize_names(names: Sequence[object], limit: int = 12) -> str:
    """The first `limit` names, and the number of the others: `a, b and 3 more`."""
    text = ", ".join(map(str, names[:limit]))
    return sentence("{names} and {number} more", names=text, number=len(names) - limit) if len(names) > limit else text


def is_address(text: str) -> bool:
    """Whether a text is an IP address, and so not the name of a machine."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True

"""The page as one file, with the state of the lab in it: it needs no server and loads nothing. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from labctl.core.probe_kinds import probe_text
from labctl.translation.language import ORIGINAL

if TYPE_CHECKING:
    from labctl.core.scenario_types import Check, Lab

Document: TypeAlias = dict[str, Any]
MAX_TRACES = 60  # of one file
STYLE_LINK = '<link rel="stylesheet" href="view.css">'
STATE_COMMENT = "<!-- labctl-state -->"
SCRIPT_LINK = '<script type="module" src="view.js"></script>'
BACKSLASHED = "<\\/script"  # in a text of the program, the same for JavaScript
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"


def in_language(page: str, language: str) -> str:
    """The page with texts in a language: its program reads it where every browser and screen reader does."""
    return page.replace('<html lang="en">', f'<html lang="{language}">', 1)


def page_file(static: Path, document: Document, language: str = ORIGINAL) -> str:
    """The text of the file: the built page with its style, its program and this state.

    Raises ValueError if the page has no place for one of them.
    """
    page, style, program = ((static / name).read_text() for name in ("index.html", "view.css", "view.js"))
    state = json.dumps(document, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    parts = {
        STYLE_LINK: f"<style>{style}</style>",
        STATE_COMMENT: f'{policy}\n<script id="labctl-state" type="application/json">{state}</script>',
        SCRIPT_LINK: f'<script type="module">{program.replace("</script", BACKSLASHED)}</script>',
    }
    if missing := [place for place in parts if page.count(place) != 1]:
        raise ValueError(f"the built page does not have {missing[0]} once")
    filled = re.sub("|".join(map(re.escape, parts)), lambda found: parts[found[0]], page)
    return in_language(filled, language)


def trace_requests(lab: Lab) -> Iterator[tuple[str, Document]]:
    """The packets that the checks of a lab speak of, each once: a title, and the request of a trace."""
    seen: set[tuple[object, ...]] = set()
    for check in lab.checks:
        protocol = _protocol(check)
        if protocol is None or not check.source or not check.target:
            continue
        key = (check.source, check.target, protocol, check.port, check.size)
        if key not in seen and len(seen) < MAX_TRACES:
            seen.add(key)
            yield probe_text(check), _request(check, protocol)


def _protocol(check: Check) -> str | None:
    """The protocol of the packets of a check; None if they do not go from one machine to one target."""
    return {"ping": "icmp", "tcp": "tcp", "udp": "udp", "http": "tcp", "balance": check.protocol}.get(check.probe)


def _request(check: Check, protocol: str) -> Document:
    server = None if check.server is None else f"{check.server[0]}:{check.server[1]}"
    found = {
        "from": check.source,
        "to": check.target,
        "protocol": protocol,
        "port": check.port,
        "size": check.size,
        "listen": server or (check.listen and check.expect == "reply"),
    }
    return {key: value for key, value in found.items() if value}

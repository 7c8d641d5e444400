"""The verdict on the answer to an HTTP request: its status, and what a server of labctl says in it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from labctl.checks.evidence import HttpAnswer
from labctl.core.resources import IP
from labctl.core.results import Verdict
from labctl.core.scenario_types import Check


def judge_answer(check: Check, answer: HttpAnswer) -> Iterator[tuple[Verdict, str]]:
    """What supports and what contradicts a check, one after the other. The first is a summary.

    A server that does not say which machine it is proves nothing about it.
    """
    backend = answer.backend
    client = f", which saw {backend.client} as the client" if backend.client is not None else ""
    yield "pass", f"status {answer.status}" + (f" from {backend.machine}{client}" if backend.machine else "")
    if answer.status != check.status:
        yield "fail", f"expected status {check.status}"
    machines = [name for name, _ in check.answered_by]
    claims = bool(machines or check.saw or check.forwarded_for)
    if claims and not backend.machine:
        yield "inconclusive", "the answer does not say which machine sent it: it is not from a server of labctl"
        return
    if machines and backend.machine not in machines:
        yield "fail", f"{backend.machine} answered, not {' or '.join(machines)}"
    if check.saw and backend.client not in answer.clients:
        yield "fail", f"{backend.machine} saw {backend.client} as the client, not {' or '.join(check.saw)}"
    if check.forwarded_for:
        found = frozenset(_addresses(backend.forwarded_for))
        shown = backend.forwarded_for or "missing"
        if found != answer.forwarded_for:
            yield "fail", f"X-Forwarded-For was {shown}, not {check.forwarded_for}"
        else:
            yield "pass", f"X-Forwarded-For was {shown}"


def _addresses(header: str) -> Iterator[IP | str]:
    """The addresses of the header; what is none, as it stands there."""
    for word in filter(None, map(str.strip, header.split(","))):
        try:
            yield ip_address(word)
        except ValueError:
            yield word

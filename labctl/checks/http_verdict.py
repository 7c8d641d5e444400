"""The verdict on the answer to an HTTP request: its status, and what a server of labctl says in it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from typing import TYPE_CHECKING

from labctl.core.resources import IP
from labctl.core.results import Verdict
from labctl.core.scenario_types import Check
from labctl.core.sentence import Sentence, one_of, sentence

if TYPE_CHECKING:
    from labctl.checks.evidence import HttpAnswer


def judge_answer(check: Check, answer: HttpAnswer) -> Iterator[tuple[Verdict, str]]:
    """What supports and what contradicts a check, one after the other. The first is a summary.

    A server that does not say which machine it is proves nothing about it.
    """
    backend = answer.backend
    yield "pass", _summary(answer)
    if answer.status != check.status:
        yield "fail", sentence("expected status {status}", status=check.status)
    machines = [name for name, _ in check.answered_by]
    claims = bool(machines or check.saw or check.forwarded_for)
    if claims and not backend.machine:
        yield (
            "inconclusive",
            sentence("the answer does not say which machine sent it: it is not from a server of labctl"),
        )
        return
    if machines and backend.machine not in machines:
        yield "fail", sentence("{machine} answered, not {machines}", machine=backend.machine, machines=one_of(machines))
    if check.saw and backend.client not in answer.clients:
        yield (
            "fail",
            sentence(
                "{machine} saw {client} as the client, not {saw}",
                machine=backend.machine,
                client=backend.client,
                saw=one_of(check.saw),
            ),
        )
    if check.forwarded_for:
        found = frozenset(_addresses(backend.forwarded_for))
        shown = backend.forwarded_for or sentence("missing")
        if found != answer.forwarded_for:
            yield (
                "fail",
                sentence(
                    "X-Forwarded-For was {shown}, not {forwarded_for}", shown=shown, forwarded_for=check.forwarded_for
                ),
            )
        else:
            yield "pass", sentence("X-Forwarded-For was {shown}", shown=shown)


def _summary(answer: HttpAnswer) -> Sentence:
    """The status, and what is known of who sent it."""
    status, backend = answer.status, answer.backend
    if not backend.machine:
        return sentence("status {status}", status=status)
    if backend.client is None:
        return sentence("status {status} from {machine}", status=status, machine=backend.machine)
    return sentence(
        "status {status} from {machine}, which saw {client} as the client",
        status=status,
        machine=backend.machine,
        client=backend.client,
    )


def _addresses(header: str) -> Iterator[IP | str]:
    """The addresses of the header; what is none, as it stands there."""
    for word in filter(None, map(str.strip, header.split(","))):
        try:
            yield ip_address(word)
        except ValueError:
            yield word

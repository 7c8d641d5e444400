"""One case of a trace: what is broken, the probe, and the result that the trace must report."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """One thing broken: where and how; the probe; what the diagnosis must report.

    `breaks` are commands, each with its namespace before a colon; `listen` is an address that a listener of the test
    binds in the target, `""` for none; `says` must be in the sentence of why, `fact` in one of the facts' texts;
    `routes` are all reported routes of the request's path, each with its namespace before a colon; `rules` are all
    reported rules, each with its leg and its namespace: `reply host1 filter/FORWARD rule 4`.
    """

    name: str
    lab: str
    breaks: tuple[str, ...]
    probe: str
    kind: str | None
    says: str = ""
    fact: str = ""
    place: str = ""
    verdict: str = "lost"
    listen: str = ""
    routes: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()


def case(
    name: str,
    lab: str,
    breaks: str,
    probe: str,
    kind: str | None,
    says: str = "",
    fact: str = "",
    *,
    routes: str = "",
    rules: str = "",
    **more: str,
) -> Case:
    return Case(name, lab, _each(breaks), probe, kind, says, fact, routes=_each(routes), rules=_each(rules), **more)


def _each(words: str) -> tuple[str, ...]:
    return tuple(one for one in words.split("; ") if one)

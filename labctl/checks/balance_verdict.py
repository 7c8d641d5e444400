"""The verdict on a check of balancing, from the answers of the servers. Pure.

- Every connection must be answered, by one of the named machines, to which the client looks as claimed: one answer
  that differs is a failure.
- Each named machine must answer. Their shares are judged by Pearson's chi-square test: if fair balancing differs so
  much from the claimed shares in less than one of a million runs, the check fails.
- With `sticky`, one machine must answer all. Without affinity that may happen, but in less than one of a million runs.
- If there are too few answers to say so, the check is inconclusive. So it is if a server of another program answers:
  that one does not say which machine it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence

from labctl.checks.verdict import Evaluation, worse
from labctl.core.chi_square import MIN_EXPECTED, chi_square, probability
from labctl.core.resources import IP
from labctl.core.results import BackendAnswer, Verdict
from labctl.core.scenario_types import Check
from labctl.core.sentence import Sentence, all_of, in_a_row, joined, one_of, sentence
from labctl.core.text import count

BOUND = 1e-6  # the probability below which something is not taken for chance


def evaluate_balance(
    check: Check, answers: Sequence[BackendAnswer], clients: Collection[IP] = (), names: Mapping[IP, str] | None = None
) -> Evaluation:
    """The verdict on the answers to a check's connections.

    `clients` are the addresses of which each client must have one; none if the check does not claim it. `names` are
    for the reader.
    """
    verdict: Verdict = "pass"
    lines: list[str] = []
    for found, line in _judgements(check, answers, frozenset(clients), names or {}):
        verdict = worse(verdict, found)
        lines.append(line)
    return verdict, tuple(lines)


def _judgements(
    check: Check, answers: Sequence[BackendAnswer], clients: Collection[IP], names: Mapping[IP, str]
) -> Iterator[tuple[Verdict, str]]:
    sure = [one for one in answers if not one.tool_fault]
    came = [one for one in sure if not one.problem]
    known = [one for one in came if one.machine]
    shares = dict(check.answered_by)
    for line in _summary(known, len(answers), names):
        yield "pass", line
    for text, number in Counter(one.problem for one in answers if one.tool_fault).items():
        yield (
            "inconclusive",
            sentence("{connections} could not be tried: {text}", connections=count(number, "connection"), text=text),
        )
    for text, number in Counter(one.problem for one in sure if one.problem).items():
        yield (
            "fail",
            sentence(
                "{number} of {connections} got no answer: {text}",
                number=number,
                connections=count(len(sure), "connection"),
                text=text,
            ),
        )
    if strange := len(came) - len(known):
        yield (
            "inconclusive",
            sentence(
                "{number} came from a server that does not say which machine it is", number=count(strange, "answer")
            ),
        )
    counts = Counter(one.machine for one in known)
    for machine, number in counts.items():
        if machine not in shares:
            yield (
                "fail",
                sentence(
                    "{number} of {answers} came from {machine}, which should not answer",
                    number=number,
                    answers=count(len(known), "answer"),
                    machine=machine,
                ),
            )
    if clients:
        yield from _client_judgements(known, clients, names)
    if not known:
        return
    if check.sticky:
        yield _stickiness(shares, counts)
    else:
        yield from _balance(shares, counts)


def _client_judgements(
    known: Sequence[BackendAnswer], clients: Collection[IP], names: Mapping[IP, str]
) -> Iterator[tuple[Verdict, str]]:
    wanted = one_of(_name(ip, names) for ip in sorted(clients, key=str))
    wrong = Counter((one.machine, one.client) for one in known if one.client not in clients)
    for (machine, client), number in sorted(wrong.items(), key=str):
        yield (
            "fail",
            sentence(
                "{machine} saw {client} as the client of {connections}, not {wanted}",
                machine=machine,
                client=_name(client, names),
                connections=count(number, "connection"),
                wanted=wanted,
            ),
        )


def _stickiness(shares: Mapping[str, int], counts: Counter[str]) -> tuple[Verdict, str]:
    total = sum(counts.values())
    if len(counts) > 1:
        return "fail", sentence(
            "{number} machines answered, but all connections of one client should have the same one", number=len(counts)
        )
    chance = sum((share / sum(shares.values())) ** total for share in shares.values())
    text = sentence("one machine answered all; without affinity this happens with p = {chance:.2g}", chance=chance)
    if chance >= BOUND:
        few = sentence(
            "{text}, so {answers} are too few: p must be below {bound:g}",
            text=text,
            answers=count(total, "answer"),
            bound=BOUND,
        )
        return "inconclusive", few
    return "pass", text


def _balance(shares: Mapping[str, int], counts: Counter[str]) -> Iterator[tuple[Verdict, str]]:
    total, whole = sum(counts.values()), sum(shares.values())
    silent = [machine for machine in shares if machine not in counts]
    for machine in silent:
        chance = (1 - shares[machine] / whole) ** total
        text = sentence(
            "{machine} answered none of {connections}; by chance this happens with p = {chance:.2g}",
            machine=machine,
            connections=count(total, "connection"),
            chance=chance,
        )
        yield ("fail" if chance < BOUND else "inconclusive"), text
    if silent or len(shares) < 2 or any(machine not in shares for machine in counts):
        return
    if total * min(shares.values()) / whole < MIN_EXPECTED:
        text = sentence(
            "{answers} are too few to judge the shares: each machine needs {least} on average",
            answers=count(total, "answer"),
            least=MIN_EXPECTED,
        )
        yield "inconclusive", text
        return
    statistic = chi_square([counts[machine] for machine in shares], list(shares.values()))
    chance = probability(statistic, len(shares) - 1)
    text = sentence(
        "chi-square {statistic:.2f} with {degrees} of freedom, p = {chance:.2g}",
        statistic=statistic,
        degrees=count(len(shares) - 1, "degree"),
        chance=chance,
    )
    if chance < BOUND:
        yield "fail", sentence("{text}: fair balancing does this in less than one of a million runs", text=text)
    else:
        yield "pass", sentence("{text}; below {bound:g} it is not balanced", text=text, bound=BOUND)


def _summary(known: Sequence[BackendAnswer], asked: int, names: Mapping[IP, str]) -> Iterator[str]:
    """How often each machine answered, and which clients it saw."""
    seen: dict[str, Counter[IP | None]] = {}
    for one in known:
        seen.setdefault(one.machine, Counter())[one.client] += 1
    machines = sorted(seen)
    counts = [
        sentence("{machine} answered {number}", machine=machine, number=sum(seen[machine].values()))
        for machine in machines
    ]
    yield joined(": ", (count(asked, "connection"), in_a_row(counts or [sentence("no answer")])))
    by_clients: dict[Sentence, list[str]] = {}
    for machine in machines:
        shown = all_of(_name(ip, names) for ip in sorted(seen[machine], key=str))
        by_clients.setdefault(shown, []).append(machine)
    for clients, those in by_clients.items():
        yield sentence("{machines} saw {clients}", machines=", ".join(those), clients=clients)


def _name(ip: IP | None, names: Mapping[IP, str]) -> str:
    return sentence("nobody") if ip is None else f"{ip} ({names[ip]})" if ip in names else str(ip)

"""Run a check of balancing: make connections, and read from the answers which machine served each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from labctl.checks.balance_verdict import evaluate_balance
from labctl.checks.context import CheckContext
from labctl.core.probe_kinds import connection_count, equivalent_command
from labctl.core.results import BackendAnswer, Outcome
from labctl.core.scenario_types import Check
from labctl.core.sentence import all_of, sentence
from labctl.core.topology import Topology
from labctl.kernel.host import paths
from labctl.kernel.probes.backend_questions import Question, ask


def check_balance(context: CheckContext, check: Check) -> Outcome:
    """The outcome of a check of balancing."""
    topology = context.topology
    addresses = topology.addresses(check.target)
    if not addresses:
        return Outcome(check, "fail", (sentence("{name} has no address", name=check.target),))
    address = addresses[0]
    command = equivalent_command(paths.command_prefix(context.lab), check, address)
    clients = tuple(ip for one in check.saw if (ip := topology.address_of(one, address.version)) is not None)
    if check.saw and not clients:
        text = sentence(
            "{saw} have no IPv{version} address, so no machine can see it",
            saw=all_of(check.saw),
            version=address.version,
        )
        return Outcome(check, "fail", (text,), command)
    path = paths.netns_path(context.lab, check.source)
    question = Question(address, check.port or 0, check.protocol, check.host, check.path)
    try:
        answers = ask(context.thread, path, question, connection_count(check), check.timeout_s)
    except FileNotFoundError:
        return Outcome(check, "fail", (sentence("there is no namespace {name}", name=path.name),), command)
    except OSError as error:
        return Outcome(
            check, "inconclusive", (sentence("labctl could not ask: {error}", error=error.strerror or error),), command
        )
    answers = tuple(_with_machines(topology, answers))
    verdict, lines = evaluate_balance(check, answers, clients, topology.machine_by_address)
    return Outcome(check, verdict, lines, command, answers=answers)


def _with_machines(topology: Topology, answers: Iterable[BackendAnswer]) -> Iterable[BackendAnswer]:
    """The answers, each with the machine that it is from: a pod on its node's network says its own name, and the
    namespace of the node."""
    for one in answers:
        found = topology.machines.get(one.name)
        shares = found is not None and found.netns_of is not None and found.netns_of == one.machine
        yield replace(one, machine=one.name) if shares else one

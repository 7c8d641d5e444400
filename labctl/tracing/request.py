"""Check the names and options of a trace, and turn them into a `Question` for one running lab."""

from __future__ import annotations

from typing import Any

from labctl.core.topology import Who
from labctl.errors import UsageError
from labctl.tracing import MOST
from labctl.tracing.evidence import Protocol, Question


def question_of(who: Who, source: str, target: str, options: dict[str, Any]) -> Question:
    """The checked question. Raises UsageError for an unknown name or an option that does not fit."""
    kinds: tuple[Protocol, ...] = ("icmp", "tcp", "udp")
    chosen = [kind for kind in kinds if options[kind]]
    if len(chosen) > 1:
        raise UsageError(f"--{chosen[0]} and --{chosen[1]} are two probes", "a trace sends one")
    protocol: Protocol = chosen[0] if chosen else "icmp"
    if source not in who.nodes and source not in who.machines:
        raise _unknown(who, source, "machine")
    found = who.addresses(target)
    if not found:
        if target in who.nodes or ("/" in target and target.partition("/")[0] in who.nodes):
            raise UsageError(f"{target} has no address")
        raise _unknown(who, target, "machine, port or address")
    if options["listen"] and protocol == "icmp":
        raise UsageError("--listen needs a port", "labctl trace ... --tcp PORT --listen")
    _size(protocol, options)
    _within(f"{protocol} port", options[protocol] if protocol != "icmp" else None, 65535)
    _within("size", options["size"], MOST)
    held = {ip.version for ip in who.held(_space(who, source))}
    address = next((ip for ip in found if ip.version in held), found[0])
    port = options[protocol] if protocol != "icmp" else None
    home = who.home(target)
    source, home = _space(who, source), _space(who, home) if home is not None else None
    return Question(
        who.lab.name, source, target, address, home, protocol, port, options["size"], options["fragment"]
    )  # fmt: skip


def _space(who: Who, name: str) -> str:
    """The namespace of a machine: another machine's, if it shares that one's."""
    machine = who.machines.get(name)
    return machine.within if machine is not None and machine.within is not None else name


def _within(what: str, number: int | None, most: int) -> None:
    if number is not None and not 1 <= number <= most:
        raise UsageError(f"{what} {number} is not between 1 and {most}")


def _size(protocol: str, options: dict[str, Any]) -> None:
    from labctl.kernel.probes.trace_probes import LEAST

    if options["size"] is not None and protocol == "tcp":
        raise UsageError("--size is for ICMP and UDP", "the first packet of a TCP connection has no payload")
    if options["fragment"] and protocol == "tcp":
        raise UsageError("--fragment is for ICMP and UDP")
    if options["size"] is not None and options["size"] < LEAST[protocol]:
        raise UsageError(f"--size {options['size']} is too small", f"it must be at least {LEAST[protocol]}")


def _unknown(who: Who, word: str, what: str) -> UsageError:
    import difflib

    from labctl.core.names import some

    close = difflib.get_close_matches(word, who.nodes, 1, 0.5)
    known = f"the machines are {some(who.nodes, 30)}"
    hint = f"did you mean {close[0]}? {known}" if close else known
    return UsageError(f"lab {who.lab.name} has no {what} {word!r}", hint)

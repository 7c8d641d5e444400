"""The verb that follows one packet: trace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from labctl.cli.complete import NODE, TARGET
from labctl.cli.files import writable
from labctl.cli.frame import Session, common
from labctl.cli.look import recall, scenario_option
from labctl.errors import UsageError

if TYPE_CHECKING:
    from labctl.trace.evidence import Protocol, Question
    from labctl.who import Who

PORT = click.IntRange(1, 65535)
MOST = 65_000  # bytes of payload that a probe may have


@click.command("trace", short_help="Follow one packet, hop by hop, and say why it was lost.")
@click.argument("source", metavar="SRC", type=NODE)
@click.argument("target", metavar="DST", type=TARGET)
@click.option("--icmp", is_flag=True, help="An ICMP echo request, as ping sends it. The default.")
@click.option("--tcp", metavar="PORT", type=PORT, help="The first packet of a TCP connection (SYN) to this port.")
@click.option("--udp", metavar="PORT", type=PORT, help="A UDP datagram to this port.")
@click.option("--size", metavar="N", type=click.IntRange(1, MOST), help="Bytes of payload (ICMP and UDP).")
@click.option("--fragment", is_flag=True, help="Let routers cut it (no DF bit); without, a small MTU is an obstacle.")
@click.option("--listen", is_flag=True, help="Answer it: labctl listens on the port in DST meanwhile (TCP and UDP).")
@click.option("--pcap", metavar="FILE", type=click.Path(), help="Also write the packets, as pcapng for Wireshark.")
@scenario_option
@common("lab", "json")
@click.pass_obj
def trace(session: Session, /, source: str, target: str, scenario: str | None, **options: Any) -> int:
    """Follow one packet from a machine, through every namespace of the lab, and back.

    DST is a machine, a port of one (node1/eth0), or an address. Each hop is told with the devices crossed, the
    addresses, the time to live, the route chosen, the firewall rule that acted and what was translated. Of a lost
    packet: where it was seen last, why, what proves it, and what to try. Exits 0 if the packet was delivered and
    answered, else 1.

    \b
    Examples:
      sudo labctl trace a c
      sudo labctl trace a internet --tcp 443
      sudo labctl trace a 10.96.0.10 --udp 53 --json
      sudo labctl trace a c --size 1472 --pcap packets.pcapng
    """
    from labctl import lab as labs
    from labctl.attach import complete
    from labctl.trace.run import follow
    from labctl.trace.story import tell
    from labctl.who import Who

    session.need_root()
    name = labs.choose(session.lab)
    if options["pcap"] == "-":
        raise UsageError("--pcap needs the name of a file", "standard output has the story; see capture -w -")
    if options["pcap"] is not None:
        writable(options["pcap"])
    session.end_cleanly()
    who = Who(complete(recall(name, scenario, ())))
    question = question_of(who, source, target, options)
    session.terminal.progress(f"tracing {source} -> {target}")
    terminal = session.terminal

    def say(text: str) -> None:
        terminal.complain(f"labctl: {text}")

    evidence, frames = follow(who.lab, question, listen=options["listen"], progress=terminal.progress, say=say)
    story = tell(evidence)
    session.terminal.clear()
    if options["pcap"] is not None:
        _keep(options["pcap"], who, frames, f"{story.probe}: {story.sentence}")
    if session.json:
        from labctl.report.trace_json import trace_document

        session.document(trace_document(evidence, story))
    else:
        from labctl.report.trace import lines

        session.terminal.lines(lines(story, session.terminal.paint), fold=12)
    return 0 if story.verdict == "answered" else 1


def question_of(who: Who, source: str, target: str, options: dict[str, Any]) -> Question:
    """What is asked, checked. Raises UsageError."""
    from labctl.trace.evidence import Question

    kinds: tuple[Protocol, ...] = ("icmp", "tcp", "udp")
    chosen = [kind for kind in kinds if options[kind]]
    if len(chosen) > 1:
        raise UsageError(f"--{chosen[0]} and --{chosen[1]} are two probes", "trace sends one")
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
    held = {ip.version for ip in who.held(_space(who, source))}
    address = next((ip for ip in found if ip.version in held), found[0])
    port = options[protocol] if protocol != "icmp" else None
    home = who.home(target)
    source, home = _space(who, source), _space(who, home) if home is not None else None
    return Question(
        who.lab.name, source, target, address, home, protocol, port, options["size"], options["fragment"]
    )  # fmt: skip


def _space(who: Who, name: str) -> str:
    """The namespace of a machine: another's, where it shares that."""
    machine = who.machines.get(name)
    return machine.within if machine is not None and machine.within is not None else name


def _size(protocol: str, options: dict[str, Any]) -> None:
    from labctl.kernel.shots import LEAST

    if options["size"] is not None and protocol == "tcp":
        raise UsageError("--size is for ICMP and UDP", "the first packet of a TCP connection has no payload")
    if options["fragment"] and protocol == "tcp":
        raise UsageError("--fragment is for ICMP and UDP")
    if options["size"] is not None and options["size"] < LEAST[protocol]:
        raise UsageError(f"--size {options['size']} leaves no room for the mark", f"it takes {LEAST[protocol]} bytes")


def _unknown(who: Who, word: str, what: str) -> UsageError:
    import difflib

    from labctl.report.text import joined

    close = difflib.get_close_matches(word, who.nodes, 1, 0.5)
    known = f"the machines are {joined(who.nodes, 30)}"
    hint = f"did you mean {close[0]}? {known}" if close else known
    return UsageError(f"lab {who.lab.name} has no {what} {word!r}", hint)


def _keep(path: str, who: Who, frames: Any, comment: str) -> None:
    from labctl.pcapng import pcapng

    names = {ip: machine.name for machine in reversed(who.lab.machines) for ip in machine.addresses}
    try:
        with open(path, "wb") as file:
            file.write(pcapng(frames, names, comment))
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error


VERBS = (trace,)

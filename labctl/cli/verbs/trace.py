"""labctl trace: follow one packet."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import click

from labctl.cli.lab_lookup import recall
from labctl.cli.options import global_options, scenario_option, why_option
from labctl.cli.param_types import FILE, NODE, TARGET, NumberParam
from labctl.cli.session import Session
from labctl.core.sentence import sentence
from labctl.errors import UsageError
from labctl.report.output_files import require_writable
from labctl.tracing import MAX_PAYLOAD_BYTES

if TYPE_CHECKING:
    from labctl.core.diff import Change
    from labctl.core.scenario_types import Lab
    from labctl.running_lab import Traced
    from labctl.tracing.evidence import TraceEvidence
    from labctl.tracing.result import TraceResult

SUFFIXES = {".svg": "svg", ".html": "html", ".htm": "html"}

PORT = NumberParam(1, 65535)
LISTEN_POINT = re.compile(
    r"[^\s:]+:[0-9]+|[0-9]+"
)  # MACHINE:PORT or PORT; no machine, point or address looks like this


class TraceCommand(click.Command):
    """A click command: `--listen` takes the next word as its value only if that word is MACHINE:PORT or PORT."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        given = list(args[:end])
        for at, word in enumerate(given):
            if word == "--listen":
                value = given[at + 1] if at + 1 < len(given) and LISTEN_POINT.fullmatch(given[at + 1]) else ""
                given[at : at + 1 + bool(value)] = [f"--listen={value}"]
        try:
            return super().parse_args(ctx, [*given, *args[end:]])
        except click.UsageError as error:
            extra = re.fullmatch(r"Got unexpected extra arguments? \((.*)\)", error.message)
            if extra is None or "--listen" not in args:
                raise
            word = extra[1].split()[-1]
            what = f"{word!r} is one word too many"
            if args[args.index("--listen") + 1 :][:1] == [word]:
                what = f"{word!r} after --listen is not MACHINE:PORT"
            raise UsageError(f"trace: {what}", "labctl trace SRC DST --tcp PORT --listen MACHINE:PORT") from None


@click.command("trace", cls=TraceCommand, short_help="Follow one packet, hop by hop, and say why it was lost.")
@click.argument("source", metavar="SRC", type=NODE)
@click.argument("target", metavar="DST", type=TARGET)
@click.option("--icmp", is_flag=True, help="An ICMP echo request, as ping sends it. The default.")
@click.option("--tcp", metavar="PORT", type=PORT, help="The first packet of a TCP connection (SYN) to this port.")
@click.option("--udp", metavar="PORT", type=PORT, help="A UDP datagram to this port.")
@click.option("--size", metavar="N", type=NumberParam(1, MAX_PAYLOAD_BYTES), help="Bytes of payload (ICMP and UDP).")
@click.option("--fragment", is_flag=True, help="Clear the DF bit, so that routers may fragment the probe.")
@click.option("--sport", metavar="PORT", type=PORT, help="The source port (TCP and UDP); by default an unused one.")
@click.option(
    "--listen",
    metavar="[[MACHINE:]PORT]",
    type=NODE,
    help="Answer the probe: labctl listens on its port in DST, or on the port and machine given here (TCP and UDP).",
)
@click.option(
    "--compare",
    metavar="SRC DST",
    nargs=2,
    type=(NODE, TARGET),
    help="Trace a second packet, with the same options, and show the first difference.",
)
@click.option(
    "--as",
    "form",
    type=click.Choice(["text", "svg", "html"]),
    help="Output format; by default that of the ending of -o FILE, else text.",
)
@click.option("-o", "--output", type=FILE, metavar="FILE", help="Write the report to this file.")
@click.option("--pcap", metavar="FILE", type=click.Path(), help="Also write the packets, as pcapng for Wireshark.")
@why_option("Say why each route and each rule on the way is there, and what makes it.")
@scenario_option
@global_options("lab", "json")
@click.pass_obj
def trace(session: Session, /, source: str, target: str, scenario: str | None, **options: Any) -> int:
    """Follow one packet from a machine, through every namespace of the lab, and back.

    DST is a machine, a point (node1/eth0), or an address. For each hop, the output shows the devices that the packet
    passed, the addresses, the TTL, the chosen route, the firewall rule that decided, and the address translation.
    For a lost packet, it shows where the packet was seen last, the cause, the proof, and what to try. Exits 0 if the
    packet (with --compare: each of the two packets) was delivered and answered, else 1.

    The svg format is the drawing of `labctl graph` with the packet's path: numbered steps, translated addresses,
    tunnels, and the place of a loss in red. The html format is one page with that drawing and a table of the steps.

    \b
    Examples:
      sudo labctl trace a c
      sudo labctl trace a internet --tcp 443
      sudo labctl trace a 10.96.0.10 --udp 53 --json
      sudo labctl trace a internet --udp 53 --sport 4000
      sudo labctl trace internet host1 --tcp 8080 --listen c1:80
      sudo labctl trace a internet --why
      sudo labctl trace a internet --compare b internet
      sudo labctl trace a c --size 1472 --pcap packets.pcapng
      sudo labctl trace a internet -o trace.html
    """
    import labctl
    from labctl.lab.records import resolve_lab_name

    session.require_root()
    name = resolve_lab_name(session.lab)
    if options["pcap"] == "-":
        raise UsageError("--pcap needs the name of a file", "standard output is for the report; see capture -w -")
    form = _form(session, options)
    if options["why"] and options["compare"] is not None:
        raise UsageError("--why and --compare cannot be used together", "trace one packet with --why")
    if options["why"]:
        from labctl.lab import fault_records

        fault_records.refuse_hidden(name, "trace --why")
    for file in (options["pcap"], options["output"]):
        if file is not None:
            require_writable(file)
    session.handle_termination()
    lab = name if scenario is None else recall(name, scenario, ())
    probe_options = _trace_options(session, options)
    session.terminal.progress(sentence("tracing {source} -> {target}", source=source, target=target))
    traced = labctl.trace(source, target, lab=lab, **probe_options)
    if options["compare"] is not None:
        source, target = options["compare"]
        session.terminal.progress(sentence("tracing {source} -> {target}", source=source, target=target))
        other = labctl.trace(source, target, lab=lab, **probe_options)
        session.terminal.clear()
        return _report_comparison(session, traced, other, options["pcap"])
    session.terminal.clear()
    if options["pcap"] is not None:
        traced.save(options["pcap"])
    story = _with_reasons(traced, name, scenario) if options["why"] else traced.story
    if form != "text" or options["output"] is not None:
        _print_report(session, traced.evidence, story, form, name, lab, options["output"])
    elif session.json:
        from labctl.report.trace_json import trace_document

        session.print_document(trace_document(traced.evidence, story))
    else:
        from labctl.report.trace import MAX_LINE_WIDTH, lines

        terminal = session.terminal
        width = min(terminal.width or MAX_LINE_WIDTH, MAX_LINE_WIDTH)
        terminal.lines(lines(story, terminal.paint, width), fold=12)
    return 0 if traced.answered else 1


def _form(session: Session, options: dict[str, Any]) -> str:
    """The output format. Raises UsageError."""
    suffix = PurePath(options["output"] or "").suffix.lower()
    form: str = options["form"] or SUFFIXES.get(suffix, "text")
    if form != "text" or options["output"] is not None:
        name = "--as" if options["form"] is not None else "-o"
        for given, other in ((session.json, "--json"), (options["compare"] is not None, "--compare")):
            if given:
                raise UsageError(f"{name} and {other} cannot be used together", "trace writes one report")
    return form


def _print_report(
    session: Session,
    evidence: TraceEvidence,
    story: TraceResult,
    form: str,
    name: str,
    lab: Lab | str,
    output: str | None,
) -> None:
    """Write a picture, or a report that goes to a file. Raises KernelError, UsageError."""
    if form == "text":
        from labctl.report.trace import lines

        report = list(lines(story))
    else:
        from labctl.report.trace_page import trace_lines

        session.terminal.progress(sentence("comparing the lab with the kernel"))
        report = trace_lines(form, evidence, story, *_lab_and_changes(name, lab))
        session.terminal.clear()
    if output is None:
        session.terminal.lines(report)
    else:
        from labctl.report.output_files import write

        write(output, "\n".join(report) + "\n")


def _lab_and_changes(name: str, lab: Lab | str) -> tuple[Lab, tuple[Change, ...]]:
    """The lab as it is drawn, and what differs in the kernel. Raises KernelError."""
    from labctl.lab import lifecycle
    from labctl.lab.cni_attach import with_plugin_results

    compiled = lifecycle.load_compiled_lab(lab) if isinstance(lab, str) else lab
    return with_plugin_results(compiled), lifecycle.status(name, compiled)


def _with_reasons(traced: Traced, name: str, scenario: str | None) -> TraceResult:
    """The result with the reasons of routes and rules."""
    from labctl.lab.cni_attach import with_plugin_results
    from labctl.report.trace_reasons import with_reasons

    return with_reasons(traced.story, traced.evidence, with_plugin_results(recall(name, scenario, ())))


def _report_comparison(session: Session, traced: Traced, other: Traced, pcap: str | None) -> int:
    """Report two traces and their first difference. Returns the exit code."""
    comparison = traced.compare(other)
    if pcap is not None:
        traced.save(pcap, other)
    if session.json:
        from labctl.report.trace_json import trace_comparison_document

        session.print_document(trace_comparison_document((traced.evidence, other.evidence), comparison))
    else:
        from labctl.report.trace_comparison import comparison_lines

        terminal = session.terminal
        terminal.lines(comparison_lines(comparison, terminal.paint, terminal.width), fold=12)
    return 0 if comparison.answered else 1


def _trace_options(session: Session, options: dict[str, Any]) -> dict[str, Any]:
    """The probe's options, and the functions for progress and messages. Raises UsageError."""
    probes = [kind for kind in ("icmp", "tcp", "udp") if options[kind]]
    if len(probes) > 1:
        raise UsageError(f"--{probes[0]} and --{probes[1]} cannot be used together", "trace sends one probe")
    probe_options = {key: options[key] for key in ("tcp", "udp", "size", "fragment", "sport")}
    probe_options["listen"] = options["listen"] or options["listen"] is not None
    terminal = session.terminal
    return {
        **probe_options,
        "progress": terminal.progress,
        "warn": lambda text: terminal.print_stderr(f"labctl: {text}"),
    }


COMMAND = trace

"""labctl capture: the frames that pass the devices of a lab, as text lines or as a pcapng file."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from io import FileIO
from typing import TYPE_CHECKING

import click

from labctl.cli.options import global_options
from labctl.cli.param_types import POINT, NumberParam
from labctl.cli.session import Session, TerminationSignal
from labctl.errors import KernelError, UsageError

if TYPE_CHECKING:
    from labctl.core.address_names import AddressNames
    from labctl.core.resources import Interface
    from labctl.packets.decode import Frame


@click.command("capture", short_help="Show every packet, at every device of the lab, in one stream.")
@click.argument("points", nargs=-1, type=POINT, metavar="[POINT...]")
@click.option("--filter", "expression", default="", metavar="EXPR", help="Only packets that match this pcap filter.")
@click.option("-w", "--write", metavar="FILE", help="Write a pcapng file; - for standard output.")
@click.option("-c", "--count", type=NumberParam(1), metavar="N", help="Stop after N frames.")
@click.option("--seconds", type=click.FloatRange(0), metavar="N", help="Stop after N seconds.")
@global_options("lab")
@click.pass_obj
def capture(
    session: Session,
    points: tuple[str, ...],
    expression: str,
    write: str | None,
    count: int | None,
    seconds: float | None,
) -> int:
    """Show every packet, at every device of the lab or at the given points, in one stream ordered by time; ^C stops it.

    POINT is a device such as node1/eth0, or a node, which means all of its devices. A line shows the time, the device
    (> the packet leaves it, < the packet enters it), the source, the destination and the kind of packet. For a single
    device without -w and --seconds, labctl prints the equivalent tcpdump command and runs it. A file contains the
    lab's names for devices and addresses, for Wireshark or tshark.

    \b
    Examples:
      sudo labctl capture
      sudo labctl capture node1 fabric --filter icmp
      sudo labctl capture node1/eth0
      sudo labctl capture -w - | wireshark -k -i -
    """
    from labctl.lab import lifecycle
    from labctl.lab.node_lookup import address_names, resolve_points

    if session.json:
        raise UsageError("capture has no --json: it is a stream, not a document", "-w - writes pcapng for programs")
    session.require_root()
    lab = lifecycle.resolve_lab_name(session.lab)
    nodes, interfaces = resolve_points(lab, points)
    from labctl.kernel.capture.stream import Capture, compile_filter

    program = compile_filter(expression)
    if len(points) == 1 and len(interfaces) == 1 and write is None and seconds is None:
        return _tcpdump(session, lab, interfaces[0], expression, count)
    session.handle_termination()
    with ExitStack() as stack:
        write_frame = _sink(session, write, address_names(lab), stack)
        stream = stack.enter_context(Capture(lab, nodes, interfaces, program))
        session.terminal.print_stderr("capturing; ^C stops it")
        reader = sys.stdout.fileno() if write in (None, "-") and sys.stdout is not None else None
        frame_count = 0
        try:
            is_open = session.terminal.out is not None  # None: the pipe is closed
            frames = stream.frames(seconds, reader) if is_open else ()
            for frame_count, frame in enumerate(frames, 1):
                write_frame(frame)
                if frame_count == count or session.terminal.out is None:  # the reader closed the pipe
                    break
        except (KeyboardInterrupt, TerminationSignal):
            for frame in stream.rest():  # captured before the signal
                write_frame(frame)
                frame_count += 1
        lost = sum(stream.lost_frames().values())
        if stream.is_gone():
            session.terminal.print_stderr(f"labctl: the lab {lab} is gone")
    session.terminal.print_stderr(
        f"{frame_count} frame{'' if frame_count == 1 else 's'} captured, {lost} lost by the kernel"
    )
    return 0


def _sink(session: Session, write: str | None, names: AddressNames, stack: ExitStack) -> Callable[[Frame], None]:
    """Return the function that prints a frame as a line, or writes it to a file. Raises UsageError."""
    if write is None:
        from labctl.report.capture_lines import frame_line

        width = 16

        def print_frame(frame: Frame) -> None:
            nonlocal width
            width = max(width, len(str(frame.at)))  # the column grows with the longest point so far
            session.terminal.lines([frame_line(frame, names.near(frame.at.ns), width)], fold=17)
            session.terminal.flush()

        return print_frame
    from labctl.packets.pcapng import Writer
    from labctl.report.output_files import open_output

    if write == "-":
        if sys.stdout.isatty():
            raise UsageError("-w - writes bytes, but this is a terminal", "labctl capture -w - | wireshark -k -i -")
        file = FileIO(sys.stdout.fileno(), "wb", closefd=False)
    else:
        try:
            file = FileIO(open_output(write), "wb")
        except OSError as error:
            raise UsageError(f"cannot write {write}: {error.strerror}") from error
        stack.callback(file.close)
    writer = Writer()

    def write_bytes(data: bytes) -> None:
        left = memoryview(data)
        try:
            while left:
                left = left[file.write(left) :]
        except BrokenPipeError:
            session.terminal.discard_output()
        except OSError as error:
            raise KernelError(f"cannot write {write}: {error.strerror}", errno=error.errno or 0) from error

    write_bytes(writer.begin(names.unique))
    return lambda frame: write_bytes(writer.add(frame))


def _tcpdump(session: Session, lab: str, interface: Interface, expression: str, count: int | None) -> int:
    """Run tcpdump for one device, in its namespace. The equivalent command is printed first."""
    import shlex

    from labctl.kernel.host import paths
    from labctl.kernel.node_exec import exec

    argv = ["tcpdump", "-n", "-l", "-e", "-i", interface.dev, *([] if count is None else ["-c", str(count)])]
    argv += [expression] if expression else []
    session.terminal.print_stderr(f"ip netns exec {paths.netns_name(lab, interface.ns)} {shlex.join(argv)}", fold=False)
    return exec.run(lab, interface.ns, argv)


COMMAND = capture

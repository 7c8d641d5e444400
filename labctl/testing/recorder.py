"""The evidence of a lab for a failed test: its packets, its drift, and the state of its machines."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from labctl.errors import LabError
from labctl.running_lab import RunningLab

if TYPE_CHECKING:
    from labctl.packets.decode import Frame

MAX_MACHINES = 100  # a lab with more machines is not recorded: that would slow down every test too much


class PacketRecorder:
    """Records the packets of a lab from now on. They stay in the kernel's buffers (8 MB for each machine), so recording
    costs no time while a test runs. Packets that do not fit are counted."""

    def __init__(self, lab: RunningLab) -> None:
        from labctl.kernel.capture.stream import Capture

        self.lost_frames = 0
        self._capture: Capture | None = Capture(lab.name, lab.nodes)

    def frames(self) -> list[Frame]:
        """The frames that were captured until now, in the order of time."""
        if self._capture is None:
            return []
        frames = list(self._capture.rest())
        self.lost_frames += sum(self._capture.lost_frames().values())
        return frames

    def close(self) -> None:
        """Stop recording. Can be called twice."""
        capture, self._capture = self._capture, None
        if capture is not None:
            capture.close()


def create_recorder(lab: RunningLab) -> PacketRecorder | None:
    """A recorder for a lab; None if the lab is too large, or down."""
    return PacketRecorder(lab) if 0 < len(lab.nodes) <= MAX_MACHINES else None


def write_evidence(folder: Path, lab: RunningLab, recorder: PacketRecorder | None) -> Iterator[str]:
    """Write the evidence of a lab into a folder. Yields lines for the report: the paths of the files, and the drift."""
    from labctl.report.output_files import write, write_bytes

    frames = [] if recorder is None else recorder.frames()
    folder.mkdir(parents=True, exist_ok=True)
    yield f"lab {lab.name}; run manually: {_up_command(lab)}"
    if recorder is not None:
        from labctl.core.topology import Topology
        from labctl.packets.pcapng import pcapng

        path = folder / f"{lab.name}.pcapng"
        write_bytes(str(path), pcapng(frames, Topology(lab.compiled).machine_by_address, f"lab {lab.name}"))
        lost_text = f", {recorder.lost_frames} more were lost" if recorder.lost_frames else ""
        yield f"packets: {path} ({len(frames)} frames{lost_text})"
    if not lab.nodes:
        yield "the lab was down when the test ended"
        return
    drift = list(_drift(lab))
    yield from (f"drift: {line}" for line in drift or ["none, the kernel is as planned"])
    path = folder / f"{lab.name}.txt"
    write(str(path), "\n".join([f"lab {lab.name}", *drift, "", *_node_lines(lab)]) + "\n")
    yield f"links, routes, rules with counters: {path}"


def _up_command(lab: RunningLab) -> str:
    from labctl.kernel.host import paths
    from labctl.lab.records import load_definition
    from labctl.scenario import catalog

    definition = load_definition(lab.name)
    if definition is None:
        return "unknown, its record is lost"
    path = Path(definition.file)
    scenario = path.stem if path.parent == catalog.folder() else definition.file
    options = [word for one in definition.overrides for word in ("--set", one)]
    options += ["--approximate"] if definition.substitute_features else []
    options += ["--firewall", definition.firewall] if definition.firewall == "nft" else []
    return f"{paths.command_prefix()} up {shlex.join([scenario, *options])}"


def _drift(lab: RunningLab) -> Iterator[str]:
    from labctl.render.resources import change_lines

    try:
        for change in lab.status():
            yield from change_lines(change)
    except LabError as error:
        yield f"unknown: {error.message}"


def _node_lines(lab: RunningLab) -> Iterator[str]:
    """The output of `labctl show` for every machine."""
    from labctl.kernel.host.paths import labs
    from labctl.kernel.observe.node_view import read_nodes
    from labctl.lab.lifecycle import observe
    from labctl.report.node_view import NodeView, sections
    from labctl.report.text_layout import align

    plan = observe(lab.name)
    for node, state in read_nodes(lab.name, labs().get(lab.name, ())).items():
        yield f"{lab.name}/{node}"
        for section in sections(NodeView(node, tuple(item for item in plan if item.ns == node), state)):
            yield ""
            yield from align(section)
        yield ""

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

MANY = 100  # a lab with more machines is not recorded: that would slow down every test too much


class Recorder:
    """Records the packets of a lab from now on. They stay in the kernel's buffers (8 MB for each machine), so recording
    costs no time while a test runs. Packets that do not fit are counted."""

    def __init__(self, lab: RunningLab) -> None:
        from labctl.kernel.capture.stream import Capture

        self.lost = 0
        self._capture: Capture | None = Capture(lab.name, lab.nodes)

    def frames(self) -> list[Frame]:
        """The frames that were captured until now, in the order of time."""
        if self._capture is None:
            return []
        found = list(self._capture.rest())
        self.lost += sum(self._capture.lost().values())
        return found

    def close(self) -> None:
        """Stop recording. Can be called twice."""
        capture, self._capture = self._capture, None
        if capture is not None:
            capture.close()


def recorder(lab: RunningLab) -> Recorder | None:
    """A recorder for a lab; None if the lab is too large, or down."""
    return Recorder(lab) if 0 < len(lab.nodes) <= MANY else None


def keep(folder: Path, lab: RunningLab, recorder: Recorder | None) -> Iterator[str]:
    """Write the evidence of a lab into a folder. Yields lines for the report: the paths of the files, and the drift."""
    frames = [] if recorder is None else recorder.frames()
    folder.mkdir(parents=True, exist_ok=True)
    yield f"lab {lab.name}; run manually: {_by_hand(lab)}"
    if recorder is not None:
        from labctl.core.topology import Who
        from labctl.packets.pcapng import pcapng

        path = folder / f"{lab.name}.pcapng"
        path.write_bytes(pcapng(frames, Who(lab.compiled).names, f"lab {lab.name}"))
        lost = f", {recorder.lost} more were lost" if recorder.lost else ""
        yield f"packets: {path} ({len(frames)} frames{lost})"
    if not lab.nodes:
        yield "the lab was down when the test ended"
        return
    drift = list(_drift(lab))
    yield from (f"drift: {line}" for line in drift or ["none, the kernel is as planned"])
    path = folder / f"{lab.name}.txt"
    path.write_text("\n".join([f"lab {lab.name}", *drift, "", *_shown(lab)]) + "\n", encoding="utf-8")
    yield f"links, routes, rules with counters: {path}"


def _by_hand(lab: RunningLab) -> str:
    from labctl.kernel.host import paths
    from labctl.lab.records import kept
    from labctl.scenario import catalog

    definition = kept(lab.name)
    if definition is None:
        return "unknown, its record is lost"
    path = Path(definition.file)
    scenario = path.stem if path.parent == catalog.folder() else definition.file
    words = [word for one in definition.sets for word in ("--set", one)]
    words += ["--approximate"] if definition.approximate else []
    words += ["--firewall", definition.firewall] if definition.firewall == "nft" else []
    return f"{paths.command()} up {shlex.join([scenario, *words])}"


def _drift(lab: RunningLab) -> Iterator[str]:
    from labctl.render.resources import change_lines

    try:
        for change in lab.status():
            yield from change_lines(change)
    except LabError as error:
        yield f"unknown: {error.message}"


def _shown(lab: RunningLab) -> Iterator[str]:
    """The output of `labctl show` for every machine."""
    from labctl.kernel.host.paths import labs
    from labctl.kernel.observe.node_view import peek
    from labctl.lab.lifecycle import observe
    from labctl.report.node_view import View, sections
    from labctl.report.plain_text import aligned

    plan = observe(lab.name)
    for node, (chains, settings) in peek(lab.name, labs().get(lab.name, ())).items():
        yield f"{lab.name}/{node}"
        for section in sections(View(node, tuple(item for item in plan if item.ns == node), chains, settings)):
            yield ""
            yield from aligned(section)
        yield ""

"""The lab factory of the pytest plugin's fixtures: it builds labs, records their packets, and removes them.

It imports nothing of labctl's engine before the first lab.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

    from labctl.api import Overrides, ScenarioSource
    from labctl.core.iptables import Backend
    from labctl.kernel.host.work_record import WorkRecord
    from labctl.running_lab import RunningLab
    from labctl.testing.recorder import PacketRecorder


class Labs:
    """A factory of labs, which are removed when its scope ends. Each has a name that no other test or worker uses."""

    def __init__(self, config: pytest.Config, folder: Path) -> None:
        self._config, self._folder = config, folder
        self._labs: dict[str, tuple[RunningLab, PacketRecorder | None]] = {}
        self._shared: dict[object, RunningLab] = {}
        self._recording_errors: dict[str, str] = {}
        self._records: dict[str, WorkRecord] = {}

    def __call__(
        self,
        scenario: ScenarioSource,
        *,
        name: str | None = None,
        set: Overrides | None = None,
        approximate: bool = False,
        firewall: Backend | None = None,
    ) -> RunningLab:
        """Bring a lab up, as `labctl.up` does. `name` is its name; by default a unique name.

        Raises what `labctl.up` raises, and UsageError if a lab of this name runs that this factory did not make: the
        factory would change it, and remove it at the end, while another user works with it.
        """
        import labctl
        from labctl.kernel.host import paths
        from labctl.lab.leftovers import record_temporary_lab
        from labctl.running_lab import require_root
        from labctl.testing.laws import require_unused_name, unused_lab_name

        definition = labctl.load(scenario, name=name, set=set, approximate=approximate, firewall=firewall)
        if name is None:
            definition = labctl.load(definition, name=unused_lab_name(definition.name))
        elif definition.name not in self._labs:
            require_unused_name(definition.name)
        require_root("up")  # without root, there is no folder for records
        if definition.name not in self._records:
            self._records[definition.name] = record_temporary_lab("a test", definition.name)
        try:
            lab = labctl.up(definition, approximate=approximate)
        except BaseException:
            if definition.name not in paths.labs():
                self._records.pop(definition.name).finish(list)  # `up` has removed everything
            raise
        self._labs[lab.name] = (lab, self._labs.get(lab.name, (lab, None))[1])
        self.start_recording(lab)
        return lab

    def get_or_start(self, scenario: ScenarioSource, **options: Any) -> RunningLab:
        """The lab that was made here with the same arguments, or a new one."""
        subject = scenario if isinstance(scenario, Hashable) else repr(scenario)
        key = (type(scenario), subject, repr(sorted(options.items())))
        if key not in self._shared:
            self._shared[key] = self(scenario, **options)
        return self._shared[key]

    def __iter__(self) -> Iterator[RunningLab]:
        return iter([lab for lab, _ in self._labs.values()])

    def start_recording(self, lab: RunningLab) -> None:
        """Start to record its packets, if recording is on and has not started yet."""
        from labctl.errors import LabError
        from labctl.testing.recorder import create_recorder

        if self._labs[lab.name][1] is None and _records_packets(self._config):
            try:
                self._labs[lab.name] = (lab, create_recorder(lab))
            except LabError as error:  # must not fail the test
                self._recording_errors[lab.name] = f"no packets: {error.message}"

    def stop_recording(self, lab: RunningLab) -> None:
        """Stop recording and drop its packets."""
        recorder = self._labs[lab.name][1]
        self._labs[lab.name] = (lab, None)
        if recorder is not None:
            recorder.close()

    def save_evidence(self, lab: RunningLab, test: str) -> str:
        """Write the evidence of a lab for a failed test. Returns the text for the test's report."""
        from labctl.testing.recorder import write_evidence

        lines = [self._recording_errors[lab.name]] if lab.name in self._recording_errors else []
        folder = self._folder / re.sub(r"[^\w.-]+", "-", test).strip("-")[-120:]
        try:
            lines.extend(write_evidence(folder, lab, self._labs[lab.name][1]))
        except Exception as error:  # must not hide the test's failure
            lines.append(f"no more evidence: {type(error).__name__}: {error}")
        return "\n".join(lines)

    def close(self) -> None:
        """Remove all labs, even if removing one fails; then raise the first error."""
        import labctl

        errors = []
        for lab in self:
            self.stop_recording(lab)
        for name, record in self._records.items():
            remove = self._labs[name][0].down if name in self._labs else partial(labctl.down, name)
            try:
                record.finish(remove)
            except Exception as error:
                errors.append(error)
        self._records.clear()
        if errors:
            raise errors[0]


def _records_packets(config: pytest.Config) -> bool:
    return bool(config.getini("labctl_packets")) and not config.getoption("labctl_no_packets")

"""The lab factory of the pytest plugin's fixtures: it builds labs, records their packets, and removes them.

It imports nothing of labctl's engine before the first lab.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

    from labctl.api import Sets, Source
    from labctl.core.iptables import Backend
    from labctl.running_lab import RunningLab
    from labctl.testing.recorder import Recorder


class Labs:
    """A factory of labs, which are removed when its scope ends. Each has a name that no other test or worker uses."""

    def __init__(self, config: pytest.Config, folder: Path) -> None:
        self._config, self._folder = config, folder
        self._labs: dict[str, tuple[RunningLab, Recorder | None]] = {}
        self._shared: dict[str, RunningLab] = {}
        self._troubles: dict[str, str] = {}

    def __call__(
        self,
        scenario: Source,
        *,
        name: str | None = None,
        set: Sets | None = None,
        approximate: bool = False,
        firewall: Backend | None = None,
    ) -> RunningLab:
        """Bring a lab up, as `labctl.up` does. `name` is its name; by default a unique name.

        Raises what `labctl.up` raises, and UsageError if a lab of this name runs that this factory did not make: the
        factory would change it, and remove it at the end, while another user works with it.
        """
        import labctl
        from labctl.testing.laws import fresh_name, must_be_new

        definition = labctl.load(scenario, name=name, set=set, approximate=approximate, firewall=firewall)
        if name is None:
            definition = labctl.load(definition, name=fresh_name(definition.name))
        elif definition.name not in self._labs:
            must_be_new(definition.name)
        lab = labctl.up(definition, approximate=approximate)
        self._labs[lab.name] = (lab, self._labs.get(lab.name, (lab, None))[1])
        self.record(lab)
        return lab

    def shared(self, scenario: Source, **how: Any) -> RunningLab:
        """The lab that was made here with the same arguments, or a new one."""
        key = repr((scenario, sorted(how.items())))
        if key not in self._shared:
            self._shared[key] = self(scenario, **how)
        return self._shared[key]

    def __iter__(self) -> Iterator[RunningLab]:
        return iter([lab for lab, _ in self._labs.values()])

    def record(self, lab: RunningLab) -> None:
        """Start to record its packets, if recording is on and has not started yet."""
        from labctl.errors import LabError
        from labctl.testing.recorder import recorder

        if self._labs[lab.name][1] is None and _packets(self._config):
            try:
                self._labs[lab.name] = (lab, recorder(lab))
            except LabError as error:  # must not fail the test
                self._troubles[lab.name] = f"no packets: {error.message}"

    def forget(self, lab: RunningLab) -> None:
        """Stop recording and drop its packets."""
        recorder = self._labs[lab.name][1]
        self._labs[lab.name] = (lab, None)
        if recorder is not None:
            recorder.close()

    def evidence(self, lab: RunningLab, test: str) -> str:
        """Write the evidence of a lab for a failed test. Returns the text for the test's report."""
        from labctl.testing.recorder import keep

        lines = [self._troubles[lab.name]] if lab.name in self._troubles else []
        folder = self._folder / re.sub(r"[^\w.-]+", "-", test).strip("-")[-120:]
        try:
            lines.extend(keep(folder, lab, self._labs[lab.name][1]))
        except Exception as error:  # must not hide the test's failure
            lines.append(f"no more evidence: {type(error).__name__}: {error}")
        return "\n".join(lines)

    def close(self) -> None:
        """Remove all labs, even if removing one fails; then raise the first error."""
        errors = []
        for lab in self:
            self.forget(lab)
            try:
                lab.down()
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]


def _packets(config: pytest.Config) -> bool:
    return bool(config.getini("labctl_packets")) and not config.getoption("labctl_no_packets")

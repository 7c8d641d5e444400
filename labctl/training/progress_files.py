"""What learners have reached, in the directory of progress: one file for each learner, and exercise or lesson.

`down` and a reboot keep them. A change reads the file, and writes it, under a lock: two commands at the same time lose
nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from labctl.errors import KernelError
from labctl.kernel.host import state_files

LOCK_TIMEOUT_S = 10.0  # a holder only reads and writes a small file
P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class ProgressFiles(Generic[P]):
    """A kind of progress: its folder, the shape of its documents, and how they are read and written."""

    folder: str
    shape: Any
    from_json: Callable[[dict[str, Any]], P]
    to_json: Callable[[P], dict[str, Any]]

    def load(self, learner: str, name: str) -> P | None:
        """The progress of a learner; None if there is none, or the record cannot be read."""
        try:
            return self.from_json(state_files.read_json(self.folder, f"{learner}/{name}.json", self.shape))
        except (FileNotFoundError, state_files.RecordError):
            return None

    def update(self, learner: str, name: str, change: Callable[[P | None], P]) -> P:
        """Replace the progress by what `change` makes of it, which no other process changes meanwhile. Raises
        KernelError."""
        try:
            with state_files.lock(self.folder, f"{learner}/.{name}.lock", LOCK_TIMEOUT_S):
                after = change(self.load(learner, name))
                text = json.dumps(self.to_json(after), ensure_ascii=False, indent=1)
                state_files.write_text(self.folder, f"{learner}/{name}.json", text + "\n")
                return after
        except state_files.LockedError:
            hint = "another labctl of this learner has stopped: fg or kill ends it"
            raise KernelError(f"the progress of {learner} in {name} is locked", hint) from None

    def remove(self, learner: str, name: str) -> None:
        """Remove the progress of a learner. Raises KernelError."""
        state_files.remove(self.folder, f"{learner}/{name}.json")

    def learners(self) -> tuple[str, ...]:
        """Everybody who has begun, sorted."""
        return tuple(sorted(name for name in state_files.names(self.folder) if not name.startswith(".")))

    def load_all(self, learner: str, started: Callable[[P], str]) -> tuple[P, ...]:
        """All that a learner has begun, in the order in which it was begun."""
        files = [one for one in state_files.names(self.folder, learner) if one.endswith(".json")]
        names = [one.removesuffix(".json") for one in files if not one.startswith(".")]
        found = [one for name in names if (one := self.load(learner, name)) is not None]
        return tuple(sorted(found, key=started))

"""The record of a learner's lab, in its state directory: the exercise or lesson that runs in it, and its learner."""

from __future__ import annotations

import json
from dataclasses import dataclass

from labctl.kernel.host import lab_state, paths, state_files


@dataclass(frozen=True, slots=True)
class LearnerLab:
    """A running lab of a learner. `name` is that of the exercise or lesson in records, `language` that of its texts."""

    lab: str
    name: str
    learner: str
    language: str
    finished: bool = False


@dataclass(frozen=True, slots=True)
class LearnerLabRecord:
    """A kind of these records: its file, and the key that has the name."""

    file: str
    key: str

    def load(self, lab: str) -> LearnerLab | None:
        """The record of a lab; None if it has none, or the record cannot be read."""
        shape = {self.key: str, "learner": str, "language": str, "finished": bool}
        try:
            found = state_files.read_json(lab, self.file, shape)
        except (FileNotFoundError, state_files.RecordError):
            return None
        return LearnerLab(lab, found[self.key], found["learner"], found["language"], found["finished"])

    def save(self, running: LearnerLab) -> None:
        """Record what runs in a lab. Raises KernelError."""
        document = {
            self.key: running.name,
            "learner": running.learner,
            "language": running.language,
            "finished": running.finished,
        }
        lab_state.save(running.lab, self.file, json.dumps(document, ensure_ascii=False))

    def load_all(self) -> tuple[LearnerLab, ...]:
        """The records of all running labs."""
        return tuple(found for lab in paths.labs() if (found := self.load(lab)) is not None)


LESSON = LearnerLabRecord("lesson.json", "lesson")

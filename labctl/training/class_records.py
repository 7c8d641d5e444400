"""The records of all learners: of this machine, and files that were gathered from others. Bad files are named.

Learners write these files, or can change them, so nothing in them is trusted: no link below a folder is followed, only
regular files of a limited size are read, and every value is checked.
"""

from __future__ import annotations

import os
import pwd
import stat
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from labctl.board.documents import entries
from labctl.board.entry import TIME, Entry, EntryError
from labctl.core.record_shape import shape_problem
from labctl.errors import UsageError
from labctl.exercises import progress as exercise_progress
from labctl.kernel.host import paths
from labctl.kernel.host.state_files import RecordError, parse_json

MAX_BYTES = 4 << 20  # of a file
MAX_FILES = 20_000
MAX_DEPTH = 6  # folders below a given one
FOLDERS = (".lessons", ".exercises")  # of progress
KEPT_FOLDER = Path("/var/lib/labctl")
HOME_FOLDER = ".local/state/labctl"  # of learners who have labs without root
LESSON_SHAPE = {
    "learner": str, "lesson": str, "started": str, "finished": str, "at": int,
    "steps": [{"done": bool, "right": (bool, None)}],
}  # fmt: skip


@dataclass
class ClassRecords:
    """What was found: entries, and for each file that cannot be used its place and the problem."""

    found: list[Entry] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)

    def add_document(self, place: str, document: Any) -> None:
        """Add what a document of labctl's says."""
        try:
            for one in entries(document):
                if isinstance(one, Entry):
                    self.found.append(one)
                else:
                    self.problems.append((place, str(one)))
        except EntryError as error:
            self.problems.append((place, str(error)))

    def add_text(self, place: str, text: str, changed: str) -> None:
        """Add what a file has: a record, or a document that labctl has printed. `changed` is when it was written."""
        try:
            document = parse_json(text, dict)
            if (record := _record(document, changed)) is not None:
                self.found.append(record)
                return
        except (RecordError, EntryError) as error:
            self.problems.append((place, str(error)))
            return
        self.add_document(place, document)

    def add_path(self, path: str) -> None:
        """Add a file, all files below a folder, or the standard input for `-`. Raises UsageError if it cannot be read
        at all."""
        if path == "-":
            return self.add_text("standard input", sys.stdin.read(MAX_BYTES), _time(None))
        try:
            is_folder = stat.S_ISDIR(os.stat(path).st_mode)
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror}") from None
        if is_folder:
            self._add_files(_files(path), path)
        else:
            self._add_file(path, flags=0)

    def add_machine(self) -> None:
        """Add what all learners of this machine have reached: those with sudo, and those without root, as far as this
        user may read their records."""
        roots = [*_progress_folders(), *(Path(home, HOME_FOLDER) for home in _homes())]
        for root in dict.fromkeys(roots):
            for folder in FOLDERS:
                place = str(root / folder)
                self._add_files(_files(place), place)

    def _add_files(self, found: Iterable[str], place: str) -> None:
        for number, file in enumerate(found):
            if number == MAX_FILES:
                self.problems.append((place, f"it has more than {MAX_FILES} files; the others are left out"))
                break
            self._add_file(file, flags=os.O_NOFOLLOW)

    def _add_file(self, path: str, flags: int) -> None:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | flags)
            with os.fdopen(fd, "rb") as file:
                status = os.fstat(fd)
                if not stat.S_ISREG(status.st_mode):
                    self.problems.append((path, "it is not a file"))
                    return
                data = file.read(MAX_BYTES + 1)
        except OSError as error:
            self.problems.append((path, error.strerror or str(error)))
            return
        if len(data) > MAX_BYTES:
            self.problems.append((path, f"it is larger than {MAX_BYTES >> 20} MiB"))
            return
        self.add_text(path, data.decode("utf-8", "replace"), _time(status.st_mtime))


def _record(document: dict[str, Any], changed: str) -> Entry | None:
    """The entry of a record; None if the document is none. Raises EntryError."""
    if "exercise" in document and "tasks" in document:
        if problem := shape_problem(document, exercise_progress.SHAPE):
            raise EntryError(problem)
        one = exercise_progress.from_json(document)
        first = one.first_open
        return Entry(
            one.learner, "exercise", one.exercise, one.started, one.finished, one.finished or changed,
            sum(task.state != "open" for task in one.tasks), len(one.tasks), one.points, one.possible,
            0 if first is None else one.tasks[first].wrong, 0 if first is None else first + 1, one.hints,
            any(task.state == "solved" for task in one.tasks),
        )  # fmt: skip
    if "lesson" in document and "steps" in document:
        if problem := shape_problem(document, LESSON_SHAPE):
            raise EntryError(problem)
        steps = document["steps"]
        answers = [step["right"] for step in steps if step["right"] is not None]
        finished = document["finished"]
        done = len(steps) if finished else document["at"]
        return Entry(
            document["learner"], "lesson", document["lesson"], document["started"], finished, finished or changed,
            done, len(steps), right=sum(answers), answered=len(answers),
        )  # fmt: skip
    return None


def _files(folder: str, depth: int = 0) -> Iterator[str]:
    """The JSON files below a folder, sorted; nothing of a folder that does not exist or cannot be read."""
    try:
        with os.scandir(folder) as found:
            names = sorted((one.name, one.is_dir(follow_symlinks=False)) for one in found)
    except OSError:
        return
    for name, is_folder in names:
        if is_folder and depth < MAX_DEPTH:
            yield from _files(f"{folder}/{name}", depth + 1)
        elif not is_folder and name.endswith(".json") and not name.startswith("."):
            yield f"{folder}/{name}"


def _progress_folders() -> list[Path]:
    """Where this machine keeps what learners with sudo have reached: a folder that the environment names, else the one
    that a reboot keeps, and the directory of states, in which older versions had it."""
    for variable in ("LABCTL_PROGRESS_DIR", "LABCTL_STATE_DIR"):
        if os.path.isabs(given := os.environ.get(variable, "")):
            return [Path(given)]
    return [KEPT_FOLDER, paths.state_dir()]


def _homes() -> list[str]:
    """The homes of all accounts."""
    return sorted({one.pw_dir for one in pwd.getpwall() if os.path.isabs(one.pw_dir) and one.pw_dir != "/"})


def _time(seconds: float | None) -> str:
    """A time as records have it; now, without one."""
    at = datetime.now(timezone.utc) if seconds is None else datetime.fromtimestamp(seconds, timezone.utc)
    return at.strftime(TIME)

"""A user of labctl who is not root, for tests of labs without root: root in a user namespace, or nobody."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from tests.support.paths import ROOT

NOBODY = 65534
USER = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


@cache
def may_read_source(prefix: tuple[str, ...]) -> bool:
    """Whether this user may start the Python of the tests and read the source tree; tried once."""
    readable = [*prefix, sys.executable, "-c", f"open({__file__!r})"]
    return subprocess.run(readable, capture_output=True).returncode == 0


class Person:
    """Somebody who types `labctl --rootless ...`, and the folder that is theirs."""

    def __init__(self, folder: Path, prefix: tuple[str, ...]) -> None:
        self.folder, self.prefix = folder, prefix

    def environment(self, **more: str) -> dict[str, str]:
        """Their own, with the bytecode of the tests: it is read and not written, and only by who may read it."""
        names = ("PATH", "PYTHONPYCACHEPREFIX") if self.prefix else ("PATH", "LANG", "PYTHONPYCACHEPREFIX")
        own = {name: os.environ[name] for name in names if name in os.environ}
        own.setdefault("PATH", os.defpath)
        return {**own, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(self.folder),
                "XDG_RUNTIME_DIR": str(self.folder), **more}  # fmt: skip

    @property
    def reason_to_skip(self) -> str:
        """Why this person cannot be tested here; "" if they can."""
        if self.prefix and shutil.which("setpriv") is None:
            return "no setpriv here, to become nobody with"
        if self.prefix and not may_read_source(self.prefix):
            return "nobody may read the source tree or its Python here"
        return ""

    def types(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        command = [*self.prefix, sys.executable, "-m", "labctl", "--rootless", *words]
        own = self.environment(**more)
        return subprocess.run(
            command, capture_output=True, text=True, timeout=90, env=own, cwd=self.folder, check=False
        )

    def document(self, *words: str) -> dict[str, object]:
        done = self.types(*words, "--json")
        found: dict[str, object] = json.loads(done.stdout)
        return found

    @property
    def holder(self) -> int | None:
        """The process that keeps the namespaces, if it lives."""
        try:
            pid = int((self.folder / "labctl/holder").read_text())
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
        except OSError:
            return None
        return pid if state != "Z" else None

"""What a command of labctl imports, in a new process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from typing import NamedTuple

from tests.support.paths import ROOT

_CODE = """
import json, sys
from labctl.cli import main
code = main(sys.argv[1:])
modules = [module for name, module in sys.modules.items() if name.startswith("labctl")]
classes = {str(one) for module in modules for one in vars(module).values()
           if isinstance(one, type) and "__dataclass_fields__" in vars(one)}
print(json.dumps({"code": code, "modules": sorted(sys.modules), "dataclasses": sorted(classes)}), file=sys.stderr)
"""


class Imported(NamedTuple):
    """The names of all imported modules, and the dataclasses in those of labctl."""

    modules: list[str]
    dataclasses: list[str]

    @property
    def of_labctl(self) -> list[str]:
        """The modules of labctl."""
        return [name for name in self.modules if name.split(".")[0] == "labctl"]

    def below(self, packages: Iterable[str]) -> list[str]:
        """The modules that are one of these, or in one of these packages."""
        return [name for name in self.modules for one in packages if f"{name}.".startswith(f"{one}.")]


def imported_by(arguments: list[str], expected_output: str) -> Imported:
    """Run labctl with these arguments; it must succeed and print this text."""
    words = [sys.executable, "-c", _CODE, *arguments]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60)
    found = json.loads(done.stderr.splitlines()[-1])
    assert (done.returncode, found["code"], expected_output in done.stdout) == (0, 0, True)
    return Imported(found["modules"], found["dataclasses"])

"""Try what labctl promises when something goes wrong. Each part is a file beside this one, with a function `main`."""

from __future__ import annotations

import ast
import os
import sys
import textwrap
from importlib import import_module
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
# of parts that are not called like their file
NAMES = {"kill_points": "kill", "cni_input": "cni", "model_options": "options"}
INSIDE = "LABCTL_RELIABILITY_SANDBOX"  # the environment variable that a process in the sandbox has


def main() -> int:
    parts = {
        NAMES.get(path.stem, path.stem.replace("_", "-")): path for path in sorted(HERE.glob("*.py")) if is_part(path)
    }
    arguments = sys.argv[1:]
    if not arguments or arguments[0] not in parts:
        print(usage(parts))
        return 0 if arguments[:1] in (["--help"], ["-h"]) else 2
    sys.path[:0] = [str(ROOT), str(HERE)]
    if os.geteuid() == 0 and INSIDE not in os.environ and not {"--help", "-h"} & {*arguments}:
        from tests.support.sandbox_script import SANDBOX

        sandbox = ["unshare", "-nm", "--propagation", "private", "sh", "-ec", SANDBOX, "sandbox"]
        words = [*sandbox, sys.executable, __file__, *arguments]
        os.execvpe(words[0], words, {**os.environ, INSIDE: "1"})
    sys.argv = [f"reliability {arguments[0]}", *arguments[1:]]
    return int(import_module(parts[arguments[0]].stem).main() or 0)


def is_part(path: Path) -> bool:
    """Whether a file has a function `main`, and is not this one."""
    functions = (item.name for item in ast.parse(path.read_text()).body if isinstance(item, ast.FunctionDef))
    return path != Path(__file__).resolve() and "main" in functions


def usage(parts: dict[str, Path]) -> str:
    """The parts, each with the first sentence of its file."""
    sentences = {
        name: (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n\n")[0] for name, path in parts.items()
    }
    lines = [
        textwrap.fill(sentence, 80, initial_indent=f"  {name:15} ", subsequent_indent=" " * 18)
        for name, sentence in sentences.items()
    ]
    return "\n".join(["usage: scripts/reliability PART [--help] [OPTION]...", "", *lines])


if __name__ == "__main__":
    sys.exit(main())

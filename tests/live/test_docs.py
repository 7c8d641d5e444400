"""The documentation is true: commands print what the pages show.

Every ```console block is executed, in the order of its page, in separate namespaces: `$` begins a command, the lines
after it are its output, except times; a line `...` stands for any number of lines. If the first line of a ```yaml block
is a comment with the name of a file, commands find the scenario there.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.doc_pages import agrees, blocks, of, relative, shown
from tests.support.paths import ROOT

# ---- transcripts ---------------------------------------------------------------------------------------

IN_A_SANDBOX = """
mount -t tmpfs none /run/netns
mount -t tmpfs none /run/labctl
ip link set lo up
exec "$@"
"""
RUN_EACH = """
import json, subprocess, sys
for command in json.load(sys.stdin):
    done = subprocess.run(["bash", "-c", command], stdin=subprocess.DEVNULL, stdout=-1, stderr=subprocess.STDOUT)
    print(json.dumps(done.stdout.decode()))
"""


def prepare(folder: Path, page: Path) -> dict[str, str]:
    """Files and commands that a page's transcript finds where it runs; returns the environment."""
    (folder / "scripts").mkdir()
    (folder / "bin").mkdir()
    script = f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m labctl "$@"\n'
    scripts = {"scripts/labctl": script, "bin/labctl": script, "bin/sudo": '#!/bin/sh\nSUDO_USER=reader exec "$@"\n'}
    for name, text in scripts.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    for block in blocks(page):
        if block.language == "yaml" and block.file is not None and "/" not in block.file:
            (folder / block.file).write_text(block.text)
    hidden = ("SUDO_USER", "LABCTL_NETNS_DIR", "LABCTL_STATE_DIR", "COLUMNS")
    own = {"PATH": f"{folder}/bin:{os.environ['PATH']}:/usr/sbin:/sbin", "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8"}
    return {key: value for key, value in os.environ.items() if key not in hidden} | own


@pytest.mark.parametrize("page", sorted({block.page for block in of("console")}), ids=relative)
def test_commands_print_what_the_page_shows(page: Path, tmp_path: Path) -> None:
    parts = [part for block in blocks(page) if block.language == "console" for part in shown(block)]
    environment = prepare(tmp_path, page)
    words = ["unshare", "-nm", "--propagation", "private", "bash", "-ec", IN_A_SANDBOX, "docs"]
    done = subprocess.run(
        [*words, sys.executable, "-c", RUN_EACH],
        input=json.dumps([part.command for part in parts]),
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=environment,
        check=True,
        timeout=300,
    )
    outputs = [json.loads(line) for line in done.stdout.splitlines()]

    assert parts
    for part, output in zip(parts, outputs, strict=True):
        same = agrees(part.output, output)
        assert same, f"{part.block}: $ {part.command}\n--- shown\n{part.output}--- real\n{output}"

"""A node with three pods, and labctl's CNI plugin called there as a container runtime calls one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import forked
from tests.support.paths import ROOT

CONF: dict[str, Any] = {"cniVersion": "1.1.0", "name": "net", "type": "labctl-cni", "ipam": {"type": "fake-ipam"}}
ABSENT = "absent"  # a variable that is not given at all
IPAM = """#!{python} -IS
import json, os, sys
conf = json.load(sys.stdin)
command, folder = os.environ["CNI_COMMAND"], {folder!r}
with open(folder + "/calls", "a") as calls:
    calls.write(command + "\\n")
with open(folder + "/attachments", "a") as attachments:
    name = os.environ.get("CNI_CONTAINERID", "") + "/" + os.environ.get("CNI_IFNAME", "")
    attachments.write(command + " " + name + "\\n")
if os.path.exists(folder + "/fail-" + command):
    code = int(open(folder + "/fail-" + command).read())
    print(json.dumps(dict(cniVersion=conf["cniVersion"], code=code, msg="not now", details="ask later")))
    sys.exit(1)
if command == "ADD":
    last = int(os.environ["CNI_CONTAINERID"][-1]) + 1 + 100 * (os.environ["CNI_IFNAME"] != "eth0")
    ip = dict(address="10.9.0.%d/24" % last, gateway="10.9.0.1")
    if conf["cniVersion"] < "1.0.0":
        ip["version"] = "4"
    print(json.dumps(dict(cniVersion=conf["cniVersion"], ips=[ip], routes=[dict(dst="0.0.0.0/0")])))
"""


@dataclass
class Runtime:
    """A node and its pods, and the plugin called for them."""

    work: Path

    def __call__(self, command: str, pod: str = "", env: dict[str, str] | None = None, **keys: Any) -> tuple[int, Any]:
        """Call the plugin; its exit code and what it printed. `env` goes before what is usual."""
        done = self.start(command, pod, env, **keys)
        out, _ = done.communicate(timeout=60)
        return done.returncode, json.loads(out) if out else None

    def start(self, command: str, pod: str = "", env: dict[str, str] | None = None, **keys: Any) -> Any:
        """Start the plugin as a process, forked, with its environment and configuration."""
        run = ["nsenter", "--net=/run/netns/node", forked.cni_plugin_program()]
        told = {"CNI_COMMAND": command, "CNI_PATH": str(self.work), **environment()}
        if pod:
            told |= {"CNI_CONTAINERID": pod, "CNI_NETNS": f"/run/netns/{pod}", "CNI_IFNAME": "eth0"}
        words = {name: value for name, value in (told | (env or {})).items() if value != ABSENT}
        with (self.work / "input").open("w+") as file:
            file.write(json.dumps(CONF | keys))
            file.seek(0)
            return subprocess.Popen(
                run, stdin=file, stdout=-1, stderr=subprocess.DEVNULL, text=True, env=words, cwd=ROOT
            )

    def add(self, pod: str, env: dict[str, str] | None = None, **keys: Any) -> Any:
        code, said = self("ADD", pod, env, **keys)
        assert code == 0, said
        return said

    def ip(self, where: str, words: str) -> str:
        return subprocess.run(["ip", "-n", where, *words.split()], capture_output=True, text=True, check=True).stdout

    def save(self) -> str:
        done = subprocess.run(["ip", "netns", "exec", "node", "iptables-save"], capture_output=True, text=True)
        return "\n".join(row for row in done.stdout.splitlines() if not row.startswith("#"))

    def pings(self, pod: str, address: str) -> bool:
        run = ["ip", "netns", "exec", pod, "ping", "-c1", "-W2", address]
        return subprocess.run(run, stdout=subprocess.DEVNULL).returncode == 0

    def fail(self, command: str, code: int = 11) -> None:
        """From now on the IPAM plugin fails at a command."""
        (self.work / f"fail-{command}").write_text(str(code))

    def rules(self, word: str) -> list[str]:
        """The node's rules in which a word stands."""
        return [row for row in self.save().splitlines() if row.startswith("-A") and word in row]

    def calls(self) -> list[str]:
        file = self.work / "calls"
        return file.read_text().split() if file.exists() else []

    def released(self) -> list[str]:
        """The attachments whose addresses the IPAM plugin was called to release: `pod1/eth0`."""
        file = self.work / "attachments"
        rows = [row.split() for row in file.read_text().splitlines()] if file.exists() else []
        return [name for command, name in rows if command == "DEL"]


def environment() -> dict[str, str]:
    """What a program needs of ours: where tools are, and which files and locks to use."""
    names = ("PATH", "PYTHONPYCACHEPREFIX", "XTABLES_LOCKFILE")
    return {name: os.environ[name] for name in names if name in os.environ}


@contextmanager
def node_with_pods(work: Path) -> Iterator[Runtime]:
    """The node, its pods, and in the folder `work` the IPAM plugin `fake-ipam`."""
    file = work / "fake-ipam"
    file.write_text(IPAM.format(python=sys.executable, folder=str(work)))
    file.chmod(0o755)
    names = ("node", "pod1", "pod2", "pod3")
    for name in names:
        subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        yield Runtime(work)
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)

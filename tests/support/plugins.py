"""CNI plugins for tests: whether real ones are here, and one that records how it is called instead."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from labctl.core.resources import attachments_of
from labctl.kernel.cni import plugins
from labctl.lab import lifecycle
from labctl.scenario import catalog

FAKE = r"""import json, os, sys
here = os.path.dirname(os.path.abspath(sys.argv[0]))
name = os.path.basename(sys.argv[0])
config = json.loads(sys.stdin.read() or "{}")
command = os.environ["CNI_COMMAND"]
env = {key: value for key, value in sorted(os.environ.items()) if key.startswith("CNI_")}
path, ns = os.environ.get("PATH", ""), os.readlink("/proc/self/ns/net")
with open(here + "/calls", "a") as log:
    log.write(json.dumps({"plugin": name, "env": env, "config": config, "path": path, "ns": ns}) + "\n")
script = json.load(open(here + "/script.json"))
answer = script.get(f"{name} {command}") or script.get(command) or {}
if command == "VERSION":
    print(json.dumps({"cniVersion": "1.1.0", "supportedVersions": answer.get("versions", script["versions"])}))
elif answer.get("kill"):
    os.kill(os.getppid(), 9)
elif "error" in answer:
    print("a line that it logged", file=sys.stderr)
    print(json.dumps({"cniVersion": config["cniVersion"], **answer["error"]}))
    sys.exit(1)
elif "say" in answer:
    print(answer["say"])
    sys.exit(answer.get("exit", 0))
elif command == "ADD":
    result = config.get("prevResult") or {"cniVersion": config["cniVersion"], "interfaces": [], "ips": []}
    if "prevResult" not in config:
        os.system("nsenter --net=%s ip link add %s type bridge" % (env["CNI_NETNS"], env["CNI_IFNAME"]))
        sandbox = {"name": env["CNI_IFNAME"], "mac": "02:00:00:00:00:01", "sandbox": env["CNI_NETNS"]}
        result["interfaces"] = [sandbox]
        result["ips"] = [{"address": "192.0.2.7/24", "interface": 0}]
    result["dns"] = {"search": [*result.get("dns", {}).get("search", []), name]}
    print(json.dumps(result))
"""


def reason_without() -> str | None:
    """Why no real plugins can be run here; None if they can."""
    if plugins.find("bridge", plugins.search_path()) is None:
        return f"no CNI plugins in {plugins.search_path()}: apt-get install containernetworking-plugins"
    return None


def skip_without(scenario: str) -> None:
    """Skip a test of a built-in scenario that needs plugins which are not here."""
    if attachments_of(lifecycle.compile_definition(lifecycle.define(scenario)).plan) and (reason := reason_without()):
        pytest.skip(reason)


def built_in() -> list[str]:
    """The built-in scenarios with pods that plugins attach."""
    return [
        name for name in catalog.names() if attachments_of(lifecycle.compile_definition(lifecycle.define(name)).plan)
    ]


class Fake:
    """A folder of plugins that write down each call, and answer as `script` says."""

    def __init__(self, folder: Path, *names: str, versions: tuple[str, ...] = ("0.4.0", "1.0.0", "1.1.0")) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        for name in names:
            (folder / name).write_text(f"#!{sys.executable} -IS\n{FAKE}")
            (folder / name).chmod(0o755)
        self.versions = versions
        self.script()

    def script(self, **answers: Any) -> None:
        """What the plugins are to answer, by command or by `plugin COMMAND`."""
        text = json.dumps({"versions": self.versions, **answers})
        (self.folder / "script.json").write_text(text)

    def calls(self, *commands: str) -> list[dict[str, Any]]:
        """Every call so far, or those of some commands."""
        file = self.folder / "calls"
        found = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        return [one for one in found if not commands or one["env"]["CNI_COMMAND"] in commands]

    def said(self, *commands: str) -> list[str]:
        """Every call in short: plugin, command, container."""
        return [
            " ".join([one["plugin"], one["env"]["CNI_COMMAND"], one["env"].get("CNI_CONTAINERID", "")]).strip()
            for one in self.calls(*commands)
        ]

    def forget(self) -> None:
        """Forget the calls so far."""
        (self.folder / "calls").unlink(missing_ok=True)

"""Run CNI plugins: each as a process in the network namespace of its node, never in the machine's own namespace.

A plugin gets only the environment of the specification, a PATH in which `iptables` is the variant of the lab's firewall
backend, and the lock file of the lab (XTABLES_LOCKFILE).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from labctl.cni.conflist import NetworkConfigList
from labctl.cni.spec import MEANING, DecodeError, Error, read_error, read_versions
from labctl.cni_runtime.invocation import MODELS, REFERENCE, PluginCall, version_call
from labctl.core.names import did_you_mean
from labctl.errors import KernelError, LabError, MissingError
from labctl.kernel.firewall import backend, commands
from labctl.kernel.host import lab_state, paths
from labctl.kernel.host.child_process import Child, ChildTimeoutError
from labctl.kernel.namespaces.thread import CLONE_NEWNET, NetnsThread, unshare

DEFAULT_CNI_PATH = "/usr/lib/cni:/opt/cni/bin"  # the folder of Debian's package, and the usual one elsewhere
PLUGIN_TIMEOUT_S = 60.0  # seconds that one plugin may take
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
OWN_PLUGIN = "labctl-cni"
PACKAGE = "apt-get install containernetworking-plugins"

T = TypeVar("T")


class PluginError(KernelError):
    """A plugin failed. The message names the plugin, the command and the cause. `error` is the plugin's error object,
    None if it printed none; `exit_code` is that of its process, negative for a signal, 0 if it did not end itself."""

    def __init__(self, message: str, hint: str = "", error: Error | None = None, exit_code: int = 0) -> None:
        super().__init__(message, hint)
        self.error, self.exit_code = error, exit_code


def search_path(cni_path: str = "") -> str:
    """The search path for plugins: the scenario's `cni_path`, else CNI_PATH, else the usual folders."""
    folders = cni_path or os.environ.get("CNI_PATH", "") or DEFAULT_CNI_PATH
    return ":".join(os.path.abspath(folder) for folder in folders.split(":") if folder)


def find(plugin: str, path: str) -> Path | None:
    """A plugin's executable on a search path; None if it is in none of the folders."""
    files = (Path(folder) / plugin for folder in path.split(":") if folder)
    return next((file for file in files if file.is_file() and os.access(file, os.X_OK)), None)


def find_for_lab(plugin: str, path: str) -> Path | None:
    """A plugin's executable on a search path; labctl's own plugin also where labctl itself is installed."""
    return find(plugin, path) or (find(plugin, _own_folder()) if plugin == OWN_PLUGIN else None)


def _own_folder() -> str:
    """The folder of the programs that are installed together with labctl."""
    return os.path.dirname(sys.executable)


class Plugins:
    """Calls the plugins of one lab. It has a thread: use it as a context manager."""

    def __init__(self, lab: str) -> None:
        self.lab = lab
        self._thread = NetnsThread()
        self._in_empty_netns = False
        self._backend = backend.backend_of(lab)

    def __enter__(self) -> Plugins:
        return self

    def __exit__(self, *exc: object) -> None:
        self._thread.close()

    def require(self, config_list: NetworkConfigList, path: str) -> None:
        """Check that every plugin of a network exists and supports its cniVersion. This changes nothing in the lab.

        Raises MissingError, PluginError.
        """
        for plugin in config_list.types:
            if find_for_lab(plugin, path) is None:
                raise MissingError(
                    f"cannot find the CNI plugin {plugin!r} (searched {path})", _missing_plugin_hint(plugin, path)
                )
        for plugin in config_list.types:
            versions = read_versions(self.call(None, version_call(plugin, config_list.version, path)))
            if config_list.version not in versions:
                problem = f"the CNI plugin {plugin} does not support cniVersion {config_list.version}"
                raise MissingError(
                    f"{problem}, only {', '.join(versions)}", f"cniVersion: {versions[-1]}, or a newer plugin"
                )

    def call(self, node: str | None, call: PluginCall, previous: dict[str, object] | None = None) -> str:
        """Call a plugin in a node's namespace and return what it printed. None as the node means a temporary, empty
        namespace. Raises PluginError if the plugin fails, MissingError if it does not exist."""
        file = find_for_lab(call.plugin, call.environment["CNI_PATH"])
        if file is None:
            raise MissingError(f"cannot find the CNI plugin {call.plugin!r}", PACKAGE)
        call_text = f"{call.plugin} {call.command}" + _about(call, node)
        try:
            child = self._start(node, file, call)
        except OSError as error:
            raise PluginError(f"cannot run the CNI plugin {call_text}: {error.strerror}") from error
        with child:
            try:
                done = child.communicate(call.stdin_text(previous), PLUGIN_TIMEOUT_S, keep_group=True)
            except ChildTimeoutError:
                raise PluginError(f"the CNI plugin {call_text} did not finish within {PLUGIN_TIMEOUT_S:g} s") from None
        if done.returncode:
            raise _plugin_error(call_text, done.returncode, done.stdout, done.stderr)
        return done.stdout

    def run(self, machine: str, function: Callable[..., T], *args: Any) -> T:
        """Call a function in the namespace of a machine of the lab. Raises what it raises, and FileNotFoundError."""
        self._in_empty_netns = False
        return self._thread.run(paths.netns_path(self.lab, machine), function, *args)

    def _start(self, node: str | None, file: Path, call: PluginCall) -> Child:
        netns = None if node is None else paths.netns_path(self.lab, node)
        environment = {**call.environment, **self._tools()}
        return self._thread.run(netns, self._start_here, netns is None, file, environment)

    def _start_here(self, in_empty_netns: bool, file: Path, environment: dict[str, str]) -> Child:
        """Start the plugin, in the thread that enters namespaces. A temporary namespace is created here, once for
        consecutive calls."""
        if in_empty_netns and not self._in_empty_netns:
            unshare(CLONE_NEWNET)
        self._in_empty_netns = in_empty_netns
        return Child([file], environment=environment, folder="/", with_input=True)

    def _tools(self) -> dict[str, str]:
        folder, tools = lab_state.directory(self.lab), ""
        if folder.is_dir():
            lab_state.xtables_lock(self.lab)
            with suppress(MissingError, OSError):
                tools = f"{commands.make_tool_directory(folder / 'bin', self._backend)}:"
        return {"PATH": tools + DEFAULT_PATH, "XTABLES_LOCKFILE": str(folder / "xtables.lock")}


def _missing_plugin_hint(plugin: str, path: str) -> str:
    """The hint for a plugin that was not found."""
    if plugin in REFERENCE:
        return PACKAGE
    if plugin in MODELS:
        return f"model: {MODELS[plugin]} builds its network without it; or put it there, or set its folder: cni_path"
    here = (entry for folder in path.split(":") if os.path.isdir(folder) for entry in os.listdir(folder))
    known = sorted({*here, *REFERENCE})
    return did_you_mean(plugin, known, quote=repr) or "put it there, or set its folder: cni_path, or CNI_PATH"


def _about(call: PluginCall, node: str | None) -> str:
    pod = call.environment.get("CNI_CONTAINERID")
    attachment = f" of {pod}/{call.environment['CNI_IFNAME']}" if pod else ""
    return f"{attachment} on {node}" if node is not None else attachment


def _plugin_error(call_text: str, code: int, out: str, err: str) -> LabError:
    """The error of a plugin that failed: from its standard output, else the last line of words that it logged."""
    logged = [line.strip() for line in err.splitlines() if any(letter.isalnum() for letter in line)]
    try:
        error = read_error(out)
    except DecodeError:
        message = logged[-1] if logged else "it printed nothing"
        reason = f"exit code {code}" if code > 0 else f"ended by signal {-code}"
        return PluginError(f"the CNI plugin {call_text} failed ({reason}): {message}", exit_code=code)
    hints = [error.meaning] if error.code in MEANING else []
    hints += [f"it logged: {logged[-1]}"] if logged and error.msg not in logged[-1] else []
    text = " ".join(str(error).split())  # some plugins pass on the lines of a tool
    return PluginError(f"the CNI plugin {call_text} failed: {text}", "; ".join(hints), error, code)

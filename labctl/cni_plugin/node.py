"""The two namespaces of a CNI call: the one the plugin was started in, and the container's. Only one's own is touched.

Unlike a lab, neither namespace is ours. So nothing is removed because nobody asked for it: what is wanted is
added, what is one's own by its name is removed, and rules go into the chains of others one by one, by the host's
own `iptables` as it stands on PATH, which is also what the reference plugins use.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from labctl.cni.spec import FIRST_PLUGIN_CODE, IO_FAILURE, UNKNOWN_CONTAINER
from labctl.cni_plugin.config import Failure
from labctl.cni_plugin.iptables_rules import ContainerRules
from labctl.cni_plugin.wiring import HOST, POD
from labctl.core.diff import Change, diff
from labctl.core.resources import Interface, Link, Plan
from labctl.errors import KernelError, LabError
from labctl.kernel.apply.builder import Builder
from labctl.kernel.cni.plugins import DEFAULT_PATH
from labctl.kernel.host.syscalls import CLONE_NEWNET, unshare
from labctl.kernel.lab_kernel import KernelLab
from labctl.kernel.namespaces import device_state
from labctl.kernel.namespaces.thread import NetnsThread
from labctl.kernel.netlink.rtnetlink import Channel
from labctl.render.resources import change_lines

CARRIER_TIMEOUT_S = 2.5  # seconds until a new device has to work, as long as the reference plugin waits
MAX_ATTEMPTS = 3  # a device that somebody made meanwhile can have the index that was chosen: look again


class PluginNode:
    """The host's namespace and, if `netns` names one, the container's. A context manager."""

    def __init__(self, netns: str = "") -> None:
        self._kernel = KernelLab("cni.plugin")  # no lab has a dot in its name
        self._netns = netns
        self._namespaces: tuple[str, ...] = ()

    def __enter__(self) -> PluginNode:
        paths = {HOST: "/proc/self/ns/net", **({POD: self._netns} if self._netns else {})}
        try:
            for name, path in paths.items():
                self._open(name, path)
        except BaseException:
            self._kernel.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kernel.__exit__(kind, error, trace)

    def _open(self, name: str, path: str) -> None:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise Failure(UNKNOWN_CONTAINER, f"no network namespace {path}", error.strerror or "") from None
        self._kernel.namespaces.fds[name] = fd
        self._namespaces = (*self._namespaces, name)
        try:
            self._kernel.namespaces.channels[name] = self._kernel.thread.run(fd, Channel)
        except PermissionError as error:
            raise Failure(IO_FAILURE, f"cannot enter {path}: {error.strerror}", "a plugin is run by root") from None
        except OSError as error:
            raise Failure(UNKNOWN_CONTAINER, f"{path} is not a network namespace", error.strerror or "") from None

    def observe(self, plan: Plan = ()) -> Plan:
        """What is in both namespaces now; settings as far as `asking` has them."""
        return self._kernel.observe(plan or (Link(Interface(HOST, "lo"), "loopback"),), self._namespaces, chains=False)

    def differences(self, plan: Plan) -> tuple[Change, ...]:
        """What of a plan is not there, or not as planned; what else there is does not count."""
        return tuple(change for change in diff(plan, self.observe(plan)) if change.want is not None)

    def create(self, plan: Plan) -> None:
        """Add what is missing. Raises Failure naming the first thing that the kernel refused."""
        left: tuple[Change, ...] = ()
        for _ in range(MAX_ATTEMPTS):
            left = self.differences(plan)
            if not left:
                return
            try:
                self._kernel.thread.run(None, self._apply, left)
            except LabError as error:
                raise Failure(FIRST_PLUGIN_CODE, error.message, error.hint) from None
        lines = "; ".join(line for change in left for line in change_lines(change))
        raise Failure(FIRST_PLUGIN_CODE, "the kernel does not keep what was made", lines)

    def _apply(self, changes: tuple[Change, ...]) -> None:
        Builder(self._kernel.namespaces, lambda ns, own: None, self._kernel.snapshot).apply(changes)

    def remove(self, at: Interface) -> None:
        """Remove a device if it is there; a cable goes with both its ends."""
        links = [item for item in self.observe() if isinstance(item, Link) and item.at == at]
        try:
            if links:
                self._kernel.thread.run(None, self._apply, tuple(Change(None, link) for link in links))
        except KernelError as error:
            raise Failure(FIRST_PLUGIN_CODE, error.message, error.hint) from None


# ---- devices and rules of the host, by its own tools --------------------------------------------------


def set_alias(device: str, alias: str) -> None:
    """Give a device of the host an alias, which says whose it is."""
    _run(["ip", "link", "set", "dev", device, "alias", alias])


def wait_for_carrier(device: str) -> None:
    """Wait until a device of the host works: a bridge lets nothing through a port before it has its carrier.

    Raises Failure if it does not come, as the reference plugin `bridge` does.
    """
    until = time.monotonic() + CARRIER_TIMEOUT_S
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        while (wrong := device_state.device_problem(sock, device)) is not None:
            if time.monotonic() >= until:
                raise Failure(FIRST_PLUGIN_CODE, f"{device} {wrong}")
            time.sleep(0.005)


def veth_aliases() -> dict[str, str]:
    """Every cable end of the host that has an alias, with it."""
    links = json.loads(_run(["ip", "-j", "link", "show", "type", "veth"]) or "[]")
    return {link["ifname"]: link["ifalias"] for link in links if "ifalias" in link}


def add_rules(wanted: Iterable[ContainerRules]) -> None:
    """Add what is missing of these rules, each table in one stroke; what is there is not added twice."""
    for rules in wanted:
        chains, there = _read_table(rules.table)
        lines = [f":{name} - [0:0]" for name in (*rules.chains, *rules.shared_chains) if name not in chains]
        for verb, some in (("-I", rules.inserts), ("-A", rules.appends)):
            lines += [f"{verb} {name} {text}" for name, text in some if _rule_args(name, text) not in there]
        _restore(rules.table, lines)


def missing_rules(wanted: Iterable[ContainerRules]) -> list[str]:
    """The rules that are not there, as a person types them."""
    missing = []
    for rules in wanted:
        _, there = _read_table(rules.table)
        for name, text in (*rules.inserts, *rules.appends):
            if _rule_args(name, text) not in there:
                missing.append(f"iptables -t {rules.table} -A {name} {text}")
    return missing


def remove_rules(wanted: Iterable[ContainerRules]) -> None:
    """Remove a container's rules, and its own chains if then nothing leads there any more; chains that others use
    stay."""
    if missing_programs():
        return  # who cannot write rules has written none
    for rules in wanted:
        chains, there = _read_table(rules.table)
        tails = {_rule_args(name, text) for name, text in rules.appends if name not in rules.chains}
        drop, gone = {words for words in there if words in tails}, []
        for chain in chains.intersection(rules.chains):
            into = {words for words in there if words[0] != chain and chain in words}
            gone += [chain] if into <= drop else []
        lines = [f"-D {_line(words)}" for words in sorted(drop)]
        _restore(rules.table, [*lines, *(f"-F {name}" for name in gone), *(f"-X {name}" for name in gone)])


def table_rules(table: str) -> list[tuple[str, ...]]:
    """The rules of a table as words: the chain, then the rule. None where no rules can be written."""
    return [] if missing_programs() else sorted(_read_table(table)[1])


def unsupported_link_kinds(kinds: Iterable[str]) -> list[str]:
    """The kinds of devices that this kernel cannot make, tried in a namespace that is thrown away."""

    def attempt() -> list[str]:
        unshare(CLONE_NEWNET)
        words = [(kind, ["ip", "link", "add", f"{kind}9", "type", kind]) for kind in kinds]
        return [kind for kind, command in words if not _succeeds(command)]

    with NetnsThread() as inside:
        return inside.run(None, attempt)


def missing_programs() -> list[str]:
    """Which of the programs that write rules are not there."""
    return [name for name in ("iptables-save", "iptables-restore") if shutil.which(name, path=_path()) is None]


def delegate(file: Path, environment: dict[str, str], text: str) -> tuple[int, str, str]:
    """Call another plugin with the environment and configuration of this call: exit code, output, log."""
    done = subprocess.run([file], input=text, capture_output=True, text=True, env=environment, errors="replace")
    return done.returncode, done.stdout, done.stderr


def is_current_netns(netns: str) -> bool:
    """Whether a path leads to the namespace that we are in."""
    try:
        return os.path.samefile(netns, "/proc/self/ns/net")
    except OSError:
        return False


def has_ipv6() -> bool:
    """Whether this kernel has IPv6, and so its settings."""
    return os.path.isdir("/proc/sys/net/ipv6")


def _read_table(table: str) -> tuple[set[str], set[tuple[str, ...]]]:
    """The chains of a table, and its rules as words behind their chain's name."""
    lines = _run(["iptables-save", "-t", table]).splitlines()
    chains = {line[1:].split()[0] for line in lines if line.startswith(":")}
    return chains, {tuple(shlex.split(line)[1:]) for line in lines if line.startswith("-A ")}


def _rule_args(chain: str, text: str) -> tuple[str, ...]:
    return (chain, *shlex.split(text))


def _line(words: tuple[str, ...]) -> str:
    """Words as a line of iptables-restore, whose only quotes are double ones."""
    return " ".join('"' + word.replace('"', '\\"') + '"' if set(word) & set(' "') else word for word in words)


def _restore(table: str, lines: list[str]) -> None:
    if lines:
        _run(["iptables-restore", "--noflush", "-w"], "\n".join((f"*{table}", *lines, "COMMIT", "")))


def _path() -> str:
    """Where programs are looked for; a runtime may give no PATH at all."""
    return os.environ.get("PATH") or DEFAULT_PATH


def _succeeds(command: list[str]) -> bool:
    try:
        _run(command)
    except Failure:
        return False
    return True


def _run(command: list[str], text: str | None = None) -> str:
    try:
        environment = {**os.environ, "PATH": _path()}
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, env=environment)
    except OSError as error:
        raise Failure(IO_FAILURE, f"cannot run {command[0]}: {error.strerror}") from None
    if done.returncode:
        raise Failure(IO_FAILURE, f"{shlex.join(command[:4])} failed", done.stderr.strip())
    return done.stdout

"""The two namespaces of a CNI call: the one that the plugin was started in, and the container's.

Unlike the namespaces of a lab, both have other owners. So the plugin changes only its own objects: it adds what is
missing, and removes what belongs to it by its name. Rules go one by one into chains that others use as well, with the
`iptables` that is on PATH, as the reference plugins do.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from labctl.cni.spec import FIRST_PLUGIN_CODE, INVALID_ENVIRONMENT_VARIABLES, IO_FAILURE, UNKNOWN_CONTAINER
from labctl.cni_plugin import nft_rules
from labctl.cni_plugin.config import Failure
from labctl.cni_plugin.iptables_rules import ContainerRules
from labctl.cni_plugin.wiring import HOST, POD
from labctl.core.diff import Change, diff
from labctl.core.iptables import FirewallRule, rule
from labctl.core.iptables_save import parse_save
from labctl.core.resources import Interface, Link, Plan
from labctl.errors import KernelError, LabError
from labctl.kernel.apply.builder import Builder
from labctl.kernel.cni.plugins import DEFAULT_PATH
from labctl.kernel.host import child_process
from labctl.kernel.host.syscalls import CLONE_NEWNET, unshare
from labctl.kernel.lab_kernel import KernelLab
from labctl.kernel.namespaces import device_state
from labctl.kernel.namespaces.entry import OWN, is_host_namespace
from labctl.kernel.namespaces.thread import NetnsThread
from labctl.kernel.netlink.rtnetlink import Channel
from labctl.render.resources import change_lines

CARRIER_TIMEOUT_S = 2.5  # seconds until a new device must work; the reference plugin waits as long
DELEGATE_TIMEOUT_S = 50.0  # seconds that another plugin may take: less than a runtime waits for this one
CARRIER_INTERVAL_S = 0.005  # seconds between two looks at the device
TIMEOUT_S = 60.0  # seconds that a program may take
MAX_ATTEMPTS = 3  # another program may create a device with the chosen index meanwhile: then try again


class PluginNode:
    """The host's namespace and, if `netns` names one, the container's. A context manager."""

    def __init__(self, netns: str = "") -> None:
        self._kernel = KernelLab("cni.plugin")  # no lab has a dot in its name
        self._kernel.namespaces.own = HOST  # the runtime calls the plugin there
        self._netns = netns
        self._namespaces: tuple[str, ...] = ()

    def __enter__(self) -> PluginNode:
        try:
            self._open(HOST, OWN)
            if self._netns:
                self._open(POD, self._netns)
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
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe would wait for its writer
        except OSError as error:
            raise Failure(UNKNOWN_CONTAINER, f"no network namespace {path}", error.strerror or "") from None
        self._kernel.namespaces.fds[name] = fd
        self._namespaces = (*self._namespaces, name)
        try:
            if name == POD and is_host_namespace(fd):
                raise Failure(
                    INVALID_ENVIRONMENT_VARIABLES, f"CNI_NETNS {path} is the namespace that the plugin is called in"
                )
            # the thread is in the host's namespace until it enters another one
            self._kernel.namespaces.channels[name] = self._kernel.thread.run(None if name == HOST else fd, Channel)
        except PermissionError as error:
            raise Failure(IO_FAILURE, f"cannot enter {path}: {error.strerror}", "run the plugin as root") from None
        except OSError as error:
            raise Failure(UNKNOWN_CONTAINER, f"{path} is not a network namespace", error.strerror or "") from None

    def observe(self, plan: Plan = ()) -> Plan:
        """The objects of both namespaces now. Sysctls are read only if `plan` has them."""
        return self._kernel.observe(plan or (Link(Interface(HOST, "lo"), "loopback"),), self._namespaces, chains=False)

    def differences(self, plan: Plan) -> tuple[Change, ...]:
        """The objects of a plan that are missing or differ; other objects in the namespaces do not count."""
        return tuple(change for change in diff(plan, self.observe(plan)) if change.want is not None)

    def create(self, plan: Plan) -> None:
        """Add what is missing. Raises Failure, which names the first object that the kernel refused."""
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
        raise Failure(FIRST_PLUGIN_CODE, "the kernel does not keep what was created", lines)

    def _apply(self, changes: tuple[Change, ...]) -> None:
        Builder(self._kernel.namespaces, None, self._kernel.snapshot).apply(changes)

    def remove(self, at: Interface) -> None:
        """Remove a device if it exists; the other end of a veth pair is removed with it. Raises Failure."""
        links = [item for item in self.observe() if isinstance(item, Link) and item.at == at]
        try:
            if links:
                self._kernel.thread.run(None, self._apply, tuple(Change(None, link) for link in links))
        except KernelError as error:
            raise Failure(FIRST_PLUGIN_CODE, error.message, error.hint) from None


# ---- devices and rules of the host, with its tools -----------------------------------------------------


def set_alias(device: str, alias: str) -> None:
    """Give a device of the host an alias, which names its owner. Raises Failure."""
    _run(["ip", "link", "set", "dev", device, "alias", alias])


def wait_for_carrier(device: str) -> None:
    """Wait until a device of the host works: a bridge forwards nothing through a port without carrier.

    Raises Failure if the device does not get its carrier in time, as the reference plugin `bridge` does.
    """
    deadline = time.monotonic() + CARRIER_TIMEOUT_S
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        while (problem := device_state.device_problem(sock, device)) is not None:
            if time.monotonic() >= deadline:
                raise Failure(FIRST_PLUGIN_CODE, f"{device} {problem}")
            time.sleep(CARRIER_INTERVAL_S)


def veth_aliases() -> dict[str, str]:
    """The alias of each veth end of the host that has one, by device. Raises Failure."""
    links = json.loads(_run(["ip", "-j", "link", "show", "type", "veth"]) or "[]")
    return {link["ifname"]: link["ifalias"] for link in links if "ifalias" in link}


def add_rules(wanted: Iterable[ContainerRules]) -> None:
    """Add those of these rules that are missing, each table atomically. Raises Failure."""
    for rules in wanted:
        chains, existing = _read_table(rules.table)
        lines = [f":{name} - [0:0]" for name in (*rules.chains, *rules.shared_chains) if name not in chains]
        for verb, rule_texts in (("-I", rules.inserts), ("-A", rules.appends)):
            lines += [f"{verb} {name} {text}" for name, text in rule_texts if (name, rule(text)) not in existing]
        _restore(rules.table, lines)


def missing_rules(wanted: Iterable[ContainerRules]) -> list[str]:
    """The missing rules, as the commands that would add them. Raises Failure."""
    missing = []
    for rules in wanted:
        _, existing = _read_table(rules.table)
        for name, text in (*rules.inserts, *rules.appends):
            if (name, rule(text)) not in existing:
                missing.append(f"iptables -t {rules.table} -A {name} {text}")
    return missing


def remove_rules(wanted: Iterable[ContainerRules]) -> None:
    """Remove a container's rules, and its own chains if no rule jumps to them any more; chains that others use stay.

    Raises Failure.
    """
    if missing_programs():
        return  # without these programs the plugin has written no rules
    for rules in wanted:
        chains, existing = _existing_rules(rules.table)
        own_rules = {(name, rule(text)) for name, text in rules.appends if name not in rules.chains}
        dropped, removed = own_rules.intersection(existing), []
        for chain in chains.intersection(rules.chains):
            references = {(name, one) for name, one in existing if name != chain and one.target == chain}
            removed += [chain] if references <= dropped else []
        lines = [f"-D {name} {one}" for name, one in existing if (name, one) in dropped]
        _restore(rules.table, [*lines, *(f"-F {name}" for name in removed), *(f"-X {name}" for name in removed)])


def table_rules(table: str) -> tuple[tuple[str, FirewallRule], ...]:
    """The rules of a table, each with its chain's name. Empty if no rules can be written."""
    return () if missing_programs() else tuple(_existing_rules(table)[1])


def masquerade_table() -> str:
    """The listing of the table of nft for masquerading, with handles; "" without it, or without nft."""
    try:
        return _run(["nft", "-a", "list", "table", *nft_rules.TABLE.split()]) if has_nft() else ""
    except Failure:
        return ""


def run_nft(script: str) -> None:
    """Carry out commands of nft, all or none; nothing for an empty text. Raises Failure."""
    if script:
        _run(["nft", "-f", "-"], script)


def has_nft() -> bool:
    """Whether the program nft is installed."""
    return shutil.which("nft", path=_path()) is not None


def unsupported_link_kinds(kinds: Iterable[str]) -> list[str]:
    """The kinds of links that this kernel cannot create, tried in a temporary namespace."""

    def attempt() -> list[str]:
        unshare(CLONE_NEWNET)
        attempts = [(kind, ["ip", "link", "add", f"{kind}9", "type", kind]) for kind in kinds]
        return [kind for kind, command in attempts if not _succeeds(command)]

    with NetnsThread() as thread:
        return thread.run(None, attempt)


def missing_programs() -> list[str]:
    """Those of the programs that write rules that are not installed."""
    return [name for name in ("iptables-save", "iptables-restore") if shutil.which(name, path=_path()) is None]


def delegate(file: Path, environment: dict[str, str], text: str) -> tuple[int, str, str]:
    """Call another plugin with an environment and a configuration: exit code, output, log.

    Raises Failure for one that cannot be run, or that does not end within DELEGATE_TIMEOUT_S.
    """
    try:
        done = child_process.run(
            [file], text=text, environment=environment, timeout_s=DELEGATE_TIMEOUT_S, keep_group=True
        )
    except child_process.ChildTimeoutError:
        raise Failure(IO_FAILURE, f"{file.name} did not finish within {DELEGATE_TIMEOUT_S:g} s") from None
    except OSError as error:
        raise Failure(IO_FAILURE, f"cannot run {file}: {error.strerror}") from None
    return done.returncode, done.stdout, done.stderr


def has_ipv6() -> bool:
    """Whether this kernel has IPv6, and so its sysctls."""
    return os.path.isdir("/proc/sys/net/ipv6")


def _read_table(table: str) -> tuple[set[str], dict[tuple[str, FirewallRule], None]]:
    """The chains of a table, and its rules, each once and with its chain's name, in their order. With iptables-legacy,
    the table exists afterwards."""
    return _saved_table(_run(["iptables-save", "-t", table]), table)


def _existing_rules(table: str) -> tuple[set[str], dict[tuple[str, FirewallRule], None]]:
    """The same for a table that need not exist, and is not made."""
    return _saved_table(_run(["iptables-save"]), table)


def _saved_table(text: str, table: str) -> tuple[set[str], dict[tuple[str, FirewallRule], None]]:
    chains = [one.chain for one in parse_save(HOST, "ip", text) if one.chain.table == table]
    rules = dict.fromkeys((chain.name, one) for chain in chains for one in chain.rules)
    return {chain.name for chain in chains}, rules


def _restore(table: str, lines: list[str]) -> None:
    if lines:
        _run(["iptables-restore", "--noflush", "-w"], "\n".join((f"*{table}", *lines, "COMMIT", "")))


def _path() -> str:
    """The search path for programs; a runtime may give no PATH."""
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
        done = child_process.run(command, text=text, environment=environment, timeout_s=TIMEOUT_S)
    except child_process.ChildTimeoutError:
        raise Failure(IO_FAILURE, f"{shlex.join(command[:4])} did not finish within {TIMEOUT_S:g} s") from None
    except OSError as error:
        raise Failure(IO_FAILURE, f"cannot run {command[0]}: {error.strerror}") from None
    if done.returncode:
        raise Failure(IO_FAILURE, f"{shlex.join(command[:4])} failed", done.stderr.strip())
    return done.stdout

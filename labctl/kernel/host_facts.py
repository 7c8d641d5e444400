"""What `labctl doctor` looks at: what this machine can do for labs, tried in a child process with separate namespaces.

Nothing changes in the machine's own namespaces: there, files under /proc and the neighbour
tables are read. No module is loaded either,
because some modules create devices in every namespace. A feature for which the kernel would load a module is not tried.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

from labctl.core.iptables import BACKENDS, Backend
from labctl.core.neighbour_tables import NeighbourTables
from labctl.kernel.host import paths, ping_group_range
from labctl.kernel.host.definition_record import DEFINITION
from labctl.kernel.host.limits import starting
from labctl.kernel.host.syscalls import CLONE_NEWNET, CLONE_NEWNS, unshare
from labctl.kernel.netlink import neighbour_tables

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
TOOLS = ("ip", "iptables-legacy", "iptables-nft", "ebtables", "ping", "tcpdump")
RULE_MODULES = ("nft_counter", "xt_comment", "xt_MASQUERADE")  # modules that the tried firewall rules may need
LIBRARIES = ("pyroute2", "iptc", "yaml", "click")


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What was found. `features` has, for each feature that was tried, the reason why it does not work, or "".
    `unloaded_modules` has, for each feature that was not tried, the modules that are not loaded."""

    root: bool
    features: dict[str, str] = field(default_factory=dict)
    unloaded_modules: dict[str, tuple[str, ...]] = field(default_factory=dict)
    tools: dict[str, str] = field(default_factory=dict)  # the path of each tool, or ""
    libraries: dict[str, bool] = field(default_factory=dict)
    cni_plugin_dir: str = ""  # the folder of the CNI plugins, or ""
    iptables_variant: str = ""  # the variant that `iptables` is on this machine: nft, legacy, or ""
    legacy_tables: tuple[str, ...] = ()  # legacy tables in use in the machine's own namespace
    neighbour_tables: NeighbourTables = ()  # empty if they cannot be read
    open_file_limits: tuple[int, int] = (0, 0)  # soft and hard limit of open files
    labs: tuple[str, ...] = ()
    labs_without_record: tuple[str, ...] = ()  # labs with namespaces but without a record
    records_without_namespace: tuple[str, ...] = ()  # labs with a record but without namespaces
    command_prefix: str = "sudo labctl"  # what a user types before a verb
    only_root_user: bool = False  # only root exists here, no other user or group: a user namespace without newuidmap


def examine(link_kinds: Iterable[str] = ()) -> HostFacts:
    """Collect all facts; takes a fraction of a second. Features are tried only as root. `link_kinds` are further kinds
    of links to try."""
    root = os.geteuid() == 0
    tools = {tool: _find_tool(tool) for tool in TOOLS}
    running = paths.labs()
    recorded = _recorded_labs()
    problems, unloaded = _try_features(link_kinds) if root else ({}, {})
    return HostFacts(
        root=root,
        features=problems,
        unloaded_modules=unloaded,
        tools=tools,
        libraries={name: _importable(name) for name in LIBRARIES},
        cni_plugin_dir=_plugins(),
        iptables_variant=_variant(),
        legacy_tables=_tables(),
        neighbour_tables=neighbour_tables.read(),
        open_file_limits=resource.getrlimit(resource.RLIMIT_NOFILE),
        labs=tuple(running),
        labs_without_record=tuple(lab for lab in running if lab not in recorded),
        records_without_namespace=tuple(lab for lab in recorded if lab not in running),
        command_prefix=paths.command_prefix(),
        only_root_user=ping_group_range.last() == 0,
    )


def feature_attempts(link_kinds: Iterable[str] = ()) -> Iterator[tuple[str, tuple[str, ...], Callable[[], None]]]:
    """Each feature with the modules that it may need, and a function that uses it in the namespace of its thread and
    raises if that fails."""
    from labctl.kernel.firewall.backend import MODULES

    for kind in dict.fromkeys(("veth", "bridge", "vxlan", "macvlan", *link_kinds)):
        yield kind, tuple(_link_modules(kind)), partial(_link, kind)
    yield "packet capture", () if os.path.exists("/proc/thread-self/net/packet") else ("af_packet",), _capture
    for backend in BACKENDS:
        yield f"iptables {backend}", (*MODULES[backend], *RULE_MODULES), partial(_rules, backend)
    yield "bridged packets to iptables", (), _bridge_calls


def _link_modules(kind: str) -> Iterator[str]:
    """The modules that the kernel would look for to create a link of this kind, and the veth pair that it may need as
    its lower device."""
    from labctl.core.features import kernel_module
    from labctl.kernel.apply.features import is_known_link_kind, needs_lower_device

    for link_kind in (kind, *(["veth"] if needs_lower_device(kind) else [])):
        if not is_known_link_kind(link_kind):
            yield from (f"rtnl-link-{link_kind}", kernel_module(link_kind))


def _try_features(link_kinds: Iterable[str] = ()) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    """Try every feature in a child process with a separate network namespace. Returns the results of the features that
    were tried, and for the others the modules that are not loaded. The child sends them through a pipe."""
    import json

    read, write = os.pipe()
    with starting("a process that tries features"):
        pid = os.fork()
    if pid == 0:
        try:
            results = _in_child(link_kinds)
            os.write(write, json.dumps(results).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(pid, 0)
    results = json.loads(answer or b'{"network namespace": "the process that tried it died"}')
    problems = {name: problem for name, problem in results.items() if isinstance(problem, str)}
    return problems, {name: tuple(names) for name, names in results.items() if name not in problems}


def _in_child(link_kinds: Iterable[str]) -> dict[str, str | tuple[str, ...]]:
    from labctl.kernel.host.modules import loadable_modules

    results: dict[str, str | tuple[str, ...]] = {}
    try:
        unshare(CLONE_NEWNET | CLONE_NEWNS)
        results["network namespace"] = ""
    except OSError as error:
        return {"network namespace": error.strerror or "refused"}
    for name, modules, attempt in feature_attempts(link_kinds):
        if unloaded := loadable_modules(modules):
            results[name] = unloaded
            continue
        try:
            attempt()
            results[name] = ""
        except Exception as error:
            results[name] = str(error.args[-1] if error.args else error).strip() or type(error).__name__
    return results


def _link(kind: str) -> None:
    from labctl.kernel.apply.features import try_link

    if problem := try_link(kind):
        raise OSError(problem)


def _capture() -> None:
    import socket

    socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()


def _rules(backend: Backend) -> None:
    from labctl.kernel.firewall.backend import backend_problem

    if problem := backend_problem(backend):
        raise OSError(problem)


def _bridge_calls() -> None:
    with open("/proc/sys/net/bridge/bridge-nf-call-iptables") as file:
        file.read()


def _find_tool(tool: str) -> str:
    import shutil

    return shutil.which(tool, path=f"{os.environ.get('PATH', '')}:{DEFAULT_PATH}") or ""


def _importable(name: str) -> bool:
    from importlib.util import find_spec

    return find_spec(name) is not None


def _plugins() -> str:
    from labctl.kernel.cni.plugins import find, search_path

    found = find("bridge", search_path())
    return "" if found is None else str(found.parent)


def _variant() -> str:
    path = os.path.realpath(_find_tool("iptables") or "/")
    return next((variant for variant in ("nft", "legacy") if variant in os.path.basename(path)), "")


def _tables() -> tuple[str, ...]:
    try:
        with open("/proc/net/ip_tables_names") as file:
            return tuple(sorted(file.read().split()))
    except OSError:
        return ()


def _recorded_labs() -> tuple[str, ...]:
    try:
        with os.scandir(paths.state_dir()) as entries:
            return tuple(sorted(entry.name for entry in entries if os.path.lexists(f"{entry.path}/{DEFINITION}")))
    except OSError:
        return ()

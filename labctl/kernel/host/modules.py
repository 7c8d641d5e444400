"""Load the kernel modules that a plan's objects need, report it, and undo side effects.

The kernel would load most of them itself, silently, in the middle of the work. labctl loads them first, so that it can
report it: loading a module is the only change that labctl makes to the machine outside its labs. A module that cannot
be loaded is not an error here: the object that needs it is then refused, and that error names the fix.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache, partial
from pathlib import Path

from labctl.core.features import kernel_module, used_extensions
from labctl.core.iptables import Backend, FirewallRule
from labctl.core.nft_features import nft_features
from labctl.core.resources import Chain, Link, NftObject, Resource, Sysctl
from labctl.errors import KernelError
from labctl.kernel.host.work_record import WorkRecord

_TABLES = {"ip": ("ip_tables", "iptable_"), "ip6": ("ip6_tables", "ip6table_")}
NFT_MODULES = ("nf_tables", "nft_compat", "nft_chain_nat")
_EXTENSION_MODULES = {
    "tcp": "xt_tcpudp", "udp": "xt_tcpudp", "icmp": None, "icmp6": None, "DNAT": "xt_nat", "SNAT": "xt_nat",
    "REJECT": "ipt_REJECT", "rpfilter": "ipt_rpfilter", "ACCEPT": None, "DROP": None, "RETURN": None, "CONTINUE": None,
    # the targets MARK, CONNMARK and SET are in the modules of the matches
    "MARK": "xt_mark", "CONNMARK": "xt_connmark", "SET": "xt_set", "TTL": "xt_HL", "ttl": "xt_hl",
}  # fmt: skip
_EXTENSION_MODULES6 = {**_EXTENSION_MODULES, "REJECT": "ip6t_REJECT", "rpfilter": "ip6t_rpfilter"}
# without these parameters, the modules create devices in the machine's own namespace
_MODULE_PARAMETERS = {"dummy": "numdummies=0", "ifb": "numifbs=0"}
RECORD_KIND = "br_netfilter"  # the kind of entry in a record of work
MODPROBE_TIMEOUT_S = 60.0  # seconds that modprobe may take
BRIDGE_CALLS = tuple(f"net.bridge.bridge-nf-call-{name}" for name in ("iptables", "ip6tables", "arptables"))


def modules_for(plan: Iterable[Resource], backend: Backend = "legacy") -> tuple[str, ...]:
    """The modules for a plan's links and sysctls, then those for its firewall tables and rules, each once. Pure."""
    return tuple(dict.fromkeys(_needs(plan, backend)))


def missing_modules(wanted: Iterable[str], present: Iterable[str]) -> tuple[str, ...]:
    """The wanted modules that are not present. A dash counts as an underscore, as in the kernel's list. Pure."""
    loaded = {name.replace("-", "_") for name in present}
    return tuple(name for name in wanted if name.replace("-", "_") not in loaded)


def sysctls_to_reset(before: Iterable[str], after: Iterable[str]) -> tuple[str, ...]:
    """The sysctls to set to 0 after modules were loaded. Pure.

    From the moment br_netfilter is loaded, it sends bridged packets of every namespace through iptables. That would
    break bridges that do not belong to a lab.
    """
    return BRIDGE_CALLS if "br_netfilter" in set(after) - set(before) else ()


def ensure(
    plan: Iterable[Resource], notify: Callable[[str], None], host_root: Path = Path("/"), backend: Backend = "legacy"
) -> tuple[str, ...]:
    """Load the modules that the plan needs and the kernel does not have yet; returns those that were loaded.

    Call it from a thread in the machine's own namespace, before the work. `notify` gets a sentence on each change.
    `host_root` is the folder with /proc and /sys. Raises KernelError if a side effect cannot be undone.
    """
    if not (host_root / "proc/modules").exists():
        return ()  # a kernel without module support has everything built in
    return load(modules_for(plan, backend), notify, host_root)


def load(names: Iterable[str], notify: Callable[[str], None], host_root: Path = Path("/")) -> tuple[str, ...]:
    """As `ensure`, for these modules."""
    if not (host_root / "proc/modules").exists():
        return ()  # a kernel without module support has everything built in
    wanted = missing_modules(names, os.listdir(host_root / "sys/module"))
    if not wanted:
        return ()
    before = _loaded_modules(host_root)
    record = WorkRecord("the loading of br_netfilter") if "br_netfilter" in wanted else None
    if record is not None:
        record.note(RECORD_KIND)
    _modprobe(wanted)
    after = _loaded_modules(host_root)
    reset = sysctls_to_reset(before, after)
    if record is not None:
        record.finish(partial(_reset_sysctls, reset, host_root))
    new = tuple(sorted(after - before))
    if new:
        notify(f"loaded kernel modules {', '.join(new)}")
    if tunnels := [name for name in new if name in TUNNEL_MODULES]:
        notify(f"{', '.join(tunnels)} created a device, down, in every network namespace, also in this machine's own")
    if reset:
        notify(f"set {', '.join(reset)} to 0 on this machine: br_netfilter had set them to 1")
    return new


def reset_bridge_calls(host_root: Path = Path("/")) -> int:
    """Do what a killed `load` has not done after it loaded br_netfilter; returns how many settings were 1. Raises
    KernelError."""
    paths = {name: host_root / "proc/sys" / name.replace(".", "/") for name in BRIDGE_CALLS}
    left = [name for name, path in paths.items() if path.exists() and path.read_text().strip() != "0"]
    _reset_sysctls(left, host_root)
    return len(left)


def loadable_modules(names: Iterable[str], host_root: Path = Path("/")) -> tuple[str, ...]:
    """The modules that the kernel would load on a request for these names or aliases (`rtnl-link-vlan`), each once.

    This function loads nothing. If the files of the kernel's modules cannot be read, it cannot know which modules
    exist, and returns all names that are not loaded.
    """
    if not (host_root / "proc/modules").exists():
        return ()
    tree = host_root / "lib/modules" / os.uname().release
    available = _files(tree)
    wanted = [name.replace("-", "_") for name in names]
    found = [available[name] for name in wanted if name in available] if available is not None else wanted
    built_in = _built_in(tree)
    return tuple(
        name for name in dict.fromkeys(found) if name not in built_in and not (host_root / "sys/module" / name).exists()
    )


@cache
def _files(tree: Path) -> Mapping[str, str] | None:
    """The modules in a module tree, by name and alias; None if the tree cannot be read. As in the kernel's list, a dash
    becomes an underscore."""
    try:
        modules = [_module_name(line.partition(":")[0]) for line in (tree / "modules.dep").read_text().splitlines()]
        aliases = [line.split() for line in (tree / "modules.alias").read_text().splitlines()]
    except OSError:
        return None
    by_alias = {
        fields[1].replace("-", "_"): fields[2] for fields in aliases if fields[:1] == ["alias"] and len(fields) == 3
    }
    return {**by_alias, **{name: name for name in modules}}


@cache
def _built_in(tree: Path) -> frozenset[str]:
    try:
        return frozenset(map(_module_name, (tree / "modules.builtin").read_text().splitlines()))
    except OSError:
        return frozenset()


def _module_name(path: str) -> str:
    """The name of the module in a file such as `kernel/net/8021q/8021q.ko.xz`."""
    return path.rpartition("/")[2].partition(".ko")[0].replace("-", "_")


def _needs(plan: Iterable[Resource], backend: Backend) -> Iterator[str]:
    chains: list[Chain] = []
    native: list[NftObject] = []
    for item in plan:
        if isinstance(item, Chain):
            chains.append(item)
        elif isinstance(item, NftObject):
            native.append(item)
        elif isinstance(item, Link):
            if item.kind != "loopback":
                yield kernel_module(item.kind)
        elif isinstance(item, Sysctl) and item.name.startswith("net.bridge."):
            yield "br_netfilter"
    if native:
        yield NFT_MODULES[0]
        if any(one.header and one.header[0].startswith("type nat ") for one in native):
            yield NFT_MODULES[2]
        yield from map(kernel_module, nft_features(native))
    for family, table in dict.fromkeys([(one.family, one.table) for one in chains]):
        if family == "bridge" or backend == "nft":
            yield from NFT_MODULES
        else:
            core, prefix = _TABLES[family]
            yield from (core, prefix + table)
    for one, _, name in used_extensions(chains):
        if name == "physdev":
            yield "br_netfilter"
        module = (_EXTENSION_MODULES6 if one.family == "ip6" else _EXTENSION_MODULES).get(name, f"xt_{name}")
        if module is not None:
            yield module
    for one in chains:
        if one.family == "bridge":
            yield from (name for rule in one.rules for name in _bridge_extensions(rule))


def _bridge_extensions(rule: FirewallRule) -> Iterator[str]:
    for option in (option for part in rule.parts for option in part.options):
        if (kind := option.flag[2:].split("-")[0]) in ("arp", "ip", "ip6"):
            yield f"ebt_{kind}"
    if rule.target in ("arpreply", "snat", "dnat", "redirect", "mark"):
        yield f"ebt_{rule.target}"


def _loaded_modules(host_root: Path) -> set[str]:
    return {line.split(" ", 1)[0] for line in (host_root / "proc/modules").read_text().splitlines()}


def _modprobe(names: Sequence[str]) -> None:
    """Load all modules with one modprobe, except those that need a parameter. Built-in and unknown ones are ignored."""
    plain = [name for name in names if name not in _MODULE_PARAMETERS]
    for args in (["-a", *plain], *([name, _MODULE_PARAMETERS[name]] for name in names if name in _MODULE_PARAMETERS)):
        if len(args) > 1:
            _run(args)


def _run(args: Sequence[str]) -> None:
    import shutil

    from labctl.kernel.host import child_process

    program = shutil.which("modprobe", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if program is not None:
        with suppress(child_process.ChildTimeoutError, OSError):  # then the object that needs the module is refused
            child_process.run([program, "-q", *args], timeout_s=MODPROBE_TIMEOUT_S)


def _reset_sysctls(settings: Iterable[str], host_root: Path) -> None:
    for name in settings:
        if os.readlink("/proc/thread-self/ns/net") != os.readlink("/proc/self/ns/net"):
            raise KernelError(f"cannot set {name} to 0 on this machine: called from inside a namespace")
        path = host_root / "proc/sys" / name.replace(".", "/")
        try:
            path.write_text("0\n")
        except OSError as error:
            raise KernelError(
                f"cannot set {name} to 0 on this machine: {error.strerror}",
                f"br_netfilter was just loaded: run `sysctl -w {name}=0`",
                error.errno or 0,
            ) from error


__all__ = ["BRIDGE_CALLS", "ensure", "missing_modules", "modules_for", "sysctls_to_reset"]


# modules that create fallback devices in every new namespace, with the lowest indexes, and these devices
TUNNEL_MODULES = ("ipip", "sit", "ip_gre", "ip_vti", "ip6_vti", "ip6_tunnel", "ip6_gre")
FALLBACK_DEVICES = frozenset(
    {"tunl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "sit0", "ip6tnl0", "ip6gre0", "ip6gretap0"}
)

"""Kernel modules that a plan's objects need: loaded where they are modules, announced, side effects undone.

The kernel would load most of them by itself, silently, in the middle of the work. labctl asks for them first,
so that it can say what it did: loading a module is the one thing it does to the machine outside its labs.
What cannot be loaded is no error here: the object that needs it is the proof, and its refusal names the fix.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path

from labctl.core.features import module
from labctl.core.iptables import Backend, FirewallRule
from labctl.core.resources import Chain, Link, Resource, Sysctl
from labctl.errors import KernelError

_TABLES = {"ip": ("ip_tables", "iptable_"), "ip6": ("ip6_tables", "ip6table_")}
NFT = ("nf_tables", "nft_compat", "nft_chain_nat")
_NAMED = {
    "tcp": "xt_tcpudp", "udp": "xt_tcpudp", "icmp": None, "icmp6": None, "DNAT": "xt_nat", "SNAT": "xt_nat",
    "REJECT": "ipt_REJECT", "rpfilter": "ipt_rpfilter", "ACCEPT": None, "DROP": None, "RETURN": None, "CONTINUE": None,
    "MARK": "xt_mark", "CONNMARK": "xt_connmark", "SET": "xt_set", "TTL": "xt_HL", "ttl": "xt_hl",  # with their matches
}  # fmt: skip
_NAMED6 = {**_NAMED, "REJECT": "ip6t_REJECT", "rpfilter": "ip6t_rpfilter"}
_QUIET = {"dummy": "numdummies=0", "ifb": "numifbs=0"}  # these would put devices into the machine's own namespace
BRIDGE_CALLS = tuple(f"net.bridge.bridge-nf-call-{name}" for name in ("iptables", "ip6tables", "arptables"))


def modules_for(plan: Iterable[Resource], backend: Backend = "legacy") -> tuple[str, ...]:
    """The modules behind a plan's links, settings and firewall rules, each once, in the order of need. Pure."""
    items = tuple(plan)
    own = {(item.ns, item.name) for item in items if isinstance(item, Chain)}
    return tuple(dict.fromkeys(name for item in items for name in _needs(item, own, backend)))


def missing(wanted: Iterable[str], present: Iterable[str]) -> tuple[str, ...]:
    """Which of the wanted modules are not present; the kernel lists a dash as an underscore. Pure."""
    known = {name.replace("-", "_") for name in present}
    return tuple(name for name in wanted if name.replace("-", "_") not in known)


def undo(before: Iterable[str], after: Iterable[str]) -> tuple[str, ...]:
    """The settings to write 0 to, now that modules were loaded. Pure.

    br_netfilter sends bridged packets through iptables in every namespace from the moment it is loaded, and
    breaks bridges of others that never asked for it.
    """
    return BRIDGE_CALLS if "br_netfilter" in set(after) - set(before) else ()


def ensure(
    plan: Iterable[Resource], say: Callable[[str], None], machine: Path = Path("/"), backend: Backend = "legacy"
) -> tuple[str, ...]:
    """Load what the plan needs and the kernel does not have yet; returns what was loaded.

    Call it from a thread in the machine's own namespace, before the work. `machine` is where its /proc and
    /sys lie. Raises KernelError where a side effect cannot be undone.
    """
    return load(modules_for(plan, backend), say, machine)


def load(names: Iterable[str], say: Callable[[str], None], machine: Path = Path("/")) -> tuple[str, ...]:
    """Load those of these modules that the kernel does not have yet, in the same way; returns what was loaded."""
    if not (machine / "proc/modules").exists():
        return ()  # a kernel without modules: all that it can do is in it
    wanted = missing(names, os.listdir(machine / "sys/module"))
    if not wanted:
        return ()
    before = _loaded(machine)
    _modprobe(wanted)
    after = _loaded(machine)
    quiet = undo(before, after)
    _silence(quiet, machine)
    new = tuple(sorted(after - before))
    if new:
        say(f"loaded kernel modules {', '.join(new)}")
    if tunnels := [name for name in new if name in TUNNELS]:
        say(f"{', '.join(tunnels)} put a device, down, into every network namespace, this machine's own among them")
    if quiet:
        say(f"set {', '.join(quiet)} to 0 on this machine, which br_netfilter had turned on")
    return new


def dormant(names: Iterable[str], machine: Path = Path("/")) -> tuple[str, ...]:
    """The modules that the kernel would load when it is asked for these, by names or aliases (`rtnl-link-vlan`), each
    once. Where the files of its modules cannot be seen, all that are not loaded: nobody knows. Nothing is loaded."""
    if not (machine / "proc/modules").exists():
        return ()
    tree = machine / "lib/modules" / os.uname().release
    known = _files(tree)
    asked = [name.replace("-", "_") for name in names]
    found = [known[name] for name in asked if name in known] if known is not None else asked
    built_in = _built_in(tree)
    return tuple(
        name for name in dict.fromkeys(found) if name not in built_in and not (machine / "sys/module" / name).exists()
    )


@cache
def _files(tree: Path) -> Mapping[str, str] | None:
    """The modules in a tree by their names and aliases; None if it tells none. As the kernel does, a dash is told as
    an underscore."""
    try:
        own = [_named(line.partition(":")[0]) for line in (tree / "modules.dep").read_text().splitlines()]
        aliases = [line.split() for line in (tree / "modules.alias").read_text().splitlines()]
    except OSError:
        return None
    told = {words[1].replace("-", "_"): words[2] for words in aliases if words[:1] == ["alias"] and len(words) == 3}
    return {**told, **{name: name for name in own}}


@cache
def _built_in(tree: Path) -> frozenset[str]:
    try:
        return frozenset(map(_named, (tree / "modules.builtin").read_text().splitlines()))
    except OSError:
        return frozenset()


def _named(path: str) -> str:
    """A module's name by its file: `kernel/net/8021q/8021q.ko.xz`."""
    return path.rpartition("/")[2].partition(".ko")[0].replace("-", "_")


def _needs(item: Resource, own: set[tuple[str, str]], backend: Backend) -> Iterator[str]:
    if isinstance(item, Link):
        if item.kind != "loopback":
            yield module(item.kind)
    elif isinstance(item, Sysctl) and item.name.startswith("net.bridge."):
        yield "br_netfilter"
    elif isinstance(item, Chain):
        if item.family == "bridge":
            yield from NFT
            yield from (name for rule in item.rules for name in _bridge_extensions(rule))
            return
        core, table = _TABLES[item.family]
        yield from NFT if backend == "nft" else (core, table + item.table)
        for rule in item.rules:
            yield from _extensions(rule, item, own)


def _extensions(rule: FirewallRule, chain: Chain, own: set[tuple[str, str]]) -> Iterator[str]:
    named = _NAMED6 if chain.family == "ip6" else _NAMED
    words = rule.args
    matches = [word for flag, word in pairwise(words) if flag == "-m"]
    target = rule.target
    for name in (*matches, *([target] if target and (chain.ns, target) not in own else [])):
        if name == "physdev":
            yield "br_netfilter"
        extension = named.get(name, f"xt_{name}")
        if extension is not None:
            yield extension


def _bridge_extensions(rule: FirewallRule) -> Iterator[str]:
    for word in rule.args:
        if word.startswith("--") and (kind := word[2:].split("-")[0]) in ("arp", "ip", "ip6"):
            yield f"ebt_{kind}"
    if rule.target in ("arpreply", "snat", "dnat", "redirect", "mark"):
        yield f"ebt_{rule.target}"


def _loaded(machine: Path) -> set[str]:
    return {line.split(" ", 1)[0] for line in (machine / "proc/modules").read_text().splitlines()}


def _modprobe(names: Sequence[str]) -> None:
    """Ask for all of them at once, but those that need a word each; what is built in or unknown is passed over."""
    plain = [name for name in names if name not in _QUIET]
    for words in (["-a", *plain], *([name, _QUIET[name]] for name in names if name in _QUIET)):
        if len(words) > 1:
            _run(words)


def _run(words: Sequence[str]) -> None:
    import shutil
    import subprocess

    program = shutil.which("modprobe", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if program is not None:
        subprocess.run([program, "-q", *words], capture_output=True, check=False)


def _silence(settings: Iterable[str], machine: Path) -> None:
    for name in settings:
        if os.readlink("/proc/thread-self/ns/net") != os.readlink("/proc/self/ns/net"):
            raise KernelError(f"cannot set {name} to 0 on this machine: called from inside a namespace")
        path = machine / "proc/sys" / name.replace(".", "/")
        try:
            path.write_text("0\n")
        except OSError as error:
            raise KernelError(
                f"cannot set {name} to 0 on this machine: {error.strerror}",
                f"br_netfilter was just loaded: run `sysctl -w {name}=0`",
                error.errno or 0,
            ) from error


__all__ = ["BRIDGE_CALLS", "ensure", "missing", "modules_for", "undo"]


# modules that put devices of their own into every new namespace, at the first indexes
TUNNELS = ("ipip", "sit", "ip_gre", "ip_vti", "ip6_vti", "ip6_tunnel", "ip6_gre")

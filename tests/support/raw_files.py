"""Files of `model: raw` that Hypothesis draws over the whole language, and what must be true of each of them.

A drawn entry may be anything that the language has words for, sensible or not. What `validate` refuses is taken out, by
the line of the message, until it accepts the file. Then the lab must come up as the file says, or the kernel lacks a
feature that the error names.
"""

from __future__ import annotations

import errno
import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from labctl.core.resources import Sysctl
from labctl.errors import KernelError, LabError, MissingError, ScenarioError
from labctl.kernel.apply.features import missing_features
from labctl.kernel.host import paths
from labctl.lab import lifecycle
from labctl.lab.fallback import use_available_features
from labctl.render.resources import change_lines
from labctl.report.shell_script import plan_script
from labctl.scenario.definition import Definition, define_text
from labctl.scenario.raw_language import LINK_KINDS, LINK_MODES

MACHINES = ("a", "b", "c")
DEVICES = ("eth0", "eth1", "br0", "br1", "vx0", "mv0", "x-y_z.1", "lo", "fifteen-letters")
COMMON_KINDS = ("veth", "veth", "veth", "bridge", "bridge", "vxlan", "vxlan", "macvlan")
RARE_KINDS = ("dummy", "vlan", "ipvlan")  # kernels for virtual machines often lack these
V4 = (
    *("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.1.1", "10.0.1.254", "192.0.2.1", "192.0.2.2", "198.51.100.7"),
    *("0.0.0.0", "0.1.2.3", "10.0.0.0", "10.0.0.255", "127.0.0.1", "127.1.2.3", "169.254.1.1", "224.0.0.1"),
    *("239.1.1.1", "240.0.0.1", "255.255.255.255", "100.64.0.1", "172.16.5.4"),
)
V6 = (
    *("fd00::1", "fd00::2", "fd00:0:0:1::1", "2001:db8::1", "2001:db8::2", "fe80::1", "fe80::2", "2001:db8:0:1::9"),
    *("::", "::1", "ff02::1", "ff05::5", "::ffff:10.0.0.1", "64:ff9b::1", "fd00::", "2001:db8::ffff"),
)
MACS = (
    *("02:00:00:00:00:01", "02:00:00:00:00:02", "02:00:00:00:00:03", "fe:ff:ff:ff:ff:ff", "00:00:00:00:00:00"),
    *("00:00:00:00:00:01", "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "33:33:00:00:00:01", "AA:bb:cc:dd:ee:ff"),
)
MTUS = (68, 69, 575, 576, 1000, 1279, 1280, 1281, 1400, 1500, 1501, 9000, 65499, 65521, 65534, 65535)
TABLES = ("main", "local", "default", "1", "100", "252", "255", "256", "4294967295", "0")
NUMBERS = (0, 1, 2, 5, 255, 256, 1023, 1024, 65535, 65536, 2**24 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63)
SYSCTLS = (
    *("net.ipv4.ip_forward", "net.ipv4.conf.all.forwarding", "net.ipv4.conf.default.forwarding"),
    *("net.ipv6.conf.all.forwarding", "net.ipv6.conf.default.forwarding", "net.ipv6.conf.all.disable_ipv6"),
    *("net.ipv6.conf.default.disable_ipv6", "net.ipv6.conf.lo.disable_ipv6", "net.ipv4.conf.all.rp_filter"),
    *("net.ipv4.conf.default.rp_filter", "net.ipv4.conf.all.arp_ignore", "net.ipv4.conf.all.proxy_arp"),
    *("net.ipv4.ip_local_port_range", "net.ipv4.ping_group_range", "net.ipv4.tcp_rmem", "net.ipv4.tcp_syncookies"),
    *("net.ipv4.icmp_echo_ignore_all", "net.ipv4.ip_default_ttl", "net.ipv4.ip_nonlocal_bind", "net.core.somaxconn"),
    *("net.ipv4.fib_multipath_hash_policy", "net.ipv4.tcp_congestion_control", "net.ipv6.bindv6only"),
    *("net.ipv4.neigh.default.gc_thresh3", "net.ipv6.conf.all.accept_dad", "net.ipv6.conf.all.keep_addr_on_down"),
    *("net.netfilter.nf_conntrack_max", "net.ipv4.tcp_ecn", "net.ipv4.tcp_max_syn_backlog", "net.unix.max_dgram_qlen"),
)
DEVICE_SYSCTLS = (
    *("net.ipv4.conf.{}.forwarding", "net.ipv4.conf.{}.rp_filter", "net.ipv4.conf.{}.proxy_arp"),
    *("net.ipv4.conf.{}.route_localnet", "net.ipv4.conf.{}.arp_announce", "net.ipv4.conf.{}.send_redirects"),
    *("net.ipv6.conf.{}.disable_ipv6", "net.ipv6.conf.{}.accept_ra", "net.ipv6.conf.{}.forwarding"),
    *("net.ipv6.conf.{}.accept_dad", "net.ipv6.conf.{}.mtu", "net.ipv6.conf.{}.proxy_ndp"),
    *("net.ipv4.neigh.{}.base_reachable_time_ms", "net.ipv6.neigh.{}.retrans_time_ms", "net.ipv4.neigh.{}.proxy_delay"),
    *("net.ipv6.conf.{}.addr_gen_mode", "net.ipv6.conf.{}.autoconf", "net.ipv4.conf.{}.disable_policy"),
)
SYSCTL_VALUES = ("0", "1", "2", "00", "+1", "0x1", "-1", "1280", "1500", "1024 60999", "0\t2147483647", "cubic", "7")
FIREWALL = (
    *("-j ACCEPT", "-p tcp -m tcp --dport 80 -j DROP", "-i eth0 -j DROP", "-s 10.0.0.0/24 -j RETURN"),
    *("-d 192.0.2.1/32 -p icmp -j DROP", "! -s 10.0.0.0/8 -j ACCEPT"),
)
Entry = tuple[tuple[str, ...], Any]  # the sections down to an entry, and the entry


@dataclass(frozen=True, slots=True)
class RawFile:
    """The entries of one file."""

    machines: tuple[str, ...]
    entries: tuple[Entry, ...]

    def lines(self) -> Iterator[tuple[str, list[Entry]]]:
        """The lines of the file, each with the entries that it stands for: an entry has one line, and a heading stands
        for all entries below it."""
        yield "model: raw", []
        yield "name: drawn", []
        yield f"namespaces: {json.dumps(self.machines)}", []
        tree: dict[str, Any] = {}
        for entry in self.entries:
            at = tree
            for section in entry[0][:-1]:
                at = at.setdefault(section, {})
            at.setdefault(entry[0][-1], []).append(entry)
        yield from _tree_lines(tree, 0)

    def text(self) -> str:
        """The file itself."""
        return "\n".join(line for line, _ in self.lines()) + "\n"

    def without(self, numbers: set[int]) -> RawFile:
        """The file without the entries in these lines (from 1)."""
        gone = {id(entry) for number, (_, those) in enumerate(self.lines(), 1) if number in numbers for entry in those}
        return RawFile(self.machines, tuple(entry for entry in self.entries if id(entry) not in gone))


def _tree_lines(tree: dict[str, Any], depth: int) -> Iterator[tuple[str, list[Entry]]]:
    for key, below in tree.items():
        head = f"{'  ' * depth}{json.dumps(key)}:"
        if isinstance(below, dict):
            lines = list(_tree_lines(below, depth + 1))
            yield head, [entry for text, those in lines if not text.endswith(":") for entry in those]
            yield from lines
        elif isinstance(below[0][1], tuple):  # a value of a mapping
            yield f"{head} {json.dumps(below[0][1][0])}", below
        else:
            yield head, below
            yield from ((f"{'  ' * depth}- {json.dumps(entry[1])}", [entry]) for entry in below)


def accepted(file: RawFile, refusals: Counter[str] | None = None) -> tuple[RawFile, Definition]:
    """The file without what `validate` refuses, which `refusals` counts."""
    for _ in range(20):
        try:
            return file, define_text("drawn.yaml", file.text())
        except ScenarioError as error:
            refused = error
        if refusals is not None:
            refusals.update(problem.what for problem in refused.problems)
        smaller = file.without({problem.line for problem in refused.problems})
        assert len(smaller.entries) < len(file.entries), f"no entry is at the place of: {refused}\n{file.text()}"
        file = smaller
    raise AssertionError(f"refused again and again:\n{file.text()}")


def broken_promise(definition: Definition) -> str | None:
    """Build the lab and remove it. Returns how it is not as the file says, or None."""
    try:
        lifecycle.up(definition)
        lab = lifecycle.load_compiled_lab(definition.name)
        if changes := lifecycle.status(definition.name, lab):
            return "drift: " + "; ".join(line for change in changes for line in change_lines(change))
        if changes := lifecycle.up(definition).changes:
            return "repaired: " + "; ".join(line for change in changes for line in change_lines(change))
    except MissingError as error:
        return None if "lacks" in error.message else f"missing: {error.message}"
    except LabError as error:
        return None if _depends_on_the_machine(error) else f"refused: {error}"
    finally:
        lifecycle.down(definition.name)
    return None


def broken_by_hand(definition: Definition) -> str | None:
    """Run the lab's shell plan instead of labctl. Returns how the lab differs then, or None."""
    try:
        definition, lab = use_available_features(definition, lambda _, wanted: missing_features(wanted))
    except MissingError:
        return None
    lines = plan_script(lab, lambda node: paths.netns_name(lab.name, node), str(paths.state_dir()))
    try:
        done = subprocess.run(["sh"], input="\n".join(lines), text=True, capture_output=True)
        if done.returncode:
            return None if "sysctl: " in done.stderr else f"by hand: {done.stderr.strip()}"
        # a value that the kernel rounds is refused by `up`, and not by sysctl
        changes = [change for change in lifecycle.status(lab.name, lab) if not isinstance(change.want, Sysctl)]
        return "by hand: " + "; ".join(map(repr, changes)) if changes else None
    finally:
        lifecycle.down(definition.name)


def _depends_on_the_machine(error: LabError) -> bool:
    """Whether no file shows this: which values a setting takes, or whether the table of all neighbours has space."""
    is_full = isinstance(error, KernelError) and error.errno == errno.ENOBUFS
    return error.message.startswith("cannot set sysctl") or is_full


# -- what is drawn ----------------------------------------------------------------------------------------


def _some(draw: st.DrawFn, chance: int = 2) -> bool:
    """True once in `chance` times."""
    return draw(st.integers(1, chance)) == 1


def _one(draw: st.DrawFn, values: Any) -> Any:
    return draw(st.sampled_from(tuple(values)))


@dataclass(slots=True)
class _Drawn:
    """The devices that were drawn so far, by machine and name: the kind of each, and whether it has a master."""

    machines: tuple[str, ...]
    kinds: dict[tuple[str, str], str]
    ports: set[tuple[str, str]] = field(default_factory=set)

    def point(self, draw: st.DrawFn, *kinds: str, chance: int = 4) -> tuple[str, str]:
        """A device: mostly one of these kinds (and not lo), once in `chance` times any."""
        fitting = [at for at, kind in self.kinds.items() if (kind in kinds if kinds else kind != "loopback")]
        return _one(draw, self.kinds if not fitting or _some(draw, chance) else fitting)  # type: ignore[no-any-return]


@st.composite
def raw_files(draw: st.DrawFn, size: int = 6) -> RawFile:
    """A file with up to three machines, up to `size` links, and as many entries in each section."""
    machines = MACHINES[: draw(st.integers(1, 3))]
    drawn = _Drawn(machines, {(machine, "lo"): "loopback" for machine in machines})
    entries: list[Entry] = [
        (("links",), _link(draw, drawn)) for _ in range(draw(st.integers(0 if _some(draw, 8) else 3, size)))
    ]
    for section in (_addresses, _sysctls, _neighbours, _fdb, _routes, _rules, _firewall):
        for _ in range(draw(st.integers(0, 2 * size if section is not _firewall else 1))):
            entries.append(section(draw, drawn))
    by_key = {path if isinstance(value, tuple) else (path, json.dumps(value)): (path, value) for path, value in entries}
    return RawFile(machines, tuple(by_key.values()))


def _link(draw: st.DrawFn, drawn: _Drawn) -> dict[str, Any]:
    kind = _one(draw, RARE_KINDS if _some(draw, 20) else COMMON_KINDS)
    ends = []
    for _ in range(2 if kind == "veth" else 1):
        free = [(m, d) for m in drawn.machines for d in DEVICES if (m, d) not in drawn.kinds]
        at = _one(draw, drawn.kinds if _some(draw, 40) or not free else free)
        drawn.kinds[at] = kind
        ends.append(at)
    names = ["/".join(at) for at in ends]
    if kind == "veth":
        return {
            "veth": [
                {"at": name, **_settings(draw, drawn, at)} if _some(draw) else name
                for name, at in zip(names, ends, strict=True)
            ]
        }
    link: dict[str, Any] = {kind: names[0], **_settings(draw, drawn, ends[0])}
    for option in LINK_KINDS[kind]:
        if (option in ("dev", "id") and kind != "vxlan") or option == "id" or _some(draw, 4):
            link[option] = _option(draw, kind, option, drawn, ends[0][0])
    if _some(draw, 8):
        link["link_netns"] = _one(draw, drawn.machines)
    return link


def _settings(draw: st.DrawFn, drawn: _Drawn, at: tuple[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if _some(draw, 4):
        found["mac"] = _mac(draw)
    if _some(draw, 4):
        found["mtu"] = _one(draw, MTUS) if _some(draw) else draw(st.integers(60, 65600))
    bridges = [dev for (machine, dev), kind in drawn.kinds.items() if (machine, kind) == (at[0], "bridge")]
    if (_some(draw, 2 if bridges else 10) and drawn.kinds[at] != "bridge") or _some(draw, 30):
        found["master"] = _one(draw, bridges or DEVICES)
        drawn.ports.add(at)
    for name, chance in (("up", 6), ("promisc", 8), ("hairpin", 8), ("isolated", 8), ("autoconf", 5)):
        if _some(draw, chance if "master" in found or name not in ("hairpin", "isolated") else 50):
            found[name] = draw(st.booleans())
    return found


def _mac(draw: st.DrawFn) -> str:
    return str(_one(draw, MACS if _some(draw, 5) else MACS[:4]))


def _option(draw: st.DrawFn, kind: str, option: str, drawn: _Drawn, machine: str) -> Any:
    match option:
        case "dev":
            near = [dev for (ns, dev), kind in drawn.kinds.items() if ns == machine and kind in ("veth", "bridge")]
            return _one(draw, DEVICES if not near or _some(draw, 6) else near)
        case "local" | "remote":
            return _one(draw, (*V4, *V6) if _some(draw, 4) else ("192.0.2.1", "192.0.2.2", "2001:db8::1", "fe80::1"))
        case "group":
            return _one(draw, (*V4, *V6) if _some(draw, 4) else ("239.1.1.1", "224.0.0.1", "ff05::5"))
        case "mode":
            modes = [mode for some in LINK_MODES.values() for mode in some]
            return _one(draw, modes if _some(draw, 6) else LINK_MODES[kind])
        case "id" if kind == "vxlan":
            return _one(draw, (0, 1, 5, 5, 5, 42, 2**24 - 1, *([2**24] if _some(draw, 8) else [])))
        case "id":
            return _one(draw, (0, 1, 5, 4094, 4095))
        case "dstport":
            return _one(draw, (1, 4789, 4789, 8472, 65535, *([65536] if _some(draw, 8) else [])))
        case "learning" | "proxy" | "rsc" | "l2miss" | "l3miss":
            return draw(st.booleans())
        case "stp_state" | "vlan_filtering" | "mcast_snooping":
            return _one(draw, (0, 1))
        case "vlan_default_pvid":
            return _one(draw, (0, 1, 5, 4094, 4095))
        case "ttl":
            return _one(draw, (0, 1, 64, 255, *([256] if _some(draw, 8) else [])))
    return _one(draw, NUMBERS if _some(draw, 4) else NUMBERS[1:9])


def _address(draw: st.DrawFn, version: int | None = None) -> str:
    pool = {4: V4, 6: V6, None: (*V4, *V6)}[version]
    if _some(draw, 6):
        return str(draw(st.ip_addresses(v=version) if version else st.ip_addresses()))
    return str(_one(draw, pool[:8] if _some(draw) else pool))


def _length(draw: st.DrawFn, ip: str) -> int:
    lengths = (0, 8, 10, 16, 63, 64, 96, 112, 126, 127, 128) if ":" in ip else (0, 1, 4, 8, 16, 23, 24, 30, 31, 32)
    usual = (64, 128) if ":" in ip else (24, 24, 32)
    return int(_one(draw, lengths if _some(draw, 3) else usual))


def _prefix(draw: st.DrawFn) -> str:
    import ipaddress

    if _some(draw, 5):
        return str(_one(draw, ("default", "0.0.0.0/0", "::/0", "all")))
    ip = _address(draw)
    if _some(draw, 6):
        return f"{ip}/{_length(draw, ip)}"
    return str(ipaddress.ip_network(f"{ip}/{_length(draw, ip)}", strict=False))


def _addresses(draw: st.DrawFn, drawn: _Drawn) -> Entry:
    ip = _address(draw)
    return ("addresses", "/".join(drawn.point(draw))), f"{ip}/{_length(draw, ip)}"


def _sysctls(draw: st.DrawFn, drawn: _Drawn) -> Entry:
    machine, dev = drawn.point(draw)
    name = _one(draw, SYSCTLS if _some(draw) else DEVICE_SYSCTLS).format(dev.replace(".", "/"))
    return ("sysctls", machine, name), (_one(draw, ("0", "1") if _some(draw) else SYSCTL_VALUES),)


def _neighbours(draw: st.DrawFn, drawn: _Drawn) -> Entry:
    machine, dev = drawn.point(draw)
    ip = _address(draw)
    if _some(draw, 5):
        return ("neighbours", machine), f"proxy {ip} dev {dev}"
    state = (
        f" nud {_one(draw, ('permanent', 'noarp', 'stale', 'reachable', 'probe', 'delay'))}" if _some(draw, 3) else ""
    )
    return ("neighbours", machine), f"{ip} lladdr {_mac(draw)} dev {dev}{state}"


def _fdb(draw: st.DrawFn, drawn: _Drawn) -> Entry:
    tunnel = _some(draw)
    machine, dev = drawn.point(draw, "vxlan") if tunnel or not drawn.ports else _one(draw, sorted(drawn.ports))
    dst = f" dst {_address(draw)}" if tunnel != _some(draw, 8) else ""
    return ("fdb", machine), f"{_mac(draw)} dev {dev}{dst}{' via eth0' if dst and _some(draw, 6) else ''}"


def _routes(draw: st.DrawFn, drawn: _Drawn) -> Entry:
    machine, dev = drawn.point(draw)
    kind = _one(draw, ("unicast", "blackhole", "unreachable", "prohibit", "throw")) if _some(draw, 4) else ""
    prefix = _prefix(draw)
    six = "-6" if prefix in ("default", "all") and _some(draw, 3) else ""
    version = 6 if ":" in prefix or six else 4
    args = [*([six] if six else []), *([kind] if kind else []), prefix.replace("all", "default")]
    if not kind or _some(draw, 5):
        shape = draw(st.integers(0, 3))
        args += ["via", _address(draw, version)] if shape in (0, 2) else []
        args += ["dev", dev] if shape != 0 else []
        args += ["onlink"] if _some(draw, 6) else []
        args += ["encap ip id 5 dst 192.0.2.2"] if _some(draw, 20) else []
        args += ["mtu", str(_one(draw, MTUS))] if _some(draw, 8) else []
    if not kind and _some(draw, 6):
        args = [*([six] if six else []), prefix.replace("all", "default")]
    hops = []
    for _ in range(draw(st.integers(1, 3)) if len(args) == 1 + bool(six) and not kind else 0):
        hops += ["nexthop", *(["via", _one(draw, (V4 if version == 4 else V6)[:4])] if not _some(draw, 6) else [])]
        hops += ["dev", dev] if _some(draw) else []
        hops += ["weight", str(_one(draw, (1, 2, 256)))] if _some(draw) else []
        hops += ["onlink"] if _some(draw, 3) else []
    args += ["src", _address(draw, version)] if _some(draw, 5) else []
    args += ["table", _one(draw, TABLES)] if _some(draw, 4) else []
    args += ["metric", str(_one(draw, NUMBERS))] if _some(draw, 4) else []
    args += ["scope", _one(draw, ("global", "site", "link", "host", "nowhere"))] if _some(draw, 8) else []
    args += (
        ["proto", str(_one(draw, ("kernel", "boot", "static", "bird", 2, 3, 4, 5, 186, 255)))] if _some(draw, 8) else []
    )
    return ("routes", machine), " ".join([*args, *hops])


def _rules(draw: st.DrawFn, drawn: _Drawn) -> Entry:
    machine, dev = drawn.point(draw)
    args = ["-6"] if _some(draw, 4) else []
    args += ["not"] if _some(draw, 6) else []
    args += ["from", _prefix(draw)] if _some(draw) else []
    args += ["to", _prefix(draw)] if _some(draw, 3) else []
    args += ["iif", _one(draw, (dev, "lo", "gone0"))] if _some(draw, 5) else []
    args += ["oif", _one(draw, (dev, "lo", "gone0"))] if _some(draw, 5) else []
    if _some(draw, 4):
        args += [
            "fwmark",
            f"{_one(draw, (0, 1, '0x1', '0xff', 2**32 - 1))}{_one(draw, ('', '/0', '/0xff', '/0xffffffff'))}",
        ]
    action = ("blackhole", "unreachable", "prohibit")
    args += [_one(draw, action)] if _some(draw, 5) else ["lookup", _one(draw, TABLES)]
    return ("rules", machine), " ".join(
        [*args, "pref", str(_one(draw, (1, 5, 5, 100, 32765, 0) if _some(draw, 5) else (5, 100, 32765)))]
    )


def _firewall(draw: st.DrawFn, drawn: _Drawn) -> Entry:
    machine, _ = drawn.point(draw)
    chain = _one(draw, ("INPUT", "FORWARD"))
    return (_one(draw, ("firewall", "firewall", "firewall6")), machine, "filter", chain), _one(draw, FIREWALL)


def sections_of(file: RawFile) -> Counter[str]:
    """How many entries each section of a file has; links are counted by kind."""
    return Counter(_section_of(path[0], entry) for path, entry in file.entries)


def _section_of(section: str, entry: Any) -> str:
    if section == "links":
        return next(iter(entry))
    return "multipath routes" if section == "routes" and "nexthop" in entry else section

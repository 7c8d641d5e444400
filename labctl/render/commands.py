"""The equivalent commands that create kernel objects: what `-v` prints, and the shell script of a plan.

Each command runs inside its object's namespace. Other namespaces that it names (of a veth's peer) go through
`netns_name`, which converts a short name to the name that `ip netns` uses.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TypeAlias

from labctl.cni.conflist import parse_config_list
from labctl.cni_runtime.invocation import Container, calls, container_of
from labctl.core.features import DEFAULT_LINK_OPTIONS
from labctl.core.iptables import BUILTIN, CHAIN_TOOLS, Backend, FirewallRule, accounting_objects
from labctl.core.kernel_defaults import replaces_local_rule
from labctl.core.nft_ruleset import WITH_ELEMENTS, input_text, numeric_header
from labctl.core.resources import (
    Address,
    Attachment,
    Chain,
    Fdb,
    Interface,
    IpSet,
    Link,
    Neighbour,
    Netns,
    NftObject,
    Process,
    Resource,
    Route,
    Rule,
    Sysctl,
)
from labctl.render.plan_json import process_tag
from labctl.render.resources import (
    link_option_args,
    prefix_text,
    resource_values,
    route_text,
    rule_text,
    txqueuelen_args,
)

_TOOL = CHAIN_TOOLS
NetnsNamer = Callable[[str], str]
STATE_DIR = "/run/labctl"  # the directory of the labs' files, unless LABCTL_STATE_DIR is set


def commands(
    resource: Resource,
    *,
    peer_exists: bool = False,
    netns_name: NetnsNamer = str,
    state_dir: str = STATE_DIR,
    firewall: Backend = "legacy",
) -> tuple[str, ...]:
    """The commands that create one object; they run inside its namespace.

    `peer_exists` is true for the second end of a veth pair, which exists since the first end was created.
    A chain's rules may jump to chains that come later; `script` has them in an order that works. An attachment
    is created from inside its node, with the iptables of the back end `firewall` on its PATH, and its files are below
    the directory `state_dir`.
    """
    if isinstance(resource, Netns):
        return (f"ip netns add {netns_name(resource.name)}",)
    if isinstance(resource, Link):
        return tuple(_link(resource, peer_exists, netns_name))
    if isinstance(resource, Sysctl):
        return (f"sysctl -qw {shlex.quote(f'{resource.name}={resource.value}')}",)
    if isinstance(resource, Address):
        return tuple(_address(resource))
    if isinstance(resource, Neighbour):
        verb = "add" if resource.proxy else "replace"
        return (f"{_ip(resource.ip.version)} neigh {verb} {resource_values(resource)}",)
    if isinstance(resource, Fdb):
        via = "" if resource.via is None else f" via {resource.via}"
        kind = "master static" if resource.dst is None else f"dst {resource.dst}{via} self permanent"
        return (f"bridge fdb append {resource.mac} dev {resource.at.dev} {kind}",)
    if isinstance(resource, Route):
        return (f"{_ip(resource.dst.version)} route add {route_text(resource)}",)
    if isinstance(resource, Rule):
        first = (f"{_ip(resource.family)} rule del pref 0",) if replaces_local_rule(resource) else ()
        return (f"{_ip(resource.family)} rule add {rule_text(resource)}", *first)
    if isinstance(resource, IpSet):
        name = shlex.quote(resource.name)  # the names of Weave's IP sets have special characters
        add = (f"ipset add {name} {member}" for member in resource.members)
        family = "" if resource.family == "inet" else f" family {resource.family}"
        return (f"ipset create {name} {resource.kind}{family}", *add)
    if isinstance(resource, Attachment):
        return (f"sh -c {shlex.quote(_cni_add_script(resource, netns_name, state_dir, firewall))}",)
    if isinstance(resource, Process):
        return (f"python3 -m labctl.kernel.processes {shlex.quote(process_tag(resource, netns_name(resource.ns)))}",)
    if isinstance(resource, NftObject):
        return tuple(_nft(resource))
    return (*_create_chain(resource), *_append_rules(resource))


def _nft(item: NftObject) -> Iterator[str]:
    """An object of nft, then each of its rules, or its elements."""
    target = f"{item.table} {item.name}".rstrip()
    body = " ".join(line if line.endswith(";") else f"{line};" for line in numeric_header(item))
    yield f"nft add {item.kind} {target}" + (f" {shlex.quote(f'{{ {body} }}')}" if body else "")
    if item.kind in WITH_ELEMENTS and item.entries:
        yield f"nft add element {target} {shlex.quote('{ ' + ', '.join(item.entries) + ' }')}"
    elif item.kind == "chain":
        yield from (f"nft add rule {target} {shlex.quote(rule)}" for rule in item.entries)


def element_commands(want: NftObject, have: NftObject) -> tuple[str, ...]:
    """The commands that turn one object of nft into another with the same header: a chain is filled again, of a set or
    map only the elements that differ are written. Empty if no such command exists."""
    if want.header != have.header or want.kind not in ("chain", *WITH_ELEMENTS):
        return ()
    target = f"{want.table} {want.name}"
    if want.kind == "chain":
        return (f"nft flush chain {target}", *(f"nft add rule {target} {shlex.quote(one)}" for one in want.entries))
    parts = (("delete", have, want), ("add", want, have))
    return tuple(
        f"nft {verb} element {target} {shlex.quote('{ ' + ', '.join(elements) + ' }')}"
        for verb, one, other in parts
        if (elements := [each for each in one.entries if each not in other.entries])
    )


def script(
    plan: Iterable[Resource], netns_name: NetnsNamer = str, state_dir: str = STATE_DIR, firewall: Backend = "legacy"
) -> Iterator[tuple[str | None, str]]:
    """Every command of a plan in an order that works, each with the namespace that it runs in. Rules are added by
    `iptables`, which stands for the variant of the back end (`with_backend`).

    None instead of a namespace is the machine itself, where only `ip netns add` runs.
    """
    return ((ns, command) for ns, command, _, _ in script_steps(plan, netns_name, state_dir, firewall))


Step: TypeAlias = tuple[str | None, str, Resource | None, FirewallRule | None]


def script_steps(
    plan: Iterable[Resource], netns_name: NetnsNamer = str, state_dir: str = STATE_DIR, firewall: Backend = "legacy"
) -> Iterator[Step]:
    """The commands of `script`, each with the object that it is for, and with the rule if it adds one."""
    created_peers: set[Interface] = set()
    plan = tuple(plan)
    chains = [item for item in plan if isinstance(item, Chain)]
    processes = [item for item in plan if isinstance(item, Process)]
    attachments = [item for item in plan if isinstance(item, Attachment)]
    for item in plan:
        if isinstance(item, (Chain, NftObject, Attachment, Process)):
            continue
        second = isinstance(item, Link) and item.at in created_peers
        if isinstance(item, Link) and item.peer is not None:
            created_peers.add(item.peer)
        for command in commands(item, peer_exists=second, netns_name=netns_name):
            yield (None if isinstance(item, Netns) else item.ns), command, item, None
    native = [item for item in plan if isinstance(item, NftObject)]
    for ns in dict.fromkeys(item.ns for item in native):  # before iptables, as `up` does: the later chain runs first
        inside = [item for item in native if item.ns == ns]
        yield ns, f"nft -f - <<'END'\n{input_text(inside)}END", inside[0], None
    for ns in dict.fromkeys(chain.ns for chain in chains):
        here = (rule for chain in chains if chain.ns == ns for rule in chain.rules)
        for name in accounting_objects(here):
            yield ns, f"nfacct add {shlex.quote(name)}", None, None
    for chain in chains:
        for command in _create_chain(chain):
            yield chain.ns, command, chain, None
    for chain in chains:
        for rule, command in zip(chain.rules, _append_rules(chain), strict=True):
            yield chain.ns, command, chain, rule
    for attachment in attachments:
        for command in commands(attachment, netns_name=netns_name, state_dir=state_dir, firewall=firewall):
            yield attachment.node, command, attachment, None
    for process in processes:
        for command in commands(process, netns_name=netns_name):
            yield process.ns, command, process, None


def with_backend(command: str, firewall: Backend) -> str:
    """A command with the iptables variant of the lab's back end, independent of the machine's default `iptables`."""
    tool, _, rest = command.partition(" ")
    return f"{tool}-{firewall} {rest}" if tool in ("iptables", "ip6tables") else command


def _cni_add_script(item: Attachment, netns_name: NetnsNamer, state_dir: str, firewall: Backend) -> str:
    """The ADD calls of an attachment as shell commands: each plugin gets the result of the one before it."""
    pod: Container = container_of(item, f"/run/netns/{netns_name(item.pod)}")
    lab = netns_name("").strip(".").rpartition(".")[2] or "by-hand"  # `down` removes these files with the lab
    data = f"{state_dir}/{lab}/cni/data/{item.node}"
    tools = f"{state_dir}/{lab}/bin"
    steps = [f"CNI_PATH={item.path}" if item.path else "CNI_PATH=${CNI_PATH:-/usr/lib/cni:/opt/cni/bin}"]
    steps.append(f'export CNI_PATH PATH="{tools}:$CNI_PATH:$PATH"')
    steps.append(f"mkdir -p {data} {tools}")  # plugins use the iptables variant of the lab
    steps.append(
        f"for tool in iptables ip6tables; do for part in '' -save -restore; do"
        f' ln -sf "$(command -v $tool-{firewall}$part)" {tools}/$tool$part; done; done'
    )
    for number, call in enumerate(calls("ADD", parse_config_list(item.conflist), "", data, pod)):
        environment = {name: value for name, value in call.environment.items() if name != "CNI_PATH"}
        assignments = " ".join(f"{name}={shlex.quote(value)}" for name, value in environment.items())
        config, last = json.dumps(call.config), ""
        if number:
            config, last = config[:-1], '", \\"prevResult\\": $result}"'
        steps.append(f"result=$(printf %s%s {shlex.quote(config)} {last} | {assignments} {call.plugin}) || exit")
    return "; ".join(steps)


def _ip(version: int) -> str:
    return "ip -6" if version == 6 else "ip"


def _link(link: Link, peer_exists: bool, netns_name: NetnsNamer) -> Iterator[str]:
    dev = link.at.dev
    is_default_tunnel = link.kind == "ipip" and dev == "tunl0"  # the module creates it, and it cannot be added
    if not peer_exists and link.kind != "loopback" and not is_default_tunnel:
        yield _add(link, netns_name)
    if link.kind != "loopback" and not link.autoconf:
        yield f"ip link set {dev} addrgenmode none"
    args = [] if link.mtu is None else ["mtu", str(link.mtu)]
    args += [] if link.mac is None else ["address", link.mac]
    args += txqueuelen_args(link)
    args += [] if link.master is None else ["master", link.master]
    args += ["promisc", "on"] if link.promisc else []
    args += [] if link.arp else ["arp", "off"]
    args += ["up"] if link.up else []
    if args:
        yield " ".join(["ip link set", dev, *args])
    if link.hairpin:
        yield f"bridge link set dev {dev} hairpin on"
    if link.isolated:
        yield f"bridge link set dev {dev} isolated on"


def _add(link: Link, netns_name: NetnsNamer) -> str:
    if link.kind == "tun":
        return f"ip tuntap add {link.at.dev} mode tun"
    lower = "dev" if link.kind != "vxlan" else ""  # `dev` of a vxlan is an option of its kind
    before = [f"link {value}" for name, value in link.options if name == lower]
    args = ["link add", link.at.dev, *before, "type", link.kind]
    if link.peer is not None:
        args += ["peer name", link.peer.dev]
        args += ["netns", netns_name(link.peer.ns)] if link.peer.ns != link.at.ns else []
    given = replace(link, options=tuple(pair for pair in link.options if pair not in DEFAULT_LINK_OPTIONS))
    args += [option for option in link_option_args(given) if not lower or not option.startswith(f"{lower} ")]
    if link.link_netns is None or link.link_netns == link.at.ns:
        return " ".join(["ip", *args])
    args.insert(2, f"netns {netns_name(link.at.ns)}")
    return " ".join(["ip -n", netns_name(link.link_netns), *args])


def _address(address: Address) -> Iterator[str]:
    ip = _ip(address.addr.version)
    yield f"{ip} addr add {address.addr} dev {address.at.dev}" + (" nodad" if address.addr.version == 6 else "")
    if address.connected is False:
        yield f"{ip} route del {prefix_text(address.addr.network)} dev {address.at.dev} proto kernel"


def _create_chain(chain: Chain) -> Iterator[str]:
    tool = f"{_TOOL[chain.family]} -t {chain.table}"
    if chain.name not in BUILTIN.get((chain.family, chain.table), ()):
        policy = f" -P {chain.policy}" if chain.policy not in (None, "ACCEPT") else ""  # ebtables
        yield f"{tool} -N {shlex.quote(chain.name)}{policy}"
    elif chain.policy is not None:
        yield f"{tool} -P {chain.name} {chain.policy}"


def _append_rules(chain: Chain) -> Iterator[str]:
    name = shlex.quote(chain.name)
    for rule in chain.rules:
        text = " ".join(arg if arg == "!" else shlex.quote(arg) for arg in rule.args)
        yield f"{_TOOL[chain.family]} -t {chain.table} -A {name} {text}"

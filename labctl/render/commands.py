"""The equivalent commands that create kernel objects: what `-v` prints, and the shell script of a plan.

Each command runs inside its object's namespace. Other namespaces that it names (of a veth's peer) go through `place`,
which converts a short name to the name that `ip netns` uses.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable, Iterator

from labctl.cni.conflist import network
from labctl.cni_runtime.invocation import Pod, calls, pod_of
from labctl.core.iptables import BUILTIN, CHAIN_TOOLS, Backend
from labctl.core.kernel_defaults import moves_local
from labctl.core.resources import (
    Address,
    Attachment,
    Chain,
    Fdb,
    IpSet,
    Link,
    Neighbour,
    Netns,
    Port,
    Process,
    Resource,
    Route,
    Rule,
    Sysctl,
)
from labctl.render.plan_json import process_mark
from labctl.render.resources import detail, net_words, option_words, route_words, rule_words

_TOOL = CHAIN_TOOLS
Place = Callable[[str], str]
STATE = "/run/labctl"  # the directory of the labs' files, unless LABCTL_STATE_DIR is set


def commands(
    resource: Resource,
    *,
    second: bool = False,
    place: Place = str,
    state: str = STATE,
    firewall: Backend = "legacy",
) -> tuple[str, ...]:
    """The commands that create one object; they run inside its namespace.

    `second` marks the second end of a veth pair, which exists since the first end was created.
    A chain's rules may jump to chains that come later; `script` has them in an order that works. An attachment
    is created from inside its node, with the iptables of the back end `firewall` on its PATH, and its files are below
    the directory `state`.
    """
    if isinstance(resource, Netns):
        return (f"ip netns add {place(resource.name)}",)
    if isinstance(resource, Link):
        return tuple(_link(resource, second, place))
    if isinstance(resource, Sysctl):
        return (f"sysctl -qw {shlex.quote(f'{resource.name}={resource.value}')}",)
    if isinstance(resource, Address):
        return tuple(_address(resource))
    if isinstance(resource, Neighbour):
        verb = "add" if resource.proxy else "replace"
        return (f"{_ip(resource.ip.version)} neigh {verb} {detail(resource)}",)
    if isinstance(resource, Fdb):
        kind = "master static" if resource.dst is None else f"dst {resource.dst} self permanent"
        return (f"bridge fdb append {resource.mac} dev {resource.at.dev} {kind}",)
    if isinstance(resource, Route):
        return (f"{_ip(resource.dst.version)} route add {route_words(resource)}",)
    if isinstance(resource, Rule):
        first = (f"{_ip(resource.family)} rule del pref 0",) if moves_local(resource) else ()
        return (f"{_ip(resource.family)} rule add {rule_words(resource)}", *first)
    if isinstance(resource, IpSet):
        name = shlex.quote(resource.name)  # the names of Weave's IP sets have special characters
        add = (f"ipset add {name} {member}" for member in resource.members)
        return (f"ipset create {name} {resource.kind}", *add)
    if isinstance(resource, Attachment):
        return (f"sh -c {shlex.quote(_adds(resource, place, state, firewall))}",)
    if isinstance(resource, Process):
        return (f"python3 -m labctl.kernel.processes {shlex.quote(process_mark(resource, place(resource.ns)))}",)
    return (*_declare(resource), *_fill(resource))


def script(
    plan: Iterable[Resource], place: Place = str, state: str = STATE, firewall: Backend = "legacy"
) -> Iterator[tuple[str | None, str]]:
    """Every command of a plan in an order that works, each with the namespace that it runs in. Rules are added by
    `iptables`, which stands for the variant of the back end (`variant`).

    None instead of a namespace is the machine itself, where only `ip netns add` runs.
    """
    made: set[Port] = set()
    plan = tuple(plan)
    chains = [item for item in plan if isinstance(item, Chain)]
    processes = [item for item in plan if isinstance(item, Process)]
    attachments = [item for item in plan if isinstance(item, Attachment)]
    for item in plan:
        if isinstance(item, (Chain, Attachment, Process)):
            continue
        second = isinstance(item, Link) and item.at in made
        if isinstance(item, Link) and item.peer is not None:
            made.add(item.peer)
        for command in commands(item, second=second, place=place):
            yield (None if isinstance(item, Netns) else item.ns), command
    for step in (_declare, _fill):
        for chain in chains:
            for command in step(chain):
                yield chain.ns, command
    for attachment in attachments:
        for command in commands(attachment, place=place, state=state, firewall=firewall):
            yield attachment.node, command
    for process in processes:
        for command in commands(process, place=place):
            yield process.ns, command


def variant(command: str, firewall: Backend) -> str:
    """A command with the iptables variant of the lab's back end, independent of the machine's default `iptables`."""
    tool, _, rest = command.partition(" ")
    return f"{tool}-{firewall} {rest}" if tool in ("iptables", "ip6tables") else command


def _adds(item: Attachment, place: Place, state: str, firewall: Backend) -> str:
    """The ADD calls of an attachment as shell commands: each plugin gets the result of the one before it."""
    pod: Pod = pod_of(item, f"/run/netns/{place(item.pod)}")
    lab = place("").strip(".").rpartition(".")[2] or "by-hand"  # `down` removes these files with the lab
    data = f"{state}/{lab}/cni/data/{item.node}"
    tools = f"{state}/{lab}/bin"
    steps = [f"CNI_PATH={item.path}" if item.path else "CNI_PATH=${CNI_PATH:-/usr/lib/cni:/opt/cni/bin}"]
    steps.append(f'export CNI_PATH PATH="{tools}:$CNI_PATH:$PATH"')
    steps.append(f"mkdir -p {data} {tools}")  # plugins use the iptables variant of the lab
    steps.append(
        f"for tool in iptables ip6tables; do for part in '' -save -restore; do"
        f' ln -sf "$(command -v $tool-{firewall}$part)" {tools}/$tool$part; done; done'
    )
    for number, call in enumerate(calls("ADD", network(item.conflist), "", data, pod)):
        own = {name: value for name, value in call.environment.items() if name != "CNI_PATH"}
        words = " ".join(f"{name}={shlex.quote(value)}" for name, value in own.items())
        config, last = json.dumps(call.config), ""
        if number:
            config, last = config[:-1], '", \\"prevResult\\": $result}"'
        steps.append(f"result=$(printf %s%s {shlex.quote(config)} {last} | {words} {call.plugin}) || exit")
    return "; ".join(steps)


def _ip(version: int) -> str:
    return "ip -6" if version == 6 else "ip"


def _link(link: Link, second: bool, place: Place) -> Iterator[str]:
    dev = link.at.dev
    own = link.kind == "ipip" and dev == "tunl0"  # it exists as soon as the module is loaded and cannot be added
    if not second and link.kind != "loopback" and not own:
        yield _add(link, place)
    if link.kind != "loopback" and not link.autoconf:
        yield f"ip link set {dev} addrgenmode none"
    words = [] if link.mtu is None else ["mtu", str(link.mtu)]
    words += [] if link.mac is None else ["address", link.mac]
    words += [] if link.master is None else ["master", link.master]
    words += ["promisc", "on"] if link.promisc else []
    words += [] if link.arp else ["arp", "off"]
    words += ["up"] if link.up else []
    if words:
        yield " ".join(["ip link set", dev, *words])
    if link.hairpin:
        yield f"bridge link set dev {dev} hairpin on"
    if link.isolated:
        yield f"bridge link set dev {dev} isolated on"


def _add(link: Link, place: Place) -> str:
    if link.kind == "tun":
        return f"ip tuntap add {link.at.dev} mode tun"
    lower = "dev" if link.kind != "vxlan" else ""  # `dev` of a vxlan is an option of its kind
    before = [f"link {value}" for name, value in link.options if name == lower]
    words = ["link add", link.at.dev, *before, "type", link.kind]
    if link.peer is not None:
        words += ["peer name", link.peer.dev]
        words += ["netns", place(link.peer.ns)] if link.peer.ns != link.at.ns else []
    words += [option for option in option_words(link) if not lower or not option.startswith(f"{lower} ")]
    if link.born is None or link.born == link.at.ns:
        return " ".join(["ip", *words])
    words.insert(2, f"netns {place(link.at.ns)}")
    return " ".join(["ip -n", place(link.born), *words])


def _address(address: Address) -> Iterator[str]:
    ip = _ip(address.addr.version)
    yield f"{ip} addr add {address.addr} dev {address.at.dev}" + (" nodad" if address.addr.version == 6 else "")
    if address.connected is False:
        yield f"{ip} route del {net_words(address.addr.network)} dev {address.at.dev} proto kernel"


def _declare(chain: Chain) -> Iterator[str]:
    tool = f"{_TOOL[chain.family]} -t {chain.table}"
    if chain.name not in BUILTIN.get((chain.family, chain.table), ()):
        yield f"{tool} -N {chain.name}"
    elif chain.policy is not None:
        yield f"{tool} -P {chain.name} {chain.policy}"


def _fill(chain: Chain) -> Iterator[str]:
    for rule in chain.rules:
        text = " ".join(word if word == "!" else shlex.quote(word) for word in rule.args)
        yield f"{_TOOL[chain.family]} -t {chain.table} -A {chain.name} {text}"

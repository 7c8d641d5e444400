r"""Amazon EKS with the VPC CNI: pods with addresses of the VPC, on as many network interfaces as they need.

        a 10.0.0.5     b 10.0.0.6      d 10.0.0.8               c 10.0.0.17
          | eth0         | eth0          | eth0                   | eth0   (gateway 169.254.1.1)
    +-- node1 --------------------------------------+        +-- node2 ----------+
    |  eniXXXXXXXXXXX  eniYYYYYYYYYYY  eniZZZZZZZZZZZ |        |  eniVVVVVVVVVVV   |
    |      main: a route to each pod                  |        |                   |
    |   from d: table 2                               |        |                   |
    |  eth0 10.0.0.4           eth1 10.0.0.7          |        |  eth0 10.0.0.16   |
    +-----|----------------------|--------------------+        +-----|-------------+
          |                      |                                   |
      +-- fabric: subnet 10.0.0.0/24, router 10.0.0.1, ARP answered for all ----------+
      |   eth0 of node1: .4 .5 .6     eth1 of node1: .7 .8     eth0 of node2: .16 ...  |
      +------|-----------------------------------------|-----------------------------+
             | eth0                                    | 203.0.113.50
            vm                                     internet 203.0.113.1

An EC2 instance has several network interfaces (ENIs), and each ENI several addresses, of which the instance itself
uses one; the others are given to pods and stand on no interface. The VPC delivers a packet to the ENI that its
destination belongs to, and takes one only from the ENI that its source belongs to. So a pod whose address is of a
secondary ENI must leave by that ENI: a rule sends it to a routing table of the ENI's own, whose only way is the
subnet's router, even for a neighbour. Its answers come straight to the ENI, so the two ways differ. Pods of a node
are routed one by one (TTL 63); a pod's only neighbour is 169.254.1.1, an address that nobody has, with the MAC of
the host's end written down beforehand: nobody asks and nobody answers.

Inside the VPC every pod is seen with its own address. What leaves it is translated to the primary ENI's address and
must therefore leave by that ENI: connections from pods that will be translated are marked before they are routed,
and a rule puts the mark above the pod's own rule. The same mark brings the answers of a NodePort back to the ENI
through which they were asked. With `external_snat` the pods' addresses leave the node as they are.

Follows aws/amazon-vpc-cni-k8s: pkg/networkutils/network.go, iptables_connmark.go and names.go,
cmd/routed-eni-cni-plugin/driver/driver.go, docs/cni-proposal.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from labctl.grades import approximation, faithful, skipped
from labctl.models import _kubernetes as kubernetes
from labctl.models import _parts as parts
from labctl.models import _pods as pods_
from labctl.models import _vpc as vpc
from labctl.models._vpc import Eni
from labctl.options import address, cidr, option
from labctl.plan import Address, Link, Neighbour, Port, Resource, Route, Rule, Sysctl
from labctl.scenario import Check, Machine, Node, Scenario, See

FOLLOWS = "the Amazon VPC CNI (aws/amazon-vpc-cni-k8s, iptables)"
MACHINES = ("nodes", "pods")
PARTS = (
    faithful("per-pod routes and rules with their preferences, a routing table for each secondary ENI"),
    faithful("pods' /32 addresses, 169.254.1.1 with a permanent neighbour, host veths named by the pod"),
    faithful("the chains of SNAT and connection marks; external SNAT without them"),
    faithful("secondary addresses stand on no interface; nodes answer no ARP for pods"),
    approximation("the VPC", "is a bridge with ebtables for its mapping service and its source check, and a router"),
    approximation("ENIs", "are filled one after the other, `pods_per_eni` each; ipamd keeps warm ones in reserve"),
    approximation("MAC addresses", "are made from names"),
    approximation("rp_filter", "is 0 but on eth0, where the plugin writes 2: the paths of a pod are asymmetric"),
    approximation("the internet gateway", "gives all that leaves one public address, where each has its own"),
    skipped("security groups for pods, prefix delegation, custom networking, IPv6, kube-proxy"),
    *pods_.PARTS,
)
Container = pods_.Pod
GATEWAY = IPv4Address("169.254.1.1")
MARK = 0x80
TO_POD, MARKED, FROM_POD, FROM_ENI = 512, 1024, 1536, 32765  # preferences of rules
_COMMENT = "-m comment --comment"


@dataclass(frozen=True, slots=True)
class Options:
    """What an eks-vpc-cni scenario may set."""

    vpc_cidr: IPv4Network = option(cidr("10.0.0.0/16"), "the VPC: inside it every pod keeps its own address")
    subnet: IPv4Network = option(cidr("10.0.0.0/24"), "the subnet of nodes, pods and `vm`")
    pods_per_eni: int = option(2, "secondary addresses of an ENI; the next pod gets another ENI", minimum=1, maximum=49)
    max_enis: int = option(4, "most ENIs of a node", minimum=1, maximum=15)
    external_snat: bool = option(False, "pods leave the VPC with their own address (AWS_VPC_K8S_CNI_EXTERNALSNAT)")
    source_check: bool = option(True, "the VPC drops what an ENI sends with another's address")
    internet_ip: IPv4Address = option(address("203.0.113.1"), "the address of the machine `internet`")
    public_ip: IPv4Address = option(address("203.0.113.50"), "the address that all wears which leaves the VPC")
    mtu: int = option(9001, "MTU of every link (AWS_VPC_ENI_MTU)", minimum=576, maximum=9001)


def compile(scenario: Scenario) -> Iterator[Resource | Machine]:
    """The VPC, and nodes with their ENIs, their tables, and a route to each pod."""
    options: Options = scenario.options
    enis = _enis(scenario)
    machine = Eni("vm", "eth0", parts.within(options.subnet, -2))
    everybody = [eni for own in enis.values() for eni in own]
    gateway = options.subnet.network_address + 1
    yield Machine("fabric", "fabric", (gateway, options.public_ip))
    yield from vpc.fabric([*everybody, machine], options.subnet, options.mtu, source_check=options.source_check)
    yield from vpc.outside(options.internet_ip, options.public_ip, options.mtu)
    for node in scenario.nodes:
        own = enis[node.name]
        yield Machine(node.name, "node", tuple(eni.address for eni in own))
        yield from parts.netns(node.name)
        yield from parts.forwarding(node.name, True, rp_filter=0, devices=[eni.dev for eni in own[1:]])
        yield Sysctl(node.name, "net.ipv4.conf.eth0.rp_filter", "2")
        yield from parts.addresses(own[0].at, parts.iface(own[0].address, options.subnet.prefixlen))
        yield parts.default(node.name, gateway)
        for number, eni in enumerate(own[1:], 2):
            yield from _secondary(eni, number, options.subnet)
        yield from _pods(node, own, options)
        yield from pods_.processes(node)
        yield Rule(node.name, MARKED, mark=MARK, mask=MARK)
        yield from _rules(node.name, own[0].address, options)
    yield from vpc.vm(machine, options.subnet)


def checks(scenario: Scenario) -> Iterator[Check]:
    """Which ENI a pod's packets use, what is seen of it outside, and Kubernetes' own rules."""
    enis = _enis(scenario)
    for node in scenario.nodes:
        for number, eni in enumerate(enis[node.name][:2]):
            if eni.secondary:
                pod = node.pods[number * scenario.options.pods_per_eni]
                yield from _ways(node.name, pod, eni, enis[node.name][0], scenario.options.external_snat)
        if node.pods:
            break
    yield from kubernetes.kubernetes_rules(scenario)
    yield from pods_.checks(scenario)


def _ways(node: str, pod: str, eni: Eni, primary: Eni, external: bool) -> Iterator[Check]:
    """By which ENI a pod leaves, and as whom, inside the VPC and out of it."""
    inside = [See(eni.at, src=pod, dst="vm", direction="out")]
    if eni is not primary:
        inside.append(See(primary.at, src=pod, dst="vm", direction="out", negate=True))
    say = f"inside the VPC {pod} leaves by {eni.dev}, to which its address belongs"
    yield Check(say, "ping", pod, "vm", sees=tuple(inside), origin="model")
    say, out = f"out of the VPC {pod} leaves by eth0, with the node's address", See(primary.at, node, "internet")
    if external:
        say, out = f"out of the VPC {pod} keeps its address, and leaves by {eni.dev}", See(eni.at, pod, "internet")
    worn = See(Port("internet", "eth0"), src="fabric/igw", dst="internet")
    yield Check(say, "ping", pod, "internet", sees=(out, worn), origin="model")


def refuse(scenario: Scenario) -> Iterator[tuple[str, str, str]]:
    """Nodes with more pods than their ENIs carry, a subnet without room, ranges that do not go together."""
    options: Options = scenario.options
    most = options.max_enis * options.pods_per_eni
    for node in scenario.nodes:
        if len(node.pods) > most:
            what = f"{node.name} has {len(node.pods)} pods and its ENIs carry {most}"
            sum_ = f"max_enis {options.max_enis} x pods_per_eni {options.pods_per_eni} = {most}"
            yield "nodes", what, f"{sum_}: spread them over more nodes, or raise one of the two"
    step, held = options.max_enis * (1 + options.pods_per_eni), max(options.subnet.num_addresses - vpc.KEPT - 1, 0)
    need = step * len(scenario.nodes)
    if need > held:
        what = (
            f"subnet {options.subnet} has {held} addresses for nodes, and {len(scenario.nodes)} nodes may need {need}"
        )
        each = f"{options.max_enis} ENIs x (1 + {options.pods_per_eni})"
        sum_ = f"{len(scenario.nodes)} x {each}, one for vm, and AWS keeps {vpc.KEPT}"
        yield "subnet", what, f"{sum_}: a /{parts.prefix_for(need + vpc.KEPT + 1)} would do"
    if not options.subnet.subnet_of(options.vpc_cidr):
        yield (
            "subnet",
            f"subnet {options.subnet} is not in vpc_cidr {options.vpc_cidr}",
            "set vpc_cidr to what holds it",
        )
    if options.public_ip == options.internet_ip or int(options.public_ip) >> 8 != int(options.internet_ip) >> 8:
        yield "public_ip", f"public_ip {options.public_ip} is not beside internet_ip", "both are of one /24"
    yield from pods_.refuse(scenario)


def _enis(scenario: Scenario) -> dict[str, list[Eni]]:
    """The ENIs of each node: as many as its pods need, filled one after the other."""
    options: Options = scenario.options
    size = options.pods_per_eni
    base = int(options.subnet.network_address) + vpc.FIRST
    found = {}
    for number, node in enumerate(scenario.nodes):
        first = base + number * options.max_enis * (1 + size)
        count = max(1, -(-len(node.pods) // size))
        own = []
        for at in range(count):
            primary, held = first + at * (1 + size), min(size, max(len(node.pods) - at * size, 0))
            secondary = tuple(IPv4Address(primary + 1 + pod) for pod in range(held))
            own.append(Eni(node.name, f"eth{at}", IPv4Address(primary), secondary))
        found[node.name] = own
    return found


def _secondary(eni: Eni, table: int, subnet: IPv4Network) -> Iterator[Resource]:
    """A further ENI: its address without the way to its subnet, and a table that knows the router only."""
    gateway, node = subnet.network_address + 1, eni.machine
    yield Address(eni.at, parts.iface(eni.address, subnet.prefixlen), connected=False)
    yield Route(node, IPv4Network((int(gateway), 32)), dev=eni.dev, table=table)
    yield Route(node, parts.ANYWHERE, gateway, eni.dev, table)
    yield Rule(node, FROM_ENI, table, src=IPv4Network((int(eni.address), 32)))


def _pods(node: Node, own: list[Eni], options: Options) -> Iterator[Resource | Machine]:
    """Pods with an address of an ENI each, routed one by one; those of a secondary ENI have a rule that says so."""
    given = [(ip, table) for table, eni in enumerate(own, 1) for ip in eni.secondary]
    devices = parts.hashed("eni", 11, (f"default.{pod}" for pod in node.pods))
    for pod, device, (ip, table) in zip(node.pods, devices, given, strict=True):
        inner, outer, alone = Port(pod, "eth0"), Port(node.name, device), IPv4Network((int(ip), 32))
        host_mac = parts.mac(device)
        yield Machine(pod, "pod", (ip,), node.name)
        yield from parts.endpoint(pod)
        yield Link(outer, "veth", inner, None, options.mtu, host_mac)
        yield Link(inner, "veth", outer, None, options.mtu, parts.mac(pod))
        yield from parts.addresses(inner, parts.iface(ip, 32))
        yield Route(pod, IPv4Network((int(GATEWAY), 32)), dev="eth0")
        yield Route(pod, parts.ANYWHERE, GATEWAY, "eth0")
        yield Neighbour(inner, GATEWAY, host_mac)
        yield Route(node.name, alone, dev=device)
        yield Rule(node.name, TO_POD, dst=alone)
        if table > 1:
            yield Rule(node.name, FROM_POD, table, src=alone)


def _rules(ns: str, primary: IPv4Address, options: Options) -> Iterator[Resource]:
    """Marks that remember the primary ENI, and, unless somebody else does it, the translation to its address."""
    about = f'{_COMMENT} "AWS, primary ENI"'
    restore = "-j CONNMARK --restore-mark --nfmask 0x80 --ctmask 0x80"
    yield parts.chain(
        ns,
        "mangle",
        "PREROUTING",
        f"-i eth0 {about} -m addrtype --dst-type LOCAL --limit-iface-in -j CONNMARK --set-xmark 0x80/0x80",
        f"-i eni+ {about} {restore}",
        f"-i vlan+ {about} {restore}",
    )
    if options.external_snat:
        return
    marks, snat = "AWS-CONNMARK-CHAIN-0", "AWS-SNAT-CHAIN-0"
    yield parts.chain(
        ns,
        "nat",
        "PREROUTING",
        f'-i eni+ {_COMMENT} "AWS, outbound connections" -j {marks}',
        f'{_COMMENT} "AWS, CONNMARK" {restore}',
    )
    yield parts.chain(ns, "nat", "POSTROUTING", f'{_COMMENT} "AWS SNAT CHAIN" -j {snat}')
    yield parts.chain(
        ns,
        "nat",
        marks,
        f'-d {options.vpc_cidr} {_COMMENT} "AWS CONNMARK CHAIN" -j RETURN',
        f'{_COMMENT} "AWS, CONNMARK" -j CONNMARK --set-xmark 0x80/0x80',
    )
    away = f'! -o vlan+ {_COMMENT} "AWS, SNAT" -m addrtype ! --dst-type LOCAL'
    last = f"{away} -j SNAT --to-source {primary} --random-fully"
    yield parts.chain(ns, "nat", snat, f'-d {options.vpc_cidr} {_COMMENT} "AWS SNAT CHAIN" -j RETURN', last)

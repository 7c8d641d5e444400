"""Why the objects of a Podman host exist: its bridges and endpoints, and every rule that netavark writes. Pure data.

The rules are explained by their shape (`labctl.core.why.RuleShapes`): `netavark_nft` and `netavark_iptables` write
them.
"""

from __future__ import annotations

from labctl.core.why import KERNEL, LABCTL, Component, RuleShapes, Source

BRIDGES = Component("netavark", Source("containers/netavark", "src/network/bridge.rs", "1.17.2"))
NFT = Component("netavark", Source("containers/netavark", "src/firewall/nft.rs", "1.17.2"))
IPTABLES = Component("netavark", Source("containers/netavark", "src/firewall/iptables.rs", "1.17.2"))
PODMAN = Component("podman", Source("containers/podman", "libpod", "5.8.6"))

HOST = LABCTL.why("It is a host of Podman, a machine that runs containers ({runs}).")
NETWORK_OF_CONTAINER = PODMAN.why(
    "It is the network of the container {ns}: its devices, addresses and ports are separate from those of the host."
)
BRIDGE = BRIDGES.why(
    "It is one network of Podman on {ns}, made when its first container started: the containers on it are the machines"
    " of one Ethernet, and {dev} is its switch."
)
BRIDGE_ADDRESS = BRIDGES.why(
    "It is the gateway of the containers on {dev}: with an address, the bridge is also a device of the host, which"
    " routes their packets."
)
HOST_END = BRIDGES.why("It is the host's end of the cable of {peer_ns}, a port of the bridge {master}.")
CONTAINER_END = BRIDGES.why("It is the network card of the container {ns}: its cable leads to {peer_ns}.")
CONTAINER_ADDRESS = BRIDGES.why(
    "It is the address of {ns} in this network: Podman's next free one, or the one asked for."
)
CONTAINER_ROUTE = BRIDGES.why(
    "{ns} sends everything that is not for its own networks to {via}, the bridge on its host."
)
FORWARDS = BRIDGES.why(
    "netavark turns IP forwarding on with the first network that is not internal: with 0, {ns} drops every packet of a"
    " container to elsewhere."
)
NO_FORWARDING = BRIDGES.why(
    "No container of {ns} is in a network that is not internal, so netavark does not turn IP forwarding on."
)
INTERNAL_FORWARDING = BRIDGES.why(
    "The network is internal: netavark turns forwarding off on its bridge. A later network that turns IP forwarding on"
    " for the host turns it on here as well."
)
ROUTE_LOCALNET = BRIDGES.why(
    "With 0, the kernel drops packets from 127.0.0.1 that leave the host by this bridge: a client on {ns} could not use"
    " a published port at 127.0.0.1."
)
RP_FILTER = BRIDGES.why(
    "A container in two networks may answer by another of them than the request came by: with 1, the kernel would drop"
    " such an answer."
)
ARP_NOTIFY = BRIDGES.why("The container announces its new address to the others of its network (a gratuitous ARP).")
NO_DAD = BRIDGES.why("An IPv6 address is usable at once: there is no wait for a second machine with the same address.")
NO_ROUTER = BRIDGES.why("The bridge learns no IPv6 routes from routers that announce themselves.")
NO_ROUTER_OF_IPV6 = KERNEL.why(
    "{ns} is not a router: the kernel drops an IPv6 packet that arrives for another machine."
)
NO_AUTOCONF = BRIDGES.why("The container makes no IPv6 addresses of its own from what routers announce.")
BRIDGED_FRAMES_OFF = BRIDGES.why(
    "Frames between two containers of one network do not pass the rules of {ns}: netavark needs none there."
)
PROGRAM = PODMAN.why("It is the program of the container {name}, which listens on {ports} of the network of {ns}.")
PORT_HOLDER = PODMAN.why(
    "Podman opens a socket at each published port and leaves it to the container's conmon, so that no other program can"
    " take the port. The rules lead the packets away before."
)
ROUTE_TO_CONTAINERS = LABCTL.why(
    "The scenario gives the internet a way to the containers (routed): a packet can come straight to {dst}, without a"
    " published port."
)
INTERNET_END = LABCTL.why("It is the network card of the machine that stands for the internet and is the gateway.")

TABLE = NFT.why("netavark keeps all its rules in one separate table, for IPv4 and IPv6.")
_JUMP_IF_LOCAL = "A packet to an address of the host itself may be for a published port."
_SUBNET_CHAIN = "It decides about the source address of packets that leave one network of containers."
_STAY = "Packets that stay in the network keep their source address."
_MASQUERADE = "Packets that leave the network get an address of the host: machines outside have no way back to it."
_PORTS_CHAIN = "It has the published ports of one network's containers."
_HAIRPIN = (
    "The client is in the network of the container itself, or is the host at 127.0.0.1: without another source address,"
    " the answer would not come back through the host. The mark has the packet masqueraded later."
)
_DNAT = "It is a published port: the packet goes to the container instead."
_INVALID = "A packet that fits no known connection could pass untranslated: it stops here."
_ANSWERS = "Answers to the containers of the network may come back."
_OUT = "Packets of the network's containers may leave, wherever they go."
_DNS = "Containers may ask aardvark-dns, the name server at the address of their bridge."
_ASK_ISOLATION = "A packet from a network with isolation to another network is checked first."
_CLOSED = "The network has isolation: no other network with isolation may send to it."
_OPEN_NETWORK = "The network has no isolation: only networks with isolate=strict may not send to it."
_STRICT = "A network with isolate=strict may not send to the networks with isolation either."
_MARK_CHAIN = "A packet with the mark 0x2000 is masqueraded when it leaves the host."
_MARKED = "The packet has the mark: its source becomes the address of the device by which it leaves."
_DNS_PORT = "The name server listens on another port than 53 (dns_bind_port)."

_ANY = "inet netavark/"
NFT_RULES = RuleShapes(
    (f"{_ANY}INPUT", "", NFT.why("Packets to the host itself pass it.")),
    (f"{_ANY}INPUT", "dport 53", NFT.why(_DNS)),
    (f"{_ANY}FORWARD", "", NFT.why("Packets that the host forwards pass it, also those that are not Podman's.")),
    (f"{_ANY}FORWARD", "ct state invalid", NFT.why(_INVALID)),
    (f"{_ANY}FORWARD", "jump NETAVARK-ISOLATION", NFT.why(_ASK_ISOLATION)),
    (f"{_ANY}FORWARD", "ct state", NFT.why(_ANSWERS)),
    (f"{_ANY}FORWARD", "saddr", NFT.why(_OUT)),
    (f"{_ANY}POSTROUTING", "", NFT.why("Packets that leave the host pass it, for their source address.")),
    (f"{_ANY}POSTROUTING", "mark", NFT.why(_MARKED)),
    (f"{_ANY}POSTROUTING", "saddr", NFT.why(_SUBNET_CHAIN)),
    (f"{_ANY}(PREROUTING|OUTPUT)", "", NFT.why("New connections pass it, for their destination address.")),
    (f"{_ANY}(PREROUTING|OUTPUT)", "fib daddr type local", NFT.why(_JUMP_IF_LOCAL)),
    (f"{_ANY}NETAVARK-HOSTPORT-DNAT", "", NFT.why("It has the published ports of the host.")),
    (f"{_ANY}NETAVARK-HOSTPORT-DNAT", "dport 53 dnat", NFT.why(_DNS_PORT)),
    (f"{_ANY}NETAVARK-HOSTPORT-DNAT", "jump", NFT.why(_PORTS_CHAIN)),
    (f"{_ANY}NETAVARK-HOSTPORT-SETMARK", "", NFT.why(_MARK_CHAIN)),
    (f"{_ANY}NETAVARK-HOSTPORT-SETMARK", "mark", NFT.why(_MARK_CHAIN)),
    (f"{_ANY}NETAVARK-ISOLATION-[123]", "", NFT.why("It separates networks that have isolation.")),
    (f"{_ANY}NETAVARK-ISOLATION-1", "", NFT.why(_ASK_ISOLATION)),
    (f"{_ANY}NETAVARK-ISOLATION-1", "iifname", NFT.why(_ASK_ISOLATION)),
    (f"{_ANY}NETAVARK-ISOLATION-2", "oifname", NFT.why(_CLOSED)),
    (f"{_ANY}NETAVARK-ISOLATION-3", "oifname", NFT.why(_OPEN_NETWORK)),
    (f"{_ANY}NETAVARK-ISOLATION-3", "jump", NFT.why(_STRICT)),
    (f"{_ANY}nv_.*_dnat", "", NFT.why(_PORTS_CHAIN)),
    (f"{_ANY}nv_.*_dnat", "SETMARK", NFT.why(_HAIRPIN)),
    (f"{_ANY}nv_.*_dnat", "dnat", NFT.why(_DNAT)),
    (f"{_ANY}nv_.*", "", NFT.why(_SUBNET_CHAIN)),
    (f"{_ANY}nv_.*", "accept", NFT.why(_STAY)),
    (f"{_ANY}nv_.*", "masquerade", NFT.why(_MASQUERADE)),
    (f"{_ANY}nv_.*", "snat", NFT.why("Packets that leave the network get this address, as the network asks for.")),
)
IPTABLES_RULES = RuleShapes(
    ("filter/(INPUT|FORWARD)", "netavark firewall rules", IPTABLES.why("netavark keeps its rules in its own chain.")),
    ("filter/FORWARD", "NETAVARK_ISOLATION_1", IPTABLES.why(_ASK_ISOLATION)),
    ("filter/NETAVARK_INPUT", "", IPTABLES.why("Packets to the host itself pass it.")),
    ("filter/NETAVARK_INPUT", "--dport", IPTABLES.why(_DNS)),
    ("filter/NETAVARK_FORWARD", "", IPTABLES.why("Packets that the host forwards pass it.")),
    ("filter/NETAVARK_FORWARD", "INVALID", IPTABLES.why(_INVALID)),
    ("filter/NETAVARK_FORWARD", "ESTABLISHED", IPTABLES.why(_ANSWERS)),
    ("filter/NETAVARK_FORWARD", "-s ", IPTABLES.why(_OUT)),
    ("filter/NETAVARK_ISOLATION_[123]", "", IPTABLES.why("It separates networks that have isolation.")),
    ("filter/NETAVARK_ISOLATION_1", "-i ", IPTABLES.why(_ASK_ISOLATION)),
    ("filter/NETAVARK_ISOLATION_2", "-o ", IPTABLES.why(_CLOSED)),
    ("filter/NETAVARK_ISOLATION_3", "-o ", IPTABLES.why(_OPEN_NETWORK)),
    ("filter/NETAVARK_ISOLATION_3", "-j NETAVARK", IPTABLES.why(_STRICT)),
    ("nat/(PREROUTING|OUTPUT)", "LOCAL", IPTABLES.why(_JUMP_IF_LOCAL)),
    ("nat/POSTROUTING", "HOSTPORT-MASQ", IPTABLES.why(_MARK_CHAIN)),
    ("nat/POSTROUTING", "-s ", IPTABLES.why(_SUBNET_CHAIN)),
    ("nat/NETAVARK-HOSTPORT-DNAT", "", IPTABLES.why("It has the published ports of the host.")),
    ("nat/NETAVARK-HOSTPORT-DNAT", "--to-destination", IPTABLES.why(_DNS_PORT)),
    ("nat/NETAVARK-HOSTPORT-DNAT", "-j NETAVARK", IPTABLES.why(_PORTS_CHAIN)),
    ("nat/NETAVARK-HOSTPORT-(SETMARK|MASQ)", "", IPTABLES.why(_MARK_CHAIN)),
    ("nat/NETAVARK-HOSTPORT-SETMARK", "MARK", IPTABLES.why(_MARK_CHAIN)),
    ("nat/NETAVARK-HOSTPORT-MASQ", "MASQUERADE", IPTABLES.why(_MARKED)),
    ("nat/NETAVARK-DN-.*", "", IPTABLES.why(_PORTS_CHAIN)),
    ("nat/NETAVARK-DN-.*", "SETMARK", IPTABLES.why(_HAIRPIN)),
    ("nat/NETAVARK-DN-.*", "DNAT", IPTABLES.why(_DNAT)),
    ("nat/NETAVARK-.*", "", IPTABLES.why(_SUBNET_CHAIN)),
    ("nat/NETAVARK-.*", "ACCEPT", IPTABLES.why(_STAY)),
    ("nat/NETAVARK-.*", "MASQUERADE", IPTABLES.why(_MASQUERADE)),
)

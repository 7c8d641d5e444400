"""Why the objects of a Docker host exist: its bridges and endpoints, and every rule that dockerd writes. Pure data.

The rules are explained by their shape (`labctl.core.why.RuleShapes`): `docker_iptables` writes them, and its classes
say which release they follow.
"""

from __future__ import annotations

from labctl.core.why import Component, RuleShapes, Source, Why

LIBNETWORK = Component("dockerd", Source("moby/moby", "libnetwork/drivers/bridge", "28.5.2"))
RUNC = Component("dockerd (runc)", Source("moby/moby", "daemon/oci_linux.go", "28.5.2"))
PROXY = Component("docker-proxy", Source("moby/moby", "cmd/docker-proxy", "28.5.2"))

NETWORK_OF_CONTAINER = LIBNETWORK.why(
    "It is the network of the container {ns}: its devices, addresses and ports are separate from those of the host."
)
BRIDGE = LIBNETWORK.why(
    "It is one network of Docker on {ns}: the containers on it are the machines of one Ethernet, and {dev} is its"
    " switch."
)
BRIDGE_ADDRESS = LIBNETWORK.why(
    "It is the gateway of the containers on {dev}: with an address, the bridge is also a device of the host, which"
    " routes their packets."
)
HOST_END = LIBNETWORK.why("It is the host's end of the cable of {peer_ns}, a port of the bridge {master}.")
CONTAINER_END = LIBNETWORK.why("It is the network card of the container {ns}: its cable leads to {peer_ns}.")
CONTAINER_ADDRESS = LIBNETWORK.why(
    "It is the address of {ns} in this network: Docker's next free one, or the one asked for."
)
CONTAINER_ROUTE = LIBNETWORK.why(
    "{ns} sends everything that is not for its own network to {via}, the bridge on its host."
)
FORWARDS = LIBNETWORK.why(
    "dockerd turns IP forwarding on: with 0, {ns} drops every packet of a container to elsewhere."
)
FORWARDS_IPV6 = LIBNETWORK.why(
    "A network of Docker has IPv6, so dockerd turns IPv6 forwarding on: with 0, {ns} drops every IPv6 packet of a"
    " container to elsewhere."
)
NO_ROUTER_ADVERTISEMENTS = LIBNETWORK.why(
    "The host is the router on {dev}: it takes no route from a router advertisement that a container sends."
)
ISOLATED_BRIDGE = LIBNETWORK.why(
    "The network is isolated: its bridge {dev} has no IPv6 address, so no packet leaves it."
)
NO_DAD = LIBNETWORK.why(
    "IPv6 addresses are usable at once: dockerd gives them without duplicate address detection, because it alone"
    " assigns them."
)
BRIDGED_FRAMES = LIBNETWORK.why(
    "Frames between two containers of one network pass the iptables of {ns} too. dockerd needs it, because a rule there"
    " must stop containers that may not reach each other (icc off), or the daemon has no docker-proxy."
)
BRIDGED_FRAMES_OFF = LIBNETWORK.why(
    "Frames between two containers of one network do not pass the iptables of {ns}: no rule of dockerd needs it here."
)
ROUTE_LOCALNET = LIBNETWORK.why(
    "There is no docker-proxy (userland-proxy=false), so a client at 127.0.0.1 needs the DNAT rule. With 0, the kernel"
    " drops packets from 127.0.0.1 that leave the host by {dev}."
)
LOW_PORTS = RUNC.why("Every user of a container may listen on ports below 1024, not only root.")
PING = RUNC.why("Every user of a container may ping: these groups may open ICMP sockets.")
UNPRIVILEGED = {"net.ipv4.ip_unprivileged_port_start": LOW_PORTS, "net.ipv4.ping_group_range": PING}
PROGRAM = RUNC.why("It is the program of the container {name}, which listens on {ports} of the network of {ns}.")
PORT_HOLDER = LIBNETWORK.why(
    "There is no docker-proxy (userland-proxy=false). So dockerd itself listens on each published port, and no other"
    " program can take it; the rules lead the packets away before."
)
PORT_PROXY = PROXY.why(
    "It serves the clients of a published port that the DNAT rule leaves out: the host itself at 127.0.0.1, and"
    " containers of the same network. The container sees them with the address of its bridge."
)
POLICY_DROP = LIBNETWORK.why(
    "The policy is DROP, because dockerd turned IP forwarding on by itself: else {ns} would forward for everybody."
)
POLICY_ACCEPT = LIBNETWORK.why(
    "The policy is ACCEPT, because IP forwarding was on before dockerd started: then dockerd does not change it."
)
POLICY_WITHOUT_IPV6 = LIBNETWORK.why(
    "The policy stays ACCEPT: no network has IPv6, so dockerd does not turn IPv6 forwarding on."
)


def shapes(version: str, file: str) -> RuleShapes:
    """The reasons of the rules of one release."""
    why = Component("dockerd", Source("moby/moby", file, version)).why
    return RuleShapes(
        (
            "raw/PREROUTING",
            "-d 127|! -i lo",
            why("The port is published at {dst} only: packets from outside to it stop here."),
        ),
        (
            "raw/PREROUTING",
            "-j ACCEPT",
            why("{ns} trusts {iif}: packets from there may go straight to the address of {dst_machines}."),
        ),
        (
            "raw/PREROUTING",
            "-j DROP",
            why(
                "A packet straight to the address of {dst_machines} that does not come from its network is not"
                " welcome: the way in is a published port. The table raw is before DNAT, so it sees only such"
                " packets."
            ),
        ),
        (
            "nat/(PREROUTING|OUTPUT)",
            "-j DOCKER",
            why("A packet to an address of {ns} itself may be for a published port: the chain DOCKER decides."),
        ),
        (
            "nat/POSTROUTING",
            "--src-type LOCAL",
            why(
                "There is no docker-proxy: the host's own packets to a container get the address of the bridge,"
                " because the container cannot answer 127.0.0.1."
            ),
        ),
        (
            "nat/POSTROUTING",
            "-s .* ! -o .* -j SNAT",
            why("Packets of containers in {src} that leave their network get a fixed address of the host."),
        ),
        (
            "nat/POSTROUTING",
            "-s .* ! -o .* -j MASQUERADE",
            why(
                "Packets of containers in {src} that leave their network get the address of the host: machines"
                " outside have no way back to {src}."
            ),
        ),
        (
            "nat/POSTROUTING",
            "-d .* -j MASQUERADE",
            why(
                "{src_machine} reaches itself through its published port: with its own address as the source, the"
                " answer would never pass the host again."
            ),
        ),
        ("nat/DOCKER", "", why("It has the published ports of {ns}, one rule for each.")),
        (
            "nat/DOCKER",
            "-j RETURN",
            why("Containers on {iif} get no DNAT: docker-proxy serves them, and sees that the answer comes back."),
        ),
        (
            "nat/DOCKER",
            "-j DNAT",
            why("It is the published port {dport}: packets to it go to {to} instead, the container {to_machine}."),
        ),
        ("filter/FORWARD", "-j DOCKER-USER", why("The rules of the user come before those of dockerd.")),
        (
            "filter/FORWARD",
            "-j DOCKER-FORWARD",
            why("All decisions of dockerd are in one chain, behind those of the user."),
        ),
        ("filter/(FORWARD|DOCKER-FORWARD)", "-j DOCKER-CT", why("Packets of known connections pass first.")),
        (
            "filter/(FORWARD|DOCKER-FORWARD)",
            "-j DOCKER-(ISOLATION-STAGE-1|INTERNAL)",
            why("Networks that must stay apart are separated before any rule accepts."),
        ),
        (
            "filter/(FORWARD|DOCKER-FORWARD)",
            "-j DOCKER-BRIDGE",
            why("A new connection to a container is allowed if a port is published: the next chains decide."),
        ),
        ("filter/DOCKER-CT", "", why("It accepts the packets of connections that a rule has allowed before.")),
        (
            "filter/(FORWARD|DOCKER-CT)",
            "ctstate RELATED,ESTABLISHED",
            why("Answers to containers on {oif} pass: conntrack knows the connection."),
        ),
        ("filter/DOCKER-BRIDGE", "", why("It finds out to which network a packet goes.")),
        (
            "filter/(FORWARD|DOCKER-BRIDGE)",
            "-o .* -j DOCKER$",
            why("A packet to a container on {oif} passes the chain of published ports."),
        ),
        ("filter/DOCKER", "", why("It accepts new connections to published ports, and nothing else from outside.")),
        (
            "filter/DOCKER",
            "-p (ipv6-)?icmp -j ACCEPT",
            why("The network on {oif} is routed: everybody may ping its containers, and errors reach them."),
        ),
        (
            "filter/DOCKER",
            "^! -i .* -o .* -j ACCEPT",
            why("The network on {oif} is unprotected (nat-unprotected): every port of its containers is open."),
        ),
        (
            "filter/DOCKER",
            "-j ACCEPT",
            why(
                "A port of {dst_machines} is published, so new connections to {dst} port {dport} pass. DNAT came"
                " before."
            ),
        ),
        (
            "filter/DOCKER",
            "-j DROP",
            why(
                "Everything else from outside to the containers on {oif} is dropped: their other ports are not"
                " published."
            ),
        ),
        (
            "filter/(FORWARD|DOCKER-FORWARD)",
            "! -o .* -j ACCEPT",
            why("Containers on {iif} may send to the outside."),
        ),
        (
            "filter/(FORWARD|DOCKER-FORWARD)",
            "-i .* -o .* -j ACCEPT",
            why("Containers on {iif} may reach each other. It counts only if bridged frames pass iptables."),
        ),
        (
            "filter/(FORWARD|DOCKER-FORWARD)",
            "-i .* -o .* -j DROP",
            why("Containers on {iif} may not reach each other (icc off). It needs bridge-nf-call-iptables."),
        ),
        (
            "filter/DOCKER-FORWARD",
            "-i .* -j ACCEPT",
            why("Containers on {iif} may send: to the outside, and to each other."),
        ),
        ("filter/DOCKER-FORWARD", "", why("It has all decisions of dockerd about packets that {ns} forwards.")),
        (
            "filter/DOCKER-ISOLATION-STAGE-1",
            "",
            why("It finds packets that leave a network of Docker; stage 2 then finds those that enter another one."),
        ),
        (
            "filter/DOCKER-ISOLATION-STAGE-1",
            "ctstate RELATED,ESTABLISHED",
            why("Containers on {iif}, a routed network, may answer the other networks of Docker."),
        ),
        (
            "filter/DOCKER-ISOLATION-STAGE-1",
            "-o .* -j RETURN",
            why("The network on {oif} is routed: the other networks of Docker may reach its published ports."),
        ),
        (
            "filter/DOCKER-ISOLATION-STAGE-1",
            "-j DOCKER-ISOLATION-STAGE-2",
            why("A packet from {iif} that leaves this network may go to another network of Docker: stage 2 decides."),
        ),
        (
            "filter/DOCKER-(ISOLATION-STAGE-1|INTERNAL)",
            "! -s ",
            why("The network on {oif} is internal: only its own addresses ({src}) may send there."),
        ),
        (
            "filter/DOCKER-(ISOLATION-STAGE-1|INTERNAL)",
            "! -d ",
            why("The network on {iif} is internal: its containers may send to its own addresses ({dst}) only."),
        ),
        ("filter/DOCKER-INTERNAL", "", why("It separates internal networks from everything else.")),
        (
            "filter/DOCKER-ISOLATION-STAGE-2",
            "",
            why("It drops packets that came out of one network of Docker and would enter another."),
        ),
        (
            "filter/DOCKER-ISOLATION-STAGE-2",
            "-j DROP",
            why("The packet came from another network of Docker: two networks stay apart, and {oif} is one of them."),
        ),
        (
            "filter/DOCKER-(ISOLATION-STAGE-1|ISOLATION-STAGE-2|USER)",
            "-j RETURN",
            why("No rule of this chain fits: the chain that jumped here goes on."),
        ),
        (
            "filter/DOCKER-USER",
            "",
            why("It is for the rules of the user: dockerd makes the chain, and never changes what is in it."),
        ),
    )


GENERATED = "integration/network/bridge/iptablesdoc/generated"
RULES_OF_28 = shapes("28.5.2", GENERATED)
RULES_OF_29 = shapes("29.7.2", GENERATED)
RULES_UNTIL_26 = shapes("20.10.24", "vendor/github.com/docker/libnetwork/drivers/bridge")


def policy_reason(policy: str | None) -> Why | None:
    """The reason of the policy of FORWARD."""
    return None if policy is None else POLICY_DROP if policy == "DROP" else POLICY_ACCEPT

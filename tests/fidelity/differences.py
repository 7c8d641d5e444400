"""Where a lab of labctl is not what the real thing makes, and why: the only place where that may be said.

A line of `alike.differences` that no entry here explains fails its case, and so does an entry of the
case that explains nothing. `*` in a pattern stands for anything. "was" is labctl's, "should be" the real.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

REPLAYS = ("kubenet", "hairpin", "ipMasq", "ptp", "portmap", "firewall", "tuning")
SHAPES = ("bridge", "hairpin", "promisc", "ipMasq", "default gateway", "ptp", "firewall", "portmap")
WITH_NFT = ("bridge", "ptp", "portmap")  # compared with the plugins of 1.9
FOLLOWED = (
    *(f"labctl-cni {shape}" for shape in SHAPES),
    *(f"labctl-cni {shape} with nft" for shape in WITH_NFT),
)
RELEASES = ("20.10", "26", "28")  # of docker-bridge that a daemon was seen of
WIRED = ("docker-bridge", "docker networks", "docker without its proxy")
WIDE = (*(f"docker dual {release}" for release in RELEASES), "docker modes 28")  # networks with IPv6 beside others
DOCKER = (*(f"{case} {release}" for release in RELEASES for case in WIRED), *WIDE)
USER_DEFINED = tuple(case for case in DOCKER if not case.startswith("docker-bridge"))
PODMAN = ("podman 1.17", "podman 1.17 iptables", "podman 2.0")
CASES = (
    *FOLLOWED,
    "kubenet",
    "kubenet-hostport",
    "flannel",
    *DOCKER,
    *(f"replay of docker {release}" for release in RELEASES),
    "docker-overlay 20.10",
    *PODMAN,
    *(f"replay of {name}" for name in REPLAYS),
)


@dataclass(frozen=True)
class Reason:
    """Why some lines of some cases are as they are."""

    why: str
    cases: tuple[str, ...]
    lines: tuple[str, ...]


DIFFERENCES = (
    Reason(
        "labctl's plugin gives its end of a cable an alias that says whose it is, with which addresses, so that a GC"
        " (which the plugins of that release do not know) and a DEL that is told nothing find what is theirs",
        FOLLOWED,
        ("node1: ip link veth-?-eth0: ifalias was labctl-cni net ? eth0 10.244.0.?/24, should be None",),
    ),
    Reason(
        "the plugins of 1.9 give a container's device a queue, as the kernel does; those of 1.1, which labctl's plugin"
        " follows in this, give it none",
        tuple(case for case in FOLLOWED if case.endswith("with nft")),
        (
            "?: changed link eth0: txqueuelen was 0, should be 1000",
            "?: ip link eth0: txqlen was None, should be 1000",
        ),
    ),
    Reason(
        "the models are of IPv4, and labctl's links keep silent in IPv6 unless a file asks for it: no link-local"
        " address, no solicited groups, so that a capture shows nothing that nobody sent",
        ("kubenet", "kubenet-hostport", "flannel", *DOCKER, *PODMAN),
        (
            "*: changed link *: autoconf was off, should be on",
            "*: changed sysctl net.ipv6.conf.*.addr_gen_mode: value was 1, should be 0",
            "*: ip link *: inet6_addr_gen_mode was none, should be eui64",
            "*: ip addr * fe80::MADE-OF-MAC: missing",
            "*: ip -6 route table all * fe80::* missing",
            "*: ip maddr * ff02::MADE-OF-MAC: missing",
            "*: ip maddr * 33:33:ff:MADE-OF-MAC: missing",
            "*: bridge fdb * 33:33:ff:MADE-OF-MAC*: missing",
        ),
    ),
    Reason(
        "without any address iproute2 reports the device itself",
        ("kubenet", "kubenet-hostport", "flannel", *DOCKER),
        ("*: ip addr veth-*-eth?: extra",),
    ),
    Reason(
        "the same, of devices that the kernel or the file names",
        PODMAN,
        ("host1: ip addr veth?: extra", "host1: ip addr q-f1: extra"),
    ),
    Reason(
        "netavark switches IPv6's autoconfiguration off in networks of IPv4 as well; a kernel without IPv6 has no such"
        " setting to write",
        PODMAN,
        ("??: changed sysctl net.ipv6.conf.*.autoconf: value was 1, should be 0",),
    ),
    Reason(
        "labctl asks for each IPv6 address without a trial, also where the device makes none",
        PODMAN,
        ("*: ip addr *::?: nodad was True, should be None",),
    ),
    Reason(
        "a device that is there when IPv6 forwarding is switched on joins three groups of all routers, a later one"
        " joins one of them; labctl writes the settings when all devices are there",
        PODMAN,
        ("host1: ip maddr * ff0?::2: extra",),
    ),
    Reason(
        "IPv6 again: an address without a trial, and no router's word taken on the bridge",
        ("kubenet", "kubenet-hostport", "flannel"),
        (
            "?: changed sysctl net.ipv6.conf.eth0.accept_dad: value was 1, should be 0",
            "node1: changed sysctl net.ipv6.conf.*.accept_ra: value was 1, should be 0",
        ),
    ),
    Reason(
        "IPv6 again: Docker switches it off in a container, where labctl leaves it unused; a kernel without IPv6"
        " has no such setting to write",
        DOCKER,
        (
            "c?: changed sysctl net.ipv6.conf.*.disable_ipv6: value was 0, should be 1",
            "c?: ip -6 route table all multicast ff00::/8 eth0 local 256: extra",
            "host1: changed sysctl net.ipv6.conf.*.accept_ra: value was 1, should be 0",
        ),
    ),
    Reason(
        "and the same in containers of user-defined networks",
        USER_DEFINED,
        (
            "d?: changed sysctl net.ipv6.conf.*.disable_ipv6: value was 0, should be 1",
            "d?: ip -6 route table all multicast ff00::/8 eth? local 256: extra",
        ),
    ),
    Reason(
        "and up to 20.10 on a container's loopback device, too",
        tuple(case for case in DOCKER if case.endswith("20.10")),
        (
            "??: extra address ::1/128 dev lo",
            "??: ip addr lo ::1: extra",
            "??: ip -6 route table all local ::1 lo local 0: extra",
        ),
    ),
    Reason(
        "networks with IPv6: all their addresses are usable at once, also those that the kernel makes of MAC addresses",
        WIDE,
        (
            "??: changed sysctl net.ipv6.conf.eth?.accept_dad: value was 0, should be 1",
            "host1: changed sysctl net.ipv6.conf.*.accept_dad: value was 0, should be 1",
        ),
    ),
    Reason(
        "in a lab the host forwards IPv6 before its devices come: they join the groups of routers of every scope",
        WIDE,
        ("host1: ip maddr * ff01::2: extra", "host1: ip maddr * ff05::2: extra"),
    ),
    Reason(
        "the bridge of an isolated network has no address, and no link-local one in a lab",
        ("docker modes 28",),
        ("host1: ip addr net2: extra",),
    ),
    Reason(
        "and before 28 dockerd left the detection of duplicates to the kernel on its bridges",
        ("docker dual 20.10", "docker dual 26"),
        ("host1: ip addr net? *: nodad was True, should be None",),
    ),
    Reason(
        "from 26 on Docker switches IPv6 off on a device that is there, and the group of all nodes, which the device"
        " joined before, stays; the twin's device is born silent",
        ("replay of docker 26", "replay of docker 28"),
        (
            "??: ip maddr eth? 33:33:00:00:00:01: missing",
            "??: bridge fdb eth? 33:33:00:00:00:01 ['self']: missing",
        ),
    ),
    Reason(
        "in user-defined networks Docker's embedded DNS server answers at 127.0.0.11, by rules in each container that"
        " lead to ports it draws; labs resolve names by /etc/hosts, and the page says that the server is skipped",
        USER_DEFINED,
        (
            "d?: missing iptables -t nat -N DOCKER_OUTPUT",
            "d?: missing iptables -t nat -N DOCKER_POSTROUTING",
            "d?: missing iptables -t nat -A OUTPUT -d 127.0.0.11/32 -j DOCKER_OUTPUT",
            "d?: missing iptables -t nat -A POSTROUTING -d 127.0.0.11/32 -j DOCKER_POSTROUTING",
            "d?: missing iptables -t nat -A DOCKER_OUTPUT -d 127.0.0.11/32 -p * --dport 53 -j DNAT *",
            "d?: missing iptables -t nat -A DOCKER_POSTROUTING -s 127.0.0.11/32 -p * -j SNAT --to-source :53",
        ),
    ),
    Reason(
        "IPv6 in a swarm: on the hosts as with docker0; in the overlays' namespaces switched off, as in containers",
        ("docker-overlay 20.10",),
        (
            "*: changed link *: autoconf was off, should be on",
            "*: changed sysctl net.ipv6.conf.*.addr_gen_mode: value was 1, should be 0",
            "*: ip link *: inet6_addr_gen_mode was none, should be eui64",
            "host?: ip addr * fe80::MADE-OF-MAC: missing",
            "host?: ip addr veth-*-eth1: extra",
            "host?: ip -6 route table all * fe80::* missing",
            "host?: ip maddr * ff02::MADE-OF-MAC: missing",
            "host?: ip maddr * 33:33:ff:MADE-OF-MAC: missing",
            "host?: bridge fdb * 33:33:ff:MADE-OF-MAC*: missing",
            "host?: changed sysctl net.ipv6.conf.docker*.accept_ra: value was 1, should be 0",
            *(
                f"{node}: {line}"
                for node in ("c?", "host?-ov")
                for line in (
                    "changed sysctl net.ipv6.conf.*.disable_ipv6: value was 0, should be 1",
                    "extra address ::1/128 dev lo",
                    "ip addr lo ::1: extra",
                    "ip -6 route table all local ::1 lo local 0: extra",
                    "ip -6 route table all multicast ff00::/8 * local 256: extra",
                )
            ),
        ),
    ),
    Reason(
        "the embedded DNS of user-defined networks, which the model leaves out",
        ("docker-overlay 20.10",),
        (
            "c?: missing iptables -t nat -N DOCKER_*",
            "c?: missing iptables -t nat -A DOCKER_* 127.0.0.11*",
            "c?: missing iptables -t nat -A OUTPUT -d 127.0.0.11/32 -j DOCKER_OUTPUT",
            "c?: missing iptables -t nat -A POSTROUTING -d 127.0.0.11/32 -j DOCKER_POSTROUTING",
        ),
    ),
)


def unexplained(case: str, lines: list[str]) -> list[str]:
    """The lines that no entry explains, and the patterns of this case that explain no line."""
    assert case in CASES
    patterns = [pattern for reason in DIFFERENCES if case in reason.cases for pattern in reason.lines]
    matching = {pattern: _matcher(pattern) for pattern in patterns}
    left = [line for line in lines if not any(matcher.fullmatch(line) for matcher in matching.values())]
    idle = [pattern for pattern, matcher in matching.items() if not any(map(matcher.fullmatch, lines))]
    return [*left, *(f"explains nothing in {case}: {pattern}" for pattern in idle)]


def _matcher(pattern: str) -> re.Pattern[str]:
    return re.compile(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."))

"""Why the objects exist that almost every machine of a lab has: its namespace, its loopback device, its settings. Pure.

The sysctls are those of `primitives.forwarding_sysctls`. Their meaning depends on the value only, so one function
explains all of them.
"""

from __future__ import annotations

from labctl.core.resources import Sysctl
from labctl.core.why import KERNEL, LABCTL, Component, Source, Why

RUNTIME = Component("the container runtime (containerd)", Source("kubernetes/cri-api", "RunPodSandbox", "v1"))
NETWORKING = "Documentation/networking/ip-sysctl.rst"

MACHINE = LABCTL.why("It is the machine {ns}. In a lab, each machine is one network namespace of the same kernel.")
NODE = LABCTL.why("It is a node of the cluster, a machine that runs pods ({runs}).")
HOST = LABCTL.why("It is a host of Docker, a machine that runs containers ({runs}).")
POD = RUNTIME.why(
    "It is the network of the pod {ns}: all containers of the pod share its devices, addresses and ports."
)
LOOPBACK = KERNEL.why(
    "Programs of {ns} reach each other at 127.0.0.1 over it. A new namespace has it, but down.",
    "drivers/net/loopback.c",
)

ETHERNET = LABCTL.why("It is the Ethernet between the machines: on real machines, a switch and its cables.")
SWITCH = LABCTL.why("It is the switch of this Ethernet: it forwards frames between machines by MAC address, no IP.")
SWITCH_ADDRESS = LABCTL.why("{ns} is the gateway of this Ethernet: its machines send packets for elsewhere to {ip}.")
SWITCH_PORT = LABCTL.why("It is the port of the switch for {peer_ns}: the far end of its cable.")
CABLE = LABCTL.why("It is the network card of {ns}: a cable connects it to the Ethernet.")
SWITCH_NO_IPTABLES = KERNEL.why(
    "A real switch has no iptables: with 1, frames between two machines would pass the firewall of {ns}.",
    "Documentation/networking/bridge.rst",
)

_IP_FORWARD = {
    "1": KERNEL.why("{ns} is a router: with 0, the kernel drops every packet that is not for {ns} itself."),
    "0": KERNEL.why("{ns} is not a router: the kernel drops a packet that arrives for another machine."),
}
_RP_FILTER = {
    "0": KERNEL.why("{ns} accepts a packet whatever its source is: the kernel does not look for a route back to it."),
    "1": KERNEL.why("{ns} drops a packet if the route back to its source leaves by another device than it came by."),
    "2": KERNEL.why("{ns} drops a packet only if no route at all leads back to its source."),
}
_SEND_REDIRECTS = {
    "0": LABCTL.why(
        "{ns} does not show senders a shorter way (ICMP redirect). A redirect changes the path of later packets, and"
        " a lab must show the same path each time."
    ),
    "1": KERNEL.why("{ns} may show a sender a shorter way to a target (ICMP redirect), the kernel's own value."),
}
_BY_LEAF = {"ip_forward": _IP_FORWARD, "rp_filter": _RP_FILTER, "send_redirects": _SEND_REDIRECTS}


def sysctl_reason(item: Sysctl) -> Why | None:
    """The reason of a setting of `forwarding_sysctls`, by its name and value."""
    return _BY_LEAF.get(item.name.rpartition(".")[2], {}).get(item.value)

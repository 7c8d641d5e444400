"""The kernel's names for why it dropped a packet, as sentences: for losses that nothing better explains. Pure.

The names are those of Linux's include/net/dropreason-core.h; they change between releases, so an unknown one is shown
as it is. Where a kernel gives none, the function it happened in still tells something.
"""

from __future__ import annotations

from labctl.tracing.loss_point import Scene
from labctl.tracing.result import Why

REASONS = {
    "NO_SOCKET": "no socket in {node} wants it",
    "NETFILTER_DROP": "a netfilter hook of {node} dropped it",
    "OTHERHOST": "the frame was for another machine's MAC address",
    "IP_CSUM": "its IP checksum is wrong",
    "IP_INHDR": "its IP header was refused (time to live over, or malformed)",
    "IP_RPFILTER": "the reverse-path filter of {node} refused its source",
    "IP_OUTNOROUTES": "{node} has no route for it",
    "IP_INNOROUTES": "{node} has no route for it",
    "IP_INADDRERRORS": "{node} is not its destination and may not forward it",
    "IP_LOCAL_SOURCE": "its source is an address of {node} itself",
    "IP_INVALID_SOURCE": "its source address is none that a packet may have",
    "IP_LOCALNET": "an address of 127.0.0.0/8 may not come from outside",
    "IP_INVALID_DEST": "its destination address is none that a packet may have",
    "IPV6DISABLED": "IPv6 is off in {node}",
    "NEIGH_FAILED": "nobody answered when {node} asked for the next hop's MAC address",
    "NEIGH_CREATEFAIL": "{node} could make no neighbour entry: the machine's table is full",
    "NEIGH_QUEUEFULL": "too many packets waited in {node} for a neighbour's answer",
    "PKT_TOO_BIG": "it is too big for the next link and may not be cut",
    "QDISC_DROP": "the queue of the device dropped it (tc)",
    "TC_INGRESS": "a tc filter at the device's entry dropped it",
    "TC_EGRESS": "a tc filter at the device's exit dropped it",
    "XDP": "an XDP program dropped it",
    "CPU_BACKLOG": "the processor's queue of received packets was full",
    "SOCKET_RCVBUFF": "the socket's buffer in {node} was full",
    "TCP_LISTEN_OVERFLOW": "the listener in {node} has too many connections waiting",
    "UDP_CSUM": "its UDP checksum is wrong",
    "TCP_CSUM": "its TCP checksum is wrong",
    "DEV_READY": "the device is not ready",
    "VXLAN_VNI_NOT_FOUND": "{node} knows no VXLAN of that number",
    "VXLAN_INVALID_HDR": "its VXLAN header is malformed",
    "NO_TX_TARGET": "the device does not know where to send it",
    "BRIDGE_INGRESS_STP_STATE": "the bridge port is not forwarding (spanning tree)",
    "FRAG_REASM_TIMEOUT": "not all of its pieces arrived",
    "UNHANDLED_PROTO": "nobody in {node} understands its protocol",
    "RECURSION_LIMIT": "it went round in circles inside of {node}",
}
LOCATIONS = {
    "__dev_forward_skb2": "the other end of the cable does not take it (down, or too big for its MTU)",
    "__dev_forward_skb": "the other end of the cable does not take it (down, or too big for its MTU)",
    "veth_xmit": "the other end of the cable does not take it",
    "ip6_forward": "{node} may not forward it, or cannot",
    "ip6_pkt_drop": "{node} has no usable route for it",
    "br_handle_frame": "the bridge port does not take it",
    "br_handle_frame_finish": "the bridge did not pass it on",
    "vxlan_xmit": "the tunnel does not know where to send it",
    "vxlan_rcv": "no tunnel in {node} takes it out",
    "ip_rcv_finish_core": "{node} refused it before routing",
    "ip_forward": "{node} refused to forward it",
}


def kernel(scene: Scene) -> Why | None:
    """The kernel's own word for it."""
    drop = scene.drop
    if drop is None:
        return None
    text = REASONS.get(drop.reason) or LOCATIONS.get(drop.location)
    if text is None:
        word = drop.reason or "gives no reason"
        text = "the kernel dropped it in {node}: " + word
    return Why("kernel", text.format(node=scene.node))

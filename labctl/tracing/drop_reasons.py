"""The kernel's drop reasons as sentences, for losses that no other cause explains. Pure.

The names are those of Linux's include/net/dropreason-core.h. They change between releases, so an unknown name is shown
as it is. If a kernel gives no reason, the function that dropped the packet is used.
"""

from __future__ import annotations

from labctl.core.observations import KernelEvent
from labctl.tracing.loss_point import LossPoint
from labctl.tracing.result import Cause

REASONS = {
    "NO_SOCKET": "no socket in {node} accepts it",
    "NETFILTER_DROP": "a netfilter hook of {node} dropped it",
    "OTHERHOST": "the frame was for another machine's MAC address",
    "IP_CSUM": "its IP checksum is wrong",
    "IP_INHDR": "its IP header was rejected (TTL expired, or malformed)",
    "IP_RPFILTER": "the reverse-path filter of {node} rejected its source",
    "IP_OUTNOROUTES": "{node} has no route for it",
    "IP_INNOROUTES": "{node} has no route for it",
    "IP_INADDRERRORS": "{node} is not its destination and does not forward it",
    "IP_LOCAL_SOURCE": "its source is an address of {node} itself",
    "IP_INVALID_SOURCE": "its source address is not valid",
    "IP_LOCALNET": "an address of 127.0.0.0/8 must not come from outside",
    "IP_INVALID_DEST": "its destination address is not valid",
    "IPV6DISABLED": "IPv6 is off in {node}",
    "NEIGH_FAILED": "{node} got no answer when it asked for the next hop's MAC address",
    "NEIGH_CREATEFAIL": "{node} could not create a neighbour entry: the machine's table is full",
    "NEIGH_QUEUEFULL": "too many packets waited in {node} for a neighbour's answer",
    "PKT_TOO_BIG": "it is too big for the next link and may not be fragmented",
    "QDISC_DROP": "the queue of the device dropped it (tc)",
    "TC_INGRESS": "a tc filter dropped it as it entered the device",
    "TC_EGRESS": "a tc filter dropped it as it left the device",
    "XDP": "an XDP program dropped it",
    "CPU_BACKLOG": "the processor's queue of received packets was full",
    "SOCKET_RCVBUFF": "the socket's buffer in {node} was full",
    "TCP_LISTEN_OVERFLOW": "the listener in {node} has too many connections waiting",
    "UDP_CSUM": "its UDP checksum is wrong",
    "TCP_CSUM": "its TCP checksum is wrong",
    "DEV_READY": "the device is not ready",
    "VXLAN_VNI_NOT_FOUND": "{node} has no VXLAN with that number",
    "VXLAN_INVALID_HDR": "its VXLAN header is malformed",
    "NO_TX_TARGET": "the device does not know where to send it",
    "BRIDGE_INGRESS_STP_STATE": "the bridge port is not forwarding (spanning tree)",
    "FRAG_REASM_TIMEOUT": "not all of its fragments arrived",
    "UNHANDLED_PROTO": "nothing in {node} handles its protocol",
    "RECURSION_LIMIT": "it went in a loop inside {node}",
}
LOCATIONS = {
    "__dev_forward_skb2": "the other end of the cable does not accept it (it is down, or its MTU is too small)",
    "__dev_forward_skb": "the other end of the cable does not accept it (it is down, or its MTU is too small)",
    "veth_xmit": "the other end of the cable does not accept it",
    "ip6_forward": "{node} is not allowed to forward it, or cannot",
    "ip6_pkt_drop": "{node} has no usable route for it",
    "br_handle_frame": "the bridge port does not accept it",
    "br_handle_frame_finish": "the bridge did not forward it",
    "vxlan_xmit": "the tunnel does not know where to send it",
    "vxlan_rcv": "no tunnel in {node} decapsulates it",
    "ip_rcv_finish_core": "{node} rejected it before routing",
    "ip_forward": "{node} refused to forward it",
    "ip_error": "the routing of {node} refused it",
    "ip6_mc_input": "{node} does not receive that multicast address",
    "br_dev_queue_push_xmit": "the bridge port is down, or the frame is larger than its MTU",
    "br_nf_dev_queue_xmit": "the frame is larger than the MTU of the bridge port",
}


NO_REASONS = ("", "NOT_SPECIFIED")  # an older kernel reports none; a newer one has no name for every drop


def drop_text(drop: KernelEvent, node: str) -> str:
    """The kernel's report of a drop in a line: its reason and its function. Without a reason, the function in words."""
    if drop.reason not in NO_REASONS:
        return f"skb:kfree_skb {drop.reason} at {drop.location}()"
    words = LOCATIONS.get(drop.location)
    meaning = f": {words.format(node=node)}" if words is not None else ""
    return f"skb:kfree_skb at {drop.location}(){meaning} (the kernel gives no reason)"


def kernel_reason(loss_point: LossPoint) -> Cause | None:
    """The kernel's own reason for the drop; without one, its function in words."""
    drop = loss_point.drop
    if drop is None:
        return None
    text = REASONS.get(drop.reason) or LOCATIONS.get(drop.location)
    if text is None:
        what = (
            drop.reason if drop.reason not in NO_REASONS else f"it gives no reason, only its function {drop.location}()"
        )
        text = "the kernel dropped it in {node}: " + what
    return Cause("kernel", text.format(node=loss_point.node))

"""The kernel's drop reasons as sentences, for losses that no other cause explains. Pure.

The names are those of Linux's include/net/dropreason-core.h. They change between releases, so an unknown name is shown
as it is. If a kernel gives no reason, the function that dropped the packet is used.
"""

from __future__ import annotations

from labctl.core.observations import KernelEvent
from labctl.core.sentence import Sentence, joined, sentence
from labctl.tracing.loss_point import LossPoint
from labctl.tracing.result import Cause

# the placeholder {node} is filled in by `_about`
REASONS = {
    "NO_SOCKET": sentence("no socket in {node} accepts it"),
    "NETFILTER_DROP": sentence("a netfilter hook of {node} dropped it"),
    "OTHERHOST": sentence("the frame was for another machine's MAC address"),
    "IP_CSUM": sentence("its IP checksum is wrong"),
    "IP_INHDR": sentence("its IP header was rejected (TTL expired, or malformed)"),
    "IP_RPFILTER": sentence("the reverse-path filter of {node} rejected its source"),
    "IP_OUTNOROUTES": sentence("{node} has no route for it"),
    "IP_INNOROUTES": sentence("{node} has no route for it"),
    "IP_INADDRERRORS": sentence("{node} is not its destination and does not forward it"),
    "IP_LOCAL_SOURCE": sentence("its source is an address of {node} itself"),
    "IP_INVALID_SOURCE": sentence("its source address is not valid"),
    "IP_LOCALNET": sentence("an address of 127.0.0.0/8 must not come from outside"),
    "IP_INVALID_DEST": sentence("its destination address is not valid"),
    "IPV6DISABLED": sentence("IPv6 is off in {node}"),
    "NEIGH_FAILED": sentence("{node} got no answer when it asked for the next hop's MAC address"),
    "NEIGH_CREATEFAIL": sentence("{node} could not create a neighbour entry: the machine's table is full"),
    "NEIGH_QUEUEFULL": sentence("too many packets waited in {node} for a neighbour's answer"),
    "PKT_TOO_BIG": sentence("it is too big for the next link and may not be fragmented"),
    "QDISC_DROP": sentence("the queue of the device dropped it (tc)"),
    "TC_INGRESS": sentence("a tc filter dropped it as it entered the device"),
    "TC_EGRESS": sentence("a tc filter dropped it as it left the device"),
    "XDP": sentence("an XDP program dropped it"),
    "CPU_BACKLOG": sentence("the processor's queue of received packets was full"),
    "SOCKET_RCVBUFF": sentence("the socket's buffer in {node} was full"),
    "TCP_LISTEN_OVERFLOW": sentence("the listener in {node} has too many connections waiting"),
    "UDP_CSUM": sentence("its UDP checksum is wrong"),
    "TCP_CSUM": sentence("its TCP checksum is wrong"),
    "DEV_READY": sentence("the device is not ready"),
    "VXLAN_VNI_NOT_FOUND": sentence("{node} has no VXLAN with that number"),
    "VXLAN_INVALID_HDR": sentence("its VXLAN header is malformed"),
    "NO_TX_TARGET": sentence("the device does not know where to send it"),
    "BRIDGE_INGRESS_STP_STATE": sentence("the bridge port is not forwarding (spanning tree)"),
    "FRAG_REASM_TIMEOUT": sentence("not all of its fragments arrived"),
    "UNHANDLED_PROTO": sentence("nothing in {node} handles its protocol"),
    "RECURSION_LIMIT": sentence("it went in a loop inside {node}"),
}
LOCATIONS = {
    "__dev_forward_skb2": sentence(
        "the other end of the cable does not accept it (it is down, or its MTU is too small)"
    ),
    "__dev_forward_skb": sentence(
        "the other end of the cable does not accept it (it is down, or its MTU is too small)"
    ),
    "veth_xmit": sentence("the other end of the cable does not accept it"),
    "ip6_forward": sentence("{node} is not allowed to forward it, or cannot"),
    "ip6_pkt_drop": sentence("{node} has no usable route for it"),
    "br_handle_frame": sentence("the bridge port does not accept it"),
    "br_handle_frame_finish": sentence("the bridge did not forward it"),
    "vxlan_xmit": sentence("the tunnel does not know where to send it"),
    "vxlan_rcv": sentence("no tunnel in {node} decapsulates it"),
    "ip_rcv_finish_core": sentence("{node} rejected it before routing"),
    "ip_forward": sentence("{node} refused to forward it"),
    "ip_error": sentence("the routing of {node} refused it"),
    "ip6_mc_input": sentence("{node} does not receive that multicast address"),
    "br_dev_queue_push_xmit": sentence("the bridge port is down, or the frame is larger than its MTU"),
    "br_nf_dev_queue_xmit": sentence("the frame is larger than the MTU of the bridge port"),
}


EVENT = "skb:kfree_skb"  # the kernel's tracepoint
NO_REASONS = ("", "NOT_SPECIFIED")  # an older kernel reports none; a newer one has no name for every drop


def drop_text(drop: KernelEvent, node: str) -> Sentence:
    """The kernel's report of a drop in a line: its reason and its function. Without a reason, the function in words."""
    if drop.reason not in NO_REASONS:
        return sentence("{event} at {function}()", event=f"{EVENT} {drop.reason}", function=drop.location)
    words = LOCATIONS.get(drop.location)
    what = sentence("{event} at {function}()", event=EVENT, function=drop.location)
    if words is not None:
        what = joined(": ", (what, _about(words, node)))
    return sentence("{drop} (the kernel gives no reason)", drop=what)


def _about(words: Sentence, node: str) -> Sentence:
    """The sentence about a machine."""
    return Sentence(words.template, {"node": node})


def kernel_reason(loss_point: LossPoint) -> Cause | None:
    """The kernel's own reason for the drop; without one, its function in words."""
    drop = loss_point.drop
    if drop is None:
        return None
    words = REASONS.get(drop.reason) or LOCATIONS.get(drop.location)
    if words is not None:
        return Cause("kernel", _about(words, loss_point.node))
    what: str = drop.reason
    if what in NO_REASONS:
        what = sentence("it gives no reason, only its function {function}()", function=drop.location)
    return Cause("kernel", sentence("the kernel dropped it in {node}: {reason}", node=loss_point.node, reason=what))

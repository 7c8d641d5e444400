"""Losses at the load balancer of Services, which is a program behind a TUN device of the fabric. Pure."""

from __future__ import annotations

from labctl.core.resources import Link
from labctl.core.sentence import sentence
from labctl.kubernetes.services.fabric import FABRIC
from labctl.tracing.loss_point import LossPoint
from labctl.tracing.result import Cause, exec_command


def no_program(link: Link) -> Cause:
    """A TUN device that no program has opened: the kernel drops what should leave by it, before or after a tap."""
    return Cause(
        "link-down", sentence("{link} has no carrier: no program reads what is sent to this TUN device", link=link.at)
    )


def no_node(loss_point: LossPoint) -> Cause | None:
    """The load balancer got the packet and sent it to no node."""
    tip, link, question = loss_point.last_observation, loss_point.device, loss_point.evidence.question
    if loss_point.role != "request" or tip is None or tip.direction != "out" or question.health_port is None:
        return None
    if link is None or link.kind != "tun" or link.at.ns != FABRIC:
        return None
    if link.at.dev in loss_point.namespace.no_carrier:
        return no_program(link)
    if not question.health_port:
        text = sentence(
            "the load balancer at {link} does not answer pings of {address}", link=link.at, address=question.address
        )
        if question.port is not None:
            text = sentence(
                "the load balancer at {link} serves no {protocol} port {port} of {address}",
                link=link.at,
                protocol=question.protocol.upper(),
                port=question.port,
                address=question.address,
            )
        return Cause("load-balancer", text)
    text = sentence(
        "the load balancer at {link} sent it to no node: no node passes the health check at port {port}",
        link=link.at,
        port=question.health_port,
    )
    ask = exec_command(loss_point.evidence, FABRIC, f"curl -si http://NODE:{question.health_port}/healthz")
    return Cause("load-balancer", text, (), (ask,))

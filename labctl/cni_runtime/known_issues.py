"""What plugins are known to get wrong: complaints of a CHECK that say nothing about the pod. Pure.

A row here needs an upstream report, and a reason why nothing true can hide behind the complaint.
"""

from __future__ import annotations

from labctl.cni.spec import Error, Json
from labctl.cni_runtime.observed_state import addresses


def mistaken(plugin: str, error: Error | None, result: Json) -> str:
    """Why a complaint is the plugin's own mistake; "" if it is to be believed.

    portmap's CHECK wants the chains of both families wherever ip6tables works, also for a pod without an IPv6
    address, for which its ADD made none (containernetworking/plugins#819). It looks at IPv4 first: what is wrong
    there it has said by then.
    """
    if plugin == "portmap" and error is not None and error.msg.startswith("could not check ipv6 dnat"):
        found = addresses(result)
        if found and all(ip.version == 4 for ip in found):
            return "portmap asks for IPv6 rules of a pod without IPv6, its known mistake: plugins#819"
    return ""

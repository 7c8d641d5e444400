"""Known bugs of plugins: errors of a CHECK that do not concern the pod. Pure.

An entry here needs an upstream report, and a reason why the error cannot hide a real problem.
"""

from __future__ import annotations

from labctl.cni.spec import Error, Json
from labctl.cni_runtime.observed_state import result_addresses


def known_issue(plugin: str, error: Error | None, result: Json) -> str:
    """Why an error is a known bug of the plugin; "" if it is a real error.

    portmap's CHECK expects the chains of both families wherever ip6tables works, also for a pod without an IPv6
    address, for which its ADD creates none (containernetworking/plugins#819). It checks IPv4 first, so it reports
    IPv4 problems before this error.
    """
    if plugin == "portmap" and error is not None and error.msg.startswith("could not check ipv6 dnat"):
        found = result_addresses(result)
        if found and all(ip.version == 4 for ip in found):
            return "portmap expects IPv6 rules for a pod without IPv6, a known bug: plugins#819"
    return ""

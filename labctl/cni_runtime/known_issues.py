"""Known bugs of plugins: errors of a CHECK that do not concern the pod, and of a DEL that has removed all. Pure.

An entry here needs an upstream report, and a reason why the error cannot hide a real problem.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from ipaddress import ip_network

from labctl.cni.spec import Error, Json
from labctl.cni_runtime.invocation import PluginCall
from labctl.cni_runtime.observed_state import result_addresses
from labctl.core.resources import Net, Route

GO_PANIC_EXIT_CODE = 2  # of a Go program that crashed
_ROUTE_WITHOUT_GATEWAY = re.compile(
    r"Expected Route \{Dst:\{IP:(\S+) Mask:([0-9a-f]+)\} GW:<nil>\} not found in routing table"
)
# ip6?tables could not delete the jump to a chain that does not exist: with the back end nft, and with legacy
_NO_IPTABLES_CHAIN = re.compile(
    r"\S*ip6?tables -t nat -D POSTROUTING .*-j (CNI-[0-9a-f]+) .*"
    r"(?:Chain '\1' does not exist|Couldn't load target `\1':No such file or directory).*",
    re.DOTALL,
)
_IPV4_DNAT = re.compile(r"--to-destination [0-9.]+:")


def known_issue(call: PluginCall, error: Error, result: Json, routes: Callable[[], Iterable[Route]]) -> str:
    """Why an error is a known bug of the plugin; "" if it is a real error. `routes` reads those of the pod.

    portmap's CHECK looks for IPv4 rules also in ip6tables, wherever that works: for a pod without an IPv6 address, for
    which its ADD creates no IPv6 rule, and for a pod with both (containernetworking/plugins#819). It checks IPv4 first,
    so it reports IPv4 problems before this error, and an IPv4 rule cannot be missing in ip6tables.

    CHECK of bridge, also in 1.9, calls the IPAM plugin of a list that has none, such as one for frames only
    (findings/bridge-check-needs-ipam.sh). Nothing of the pod has been looked at then; `labctl status` compares it.

    Before 1.3, CHECK of the plugins with an IPAM section did not find a route that IPAM gives without a gateway, other
    than a default route: their ADD creates it by the gateway of the address (containernetworking/plugins#886). The
    routes of the pod show whether it is there.
    """
    if call.plugin == "portmap" and error.msg.startswith("could not check ipv6 dnat"):
        found = result_addresses(result)
        if (found and all(ip.version == 4 for ip in found)) or _IPV4_DNAT.search(error.msg):
            return "portmap looks for IPv4 rules in ip6tables, a known bug: plugins#819"
    ipam = call.config.get("ipam")
    if error.msg == "no plugin name provided" and not (isinstance(ipam, dict) and ipam.get("type")):
        return f"{call.plugin} asks for an IPAM plugin, and the list has none, a known bug of its CHECK"
    destination = _route_without_gateway(error.msg)
    if destination is not None and any(route.dst == destination and route.via is not None for route in routes()):
        return f"{call.plugin} does not find the route to {destination}, which is there, a known bug: plugins#886"
    return ""


def is_known_del_error(call: PluginCall, error: Error) -> bool:
    """Whether the error of a DEL is a known bug: everything of the pod is removed all the same.

    Since 1.6, DEL of bridge and ptp removes the masquerade rules of both back ends, whichever the ADD used. Of iptables
    1.8.9 it does not understand that there is no such rule, and reports that as an error, after the rules of nft are
    gone (findings/bridge-nftables-del-fails.sh). A chain that does not exist holds no rule.
    """
    runs = error.msg.split("running [")
    return (
        call.config.get("ipMasqBackend") == "nftables"
        and len(runs) > 1
        and not runs[0].strip()
        and all(_NO_IPTABLES_CHAIN.fullmatch(run) for run in runs[1:])
    )


def known_crash(call: PluginCall, exit_code: int) -> str:
    """Why a CHECK that crashed is a known bug of the plugin; "" if it is a real error.

    Before 1.9.1, bandwidth's CHECK crashes for a pod without a limit (containernetworking/plugins#1221). Such a pod has
    nothing that it could check.
    """
    limits = call.config.get("runtimeConfig", {}).get("bandwidth") or call.config.get("ingressRate")
    unlimited = not (limits or call.config.get("egressRate"))
    if call.plugin == "bandwidth" and exit_code == GO_PANIC_EXIT_CODE and unlimited:
        return "bandwidth crashes for a pod without a limit, a known bug: plugins#1221"
    return ""


def _route_without_gateway(message: str) -> Net | None:
    """The destination of the route in an error of CHECK; None if it is another error."""
    found = _ROUTE_WITHOUT_GATEWAY.fullmatch(message)
    if found is None:
        return None
    try:
        return ip_network(f"{found[1]}/{int(found[2], 16).bit_count()}")
    except ValueError:
        return None

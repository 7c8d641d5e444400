"""Why each chain and rule of kube-proxy exists, by its shape. Pure data; `kube_proxy_iptables` writes them.

The rules of a cluster can be many, so nothing is attached to one: only who asks for a reason has it looked up.
"""

from __future__ import annotations

from labctl.core.why import Component, RuleShapes, Source

KUBE_PROXY = Component("kube-proxy", Source("kubernetes/kubernetes", "pkg/proxy/iptables/proxier.go", "1.35"))
_why = KUBE_PROXY.why

ROUTE_LOCALNET = _why(
    "A nodePort shall also work at 127.0.0.1 of {ns}: with 0, the kernel drops packets from 127.0.0.1 that leave by a"
    " device."
)
HEALTH = Component("kube-proxy", Source("kubernetes/kubernetes", "pkg/proxy/healthcheck", "1.35")).why(
    "It is the HTTP server of kube-proxy on {ns}: load balancers ask it whether {ns} can take packets of a Service."
)
BACKEND = Component("the container of a pod", Source("labctl", "labctl/kubernetes/services/backends.py")).why(
    "A Service leads to {ns} at {ports}, so something must answer there: labctl has no images, and starts a small"
    " server."
)

RULES = RuleShapes(
    # ---- nat: the way in
    (
        "nat/(PREROUTING|OUTPUT)",
        "-j KUBE-SERVICES",
        _why(
            "A packet may be for a Service, and no machine has the address of a Service. PREROUTING has the rule for"
            " packets of pods and from outside, OUTPUT for those of {ns} itself."
        ),
    ),
    (
        "nat/KUBE-SERVICES",
        "",
        _why("It finds the Service of a packet by its address and port; for most packets there is none."),
    ),
    (
        "nat/KUBE-SERVICES",
        "cluster IP",
        _why("A packet to {dst} port {dport} is for the Service {service}: its chain chooses an endpoint."),
    ),
    (
        "nat/KUBE-SERVICES",
        "external IP",
        _why("{dst} is an external address of the Service {service}: the packet came from outside."),
    ),
    (
        "nat/KUBE-SERVICES",
        "loadbalancer IP",
        _why("{dst} is the load balancer's address of the Service {service}: it sent the packet here unchanged."),
    ),
    (
        "nat/KUBE-SERVICES",
        "-j KUBE-NODEPORTS",
        _why(
            "No Service has the address, but it is one of {ns} itself: the packet may be for a nodePort. It is the"
            " last rule."
        ),
    ),
    ("nat/KUBE-NODEPORTS", "", _why("It finds the Service of a nodePort.")),
    ("nat/KUBE-NODEPORTS", "-j KUBE-EXT", _why("The nodePort {dport} of every node leads to the Service {service}.")),
    # ---- nat: chains of a Service
    ("nat/KUBE-SVC-.*", "", _why("It chooses among all ready endpoints of {chain_service} (traffic policy Cluster).")),
    (
        "nat/KUBE-SVL-.*",
        "",
        _why("It chooses among the endpoints of {chain_service} on {ns} only (traffic policy Local)."),
    ),
    (
        "nat/KUBE-EXT-.*",
        "",
        _why("It is for packets of {chain_service} from outside: nodePorts, external addresses, load balancers."),
    ),
    (
        "nat/KUBE-FW-.*",
        "",
        _why("It decides which clients may use the load balancer of {chain_service} (loadBalancerSourceRanges)."),
    ),
    ("nat/KUBE-SEP-.*", "", _why("It is one endpoint of {chain_service}: one pod, or another address.")),
    (
        "nat/KUBE-SV[CL]-.*",
        "! -s .*-j KUBE-MARK-MASQ",
        _why(
            "The client is not a pod (it is not in {src}): its packet is marked for masquerading, so that the answer"
            " of the endpoint comes back through {ns}."
        ),
    ),
    (
        "nat/KUBE-SV[CL]-.*",
        "! -i .*-j KUBE-MARK-MASQ",
        _why("The client is not a pod (it does not come by {iif}): its packet is marked for masquerading."),
    ),
    (
        "nat/KUBE-SV[CL]-.*",
        "-j KUBE-MARK-MASQ",
        _why("kube-proxy masquerades every packet to a Service (masqueradeAll): the pod never sees the client."),
    ),
    (
        "nat/KUBE-SV[CL]-.*",
        "-m recent --rcheck",
        _why("The client had this endpoint within the last hours (ClientIP affinity): it gets the same again."),
    ),
    (
        "nat/KUBE-SV[CL]-.*",
        "--probability",
        _why(
            "With this probability, a new connection to {service} goes to {endpoint}. The share is that of the"
            " endpoints that are left."
        ),
    ),
    (
        "nat/KUBE-SV[CL]-.*",
        "-j KUBE-SEP",
        _why("Connections that no rule before has taken go to the last endpoint: {endpoint}."),
    ),
    (
        "nat/KUBE-EXT-.*",
        "-j KUBE-MARK-MASQ",
        _why(
            "The packet comes from outside and may leave to another node: with the address of {ns} as source, the"
            " answer comes back here. The pod does not see the client (externalTrafficPolicy Cluster, or {ns}"
            " itself)."
        ),
    ),
    (
        "nat/KUBE-EXT-.*",
        "pod traffic",
        _why("The client is a pod: it may use all endpoints, also with externalTrafficPolicy Local."),
    ),
    (
        "nat/KUBE-EXT-.*",
        "route LOCAL",
        _why("The client is {ns} itself: it may use all endpoints, also with externalTrafficPolicy Local."),
    ),
    ("nat/KUBE-EXT-.*", "-j KUBE-SV", _why("The chain {target} chooses the endpoint.")),
    ("nat/KUBE-FW-.*", "-j KUBE-EXT", _why("This client may use the load balancer.")),
    (
        "nat/KUBE-FW-.*",
        "will be dropped",
        _why("All other clients: the packet keeps its address, and KUBE-PROXY-FIREWALL drops it."),
    ),
    (
        "nat/KUBE-SEP-.*",
        "-j KUBE-MARK-MASQ",
        _why(
            "The pod {src_machine} reaches itself through the Service: it would drop an answer from its own address,"
            " so it is masqueraded."
        ),
    ),
    (
        "nat/KUBE-SEP-.*",
        "-j DNAT",
        _why("The destination becomes the endpoint {to}, the pod {to_machine}. From here on it is a usual packet."),
    ),
    # ---- nat: the way out
    ("nat/KUBE-MARK-MASQ", "", _why("Other chains jump here to have a packet masqueraded when it leaves.")),
    ("nat/KUBE-MARK-MASQ", "-j MARK", _why("It sets the bit of the mark that KUBE-POSTROUTING looks for.")),
    (
        "nat/POSTROUTING",
        "-j KUBE-POSTROUTING",
        _why("Every packet that leaves {ns} passes the chain that masquerades marked packets."),
    ),
    ("nat/KUBE-POSTROUTING", "", _why("It masquerades the packets that have kube-proxy's mark, and no others.")),
    ("nat/KUBE-POSTROUTING", "-j RETURN", _why("A packet without the mark keeps its source.")),
    (
        "nat/KUBE-POSTROUTING",
        "-j MARK",
        _why("It takes the mark away, so that a packet which passes here twice is translated once."),
    ),
    ("nat/KUBE-POSTROUTING", "-j MASQUERADE", _why("The packet has the mark: its source becomes an address of {ns}.")),
    # ---- filter
    (
        "(mangle|nat|filter)/KUBE-PROXY-CANARY",
        "",
        _why("It is empty: kube-proxy looks whether it still exists, to notice that someone has deleted all rules."),
    ),
    (
        "filter/KUBE-FIREWALL",
        "",
        _why("It has a rule against packets that misuse route_localnet. The kubelet makes the same chain and rule."),
    ),
    (
        "filter/(INPUT|OUTPUT)",
        "-j KUBE-FIREWALL",
        _why("Packets for {ns}, and of {ns}, pass the chain that protects 127.0.0.1."),
    ),
    (
        "filter/KUBE-FIREWALL",
        "-j DROP",
        _why(
            "With route_localnet a neighbour could reach 127.0.0.1 of {ns}: such a packet is dropped, unless DNAT"
            " made it."
        ),
    ),
    (
        "filter/.*",
        "-j KUBE-PROXY-FIREWALL",
        _why("New connections to a load balancer's address that is limited to some clients stop there."),
    ),
    (
        "filter/KUBE-PROXY-FIREWALL",
        "",
        _why("It drops connections to load balancers from clients that may not use them."),
    ),
    (
        "filter/KUBE-PROXY-FIREWALL",
        "-j DROP",
        _why("The load balancer of {service} is limited to some clients, and this is none of them."),
    ),
    (
        "filter/INPUT",
        "-j KUBE-NODEPORTS",
        _why("Health checks of load balancers may come in, whatever other rules say."),
    ),
    ("filter/KUBE-NODEPORTS", "", _why("It lets health checks of load balancers in.")),
    (
        "filter/KUBE-NODEPORTS",
        "-j ACCEPT",
        _why("Load balancers ask at port {dport} whether {ns} has endpoints of {service}."),
    ),
    (
        "filter/.*",
        "-j KUBE-EXTERNAL-SERVICES",
        _why("A new connection from outside to a Service that has nothing to answer it ends there."),
    ),
    (
        "filter/KUBE-EXTERNAL-SERVICES",
        "",
        _why("It ends connections from outside to Services without an endpoint that may answer."),
    ),
    (
        "filter/KUBE-EXTERNAL-SERVICES",
        "-j DROP",
        _why(
            "The Service {service} has endpoints, but none on {ns} (externalTrafficPolicy Local): the load balancer"
            " must try another node."
        ),
    ),
    (
        "filter/(FORWARD|OUTPUT)",
        "-j KUBE-SERVICES",
        _why("A new connection to a Service that has nothing to answer it ends there."),
    ),
    (
        "filter/KUBE-SERVICES",
        "",
        _why("It ends connections to Services without an endpoint, so that clients do not wait."),
    ),
    (
        "filter/KUBE-.*SERVICES",
        "-j REJECT",
        _why("The Service {service} has no endpoints: the client learns it at once."),
    ),
    (
        "filter/KUBE-SERVICES",
        "-j DROP",
        _why("The Service {service} has no endpoint on {ns} (internalTrafficPolicy Local)."),
    ),
    ("filter/FORWARD", "-j KUBE-FORWARD", _why("What Services need is accepted, whatever policy FORWARD has.")),
    ("filter/KUBE-FORWARD", "", _why("It accepts the packets of Services that {ns} forwards.")),
    (
        "filter/KUBE-FORWARD",
        "INVALID",
        _why(
            "A packet that conntrack does not know would pass without translation: the client would get an answer"
            " from an address that it never asked, and reset the connection."
        ),
    ),
    ("filter/KUBE-FORWARD", "-m mark", _why("The packet is marked for masquerading, so it belongs to a Service.")),
    ("filter/KUBE-FORWARD", "ESTABLISHED", _why("A connection that was allowed once goes on, both ways.")),
)

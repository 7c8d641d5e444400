"""Why each object, rule and element of kube-proxy's table exists in mode nftables, by its shape. Pure data;
`kube_proxy_nftables` writes them.
"""

from __future__ import annotations

from labctl.core.why import Component, RuleShapes, Source

KUBE_PROXY = Component("kube-proxy", Source("kubernetes/kubernetes", "pkg/proxy/nftables/proxier.go", "1.35"))
_why = KUBE_PROXY.why
IN_TABLE = "ip6? kube-proxy/"
NO_ENDPOINTS = _why("The Service {service} has no endpoints: the client learns it at once.")

TABLES = RuleShapes(
    (
        IN_TABLE,
        "",
        _why("All that kube-proxy writes on {ns} is in this table, so no other program's rules are among it."),
    ),
    # ---- sets and maps
    (
        IN_TABLE + "cluster-ips",
        "",
        _why("It has every cluster IP: packets to a port that no Service has are refused."),
    ),
    (IN_TABLE + "cluster-ips", ".", _why("{dst} is the cluster IP of a Service.")),
    (
        IN_TABLE + "nodeport-ips",
        "",
        _why("It has the addresses of {ns} that serve nodePorts: by default only the main one."),
    ),
    (IN_TABLE + "nodeport-ips", ".", _why("NodePorts are served at {dst}.")),
    (
        IN_TABLE + "no-endpoint-services",
        "",
        _why("It ends connections to Services that have nothing to answer them, so that clients do not wait."),
    ),
    (
        IN_TABLE + "no-endpoint-services",
        ": goto",
        NO_ENDPOINTS,
    ),
    (
        IN_TABLE + "no-endpoint-services",
        ": drop",
        _why("The Service {service} has endpoints, but none on {ns}, and its traffic policy is Local."),
    ),
    (
        IN_TABLE + "no-endpoint-nodeports",
        "",
        _why("It does for nodePorts what no-endpoint-services does for addresses."),
    ),
    (
        IN_TABLE + "no-endpoint-nodeports",
        ": goto",
        NO_ENDPOINTS,
    ),
    (
        IN_TABLE + "no-endpoint-nodeports",
        ": drop",
        _why(
            "The Service {service} has endpoints, but none on {ns} (externalTrafficPolicy Local): the load balancer"
            " must try another node."
        ),
    ),
    (IN_TABLE + "firewall-ips", "", _why("It has the load balancers that are limited to some clients.")),
    (IN_TABLE + "firewall-ips", ": goto", _why("The load balancer of {service} is limited to some clients.")),
    (
        IN_TABLE + "service-ips",
        "",
        _why("It finds the Service of a packet by its address, protocol and port in one step, however many there are."),
    ),
    (
        IN_TABLE + "service-ips",
        ": goto external",
        _why("{dst} port {dport} is for the Service {service}, from outside."),
    ),
    (IN_TABLE + "service-ips", ": goto", _why("{dst} port {dport} is the cluster IP of the Service {service}.")),
    (IN_TABLE + "service-nodeports", "", _why("It finds the Service of a nodePort.")),
    (
        IN_TABLE + "service-nodeports",
        ": goto",
        _why("The nodePort {dport} of every node leads to the Service {service}."),
    ),
    (
        IN_TABLE + "hairpin-connections",
        "",
        _why("It has the endpoints on {ns}: a pod that reaches itself through a Service must be masqueraded."),
    ),
    (IN_TABLE + "hairpin-connections", ".", _why("The pod {dst_machines} may reach itself at port {dport}.")),
    (
        IN_TABLE + "affinity-.*",
        "",
        _why("Packets add their sources here: clients of this endpoint of {chain_service} that come back to it."),
    ),
    # ---- the hooks
    (
        IN_TABLE + "filter-(prerouting|output).*",
        "jump firewall-check",
        _why("New connections to a load balancer's address that is limited to some clients stop here, before DNAT."),
    ),
    (
        IN_TABLE + "filter-.*",
        "jump nodeport-endpoints-check",
        _why("A new connection to a nodePort that has nothing to answer it ends there."),
    ),
    (
        IN_TABLE + "filter-.*",
        "jump service-endpoints-check",
        _why("A new connection to a Service that has nothing to answer it ends there."),
    ),
    (
        IN_TABLE + "filter-.*",
        "jump cluster-ips-check",
        _why("A new connection that still has a cluster IP as destination was translated by no Service."),
    ),
    (IN_TABLE + "filter-.*", "", _why("The kernel calls it at a hook: from here on, new connections are looked at.")),
    (
        IN_TABLE + "nat-(prerouting|output)",
        "jump services",
        _why("A packet may be for a Service, and no machine has the address of a Service."),
    ),
    (IN_TABLE + "nat-prerouting", "", _why("Packets of pods and from outside pass it, before they are routed.")),
    (IN_TABLE + "nat-output", "", _why("Packets of {ns} itself pass it.")),
    (IN_TABLE + "nat-postrouting", "", _why("Every packet that leaves {ns} passes it.")),
    (IN_TABLE + "nat-postrouting", "jump", _why("What has kube-proxy's mark is masqueraded there.")),
    # ---- the chains of the table
    (IN_TABLE + "nodeport-endpoints-check", "", _why("It looks for nodePorts that have nothing to answer.")),
    (IN_TABLE + "service-endpoints-check", "", _why("It looks for addresses of Services that have nothing to answer.")),
    (IN_TABLE + "firewall-check", "", _why("It looks for load balancers that are limited to some clients.")),
    (IN_TABLE + "services", "", _why("It finds the Service of a packet; for most packets there is none.")),
    (
        IN_TABLE + "services",
        "@cluster-ips",
        _why(
            "The client is not a pod, or all packets to Services are masqueraded (masqueradeAll): the answer of the"
            " endpoint comes back through {ns}."
        ),
    ),
    (IN_TABLE + "services", "@service-ips", _why("The address, protocol and port of a packet name its Service.")),
    (
        IN_TABLE + "services",
        "@service-nodeports",
        _why("No Service has the address, but it is one of {ns} itself: the packet may be for a nodePort."),
    ),
    (IN_TABLE + ".*-check", "vmap", _why("One look into the map decides.")),
    (IN_TABLE + "masquerading", "", _why("It masquerades the packets that have kube-proxy's mark.")),
    (IN_TABLE + "masquerading", "return", _why("A packet without the mark keeps its source.")),
    (
        IN_TABLE + "masquerading",
        "@hairpin-connections",
        _why("A pod on {ns} reaches itself through a Service: it would drop an answer from its own address."),
    ),
    (
        IN_TABLE + "masquerading",
        "mark set .*masquerade",
        _why("The packet has the mark: it loses the mark, and its source becomes an address of {ns}."),
    ),
    (
        IN_TABLE + "masquerading",
        "mark set",
        _why("It takes the mark away, so that a packet which passes here twice is translated once."),
    ),
    (IN_TABLE + "masquerading", "masquerade", _why("The packet has the mark: its source becomes an address of {ns}.")),
    (IN_TABLE + "cluster-ips-check", "", _why("It ends connections to cluster IPs that no chain has translated.")),
    (
        IN_TABLE + "cluster-ips-check",
        "reject",
        _why("The Service has the address, but not this port: the client learns it."),
    ),
    (IN_TABLE + "cluster-ips-check", "drop", _why("{dst} is the range of cluster IPs, and no Service has this one.")),
    (IN_TABLE + "mark-for-masquerade", "", _why("Other chains jump here to have a packet masqueraded when it leaves.")),
    (IN_TABLE + "mark-for-masquerade", ".", _why("It sets the bit of the mark that the chain masquerading looks for.")),
    (IN_TABLE + "reject-chain", "", _why("An element of a map cannot reject, but it can lead to a chain that does.")),
    (IN_TABLE + "reject-chain", "reject", _why("The client gets an error at once.")),
    # ---- the chains of Services
    (
        IN_TABLE + "service-.*",
        "",
        _why("It chooses among all ready endpoints of {chain_service} (traffic policy Cluster)."),
    ),
    (
        IN_TABLE + "local-.*",
        "",
        _why("It chooses among the endpoints of {chain_service} on {ns} only (traffic policy Local)."),
    ),
    (
        IN_TABLE + "external-.*",
        "",
        _why("It is for packets of {chain_service} from outside: nodePorts, external addresses, load balancers."),
    ),
    (
        IN_TABLE + "firewall-.*",
        "",
        _why("It decides which clients may use the load balancer of {chain_service} (loadBalancerSourceRanges)."),
    ),
    (IN_TABLE + "endpoint-.*", "", _why("It is one endpoint of {chain_service}: one pod, or another address.")),
    (
        IN_TABLE + "(service|local)-.*",
        "jump mark-for-masquerade",
        _why(
            "The client is not a pod, or all packets to Services are masqueraded (masqueradeAll): the answer of the"
            " endpoint comes back through {ns}."
        ),
    ),
    (
        IN_TABLE + "(service|local)-.*",
        "@affinity",
        _why("The client had this endpoint within the last hours (ClientIP affinity): it gets the same again."),
    ),
    (
        IN_TABLE + "(service|local)-.*",
        "numgen",
        _why("A new connection goes to one of the endpoints by chance, to each with the same probability."),
    ),
    (
        IN_TABLE + "external-.*",
        "short-circuit pod",
        _why("The client is a pod: it may use all endpoints, also with Local."),
    ),
    (
        IN_TABLE + "external-.*",
        "masquerade local",
        _why("The client is {ns} itself: its packet is masqueraded, as the endpoint may be on another node."),
    ),
    (
        IN_TABLE + "external-.*",
        "short-circuit local",
        _why("The client is {ns} itself: it may use all endpoints, also with externalTrafficPolicy Local."),
    ),
    (
        IN_TABLE + "external-.*",
        "mark",
        _why(
            "The packet comes from outside and may leave to another node: with the address of {ns} as source, the"
            " answer comes back here. The pod does not see the client (externalTrafficPolicy Cluster)."
        ),
    ),
    (IN_TABLE + "external-.*", "goto", _why("The chain {target} chooses the endpoint.")),
    (IN_TABLE + "firewall-.*", "drop", _why("The client is in none of the ranges that may use the load balancer.")),
    (
        IN_TABLE + "endpoint-.*",
        "jump mark-for-masquerade",
        _why(
            "The pod {src_machine} reaches itself through the Service: it would drop an answer from its own address,"
            " so it is masqueraded."
        ),
    ),
    (IN_TABLE + "endpoint-.*", "update", _why("It keeps the client for this endpoint (ClientIP affinity).")),
    (
        IN_TABLE + "endpoint-.*",
        "dnat",
        _why("The destination becomes the endpoint {to}, the pod {to_machine}. From here on it is a usual packet."),
    ),
)

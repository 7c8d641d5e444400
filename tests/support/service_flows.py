"""The packet-flow tests of kube-proxy as rows: who reaches a Service how, which pods answer, and which client they see.

Source: kubernetes pkg/proxy/iptables/proxier_test.go and pkg/proxy/nftables/proxier_test.go, 1.29 to 1.35. The rows for
a wrong port, for an address that no Service has, for 127.0.0.1 and for a second address of a node are what the rules
do, and no promise of Kubernetes: here the modes differ (KEP-3866).

A row names a client, a target and a port. The target is a machine or a point, of which the nodePort is meant; `svc
NAME`, the cluster IP of a Service; `lb NAME`, the address of its load balancer; `self`, 127.0.0.1; or an external IP.
The answer says which client each pod must see: a machine, or `snat NODE`, the address that a node gives to packets for
that pod; or it is a word for an answer of another kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Answer: TypeAlias = "dict[str, str] | Literal['refused', 'dropped', 'unreachable']"

TEXT = """
name: flows
model: {model}
kube_proxy: {{mode: {mode}}}
nodes:
  node1: {{pods: {{a: {{labels: {{app: web, one: a}}}}, b: {{labels: {{app: web}}}}, q: }}}}
  node2: {{pods: {{c: {{labels: {{app: web}}}}, d: }}}}
  node3: {{pods: {{e: }}}}
"""
SERVICES = """
services:
  web:
    type: LoadBalancer
    selector: {{app: web}}
    externalIPs: [192.0.2.1]
    ports:
      - {{name: http, port: 80, targetPort: 8080, nodePort: 30080}}
      - {{name: dns, port: 53, targetPort: 5353, nodePort: 30053, protocol: UDP}}
  local:
    type: LoadBalancer
    selector: {{app: web}}
    externalTrafficPolicy: Local
    healthCheckNodePort: 30181
    externalIPs: [192.0.2.11, 192.0.2.12, 192.0.2.13]
    ports: [{{port: 80, targetPort: 8080, nodePort: 30081}}]
  one:
    type: LoadBalancer
    selector: {{one: a}}
    externalTrafficPolicy: Local
    healthCheckNodePort: 30182
    ports: [{{port: 80, targetPort: 8080, nodePort: 30082}}]
  inside: {{selector: {{app: web}}, internalTrafficPolicy: Local, ports: ['80:8080']}}
  empty:
    type: NodePort
    selector: {{app: none}}
    externalIPs: [192.0.2.21]
    ports: [{{name: http, port: 80, nodePort: 30083}}, {{name: dns, port: 53, nodePort: 30054, protocol: UDP}}]
  sticky:
    type: NodePort
    selector: {{app: web}}
    sessionAffinity: ClientIP
    ports: [{{port: 80, targetPort: 8080, nodePort: 30084}}]
  ranged:
    type: LoadBalancer
    selector: {{app: web}}
    loadBalancerSourceRanges: [{vm}/32]
    ports: [{{port: 80, targetPort: 8080, nodePort: 30085}}]
"""
WAYS = {  # addresses that no machine has, and the node to which the network outside the cluster routes them
    "192.0.2.1": "node1",
    "192.0.2.11": "node1",
    "192.0.2.12": "node2",
    "192.0.2.13": "node3",
    "192.0.2.21": "node1",
    "svc web": "node1",
    "svc local": "node3",
    "lb web": "node1",
    "lb local": "node1",
    "lb one": "node2",
    "lb ranged": "node1",
}
PODS = ("a", "b", "c")


@dataclass(frozen=True, slots=True)
class Row:
    """One flow and its answer. `models` and `modes` are those in which it exists, () for all."""

    name: str
    source: str
    target: str
    port: int
    answer: Answer
    protocol: Literal["tcp", "udp"] = "tcp"
    sticky: bool = False
    models: tuple[str, ...] = ()
    modes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}: {self.source} to {self.target}:{self.port}"


def _all(client: str) -> dict[str, str]:
    return dict.fromkeys(PODS, client)


def _here(client: str) -> dict[str, str]:
    return dict.fromkeys(PODS[:2], client)


BRIDGED = ("kubenet", "flannel", "calico")  # here a packet of a pod to another node's address gets its node's address
HAIRPIN = ("flannel", "calico", "azure-cni-transparent")  # here a packet may leave where it came from
IPTABLES, NFTABLES = ("iptables",), ("nftables",)
UNUSED = "10.0.255.200"  # a cluster IP that no Service has
ROWS = (
    Row("pod to ClusterIP", "q", "svc web", 80, _all("q")),
    Row("pod to ClusterIP", "d", "svc web", 80, _all("d")),
    Row("pod to ClusterIP, UDP", "q", "svc web", 53, _all("q"), "udp"),
    Row("pod to ClusterIP, no endpoint here", "e", "svc web", 80, _all("e")),
    Row("pod to ClusterIP of itself", "a", "svc one", 80, {"a": "snat node1"}, models=HAIRPIN),
    Row("node to ClusterIP", "node1", "svc web", 80, _all("snat node1")),
    Row("off-cluster to ClusterIP", "vm", "svc web", 80, _all("snat node1")),
    Row("off-cluster to ClusterIP, no endpoint there", "vm", "svc local", 80, _all("snat node3")),
    Row("external to NodePort, Cluster", "vm", "node1", 30080, _all("snat node1")),
    Row("external to NodePort, Cluster, no endpoint there", "vm", "node3", 30080, _all("snat node3")),
    Row("external to NodePort, Cluster, UDP", "vm", "node1", 30053, _all("snat node1"), "udp"),
    Row("external to LB, Cluster", "vm", "lb web", 80, _all("snat node1")),
    Row("external to externalIP, Cluster", "vm", "192.0.2.1", 80, _all("snat node1")),
    Row("external to NodePort, Local", "vm", "node1", 30081, _here("vm")),
    Row("external to NodePort, Local", "vm", "node2", 30081, {"c": "vm"}),
    Row("external to LB, Local", "vm", "lb local", 80, _here("vm")),
    Row("external to externalIP, Local", "vm", "192.0.2.11", 80, _here("vm")),
    Row("external to externalIP, Local", "vm", "192.0.2.12", 80, {"c": "vm"}),
    Row("external to NodePort, Local, none", "vm", "node3", 30081, "dropped"),
    Row("external to LB, Local, none", "vm", "lb one", 80, "dropped"),
    Row("external to externalIP, Local, none", "vm", "192.0.2.13", 80, "dropped"),
    Row("pod to NodePort, Cluster", "q", "node1", 30080, _all("snat node1")),
    Row("pod to LB, Cluster", "q", "lb web", 80, _all("snat node1")),
    Row("pod to LB, Cluster, no endpoint here", "e", "lb web", 80, _all("snat node3")),
    Row("pod to externalIP, Cluster", "d", "192.0.2.1", 80, _all("snat node2")),
    Row("pod to NodePort, Local", "q", "node1", 30081, _all("q")),
    Row("pod to NodePort, Local, no endpoint here", "e", "node3", 30081, _all("e")),
    Row("pod to LB, Local", "q", "lb local", 80, _all("q")),
    Row("pod to LB, Local, no endpoint here", "e", "lb local", 80, _all("e")),
    Row("pod to NodePort of another node, Local", "e", "node1", 30081, _here("node3"), models=BRIDGED),
    Row("node to NodePort, Local", "node1", "node1", 30081, _all("snat node1")),
    Row("node to NodePort, Local, no endpoint here", "node3", "node3", 30081, _all("snat node3")),
    Row("node to LB, Local", "node1", "lb local", 80, _all("snat node1")),
    Row("pod to ClusterIP, no endpoints", "q", "svc empty", 80, "refused"),
    Row("pod to ClusterIP, no endpoints, UDP", "q", "svc empty", 53, "refused", "udp"),
    Row("node to ClusterIP, no endpoints", "node1", "svc empty", 80, "refused"),
    Row("external to NodePort, no endpoints", "vm", "node1", 30083, "refused"),
    Row("pod to NodePort, no endpoints", "q", "node1", 30083, "refused"),
    Row("external to externalIP, no endpoints", "vm", "192.0.2.21", 80, "refused"),
    Row("a port that no Service has", "q", "node1", 30099, "refused"),
    Row("wrong port of a ClusterIP", "d", "svc inside", 81, "unreachable", modes=IPTABLES),
    Row("wrong port of a ClusterIP", "d", "svc inside", 81, "refused", modes=NFTABLES),
    Row("wrong port of a ClusterIP, node", "node2", "svc inside", 81, "refused", modes=NFTABLES),
    Row("ClusterIP that no Service has", "e", UNUSED, 80, "unreachable", models=("kubenet",), modes=IPTABLES),
    Row("ClusterIP that no Service has", "e", UNUSED, 80, "dropped", models=("kubenet",), modes=NFTABLES),
    Row("ClusterIP that no Service has, node", "node3", UNUSED, 80, "dropped", models=("kubenet",), modes=NFTABLES),
    Row("node to its own 127.0.0.1", "node1", "self", 30080, _all("snat node1"), modes=IPTABLES),
    Row("node to its own 127.0.0.1", "node1", "self", 30080, "refused", modes=NFTABLES),
    Row("node to its own 127.0.0.1, Local", "node3", "self", 30081, _all("snat node3"), modes=IPTABLES),
    Row("node to its own 127.0.0.1, Local", "node3", "self", 30081, "refused", modes=NFTABLES),
    *(
        row
        for model, device in (("kubenet", "cbr0"), ("flannel", "cni0"))
        for row in (
            Row("second address of a node", "q", f"node1/{device}", 30080, _all("snat node1"), "tcp", False, (model,),
                IPTABLES),
            Row("second address of a node", "q", f"node1/{device}", 30080, "refused", "tcp", False, (model,), NFTABLES),
        )
    ),
    Row("affinity of a pod", "q", "svc sticky", 80, _all("q"), sticky=True),
    Row("affinity of an external client", "vm", "node1", 30084, _all("snat node1"), sticky=True),
    Row("allowed source range", "vm", "lb ranged", 80, _all("snat node1")),
    Row("another source range", "q", "lb ranged", 80, "dropped"),
    Row("source ranges are not for NodePorts", "q", "node1", 30085, _all("snat node1")),
    Row("internalTrafficPolicy Local", "q", "svc inside", 80, _here("q")),
    Row("internalTrafficPolicy Local", "d", "svc inside", 80, {"c": "d"}),
    Row("internalTrafficPolicy Local, none", "e", "svc inside", 80, "dropped"),
)  # fmt: skip

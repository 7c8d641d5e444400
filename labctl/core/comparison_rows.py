"""The keys of the rows of a comparison, for files that name one. `labctl.compare.table` has the rows themselves."""

from __future__ import annotations

ROW_KEYS = (
    "namespace", "bridge", "subnet", "gateway", "peer", "own_node", "other_node", "vm", "leaving", "internet",
    "from_vm", "from_internet", "same_node", "same_node_ttl", "cross_node", "cross_node_ttl", "beyond", "pod_mtu",
    "path_mtu", "cluster_ip", "node_port", "node_port_local", "wrong_port", "node_port_loopback",
    "ingress_instance", "ingress_ip", "refusal",
    "node_objects", "pod_adds", "pod_adds_elsewhere", "round_trip", "stream",
)  # fmt: skip

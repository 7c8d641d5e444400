"""A matrix of policies, measured: a connection for each pair of pods, from the pod itself to the pod itself."""

from __future__ import annotations

from labctl.core.scenario_types import Lab
from labctl.kernel.namespaces.thread import NetnsThread
from labctl.kernel.probes.port_pairs import PortPairs, in_turns
from labctl.kubernetes.policy_matrix import Measured, PolicyMatrix
from labctl.lab.cni_attach import with_pod_addresses


def measure(lab: Lab, matrix: PolicyMatrix) -> PolicyMatrix:
    """The matrix with what a connection met, for each of its pairs. The lab must run. Raises KernelError."""
    lab = with_pod_addresses(lab)
    namespaces = {one.name: one.netns_of or one.name for one in lab.machines}
    addresses = {one.name: one.addresses for one in lab.machines}
    results: dict[tuple[str, str], tuple[Measured, str]] = {}
    sources = [one.machine for one in matrix.sources]
    targets = [(one.machine, addresses[one.machine][0]) for one in matrix.targets if addresses.get(one.machine)]
    with NetnsThread() as thread, PortPairs(lab.name, matrix.protocol.lower(), matrix.port, thread) as pairs:
        answers = pairs.ask(
            (namespaces[source], namespaces[target], address)
            for source, target, address in in_turns(sources, targets)
            if namespaces[source] != namespaces[target]
        )
    for cell in matrix:
        pair = cell.source.machine, cell.target.machine
        ends = namespaces[pair[0]], namespaces[pair[1]]
        results[pair] = answers.get(ends, ("unknown", "they share one network namespace"))
        if not addresses.get(pair[1]):
            results[pair] = ("unknown", f"{pair[1]} has no address")
    return matrix.measured(results)

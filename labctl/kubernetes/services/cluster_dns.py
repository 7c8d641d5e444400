"""Names of cluster DNS: those of headless Services and of the pods behind them, and the namespace that each pod may
leave out in a name. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.kubernetes.api.cluster_state import ClusterState


def headless_names(state: ClusterState) -> Iterator[tuple[str, str]]:
    """Names and addresses, as cluster DNS has them: NAME.NAMESPACE for each pod behind a headless Service, and
    POD.NAME.NAMESPACE for each pod that names the Service as its subdomain, as those of a StatefulSet do."""
    pods = {ip: pod for pod in state.pods for ip in pod.ips}
    for service in state.cluster.services:
        if not service.headless:
            continue
        domain = f"{service.name}.{service.namespace}"
        slices = (
            one for one in state.cluster.slices if (one.namespace, one.service) == (service.namespace, service.name)
        )
        for ip in dict.fromkeys(end.address for one in slices for end in one.endpoints):
            yield from ((name, str(ip)) for name in _spellings(domain))
            pod = pods.get(ip)
            if pod is not None and state.subdomains.get(pod.machine) == service.name:
                yield from ((name, str(ip)) for name in _spellings(f"{pod.name}.{domain}"))


def search_namespaces(state: ClusterState) -> dict[str, str]:
    """The namespace that a pod may leave out in the name of a Service, for each pod: that of the pod."""
    return {pod.machine or pod.name: pod.namespace for pod in state.pods}


def _spellings(name: str) -> tuple[str, ...]:
    return (name, f"{name}.svc", f"{name}.svc.cluster.local")

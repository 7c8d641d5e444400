"""A Service of a pod on a further interface of EKS, with kube-proxy in mode nftables: the order of two tables decides.

Up to release 1.22, the chain that marks connections is at the priority of kube-proxy's. The kernel runs the chain first
that was registered later, which here is always that of iptables. So each lab has the same order.
"""

from __future__ import annotations

import pytest

from labctl.checks import runner
from labctl.core.iptables import BACKENDS, Backend
from labctl.lab import lifecycle
from tests.support import kernels

pytestmark = pytest.mark.root

NAME = "eks-service-order"
VERDICTS = {"1.22": ["pass", "pass", "pass"], "1.23": ["pass", "pass", "fail"]}


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    if problem := kernels.backend_problem(request.param):
        pytest.skip(problem)
    return request.param


@pytest.mark.parametrize("release", VERDICTS)
def test_the_priority_of_the_table_decides_whether_a_service_is_reached(backend: Backend, release: str) -> None:
    """The last claim says that the Service is not reached, which is true up to 1.22."""
    lifecycle.up(lifecycle.define(NAME, overrides=(f"release={release}",), firewall=backend))
    try:
        outcomes = runner.run(lifecycle.load_compiled_lab(NAME)).outcomes
        of_file = [outcome for outcome in outcomes if outcome.check.origin != "model"]
        assert [outcome.verdict for outcome in of_file] == VERDICTS[release], of_file
    finally:
        lifecycle.down(NAME)

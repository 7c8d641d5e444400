"""`overlap: true` allows ranges and addresses that overlap; a name then stands only where it is certain."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from labctl.core.scenario_types import Lab
from labctl.core.topology import Topology
from labctl.errors import ScenarioError
from labctl.scenario.definition import parse_and_compile

DOCKER = "name: x\nmodel: docker-bridge\nhosts: {host1: {containers: [c1]}}\n"
RANGES = f"{DOCKER}networks: {{back: {{subnet: 192.168.0.0/16}}}}\n"  # of the wire between the hosts
KUBENET = "name: x\nmodel: kubenet\nnodes: {node1: {pods: [a]}}\n"
SERVICES = f"{KUBENET}services: {{web: {{ports: [80]}}}}\nservice_cidr: 10.224.0.0/16\n"
OFFICE = (
    f"{DOCKER}machines: [office]\nlinks: [{{veth: [office/eth0, host1/eth9]}}]\n"
    "addresses: {office/eth0: 172.17.0.2/24, host1/eth9: 198.18.0.1/24}\n"
)


def lab_of(text: str) -> Lab:
    return parse_and_compile(text, "x.yaml")[1]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (RANGES, "overlaps"),
        (f"{KUBENET}internet_cidr: 10.244.0.0/24\npublic_ip: 10.244.0.50\n", "overlaps"),
        (SERVICES, "10.224.0.0/16 overlaps"),
        (OFFICE, r"addresses: c1/eth0 has 172\.17\.0\.2 already"),
    ],
)
def test_what_overlaps_is_refused_unless_the_file_allows_it(text: str, what: str) -> None:
    with pytest.raises(ScenarioError, match=what):
        lab_of(text)
    with pytest.raises(ScenarioError, match=what):
        lab_of(f"{text}overlap: false\n")
    assert lab_of(f"{text}overlap: true\n").machines


def test_other_refusals_stay() -> None:
    with pytest.raises(ScenarioError, match="c1/eth0 is there already"):
        lab_of(f"{DOCKER}overlap: true\nlinks: [{{bridge: c1/eth0}}]\n")


def test_an_address_that_two_machines_have_has_no_name() -> None:
    lab = lab_of(f"{OFFICE}overlap: true\n")
    shared = ip_address("172.17.0.2")
    assert [machine.name for machine in lab.machines if shared in machine.addresses] == ["c1", "office"]
    assert shared not in Topology(lab).machine_by_address

"""Sets, tunnels and their routes as text and as JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest

from labctl.core.diff import diff
from labctl.core.resources import IpSet, Route
from labctl.render.plan_json import resource_from_json, resource_json
from labctl.render.resources import change_lines, resource_values
from labctl.scenario.iproute2_syntax import route
from tests.support.cluster_node import plan


@pytest.mark.parametrize("kind", [IpSet, Route])
def test_objects_survive_json(kind: type) -> None:
    for item in plan():
        if isinstance(item, kind):
            assert resource_from_json(json.loads(json.dumps(resource_json(item)))) == item


def test_a_route_that_nobody_in_particular_is_to_make_may_be_anybodys() -> None:
    some = Route("n1", IPv4Network("10.0.0.0/8"), kind="blackhole")
    birds = replace(some, proto=12)

    assert diff((some,), (birds,)) == ()
    assert [change.kind for change in diff((birds,), (some,))] == ["changed"]
    assert resource_values(birds) == "blackhole 10.0.0.0/8 proto bird"


def test_a_route_says_its_maker_and_its_tunnel_in_the_words_of_ip() -> None:
    words = "10.0.2.0/24 encap ip id 7 dst 192.168.0.2 via 10.0.2.250 dev flow proto 17 onlink"

    made = route("n1", words)

    assert (made.encap, made.proto) == ((7, IPv4Address("192.168.0.2")), 17)
    assert resource_values(made) == words
    assert route("n1", resource_values(made)) == made
    assert change_lines(diff((made,), (replace(made, encap=(8, IPv4Address("192.168.0.2"))),))[0]) == (
        "changed route 10.0.2.0/24: encap was id 8 dst 192.168.0.2, should be id 7 dst 192.168.0.2",
    )

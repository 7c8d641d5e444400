"""Values as `podman run` takes them: published ports, also of sctp, and a network with options."""

from __future__ import annotations

import re

import pytest

from labctl.core.scenario_types import PublishedPort
from labctl.scenario.field_types import InvalidValue
from labctl.scenario.port_values import DOCKER_PORT, ENDPOINT, PODMAN_PORT


def test_podman_publishes_ports_of_sctp_and_docker_does_not() -> None:
    text = "9000-9004:9100-9104/sctp"

    assert PODMAN_PORT.convert(text) == PublishedPort(9000, 9100, "sctp", count=5)
    assert PODMAN_PORT.convert("80:80") == DOCKER_PORT.convert("80:80")
    assert re.fullmatch(PODMAN_PORT.json["pattern"], text)
    assert not re.fullmatch(DOCKER_PORT.json["pattern"], text)
    with pytest.raises(InvalidValue, match=r"'sctp' is not one of tcp, udp$"):
        DOCKER_PORT.convert(text)


def test_another_protocol_is_refused_with_the_similar_one() -> None:
    with pytest.raises(InvalidValue, match="'sctpp' is not one of tcp, udp, sctp") as caught:
        PODMAN_PORT.convert("80:80/sctpp")
    assert caught.value.hint == "did you mean 'sctp'?"


@pytest.mark.parametrize("text", ["net0", "net0:ip=10.89.0.5,mac=02:00:00:00:00:01", "container:web"])
def test_a_network_of_a_container_may_have_options(text: str) -> None:
    assert ENDPOINT.convert(text) == text
    assert re.fullmatch(ENDPOINT.json["pattern"], text)


@pytest.mark.parametrize("text", ["Net0:ip=10.89.0.5", "container:a_b", ":ip=10.89.0.5"])
def test_the_name_of_the_network_is_a_name(text: str) -> None:
    with pytest.raises(InvalidValue):
        ENDPOINT.convert(text)

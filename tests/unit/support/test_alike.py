"""The comparison with real programs: reasons for differences, and addresses made of MAC addresses."""

from __future__ import annotations

import pytest

from labctl.core.resources import Interface, Link
from tests.fidelity import alike
from tests.fidelity.differences import CASES, DIFFERENCES, unexplained


def test_what_nobody_explains_and_what_explains_nothing_are_told() -> None:
    case = "replay of docker 28"
    lines = ["d1: ip maddr eth0 33:33:00:00:00:01: missing", "d1: bridge fdb eth0 33:33:00:00:00:01 ['self']: missing"]
    assert unexplained(case, lines) == []
    assert unexplained(case, [*lines, "a: extra route"]) == ["a: extra route"]
    assert len(unexplained(case, [])) == 2


def test_every_reason_is_of_cases_that_there_are() -> None:
    for reason in DIFFERENCES:
        assert reason.why
        assert reason.lines
        assert set(reason.cases) <= set(CASES)


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("fe80::34f4:12ff:fe99:170f", "fe80::MADE-OF-MAC"),
        ("fe80::34f4:ff:fe99:170f", "fe80::MADE-OF-MAC"),  # 36:f4:00:99:17:0f
        ("fe80::12ff:fe99:f", "fe80::MADE-OF-MAC"),  # 02:00:12:99:00:0f
        ("ff02::1:ff99:170f", "ff02::MADE-OF-MAC"),
        ("fe80::1", "fe80::1"),
        ("fd00::34f4:12ff:fe99:170f", "fd00::34f4:12ff:fe99:170f"),
    ],
)
def test_an_address_that_is_made_of_a_mac_address_is_known(address: str, told: str) -> None:
    assert alike._Names(()).text(f"local {address} cni0") == f"local {told} cni0"


@pytest.mark.parametrize(
    ("device", "prefix", "told"),
    [
        ("docker0", "02:42", "MAC of host/docker0, drawn after 02:42"),
        ("cni0", None, "MAC of host/cni0"),  # the kernel drew it
        ("veth0123abc", "02:42", "MAC of host/veth-nowhere"),  # and this one: Docker leaves it to the kernel
    ],
)
def test_only_what_draws_after_a_prefix_is_asked_for_it(device: str, prefix: str | None, told: str) -> None:
    mac = "02:42:9c:01:02:03"
    link = Link(Interface("host", device), "veth" if device.startswith("veth") else "bridge", mac=mac)
    assert alike._Names((link,), prefix).text(mac) == told

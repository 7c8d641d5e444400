"""What the tests' own comparison of the machine before and after a lab excuses, and what not."""

from __future__ import annotations

from tests.support.machine import changed

CALL = "/proc/sys/net/bridge/bridge-nf-call-iptables"
BEFORE = {"modules": "veth", "mounts": "/", "/proc/sys/net/ipv4/ip_forward": "0"}


def test_settings_that_came_with_a_module_are_no_change() -> None:
    after = {**BEFORE, "modules": "br_netfilter veth", CALL: "0"}

    assert changed(BEFORE, after) == {}
    assert changed(BEFORE, {**after, "modules": "veth"}) == {CALL: (None, "0")}


def test_all_else_is_whatever_was_loaded() -> None:
    after = {**BEFORE, "modules": "br_netfilter veth", "mounts": "/ /mnt", "/proc/sys/net/ipv4/ip_forward": "1"}

    assert changed(BEFORE, after) == {"mounts": ("/", "/ /mnt"), "/proc/sys/net/ipv4/ip_forward": ("0", "1")}
    assert changed(after, BEFORE).keys() == {"mounts", "/proc/sys/net/ipv4/ip_forward"}

"""The indexes that are chosen for a lab's devices: no two of one namespace alike."""

from __future__ import annotations

from labctl.core.resources import Interface
from labctl.kernel.apply.ifindex import Indexes


def test_a_chosen_index_is_free_in_its_namespace() -> None:
    """A cable's far ends take the lowest numbers there, among them those that near ends would have next."""
    indexes = Indexes(None)
    chosen = []
    for name in ("a", "b", "c"):
        chosen += [
            indexes.next_lab_index(Interface("node", f"eth-{name}")),
            indexes.next_free_index(Interface("node", f"veth-{name}")),
        ]

    assert len(set(chosen)) == 6


def test_a_device_of_another_namespace_gets_an_index_that_is_free_in_both() -> None:
    indexes = Indexes(None)
    first = indexes.next_free_index(Interface("outer", "veth-a"))
    for number in range(5):  # peers take the lowest indexes of their namespace, which others may get later
        indexes.next_free_index(Interface("outer", f"veth-{number}"))
    moved = indexes.next_lab_index(Interface("inner", "vxlan"), "outer")
    assert moved > first + 5
    assert indexes.next_free_index(Interface("outer", "veth-b")) != moved

"""The indexes that are chosen for a lab's devices: no two of one namespace alike."""

from __future__ import annotations

from labctl.core.resources import Port
from labctl.kernel.apply.ifindex import Indexes


def test_a_chosen_index_is_free_in_its_namespace() -> None:
    """A cable's far ends take the lowest numbers there, among them those that near ends would have next."""
    indexes = Indexes(None)
    chosen = []
    for name in ("a", "b", "c"):
        chosen += [indexes.near(Port("node", f"eth-{name}")), indexes.far(Port("node", f"veth-{name}"))]

    assert len(set(chosen)) == 6

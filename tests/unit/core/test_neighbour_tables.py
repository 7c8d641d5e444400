"""The machine's neighbour tables: which of them were full between two readings, and what is said about it."""

from __future__ import annotations

from dataclasses import replace

from labctl.core.neighbour_tables import FullTable, NeighbourTable, full_tables

ARP, NDP = NeighbourTable(4, 1024, 100, 7), NeighbourTable(6, 2048, 20, 0)


def test_only_a_table_that_was_full_meanwhile_counts() -> None:
    later = replace(ARP, full_count=8)

    assert full_tables((ARP, NDP), (ARP, NDP)) == ()
    assert full_tables((ARP, NDP), (later, NDP)) == (FullTable(4, 1024),)
    assert full_tables((ARP, NDP), (later, NDP), versions=[6]) == ()
    assert full_tables((ARP, NDP), (later, replace(NDP, full_count=1))) == (FullTable(4, 1024), FullTable(6, 2048))


def test_what_could_not_be_read_proves_nothing() -> None:
    assert full_tables((), (ARP, NDP)) == ()
    assert full_tables((ARP, NDP), ()) == ()


def test_a_full_table_is_named_with_the_sysctl_that_raises_its_limit() -> None:
    assert str(FullTable(6, 2048)) == (
        "the machine's neighbour table for IPv6 was full meanwhile (2048 entries for all labs together), so packets may"
        " be lost: the sysctl net.ipv6.neigh.default.gc_thresh3=16384 gives it room"
    )
    assert FullTable(4, 128).raise_command == "sysctl -w net.ipv4.neigh.default.gc_thresh3=8192"
    assert NDP.raise_command == "sysctl -w net.ipv6.neigh.default.gc_thresh3=16384"


def test_a_table_has_room_for_what_is_missing_to_its_limit() -> None:
    assert ARP.room == 924
    assert replace(ARP, entry_count=5000).room == 0, "permanent entries do not count, and are among them"

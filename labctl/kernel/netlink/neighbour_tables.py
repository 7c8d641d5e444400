"""Read the kernel's neighbour tables: their limits, their sizes, and how often they were full.

Every namespace shows these numbers, which are those of the whole machine; /proc/net/stat/arp_cache and the sysctl
gc_thresh3 exist in the first one only. pyroute2 0.9.7 does not decode how often a table was full, so the message is
decoded here (findings/pyroute2-drops-table-fulls.sh).
"""

from __future__ import annotations

import socket
import struct

from labctl.core.neighbour_tables import NeighbourTable, NeighbourTables
from labctl.kernel.netlink.encoding import RTM_GETNEIGHTBL
from labctl.kernel.netlink.rtnetlink import Channel, attributes

NDTA_THRESH3, NDTA_CONFIG, NDTA_STATS = 4, 5, 7  # linux/neighbour.h
_entries = struct.Struct("=4xI")  # of struct ndt_config
_table_fulls = struct.Struct("=80xQ")  # of struct ndt_stats, since Linux 4.3
_VERSIONS: dict[int, int] = {socket.AF_INET: 4, socket.AF_INET6: 6}


def read() -> NeighbourTables:
    """The tables for IPv4 and IPv6; empty if the kernel does not show them."""
    try:
        channel = Channel()
    except OSError:
        return ()
    try:
        found = list(channel.dump(RTM_GETNEIGHTBL, bytes(4)))
    except OSError:
        return ()
    finally:
        channel.close()
    tables = []
    for data, start, end in found:
        version, parts = _VERSIONS.get(data[start]), attributes(data, start + 4, end)
        if version is None or not {NDTA_THRESH3, NDTA_CONFIG, NDTA_STATS} <= parts.keys():
            continue  # the settings of one device
        first, last = parts[NDTA_STATS]
        if last - first >= _table_fulls.size:
            (limit,) = struct.unpack_from("=I", data, parts[NDTA_THRESH3][0])
            (count,) = _entries.unpack_from(data, parts[NDTA_CONFIG][0])
            tables.append(NeighbourTable(version, limit, count, _table_fulls.unpack_from(data, first)[0]))
    return tuple(tables)

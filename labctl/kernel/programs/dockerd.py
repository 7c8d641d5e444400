"""Docker's daemon, as far as its sockets show it: `dockerd BACKLOG tcp:0.0.0.0:8080 udp:[::1]:53 ...`.

Without its userland proxy the daemon itself listens on every published port, so that no other program of the host can
take it. It accepts no connection and reads no datagram (moby/moby libnetwork/portmapper, `dummyProxy`). BACKLOG is the
number of connections that may wait.
"""

from __future__ import annotations

from collections.abc import Sequence

from labctl.kernel.programs.port_holder import hold_ports


def main(args: Sequence[str]) -> int:
    """Hold the ports until a signal ends the process. Returns 1 if a port cannot be bound."""
    backlog, *places = args
    return hold_ports("dockerd", places, int(backlog))

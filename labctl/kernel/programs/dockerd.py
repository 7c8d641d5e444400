"""Docker's daemon, as far as its sockets show it: `dockerd BACKLOG tcp:0.0.0.0:8080 udp:127.0.0.1:53 ...`.

Without its userland proxy the daemon itself listens on every published port, so that no other program of the host can
take it. It accepts no connection and reads no datagram: DNAT rules lead the packets to the container before they reach
these sockets (moby/moby libnetwork/portmapper, `dummyProxy`). BACKLOG is the number of connections that may wait.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence

from labctl.kernel.programs.daemon import daemonize, report_ready
from labctl.kernel.programs.host_sockets import bind_port


def main(args: Sequence[str]) -> int:
    """Hold the ports until a signal ends the process. Returns 1 if a port cannot be bound."""
    backlog, *places = args
    daemonize("dockerd")
    sockets = []
    for place in places:
        protocol, address, port = place.split(":")
        try:
            sockets.append(bind_port(protocol, address, int(port), int(backlog)))
        except OSError as error:
            print(f"{protocol} port {address}:{port}: {error.strerror}", flush=True)
            return 1
    report_ready()
    while True:
        signal.pause()

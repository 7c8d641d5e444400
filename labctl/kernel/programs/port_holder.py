"""Listen on ports so that no other program can take them, and serve none of them.

DNAT rules lead the packets to a container before they reach these sockets.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable

from labctl.kernel.programs.daemon import daemonize, report_ready
from labctl.kernel.programs.host_sockets import GO_BACKLOG, bind_port


def hold_ports(name: str, places: Iterable[str], backlog: int = GO_BACKLOG) -> int:
    """Hold ports, `tcp:0.0.0.0:8080` or `udp:[::1]:53`, until a signal ends the process with this `name`. Returns 1
    if a port cannot be bound."""
    daemonize(name)
    sockets = []
    for place in places:
        protocol, _, rest = place.partition(":")
        address, _, port = rest.rpartition(":")
        try:
            sockets.append(bind_port(protocol, address.strip("[]"), int(port), backlog))
        except OSError as error:
            print(f"{protocol} port {address}:{port}: {error.strerror}", flush=True)
            return 1
    report_ready()
    while True:
        signal.pause()

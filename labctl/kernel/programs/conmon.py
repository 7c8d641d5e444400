"""The monitor of a container of Podman 5, as far as its sockets show it: `conmon tcp:0.0.0.0:8080 ...`.

Podman opens a socket at each published port and leaves it to conmon, so that no other program of the host can take the
port as long as the container runs (containers/podman libpod/oci_util.go, `bindPorts`).
"""

from __future__ import annotations

from collections.abc import Sequence

from labctl.kernel.programs.port_holder import hold_ports


def main(args: Sequence[str]) -> int:
    """Hold the ports until a signal ends the process. Returns 1 if a port cannot be bound."""
    return hold_ports("conmon", args)

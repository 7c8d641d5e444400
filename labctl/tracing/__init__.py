"""Traces: send one packet, record what every namespace saw of it, and name the place and the cause of a loss.

`run`, `instruments` and `collect` work on a live lab. The other modules are pure, so that a recorded trace can be
explained again without root and without a kernel.
"""

MAX_PAYLOAD_BYTES = 65_000  # bytes of payload that a probe may have

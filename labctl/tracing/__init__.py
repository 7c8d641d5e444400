"""One marked packet, followed through every namespace of a lab: evidence is recorded, a story is told from it.

`run`, `instruments` and `collect` work on a live lab. The other modules are pure, so that a recorded trace can be
explained again without root and without a kernel.
"""

MOST = 65_000  # bytes of payload that a probe may have

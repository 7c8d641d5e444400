"""One marked packet, followed through every namespace of a lab: evidence is recorded, a story is told from it.

`run` does the work on a live lab; everything else here is pure, so that a recording can be told again, without
root and without a kernel.
"""

MOST = 65_000  # bytes of payload that a probe may have

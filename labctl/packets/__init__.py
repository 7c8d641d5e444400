"""Packets as bytes: decode frames, recognise a probe, compute checksums, write pcapng. No I/O."""

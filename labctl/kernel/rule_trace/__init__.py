"""What the kernel reports of one packet: matched rules and drops, switched on for one trace only."""

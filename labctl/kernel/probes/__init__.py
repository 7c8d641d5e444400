"""Traffic that checks and traces send: ping, TCP, UDP, all pairs, and the listeners that answer."""

"""Packet sockets: every frame at the devices of a lab, in order of time."""

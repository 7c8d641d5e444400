"""Carry out the changes of a diff in the kernel."""

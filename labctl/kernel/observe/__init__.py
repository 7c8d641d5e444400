"""The kernel as resources: what a lab looks like now."""

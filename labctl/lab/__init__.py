"""The life cycle of a lab: up, down, status and repair, and the records of running labs."""

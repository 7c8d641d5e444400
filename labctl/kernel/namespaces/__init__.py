"""Network namespaces of a lab: create, enter and remove them, and see what is inside."""

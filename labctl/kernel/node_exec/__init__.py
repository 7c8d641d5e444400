"""Commands and shells inside a node, under the names of the lab."""

"""Run CNI plugins in the nodes of a lab and keep records of their attachments."""

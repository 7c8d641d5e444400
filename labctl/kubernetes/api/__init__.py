"""The objects of the Kubernetes API that labctl uses, and their readers; the state of a cluster."""

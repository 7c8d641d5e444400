"""Kubernetes on top of a model: its API objects, and the rules that its components write for them. No I/O."""

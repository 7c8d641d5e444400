"""Kubernetes objects in a scenario: its own keys for them, and manifests as people have them."""

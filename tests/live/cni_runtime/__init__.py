"""Tests with root of labctl.cni_runtime."""

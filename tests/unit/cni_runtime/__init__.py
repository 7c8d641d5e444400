"""Tests without root of labctl.cni_runtime."""

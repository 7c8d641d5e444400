"""Tests with root of labctl.cni_plugin."""

"""Tests without root of labctl.cni_plugin."""

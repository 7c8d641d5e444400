"""Tests without root of labctl.cni."""

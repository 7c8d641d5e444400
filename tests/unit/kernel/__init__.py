"""Tests without root of labctl.kernel."""

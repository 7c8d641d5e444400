"""Tests with root of labctl.kernel."""

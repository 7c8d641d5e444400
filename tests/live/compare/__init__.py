"""Tests with root of labctl.compare."""

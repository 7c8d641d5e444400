"""Tests with root of labctl.cli."""

"""Tests without root of labctl.cli."""

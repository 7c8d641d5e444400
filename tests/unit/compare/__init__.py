"""Tests without root of labctl.compare."""

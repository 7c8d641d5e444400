"""Tests without root of labctl.core."""

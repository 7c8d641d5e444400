"""Tests without root of labctl.testing."""

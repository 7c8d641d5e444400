"""Tests with root of labctl.testing."""

"""Tests with root of labctl.checks."""

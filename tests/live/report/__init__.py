"""Tests with root of labctl.report."""

"""Tests without root of labctl.report."""

"""Tests without root of labctl.checks."""

"""Tests with root of labctl.lab."""

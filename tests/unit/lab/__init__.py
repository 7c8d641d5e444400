"""Tests without root of labctl.lab."""

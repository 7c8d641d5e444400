"""Tests without root of labctl.packets."""

"""Tests without root of labctl.render."""

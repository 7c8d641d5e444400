"""Tests with root of labctl.kubernetes."""

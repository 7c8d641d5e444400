"""Tests without root of the helpers in tests/support."""

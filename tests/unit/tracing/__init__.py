"""Tests without root of labctl.tracing."""

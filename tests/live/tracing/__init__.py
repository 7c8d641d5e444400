"""Tests with root of labctl.tracing."""

"""Tests with root of labctl.models."""

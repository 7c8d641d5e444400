"""Tests without root of labctl.models."""

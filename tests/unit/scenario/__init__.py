"""Tests without root of labctl.scenario."""

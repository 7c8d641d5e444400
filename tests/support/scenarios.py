"""Scenario texts that several tests use."""

from __future__ import annotations

# ---- scenarios -------------------------------------------------------------------------------------------

MINI = """\
name: mini
model: docker-bridge
hosts:
  host1: {containers: [c1, c2]}
checks:
  - say: they meet
    ping: c1 -> c2
"""

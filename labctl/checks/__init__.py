"""Checks: send a probe, gather evidence, decide pass, fail or inconclusive."""

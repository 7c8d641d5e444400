"""Findings of `labctl doctor` by topic."""

from __future__ import annotations

from labctl.kernel.host_facts import HostFacts
from labctl.lab.doctor import Finding, findings


def find(facts: HostFacts, what: str) -> Finding:
    return next(finding for finding in findings(facts) if finding.subject == what)

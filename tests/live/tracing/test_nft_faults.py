"""Every fault of nft tables, on two labs whose programs write such tables: the trace names the cause."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from labctl.faults.catalogue import applicable
from labctl.faults.lab_objects import PROTOCOLS
from labctl.lab import lifecycle
from tests.support.trace_trial import Row, Trial

KINDS = {
    "docker-nftables": {"nft-wrong-priority", "nft-accept-overruled", "nft-element-missing", "nft-table-flushed"},
    "podman": {"nft-accept-overruled", "nft-table-flushed"},
}


@pytest.fixture(scope="module", params=list(KINDS))
def trial(request: pytest.FixtureRequest) -> Iterator[Trial]:
    name = f"nft-{request.param}"
    lifecycle.up(lifecycle.define(request.param, name))
    yield Trial(lifecycle.load_compiled_lab(name))
    lifecycle.down(name)


def test_the_trace_names_every_fault_of_nft(trial: Trial) -> None:
    rows: list[Row] = []
    tried: set[str] = set()
    for kind, faults in applicable(trial.lab):
        if kind.name.startswith("nft-") and not kind.unnoticed:
            tried.add(kind.name)
            rows += trial.rows(kind, faults[0], PROTOCOLS)
    assert tried == KINDS[trial.lab.name.removeprefix("nft-")]
    assert [row for row in rows if row.judgement != "right"] == []
    assert all(row.noticed for row in rows), "status names the object of every fault"

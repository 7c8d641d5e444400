"""The files that checks write packets to."""

from __future__ import annotations

from pathlib import Path

from labctl.core.scenario_types import Check
from labctl.report.output_files import pcap_writer


def test_packets_that_cannot_be_kept_are_complained_of_and_the_next_are_kept(tmp_path: Path) -> None:
    said: list[str] = []
    folder = tmp_path / "packets"
    keep = pcap_writer(str(folder), said.append)
    folder.rmdir()
    assert keep(Check("one", "ping", "a", "b"), b"1") == ""
    folder.mkdir()
    assert Path(keep(Check("two", "ping", "a", "b"), b"2")).read_bytes() == b"2"
    assert len(said) == 1
    assert "01-one.pcapng: No such file or directory" in said[0]

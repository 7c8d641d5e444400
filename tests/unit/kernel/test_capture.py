"""The filter of `labctl capture`, compiled by tcpdump."""

from __future__ import annotations

import shutil

import pytest

from labctl.errors import UsageError
from labctl.kernel.capture.stream import compile_filter


def test_a_filter_that_is_none_is_refused_in_tcpdumps_words() -> None:
    if shutil.which("tcpdump") is None:
        pytest.skip("no tcpdump here")
    assert compile_filter("  ") is None
    assert len(compile_filter("icmp") or b"") % 8 == 0
    with pytest.raises(UsageError, match="--filter 'foo bar'"):
        compile_filter("foo bar")

"""Encoded texts: read by a program, not by accident."""

from __future__ import annotations

import base64
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.core import hidden_text
from labctl.core.comparison_rows import ROW_KEYS


@given(st.text())
def test_a_text_comes_back(text: str) -> None:
    assert hidden_text.decode(hidden_text.encode(text)) == text


def test_no_word_of_the_text_is_in_its_encoded_form() -> None:
    assert "masquerade" not in hidden_text.encode("break: [masquerade-missing: node1]\n" * 3)


@pytest.mark.parametrize("text", ["x", "a text", "", base64.b64encode(b"no zlib").decode(), "é"])
def test_another_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        hidden_text.decode(text)


def test_a_text_that_grows_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hidden_text, "MAX_TEXT_BYTES", 1000)
    bomb = base64.b64encode(zlib.compress(b"0" * 100_000)).decode()

    with pytest.raises(ValueError, match="too large"):
        hidden_text.decode(bomb)


def test_the_rows_that_files_name_are_those_of_the_comparison() -> None:
    from labctl.compare.table import ROWS

    assert tuple(row.key for row in ROWS) == ROW_KEYS

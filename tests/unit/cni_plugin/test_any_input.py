"""Input of any shape: each call of labctl-cni ends with a code of the specification, and no record stops labctl."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import cni_input


@settings(max_examples=200, deadline=None)
@given(
    cni_input.environments(), cni_input.texts(cni_input.CONFIGURATIONS), cni_input.texts(cni_input.RESULTS)
)  # fmt: skip
def test_every_call_ends_with_a_code_of_the_specification(
    environment: dict[str, str], text: str, ipam_text: str
) -> None:
    assert cni_input.code_of_call(environment, text, ipam_text) in {0, *cni_input.CODES}


@settings(max_examples=80, deadline=None)
@given(cni_input.texts(cni_input.RESULTS), st.text(max_size=30))
def test_every_answer_of_a_plugin_is_read_or_refused(text: str, log: str) -> None:
    cni_input.read_answers(text, log)


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@settings(max_examples=80, deadline=None)
@given(text=cni_input.texts(cni_input.RECORDS))
def test_every_record_is_read_or_counts_as_unreadable(state: Path, text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABCTL_STATE_DIR", str(state))
        assert cni_input.read_records(state, text) in (0, 1)

"""The hints about names: "did you mean x?", and long lists of names in one line."""

from __future__ import annotations

import pytest

from labctl.core.names import MAX_COMPARED_LENGTH, did_you_mean, summarize_names


@pytest.mark.parametrize(
    ("name", "cutoff", "hint"),
    [
        ("nodel", 0.6, "did you mean node1?"),
        ("internett", 0.6, "did you mean internet?"),
        ("xyz", 0.6, ""),
        ("", 0.6, ""),
        ("ne", 0.5, "did you mean node1?"),  # less similar: only a lower cutoff accepts it
        ("ne", 0.6, ""),
    ],
)
def test_the_most_similar_name_is_the_hint(name: str, cutoff: float, hint: str) -> None:
    assert did_you_mean(name, ("node1", "internet", "vm"), cutoff) == hint


def test_the_caller_chooses_how_the_name_is_written() -> None:
    assert did_you_mean("tapp", ["tap"], quote=repr) == "did you mean 'tap'?"
    assert did_you_mean("upp", ["up"], quote=lambda verb: f"`labctl {verb}`") == "did you mean `labctl up`?"


def test_long_names_are_compared_by_their_first_letters_and_long_candidates_are_left_out() -> None:
    assert did_you_mean("a" * 100_000, ["a" * MAX_COMPARED_LENGTH]) == f"did you mean {'a' * MAX_COMPARED_LENGTH}?"
    assert did_you_mean("a" * 65, ["a" * 65]) == ""


def test_a_list_of_names_ends_with_the_number_of_the_others() -> None:
    assert summarize_names(["a", "b"]) == "a, b"
    assert summarize_names(["a", "b", "c", "d"], 2) == "a, b and 2 more"

"""Reports in Japanese: columns and folded lines count wide characters, sentences are said with their values."""

from __future__ import annotations

import io
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from labctl.checks.balance_verdict import evaluate_balance
from labctl.core import results
from labctl.core.probe_kinds import probe_kind
from labctl.core.resources import Interface
from labctl.core.results import Outcome, Report, Sighting
from labctl.core.scenario_types import Check, See
from labctl.core.sentence import Sentence, sentence
from labctl.core.text import count
from labctl.report.lesson_text import step_title
from labctl.report.table_section import TableSection
from labctl.report.terminal import Terminal
from labctl.report.text_layout import fold_line, text_width
from labctl.translation import language


@pytest.fixture
def japanese() -> Iterator[None]:
    language.use("ja")
    yield
    language.use(language.ORIGINAL)


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("一つのノードの Pod は届く。", 16, ["一つのノードの", "Pod は届く。"]),
        ("あいうえおかきくけこ", 8, ["あいうえ", "おかきく", "けこ"]),
        ("あいうえ、お", 8, ["あいう", "え、お"]),
        ("あいう（かき）く", 8, ["あいう", "（かき）", "く"]),
        ("宛先は 10.244.0.0/24 です", 20, ["宛先は 10.244.0.0/24", "です"]),
        ("plain words only", 8, ["plain", "words", "only"]),
    ],
)
def test_a_line_breaks_between_wide_characters_but_not_in_an_address(text: str, width: int, lines: list[str]) -> None:
    folded = fold_line(text, width)

    assert folded == lines
    assert max(map(text_width, folded)) <= width


def test_columns_are_as_wide_as_their_texts(japanese: None) -> None:
    out = io.StringIO()
    section = TableSection("", (sentence("name"), sentence("role"), "x"), (("a", "ポッド", "1"), ("node1", "pod", "2")))
    Terminal(out).section(section)
    head, *rows = out.getvalue().splitlines()

    assert head.split() == ["名前", "役割", "x"]
    assert [text_width(line[: line.rindex(line.split()[-1])]) for line in (head, *rows)] == [15, 15, 15]


def test_the_lines_of_a_check_are_translated_and_the_data_is_not(japanese: None) -> None:
    seen = Sighting(Interface("c", "eth0"), 0, "in", ip_address("10.0.0.1"), ip_address("10.0.0.2"), 63, "icmp", False)
    outcome = Outcome(Check("they meet", "ping", "a", "c"), "fail", (sentence("seen {packet}", packet=seen),), "ping c")
    lines = results.evidence_lines(outcome)

    assert lines == ["    seen entering c/eth0: 10.0.0.1 > 10.0.0.2 ttl 63", "    run manually: ping c"]
    assert [language.gettext(line) for line in lines] == [
        "    観測: c/eth0 に入る 10.0.0.1 > 10.0.0.2 ttl 63",
        "    手動で実行: ping c",
    ]
    tally = results.tally(Report("lab1", (outcome,)), 1.5)
    assert (tally, language.gettext(tally)) == (
        "lab1: 1 check, 1 failed in 1.50 s",
        "lab1: 1 個のチェック、1 不合格、1.50 s",
    )


def test_the_default_sentence_of_a_check_is_translated_as_a_whole(japanese: None) -> None:
    check = Check("", "tcp", "a", "web", 80, expect="timeout", sees=(See(Interface("n", "eth0"), negate=True),))
    say = probe_kind(check).sentence(check)

    assert say == "a gets no answer from web on tcp port 80, not seen at n/eth0"
    assert language.gettext(say) == "a は web から応答を得ない（tcp ポート 80）、n/eth0 では見えない"


def test_numbers_are_counted_in_the_language(japanese: None) -> None:
    assert [str(count(number, "pod")) for number in (1, 2)] == ["1 pod", "2 pods"]
    assert language.gettext(count(1, "pod")) == "1 個の Pod"


def test_every_line_of_a_verdict_has_a_translation(japanese: None) -> None:
    _, lines = evaluate_balance(Check("", "balance", "a", "web", 80, answered_by=(("b", 1),)), ())

    assert lines
    assert all(isinstance(line, Sentence) and not language.gettext(line).isascii() for line in lines)


@pytest.mark.parametrize(
    "text",
    [
        "    手動で実行: labctl capture b/eth0 & sleep 1; labctl exec a -- ping -n -c 1 10.244.0.3",
        "次: sudo labctl exercise start a-long-name",
    ],
)
def test_a_command_can_be_pasted_although_its_label_is_translated(
    japanese: None, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    out = io.StringIO()
    monkeypatch.setattr(out, "isatty", lambda: True)
    Terminal(out).lines([text], fold=4)
    *lines, last = out.getvalue().splitlines()

    assert lines
    assert all(line.endswith(" \\") for line in lines)
    assert not last.endswith("\\")


def test_the_line_above_a_step_is_as_wide_as_in_english(japanese: None) -> None:
    terminal = Terminal(io.StringIO(), io.StringIO())
    title = step_title(2, 14, terminal)

    assert "ステップ 3/14" in title
    language.use(language.ORIGINAL)
    assert text_width(title) == text_width(step_title(2, 14, terminal))

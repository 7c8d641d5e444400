"""The board of a class as a table and as a page: readable, complete, and without anything that a learner injects."""

from __future__ import annotations

import html.parser
import io

import pytest

from labctl.board.board import Column
from labctl.report import class_board, class_page
from labctl.report.terminal import Terminal
from labctl.report.text_layout import align
from tests.support.classes import board, exercise


def printed(shown: class_board.Board) -> str:
    out = io.StringIO()
    class_board.print_board(shown, Terminal(out, io.StringIO()))
    return out.getvalue().partition("  ")[2]  # without the time of this place


def test_the_table_has_a_line_for_each_learner() -> None:
    assert printed(board()) == (
        "3 learners: 1 stuck, 1 working, 1 done\n"
        "\n"
        "learner  state    lessons  exercises  points  last change\n"
        "ana      working  #>       ..>        2/6     1 min\n"
        "ben      stuck    ..       s!.        2/12    2 min\n"
        "cho      done     ..       #..        6/6     2 min\n"
        "\n"
        "ben  4 wrong attempts at task 2 of shared-bridge\n"
        "\n"
        "lessons: 1 one-cable, 2 masquerade\n"
        "exercises: 1 first-cable, 2 shared-bridge, 3 random-kubenet-7\n"
        "# finished, ! needs help, s solved by labctl, > begun, . not begun\n"
    )


def test_an_empty_class_is_one_line() -> None:
    assert printed(board([])) == "0 learners\n"


def test_fifty_learners_with_a_whole_course_fit_eighty_columns() -> None:
    names = [f"exercise-{number:02d}" for number in range(24)]
    found = [exercise(f"learner-with-a-name-{number:02d}", name) for number in range(50) for name in names]
    lines = align(class_board.table(board(found), class_board.MARKS))
    assert len(lines) == 51
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("minutes", "text"), [(0, "0 min"), (59, "59 min"), (60, "1 h"), (1439, "23 h"), (1440, "1 d"), (99999, "69 d")]
)
def test_times_are_short(minutes: int, text: str) -> None:
    assert class_board.ago(minutes) == text


def test_problems_are_named_without_control_characters() -> None:
    assert class_board.problem_lines([("a\x1b[2J.json", "bad\nfile")]) == ["a?[2J.json is left out: bad?file"]
    many = class_board.problem_lines([(str(number), "bad") for number in range(23)])
    assert (len(many), many[-1]) == (21, "3 more are left out")
    assert class_board.problem_lines([(str(number), "bad") for number in range(21)])[-1] == "1 more is left out"


class Page(html.parser.HTMLParser):
    """The elements of a page that stay open, all tags, and the visible texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            assert tag in ("ul", "body"), f"{tag} closes something else"


def test_the_page_says_each_mark_in_words_too() -> None:
    text = class_page.board_page(board())
    page = Page(text)
    assert page.open == []
    assert page.tags.count("tr") == 4
    for words in ("finished, 6 of 6 points", "needs help, 2 of 6 points", "begun, 4 of 10 steps", "not begun",
                  "solved by labctl", "4 wrong attempts at task 2 of shared-bridge", "! stuck"):  # fmt: skip
        assert words.replace("! stuck", '<span aria-hidden="true">!</span> stuck') in text
    assert ("scope", "row") in page.attributes
    assert ("http-equiv", "refresh") not in page.attributes
    assert ("http-equiv", "refresh") in Page(class_page.board_page(board(), 5)).attributes


def test_more_than_25_learners_are_two_tables() -> None:
    for number, tables in ((25, 1), (26, 2), (50, 2)):
        page = Page(class_page.board_page(board([exercise(f"l{one}", "x") for one in range(number)])))
        assert (page.tags.count("table"), page.tags.count("tr")) == (tables, number + tables)


@pytest.mark.parametrize("text", ["<script>alert(1)<", '"><img src=x>', "'><img src=x>", '" onclick="x', "&lt;b>"])
def test_a_learner_cannot_inject_anything_into_the_page(text: str) -> None:
    good = Page(class_page.board_page(board([exercise("ana", "x", wrong=5)])))
    for entry in (exercise(text, "x", wrong=5), exercise("ana", text, wrong=5)):
        found = Page(class_page.board_page(board([entry])))
        assert found.tags == good.tags
        assert [name for name, _ in found.attributes] == [name for name, _ in good.attributes]
        assert text in "".join(found.texts)
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    assert ("content", policy) in good.attributes, "and if it could, the page would load and run nothing"


def test_a_mark_is_of_what_changed_last() -> None:
    line = board([exercise("ana", "old", 10, wrong=9), exercise("ana", "new", 50, wrong=9)]).lines[0]
    assert class_board.mark(line, Column("exercise", "old")) == "begun"
    assert class_board.mark(line, Column("exercise", "new")) == "help"

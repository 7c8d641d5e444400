"""How handouts print: in a browser, all of them in one document, so that it prints only once for each language.

Needs playwright and a Chromium: that of the system, or the one that `playwright install chromium` fetched.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labctl.report.handout import Subject, page_lines
from labctl.translation import language
from tests.support import chromium, handouts

playwright = pytest.importorskip("playwright.sync_api", reason="the page is tested in a browser by playwright")
BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
SHEETS = "[...document.querySelectorAll('.sheet')].map(it => [it.parentElement.id, it.getBoundingClientRect().height])"
NOTES = "[...document.querySelectorAll('.notes > div')].map(it => it.getBoundingClientRect().height)"
MM = 96 / 25.4


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        try:
            found = started.chromium.launch(executable_path=BROWSER, args=chromium.ARGUMENTS)
        except playwright.Error as error:
            pytest.skip(f"no Chromium for playwright: {str(error).splitlines()[0]}")
        yield found
        found.close()


@pytest.fixture(autouse=True)
def english_afterwards() -> Iterator[None]:
    yield
    language.use(language.ORIGINAL)


def pages(pdf: bytes) -> int:
    return len(re.findall(rb"/Type\s*/Page\b(?!s)", pdf))


def opened(browser: Any, subjects: list[Subject]) -> Any:
    """All handouts in one document, one below the other."""
    head, bodies = "", []
    for one in subjects:
        head, _, rest = "\n".join(page_lines(one)).partition("<body>")
        bodies.append(rest.replace("<main>", f'<main id="{one.word}">').partition("</body>")[0])
    page = browser.new_page(viewport={"width": 900, "height": 1200})
    page.set_content(
        f"{head}<style>main{{break-after:page}}main:last-child{{break-after:auto}}</style><body>{''.join(bodies)}"
    )
    page.emulate_media(media="print")
    return page


@pytest.mark.parametrize("code", ["en", "ja"])
def test_every_handout_is_one_or_two_sheets_of_a4(browser: Any, tmp_path: Path, code: str) -> None:
    language.use(code)
    subjects = [*handouts.subjects(code), handouts.large(tmp_path)]
    page = opened(browser, subjects)
    sheets = page.evaluate(SHEETS)
    pdf = page.pdf(prefer_css_page_size=True, print_background=True)
    notes = page.evaluate(NOTES)
    page.close()

    assert {name for name, _ in sheets} == {one.word for one in subjects}
    assert [(name, height / MM) for name, height in sheets if height > 273 * MM] == []
    assert max(sum(name == one.word for name, _ in sheets) for one in subjects) == 2
    assert min(notes) > 12 * MM, "room to write"
    assert pages(pdf) == len(sheets)


def test_a_page_of_answers_has_no_sheet_that_is_too_long(browser: Any) -> None:
    page = opened(browser, [one for one in handouts.subjects(answers=True) if one.lab.exercise or one.lab.lesson])
    sheets = page.evaluate(SHEETS)
    page.close()

    assert [(name, height / MM) for name, height in sheets if height > 273 * MM] == []


def test_texts_are_not_cut_and_stay_inside(browser: Any) -> None:
    page = opened(browser, handouts.subjects())
    wide = page.evaluate(
        "[...document.querySelectorAll('.sheet *:not(svg *)')].filter(it => it.scrollWidth > it.clientWidth + 1 && "
        "it.clientWidth).map(it => it.outerHTML.slice(0, 100))"
    )
    page.close()

    assert wide == []


def test_it_is_dark_on_light_also_where_the_system_is_dark(browser: Any) -> None:
    page = opened(browser, handouts.subjects()[:1])
    page.emulate_media(media="screen", color_scheme="dark")
    colours = page.evaluate(
        "[getComputedStyle(document.querySelector('.sheet')).backgroundColor, getComputedStyle(document.body).color,"
        " getComputedStyle(document.querySelector('svg .page')).fill]"
    )
    page.close()

    assert colours == ["rgb(255, 255, 255)", "rgb(31, 35, 40)", "rgb(255, 255, 255)"]

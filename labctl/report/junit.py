"""A report as JUnit XML, the format that CI systems read."""

from __future__ import annotations

from labctl.core.results import Outcome, Report


def junit_document(report: Report) -> str:
    """One test suite for the lab, one test case per check.

    A failed check is a `failure`, an inconclusive one an `error`, a skipped one `skipped`; the evidence
    is the text of it. Characters that XML cannot hold are written as their escapes.
    """
    from xml.etree.ElementTree import Element, SubElement, indent, tostring

    verdicts = [outcome.verdict for outcome in report.outcomes]
    totals = {
        "tests": str(len(verdicts)),
        "failures": str(verdicts.count("fail")),
        "errors": str(verdicts.count("inconclusive")),
        "skipped": str(verdicts.count("skip")),
        "time": f"{sum(outcome.seconds for outcome in report.outcomes):.3f}",
    }
    root = Element("testsuites", totals)
    suite = SubElement(root, "testsuite", {"name": report.lab, **totals})
    for outcome in report.outcomes:
        case = SubElement(
            suite,
            "testcase",
            {
                "name": _plain(outcome.check.say),
                "classname": f"labctl.{report.lab}.{outcome.check.origin}",
                "time": f"{outcome.seconds:.3f}",
            },
        )
        tag = {"fail": "failure", "inconclusive": "error", "skip": "skipped"}.get(outcome.verdict)
        if tag is not None:
            first = outcome.evidence[0] if outcome.evidence else outcome.verdict
            SubElement(case, tag, {"message": _plain(first)}).text = _plain(_evidence_text(outcome))
        elif outcome.evidence:
            SubElement(case, "system-out").text = _plain(_evidence_text(outcome))
    indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + tostring(root, encoding="unicode") + "\n"


def _evidence_text(outcome: Outcome) -> str:
    command = (f"run manually: {outcome.command}",) if outcome.command else ()
    return "\n".join((*outcome.evidence, *command))


def _plain(text: str) -> str:
    return "".join(letter if _allowed(letter) else ascii(letter)[1:-1] for letter in text)


def _allowed(letter: str) -> bool:
    code = ord(letter)
    return letter in "\t\n" or 0x20 <= code < 0xD800 or 0xE000 <= code < 0xFFFE or code > 0xFFFF

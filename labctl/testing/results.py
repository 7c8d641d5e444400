"""The checks and traces of a test, as sections for its report if it fails. Imports nothing of labctl's engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_TRACES = 3  # the traces of a test that its report shows: the last ones
MAX_CLAIMS = 10  # the claims of a lab that its report shows


class TestResults:
    """The last check of each lab, and the last traces, that one test asked for."""

    __test__ = False  # pytest collects no tests from it

    def __init__(self) -> None:
        self._reports: dict[str, Any] = {}
        self._traces: list[tuple[str, Any]] = []
        self._last: Any = None

    def add(self, lab: str, result: object) -> None:
        """Keep a `Report` or a `Traced` of a lab."""
        self._last = result
        if type(result).__name__ == "Report":
            self._reports[lab] = result
        else:
            self._traces = [*self._traces, (lab, result)][-MAX_TRACES:]

    def comparison(self, op: str, left: object, right: object) -> list[str] | None:
        """What an assertion that compares the verdict of the last check or trace shows; None if it compares other
        things. pytest itself would show two words."""
        if op != "==" or self._last is None or not (isinstance(left, str) and isinstance(right, str)):
            return None
        if self._last.verdict not in (left, right):
            return None
        what = "check" if type(self._last).__name__ == "Report" else "trace"
        return [f"{left!r} == {right!r}", f"the last {what}: {self._last!r}"]

    def sections(self) -> Iterator[tuple[str, str]]:
        """The claims that are not proven, with their evidence, and the traces: pairs of a heading and a text."""
        for lab, report in self._reports.items():
            claims = [str(one) for one in report.outcomes if one.verdict in ("fail", "inconclusive")]
            if claims:
                more = [f"and {len(claims) - MAX_CLAIMS} more"] if len(claims) > MAX_CLAIMS else []
                yield f"labctl: claims of {lab} that are not proven", "\n".join([*claims[:MAX_CLAIMS], *more])
        for number, (lab, traced) in enumerate(self._traces, 1):
            of_all = f" {number} of the last {len(self._traces)}" if len(self._traces) > 1 else ""
            yield f"labctl: trace{of_all} in {lab}", str(traced)

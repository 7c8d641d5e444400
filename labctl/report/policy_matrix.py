"""A matrix of policies as text. Pure.

The pods are grouped by namespace. If their names do not fit side by side, the columns are numbered; if the numbers do
not fit either, the rows and columns are namespaces, and a cell counts pairs. If that does not fit, the last columns are
left out, and a line says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import TypeAlias

from labctl.core.text import count
from labctl.kubernetes.api.policy_objects import Pod
from labctl.kubernetes.policies.policy_matrix import Cell, PolicyMatrix
from labctl.kubernetes.policies.policy_words import endpoint_name

Paint: TypeAlias = Callable[[str, str], str]
ALLOWED, DENIED, ITSELF, DIFFERENT, UNKNOWN = ".", "X", "-", "!", "?"
COLOURS = {ALLOWED: "green", DENIED: "red", ITSELF: "dim", DIFFERENT: "yellow", UNKNOWN: "yellow"}
GAP, GROUP_GAP = " ", "  "  # between two columns, and before a namespace besides
MAX_DIFFERENCES = 20  # differences that are listed


def lines(matrix: PolicyMatrix, paint: Paint = lambda text, _: text, width: int | None = None) -> Iterator[str]:
    """The matrix, its legend, and what differs. `width` is that of the terminal; None means no limit."""
    yield _title(matrix)
    yield ""
    table = list(_named(matrix, paint))
    if width is not None and not _fits(table, width):
        table = list(_numbered(matrix, paint))
    if width is None or _fits(table, width):
        yield from table
    else:
        yield from _counted(matrix, paint, width)
    yield ""
    yield from notes(matrix)


def symbol(cell: Cell) -> str:
    """The sign of a cell."""
    if cell.source.machine == cell.target.machine:
        return ITSELF
    if cell.differs or cell.measured == "unknown":
        return DIFFERENT if cell.differs else UNKNOWN
    return ALLOWED if cell.passes else DENIED


def notes(matrix: PolicyMatrix) -> Iterator[str]:
    """What is below the table: the count, and each difference with what was measured and what the policies say."""
    cells = list(matrix)
    allowed = sum(one.passes for one in cells if one.measured != "unknown")
    if matrix.live:
        measured = len(cells) - len(matrix.unmeasured)
        different = len(matrix.differences)
        yield f"{count(measured, 'pair')} measured: {allowed} connect, {different} not as the policies say"
    else:
        yield f"{count(len(cells), 'pair')}: {allowed} allowed, {len(cells) - allowed} denied"
    for one in matrix.differences[:MAX_DIFFERENCES]:
        flow = f"{endpoint_name(one.source)} -> {endpoint_name(one.target)}"
        detail = f" ({one.detail})" if one.detail else ""
        denials = "; ".join(map(str, one.verdict.denials))
        yield f"{flow}: {one.measured}{detail}, but the policies {f'deny it: {denials}' if denials else 'allow it'}"
    left = len(matrix.differences) - MAX_DIFFERENCES
    if left > 0:
        yield f"and {left} more; --json has all of them"
    for one in matrix.unmeasured[:MAX_DIFFERENCES]:
        yield f"{endpoint_name(one.source)} -> {endpoint_name(one.target)}: not measured: {one.detail}"
    yield from matrix.notes


def _title(matrix: PolicyMatrix) -> str:
    how = "measured" if matrix.live else "by the policies"
    signs = f"{ALLOWED} {'connects' if matrix.live else 'allowed'}  {DENIED} {'does not' if matrix.live else 'denied'}"
    if matrix.live and matrix.differences:
        signs += f"  {DIFFERENT} not as the policies say"
    if matrix.unmeasured:
        signs += f"  {UNKNOWN} not measured"
    return f"{matrix.protocol} {matrix.port}, row to column, {how}:  {signs}"


def _named(matrix: PolicyMatrix, paint: Paint) -> Iterator[str]:
    """The table with the names of the pods as the heads of its columns."""
    heads = [_short(one, matrix.targets) for one in matrix.targets]
    yield from _pod_table(matrix, heads, paint)


def _numbered(matrix: PolicyMatrix, paint: Paint) -> Iterator[str]:
    """The table with numbers as the heads of its columns; each pod has its number in front of its row."""
    numbers = {one.machine: str(at) for at, one in enumerate(matrix.targets, 1)}
    yield from _pod_table(matrix, list(numbers.values()), paint, numbers)
    rows = {one.machine for one in matrix.sources}
    for one in matrix.targets:
        if one.machine not in rows:
            yield f"column {numbers[one.machine]}: {endpoint_name(one)}"


def _pod_table(
    matrix: PolicyMatrix, heads: Sequence[str], paint: Paint, numbers: dict[str, str] | None = None
) -> Iterator[str]:
    groups = [(name, list(each)) for name, each in groupby(range(len(heads)), lambda at: matrix.targets[at].namespace)]
    several = len({one.namespace for one in (*matrix.sources, *matrix.targets)}) > 1
    label = _row_labels(matrix.sources, several, numbers)
    indent = max(map(_width, label.values()), default=0)
    widths = {at: max(_width(heads[at]), 1) for at in range(len(heads))}
    for name, columns in groups:  # the name of a namespace must fit over its columns
        room = sum(widths[at] for at in columns) + len(GAP) * (len(columns) - 1)
        widths[columns[-1]] += max(0, _width(name) - room) if several else 0

    def row(first: str, cells: Sequence[str]) -> str:
        text = first + " " * (indent - _width(first))
        for at, _ in enumerate(cells):
            new = at and matrix.targets[at].namespace != matrix.targets[at - 1].namespace
            text += (GROUP_GAP if new or not at else "") + GAP + cells[at] + " " * (widths[at] - _width(cells[at]))
        return text.rstrip()

    if several:
        text = " " * indent
        for name, columns in groups:
            room = sum(widths[at] for at in columns) + len(GAP) * (len(columns) - 1)
            text += GROUP_GAP + GAP + name + " " * (room - _width(name))
        yield text.rstrip()
    yield row("", heads)
    for one in matrix.sources:
        signs = [symbol(matrix.cell(one, other)) for other in matrix.targets]
        plain = row(label[one.machine], signs)
        yield plain[:indent] + _painted(plain[indent:], paint)


def _row_labels(pods: Sequence[Pod], several: bool, numbers: dict[str, str] | None) -> dict[str, str]:
    """The text in front of each row: the namespace in its first row, the name, and the number of its column."""
    wide = max((_width(one.namespace) for one in pods), default=0)
    names = {one.machine: _short(one, pods) for one in pods}
    longest = max(map(_width, names.values()), default=0)
    found, last = {}, ""
    for one in pods:
        text = names[one.machine]
        if several:
            text = f"{one.namespace if one.namespace != last else '':<{wide}}  {text}"
            last = one.namespace
        if numbers is not None:
            padding = " " * (longest - _width(names[one.machine]))
            text = f"{text}{padding}  {numbers.get(one.machine, ''):>{len(str(len(numbers)))}}"
        found[one.machine] = text
    return found


def _short(pod: Pod, pods: Sequence[Pod]) -> str:
    """The name of a pod in its namespace; that in the lab, if two of the pods there have the same."""
    same = [one for one in pods if (one.namespace, one.name) == (pod.namespace, pod.name)]
    return pod.name if len(same) == 1 else pod.machine


def _by_namespace(matrix: PolicyMatrix, paint: Paint, limit: int) -> Iterator[str]:
    """The table of namespaces: `all`, `none` or `3/9` of the pairs pass. `limit` is the number of its columns."""
    rows, columns = (list(dict.fromkeys(one.namespace for one in side)) for side in (matrix.sources, matrix.targets))
    shown = columns[:limit]
    counts: dict[tuple[str, str], list[Cell]] = {}
    for cell in matrix:
        counts.setdefault((cell.source.namespace, cell.target.namespace), []).append(cell)
    texts = {(one, other): _share(counts.get((one, other), [])) for one in rows for other in shown}
    indent = max(map(_width, rows), default=0)
    widths = [max(_width(one), *(_width(texts[row, one]) for row in rows)) for one in shown]
    yield f"{'':<{indent}}  {'  '.join(f'{one:<{wide}}' for one, wide in zip(shown, widths, strict=True))}".rstrip()
    for row in rows:
        cells = []
        for one, wide in zip(shown, widths, strict=True):
            text = texts[row, one]
            padding = " " * (wide - _width(text))
            colour = {"all": "green", "none": "red", ITSELF: "dim"}.get(text, "yellow")
            cells.append(paint(text, colour) + padding)
        yield f"{row:<{indent}}  {'  '.join(cells)}".rstrip()


def _fits(table: Sequence[str], width: int) -> bool:
    return max(map(_width, table), default=0) <= width


def _counted(matrix: PolicyMatrix, paint: Paint, width: int) -> Iterator[str]:
    """The table of namespaces with as many columns as fit, and what is left out."""
    total = len({one.namespace for one in matrix.targets})
    limit = total
    while limit > 1 and not _fits(list(_by_namespace(matrix, paint, limit)), width):
        limit -= 1
    yield from _by_namespace(matrix, paint, limit)
    yield "too many pods for this width: a cell counts pairs; --from and --to choose pods"
    if limit < total:
        yield f"without {count(total - limit, 'namespace')} as a target; --json has every pair"


def _share(cells: Sequence[Cell]) -> str:
    """How many of these pairs pass, as text."""
    if not cells:
        return ITSELF
    passing = sum(one.passes for one in cells)
    wrong = DIFFERENT if any(one.differs for one in cells) else ""
    return f"{'all' if passing == len(cells) else 'none' if not passing else f'{passing}/{len(cells)}'}{wrong}"


def _painted(text: str, paint: Paint) -> str:
    return "".join(paint(one, COLOURS[one]) if one in COLOURS else one for one in text)


def _width(text: str) -> int:
    from labctl.report.text_layout import text_width

    return text_width(text)

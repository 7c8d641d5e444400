"""Write the sections of docs/reliability.md from files of rows: `page kill FILE`, `page soak FILE`."""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[2] / "docs/reliability.md"
Rows = list[dict[str, Any]]


def main() -> int:
    kind, *files = sys.argv[1:] or ["--help"]
    if kind not in SECTIONS or not files:
        print(__doc__)
        return 2
    rows = [json.loads(line) for file in files for line in Path(file).read_text().splitlines()]
    SECTIONS[kind](rows)
    return 0


def write_kills(rows: Rows) -> None:
    """The section on kills: how many there were, by lab and verb, and all that was wrong."""
    killed = [row for row in rows if row["killed"]]
    counts = Counter((row["lab"], row["verb"]) for row in killed)
    tried = Counter((row["lab"], row["verb"]) for row in rows)
    operations = {(row["lab"], row["verb"]): row["total"] for row in rows}
    labs, verbs = (list(dict.fromkeys(row[key] for row in killed)) for key in ("lab", "verb"))
    lines = [f"| lab | {' | '.join(f'`{verb}`' for verb in verbs)} | all |", "|---" * (len(verbs) + 2) + "|"]
    for lab in labs:
        cells = []
        for verb in verbs:
            number, of = counts[lab, verb], operations.get((lab, verb), 0)
            cells.append("" if not of else str(number) if tried[lab, verb] >= of else f"{number} of {of}")
        lines.append(f"| `{lab}` | {' | '.join(cells)} | {sum(counts[lab, verb] for verb in verbs)} |")
    totals = [sum(counts[lab, verb] for lab in labs) for verb in verbs]
    lines.append(f"| all | {' | '.join(map(str, totals))} | **{len(killed)}** |")
    bad = [row for row in rows if row["problems"]]
    kinds = Counter(row["operation"] for row in killed)
    calls = ", ".join(f"`{name}` {number}" for name, number in kinds.most_common())
    text = [f"{_where()}: {len(killed)} kills, {len(bad)} after which something was wrong.", "\n".join(lines)]
    text += [f"The system calls that were not made any more: {calls}."]
    text += [f"- `{row['lab']}` `{row['verb']}` {row['point']}: {'; '.join(row['problems'])}" for row in bad]
    replace_section("kill", "\n\n".join(text))


def write_soak(rows: Rows) -> None:
    """The section on cycles: each number after the first fifth of the cycles, at the end, and the highest."""
    from soak import WARM_UP, growth

    first = rows[max(1, int(len(rows) * WARM_UP))]
    names = [name for name in rows[-1] if name not in ("cycle", "seconds")]
    lines = [f"| | after {first['cycle']} cycles | at the end | highest |", "|---|---|---|---|"]
    lines += [f"| {name} | {first[name]} | {rows[-1][name]} | {max(row[name] for row in rows)} |" for name in names]
    grown = "; ".join(growth(rows)) or "nothing grows beyond its limit"
    head = f"{_where()}: {rows[-1]['cycle']} cycles in {rows[-1]['seconds']:.0f} s; {grown}."
    replace_section("soak", f"{head}\n\n" + "\n".join(lines))


def replace_section(name: str, body: str) -> None:
    """Write a text between the two marks of a section. Raises ValueError if the page does not have them."""
    text = PAGE.read_text()
    pattern = re.compile(f"(<!-- {name}: [^\n]* -->\n).*?(\n<!-- end of {name} -->)", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"{PAGE} has no section {name}")
    PAGE.write_text(pattern.sub(lambda found: f"{found[1]}\n{body}\n{found[2]}", text))


def _where() -> str:
    return f"{date.today()}, Linux {platform.release().split('-')[0]}, {os.cpu_count()} processors"


SECTIONS = {"kill": write_kills, "soak": write_soak}

if __name__ == "__main__":
    sys.exit(main())

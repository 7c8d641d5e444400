"""The colours and other looks of a drawing's SVG, in light and dark. Pure.

All rules begin with the class of the drawing, so that they change nothing else in a page that contains it.
"""

from __future__ import annotations

CLASS = "lab-drawing"
LIGHT = (
    "--page:#fff;--ink:#1f2328;--soft:#59636e;--line:#8c959f;--cable:#0969da;--port:#8c959f;--chip:#fff;--node:#eef4fb;"
    "--pod:#e9f7ee;--fabric:#f4f1fa;--outside:#f6f8fa;--tunnel:#bc4c00;--bridge:#fff8e5;--bad:#cf222e;--tint:#ffebe9;"
    "--request:#8250df;--reply:#1a7f37;--error:#bc4c00;--on:#fff"
)
DARK = (
    "--page:#0d1117;--ink:#e6edf3;--soft:#9198a1;--line:#5b636d;--cable:#58a6ff;--port:#7d8590;--chip:#0d1117;"
    "--node:#15202e;--pod:#12261b;--fabric:#1f1a2e;--outside:#161b22;--tunnel:#ffa657;--bridge:#2a2410;--bad:#ff7b72;"
    "--tint:#3c1618;--request:#bc8cff;--reply:#3fb950;--error:#ffa657;--on:#0d1117"
)
_RULES = (  # selectors, and what they set
    (
        "text",
        'font:11px ui-monospace,"DejaVu Sans Mono","Liberation Mono",Menlo,Consolas,monospace;fill:var(--ink);'
        "white-space:pre;text-rendering:geometricPrecision",
    ),
    (".page", "fill:var(--page)"),
    (".t", "font-size:13px;font-weight:700"),
    (".s", "fill:var(--soft)"),
    (".b", "font-weight:700"),
    (".f", "stroke:var(--line);fill:var(--outside)"),
    (".f.node,.f.host", "fill:var(--node)"),
    (".f.fabric", "fill:var(--fabric)"),
    (".f.pod,.f.container,.f.summary", "fill:var(--pod)"),
    (".c", "stroke:var(--line);fill:var(--chip)"),
    (".c.bridge", "fill:var(--bridge)"),
    (".c.tunnel", "stroke:var(--tunnel);stroke-dasharray:4 2"),
    (".w", "fill:none;stroke:var(--cable);stroke-width:1.5"),
    (".w.port", "stroke:var(--port);stroke-width:1.2"),
    (".w.far", "stroke-dasharray:6 3"),
    (".bad", "fill:var(--bad)"),
    (".gone", "text-decoration:line-through"),
    (
        ".f.missing,.f.changed,.f.extra,.c.missing,.c.changed,.c.extra,.w.missing,.w.changed,.w.extra,.cross",
        "stroke:var(--bad)",
    ),
    (".f.missing,.c.missing,.w.missing,.w.changed", "stroke-dasharray:4 3"),
    (".c.changed,.c.extra,.f.extra,.cross", "stroke-width:2"),
    (".c.extra,.f.extra", "fill:var(--tint)"),
    (".cross", "fill:none"),
    (".p", "fill:none;stroke-width:5;stroke-opacity:.45;stroke-linejoin:round;stroke-linecap:round"),
    (".p.far", "stroke-dasharray:2 9"),
    (".p.request", "stroke:var(--request)"),
    (".p.reply", "stroke:var(--reply)"),
    (".p.error", "stroke:var(--error)"),
    (".request>.m,.a.request", "fill:var(--request)"),
    (".reply>.m,.a.reply", "fill:var(--reply)"),
    (".error>.m,.a.error", "fill:var(--error)"),
    (".lost>.m", "fill:var(--bad)"),
    (".m+text", "font-size:9px;font-weight:700;fill:var(--on);text-anchor:middle"),
    (".cross.lost", "stroke-width:4"),
    (".c.lost", "stroke:var(--bad);stroke-width:2.5"),
)


def style() -> str:
    """The style sheet of a drawing."""
    own = f".{CLASS}"
    return "\n".join(
        (
            f"{own}{{{LIGHT};max-width:100%;height:auto}}",
            f"@media (prefers-color-scheme:dark){{{own}{{{DARK}}}}}",
            f"@media print{{{own}{{{LIGHT}}}}}",
            *(f"{','.join(f'{own} {one}' for one in kinds.split(','))}{{{sets}}}" for kinds, sets in _RULES),
        )
    )

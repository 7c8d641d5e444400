"""The looks of a handout: sheets of A4, dark on light, in fonts of the system, Japanese ones too. Pure."""

from __future__ import annotations

from labctl.drawing.svg_style import CLASS, LIGHT

MARGIN = 12  # millimetres
STYLE = f"""
@page{{size:A4;margin:{MARGIN}mm}}
:root{{color-scheme:light}}
*{{box-sizing:border-box}}
body{{margin:0;background:#e7eaee;color:#1f2328;font:9.5pt/4.7mm system-ui,"Noto Sans","Noto Sans CJK JP",
"Noto Sans JP","Hiragino Sans","Yu Gothic","Meiryo",sans-serif;
print-color-adjust:exact;-webkit-print-color-adjust:exact}}
html .{CLASS}{{{LIGHT};display:block;width:100%}}
.sheet{{width:{210 - 2 * MARGIN}mm;min-height:{297 - 2 * MARGIN - 1}mm;display:flex;flex-direction:column;
background:#fff;margin:0 auto;position:relative}}
@media screen{{main{{padding:8mm 0}}.sheet{{box-sizing:content-box;padding:{MARGIN}mm;margin-bottom:8mm;
box-shadow:0 1px 4px #0003}}}}
@media print{{body{{background:#fff}}.sheet+.sheet{{break-before:page}}tr,li,dt,dd,figure{{break-inside:avoid}}}}
header{{display:flex;gap:10mm;justify-content:space-between;border-bottom:.5mm solid #1f2328;padding-bottom:1.5mm;
margin-bottom:3mm}}
h1{{font-size:17pt;line-height:7.5mm;margin:0}}
h2{{font-size:11pt;line-height:5mm;margin:3mm 0 1mm}}
p{{margin:0 0 1.5mm}}
.facts,.soft,.rest,figcaption{{color:#59636e}}
.facts{{margin:0}}
.person{{flex:0 0 50mm;margin:0;align-self:end;border-bottom:.2mm solid #59636e;color:#59636e}}
pre{{margin:1mm 0 2mm;padding-left:4mm;white-space:pre-wrap}}
pre,code,td,th{{font-family:ui-monospace,"DejaVu Sans Mono","Liberation Mono",Menlo,Consolas,"Noto Sans Mono CJK JP",
monospace;font-size:8pt}}
code{{overflow-wrap:anywhere}}
ul{{margin:1mm 0 2mm;padding-left:5mm}}
.ticks{{list-style:"\\2610  ";padding-left:6mm}}.ticks li{{margin-bottom:.6mm}}
figure{{margin:1mm 0 2mm}}
figure>div{{margin:0 auto}}
table{{border-collapse:collapse;width:100%;table-layout:fixed;margin-bottom:1mm}}
caption{{text-align:left;font-weight:700;font-size:11pt;line-height:5mm;padding:3mm 0 1mm}}
th,td{{text-align:left;vertical-align:top;line-height:3.7mm;padding:.25mm 2mm .25mm 0;border-top:.15mm solid #c8ced5;
overflow-wrap:anywhere}}
thead th{{color:#59636e;font-weight:400;border-top:0}}
.commands{{display:grid;grid-template-columns:minmax(0,max-content) minmax(60mm,1fr);gap:0 5mm;margin:0}}
dd{{margin:0}}
.tasks{{margin:0;padding-left:6mm}}
.tasks li::marker{{font-weight:700}}
.tasks p{{margin:0}}.tasks>li{{margin-bottom:1.5mm}}
.write i{{display:block;height:8.5mm;border-bottom:.2mm solid #8c959f}}
.answer{{color:#0a3069;font-weight:700;margin:1mm 0}}
.notes{{flex:1;display:flex;flex-direction:column;min-height:24mm;padding-bottom:6mm}}
.notes div{{flex:1;border:.2mm solid #8c959f;border-radius:1mm;
background:repeating-linear-gradient(#fff0 0 7.8mm,#d8dde3 7.8mm 8mm)}}
.foot{{position:absolute;right:0;bottom:0;margin:0;font-size:7.5pt;color:#59636e}}
@media screen{{.foot{{right:{MARGIN}mm;bottom:6mm}}}}
""".strip()

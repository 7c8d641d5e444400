// Marks on the drawing that keep their size on the screen, whatever the zoom.
import type { Point } from "./path.ts";
import type { Box, Size } from "./viewport.ts";
import { scaleOf } from "./viewport.ts";

export interface Label {
  readonly element: SVGGElement;
  setText(text: string): void;
  /** Half of its width on the screen, in pixels. */
  halfWidth(): number;
}

export interface Mark {
  readonly element: SVGElement;
  at: Point;
  /** A text above the mark, which is kept inside the window. */
  readonly label?: Label;
}

const LABEL_HEIGHT = 26;
const LABEL_GAP = 22;

export function svgElement<Name extends keyof SVGElementTagNameMap>(
  name: Name,
  kind: string,
): SVGElementTagNameMap[Name] {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  element.setAttribute("class", kind);
  return element;
}

/** A text on a coloured ground. */
export function label(kind: string, text: string): Label {
  const element = svgElement("g", kind);
  const ground = svgElement("rect", "shape");
  const words = svgElement("text", "");
  words.setAttribute("y", "5");
  ground.setAttribute("y", String(-LABEL_HEIGHT / 2));
  ground.setAttribute("height", String(LABEL_HEIGHT));
  ground.setAttribute("rx", "7");
  element.append(ground, words);
  let half = 0;
  let shown = "";
  const setText = (next: string): void => {
    if (next === shown) return;
    shown = next;
    words.textContent = next;
    half = 0;
  };
  const halfWidth = (): number => {
    const length = half === 0 ? words.getComputedTextLength() : 0; // 0 while it is not on the page
    if (length > 0) {
      half = length / 2 + 10;
      ground.setAttribute("x", String(-half));
      ground.setAttribute("width", String(2 * half));
    }
    return half;
  };
  setText(text);
  return { element, setText, halfWidth };
}

/** Put marks where they belong in this view, in their size on the screen. */
export function arrange(marks: Iterable<Mark>, view: Box, window: Size): void {
  const scale = scaleOf(view, window);
  // marks are larger where all texts are larger
  const unit = parseFloat(getComputedStyle(document.documentElement).fontSize) / 16;
  for (const { element, at, label: words } of marks) {
    element.setAttribute("transform", `translate(${at.x} ${at.y}) scale(${unit / scale})`);
    if (!words) continue;
    const half = words.halfWidth() * unit;
    const x = (at.x - view.x) * scale;
    const y = (at.y - view.y) * scale;
    const shift = Math.max(half + 4 - x, 0) + Math.min(window.width - half - 4 - x, 0);
    const side = y < (LABEL_HEIGHT + LABEL_GAP) * unit ? 1 : -1;
    words.element.setAttribute("transform", `translate(${shift / unit} ${side * (LABEL_GAP + LABEL_HEIGHT / 2)})`);
  }
}

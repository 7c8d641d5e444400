// The SVG of the lab, as the server draws it: where its machines, devices and cables are.
import type { Machine } from "../documents.ts";
import { type Point, cableName, directed, distance, elbow, readPoints } from "./path.ts";
import { type Box, middle } from "./viewport.ts";

const SVG = "http://www.w3.org/2000/svg";
const MARGIN = 18;

export class Picture {
  readonly svg: SVGSVGElement;
  /** Marks on top of the drawing: the packet, its trail, badges. */
  readonly layer: SVGGElement;
  /** Marks below the devices, so that their texts stay readable: the trail. */
  readonly ground: SVGGElement;
  readonly machines = new Map<string, SVGGElement>();
  readonly centres = new Map<string, Point>();
  private readonly boxes = new Map<Element, Box>();
  private readonly style: Element | null;
  private readonly styleText: string;
  private nodes = new Map<string, string>();

  /** `text` is an SVG document. It is parsed, not run: scripts in it do nothing. */
  constructor(text: string) {
    const parsed = new DOMParser().parseFromString(text, "image/svg+xml");
    this.svg = document.importNode(parsed.documentElement, true) as unknown as SVGSVGElement;
    for (const name of ["width", "height"]) this.svg.removeAttribute(name);
    this.svg.setAttribute("role", "group");
    this.style = this.svg.querySelector("style");
    this.styleText = this.style?.textContent ?? "";
    [this.layer, this.ground] = [marksLayer(), marksLayer()];
    for (const group of this.svg.querySelectorAll<SVGGElement>("g[data-machine]")) {
      const name = group.dataset["machine"] ?? "";
      this.machines.set(name, group);
      group.setAttribute("role", "button");
      group.setAttribute("tabindex", "-1");
      this.centres.set(name, middle(this.boxOf(group)));
    }
    const top = Math.min(...[...this.machines.values()].map((group) => this.boxOf(group).y));
    for (const element of this.svg.children) {
      if (element.tagName === "text" && Number(element.getAttribute("y")) < top) element.classList.add("head");
    }
    this.svg.append(this.layer);
    this.svg.insertBefore(this.ground, this.svg.querySelector(":scope > [data-device]") ?? this.layer);
  }

  /** The colours of the drawing are for light or for dark pages: those of the page, not of the browser. */
  setDark(isDark: boolean): void {
    if (!this.style) return;
    const media = isDark ? "@media all" : "@media not all";
    this.style.textContent = this.styleText.replace(/@media\s*\(prefers-color-scheme:\s*dark\)/g, media);
  }

  /** A pod that the drawing does not show is at the place of its node. */
  setMachines(machines: readonly Machine[]): void {
    this.nodes = new Map(machines.flatMap((one) => (one.node ? [[one.name, one.node] as const] : [])));
  }

  /** All that the drawing contains, with a margin. The drawing must be on the page. */
  content(): Box {
    const { x, y, width, height } = this.svg.getBBox();
    return { x: x - MARGIN, y: y - MARGIN, width: width + 2 * MARGIN, height: height + 2 * MARGIN };
  }

  /** The rectangle of an element of the drawing. */
  boxOf(element: Element): Box {
    const known = this.boxes.get(element);
    if (known) return known;
    const rect = element.querySelector("rect");
    const [x, y, width, height] = ["x", "y", "width", "height"].map((name) => Number(rect?.getAttribute(name) ?? 0));
    const box = { x: x!, y: y!, width: width!, height: height! };
    this.boxes.set(element, box);
    return box;
  }

  /** The element of a device: `node1/eth0`. */
  device(name: string): Element | null {
    return this.svg.querySelector(`[data-device="${CSS.escape(name)}"]`);
  }

  /** The element of a machine, or of what stands for it: the number of pods of its node, or the node. */
  machine(name: string): Element | null {
    const own = this.machines.get(name);
    if (own) return own;
    const node = this.nodes.get(name);
    if (node === undefined) return null;
    return this.svg.querySelector(`[data-pods="${CSS.escape(node)}"]`) ?? this.machines.get(node) ?? null;
  }

  /** The line of a missing route in its machine, if the drawing has it; `text` is that of the difference. */
  missingRoute(machine: string, text: string): Element | null {
    const lines = [...(this.machines.get(machine)?.querySelectorAll("text.s") ?? [])];
    return lines.find((line) => `${text} `.startsWith(`missing route ${line.textContent} `)) ?? null;
  }

  /** Where the packet is while it passes a device: a pod without drawn devices is one place. */
  place(machine: string, device: string | undefined): Point | null {
    const element = (device === undefined ? null : this.device(`${machine}/${device}`)) ?? this.machine(machine);
    return element && middle(this.boxOf(element));
  }

  /** The line from one device to another, along their cable if the drawing has it. */
  line(from: readonly [string, string], to: readonly [string, string]): Point[] {
    const [start, end] = [this.place(...from), this.place(...to)];
    if (!start || !end) return [start ?? end].filter((point) => point !== null);
    const wire = from[0] === to[0] ? this.port(from, to) : this.cable(from.join("/"), to.join("/"));
    if (!wire) return elbow(start, end);
    const along = directed(readPoints(wire.getAttribute("points") ?? ""), start);
    return [start, ...along, end].filter((point, at, all) => at === 0 || distance(point, all[at - 1]!) > 0.5);
  }

  private cable(from: string, to: string): Element | null {
    return this.svg.querySelector(`[data-cable="${CSS.escape(cableName(from, to))}"]`);
  }

  private port(from: readonly [string, string], to: readonly [string, string]): Element | null {
    const names = [from, to].map((end) => `[data-port="${CSS.escape(end.join("/"))}"]`);
    return this.svg.querySelector(names.join(","));
  }
}

function marksLayer(): SVGGElement {
  const layer = document.createElementNS(SVG, "g");
  layer.setAttribute("class", "marks");
  layer.setAttribute("aria-hidden", "true");
  return layer;
}

// The drawing in its window: pan and zoom, the keyboard, and marks on machines. Wet: it changes the page.
import type { Drift, Machine, Step } from "../documents.ts";
import { type Mark, arrange, label, svgElement } from "./mark.ts";
import styles from "./marks.shadow.css";
import { PacketMarks } from "./packet.ts";
import { type Point, neighbour } from "./path.ts";
import { Picture } from "./picture.ts";
import { type Box, type Size, between, centred, fit, middle, pan, scaleOf, zoom } from "./viewport.ts";

const READABLE = 0.85; // pixels of the screen per pixel of the drawing, below which its texts are too small
const CLICK_PX = 4; // a pointer that moves less than this clicks
const ARROWS = { ArrowLeft: "left", ArrowRight: "right", ArrowUp: "up", ArrowDown: "down" } as const;

export interface Marks {
  readonly labels: ReadonlyMap<string, string>;
  readonly selected: string | null;
  readonly ends: readonly { readonly machine: string; readonly text: string }[];
  readonly drift: readonly Drift[];
}

export class Stage {
  private readonly host: HTMLElement;
  private readonly pick: (name: string, device: string | null) => void;
  private readonly root: ShadowRoot;
  private readonly resize: ResizeObserver;
  private picture: Picture | null = null;
  private packet: PacketMarks | null = null;
  private badges: Mark[] = [];
  private content: Box = { x: 0, y: 0, width: 1, height: 1 };
  private window: Size = { width: 1, height: 1 };
  private view: Box = { x: 0, y: 0, width: 1, height: 1 };
  private isFitted = true;
  private follows = false;
  private tabStop = "";
  private readonly pointers = new Map<number, Point>();

  constructor(host: HTMLElement, pick: (name: string, device: string | null) => void) {
    this.host = host;
    this.pick = pick;
    this.root = host.shadowRoot ?? host.attachShadow({ mode: "open" });
    this.resize = new ResizeObserver(() => this.measure());
    this.resize.observe(host);
    host.addEventListener("wheel", this.onWheel, { passive: false });
    host.addEventListener("pointerdown", this.onPointerDown);
    host.addEventListener("pointermove", this.onPointerMove);
    host.addEventListener("pointerup", this.onPointerUp);
    host.addEventListener("pointercancel", this.onPointerUp);
    host.addEventListener("click", this.onClick);
    this.root.addEventListener("keydown", this.onKey as EventListener);
    this.root.addEventListener("focusin", this.onFocus as EventListener);
  }

  dispose(): void {
    this.resize.disconnect();
    this.packet?.remove();
  }

  /** Show a drawing. The view stays if the drawing has the same size as before. */
  setDrawing(text: string, machines: readonly Machine[], isDark: boolean): void {
    this.packet?.remove();
    [this.packet, this.badges] = [null, []];
    const focused = (this.root.activeElement as SVGElement | null)?.dataset["machine"];
    const style = document.createElement("style");
    style.textContent = styles;
    this.picture = new Picture(text);
    this.picture.setMachines(machines);
    this.picture.setDark(isDark);
    this.root.replaceChildren(this.picture.svg, style);
    this.setTabStop(
      this.picture.machines.has(this.tabStop) ? this.tabStop : ([...this.picture.machines.keys()][0] ?? ""),
    );
    this.content = this.picture.content();
    this.measure();
    if (focused !== undefined) this.picture.machines.get(focused)?.focus();
  }

  setDark(isDark: boolean): void {
    this.picture?.setDark(isDark);
  }

  setMarks(marks: Marks): void {
    const picture = this.picture;
    if (!picture) return;
    for (const [name, group] of picture.machines) {
      const isSelected = name === marks.selected;
      group.classList.toggle("selected", isSelected);
      group.setAttribute("aria-pressed", String(isSelected || marks.ends.some((end) => end.machine === name)));
      group.setAttribute("aria-label", marks.labels.get(name) ?? name);
    }
    for (const element of picture.svg.querySelectorAll(".drift")) element.classList.remove("drift");
    for (const badge of this.badges) badge.element.remove();
    this.badges = marks.ends.flatMap(({ machine, text }) => this.endMark(picture, machine, text));
    const drifted = new Set<Element>();
    for (const { machine, device, text } of marks.drift) {
      const element = machine === null ? null : (device && picture.device(device)) || picture.machine(machine);
      if (machine === null || !element) continue;
      (picture.missingRoute(machine, text) ?? element).classList.add("drift");
      drifted.add(element);
    }
    this.badges.push(...[...drifted].map((element) => driftMark(picture.boxOf(element))));
    picture.layer.append(...this.badges.map((badge) => badge.element));
    this.arrange();
  }

  setTrace(steps: readonly Step[] | null, lostText: string): void {
    this.packet?.remove();
    this.packet = steps && this.picture ? new PacketMarks(this.picture, steps, lostText) : null;
  }

  /** Show a step of the trace; with a duration, the packet moves there. */
  showStep(index: number, duration_ms: number): void {
    this.packet?.show(index, duration_ms, (at) => {
      if (this.follows) this.followTo(at, duration_ms > 0 ? 0.1 : 1);
      this.arrange();
    });
  }

  /** Whether the whole drawing is too large to read in this window. */
  isLarge(): boolean {
    return scaleOf(fit(this.content, this.window), this.window) < READABLE;
  }

  setFollow(follows: boolean): void {
    this.follows = follows;
  }

  zoomBy(factor: number): void {
    this.setView(zoom(this.view, factor, middle(this.view), this.content, this.window), false);
  }

  showAll(): void {
    this.setView(fit(this.content, this.window), true);
  }

  private measure(): void {
    const { width, height } = this.host.getBoundingClientRect();
    if (width < 1 || height < 1) return;
    const scale = scaleOf(this.view, this.window);
    this.window = { width, height };
    const resized = { ...this.view, width: width / scale, height: height / scale };
    this.setView(this.isFitted ? fit(this.content, this.window) : resized, this.isFitted);
  }

  private setView(view: Box, isFitted: boolean): void {
    this.view = view;
    this.isFitted = isFitted;
    this.picture?.svg.setAttribute("viewBox", `${view.x} ${view.y} ${view.width} ${view.height}`);
    this.arrange();
  }

  private arrange(): void {
    arrange([...this.badges, ...(this.packet?.marks ?? [])], this.view, this.window);
  }

  /** Bring the view nearer to a place, by a share of what is missing. */
  private followTo(at: Point, share: number): void {
    const scale = Math.max(scaleOf(this.view, this.window), READABLE * 1.2);
    const size = { width: this.window.width / scale, height: this.window.height / scale };
    this.setView(between(this.view, centred({ ...this.view, ...size }, at), share), false);
  }

  private endMark(picture: Picture, machine: string, text: string): Mark[] {
    const group = picture.machine(machine);
    if (!group) return [];
    const box = picture.boxOf(group);
    const { element, halfWidth } = label("end", text);
    const outer = svgElement("g", "");
    outer.append(element);
    picture.layer.append(outer);
    element.setAttribute("transform", `translate(${-halfWidth() - 20} 0)`);
    return [{ element: outer, at: { x: box.x + box.width, y: box.y } }];
  }

  private setTabStop(name: string): void {
    this.picture?.machines.get(this.tabStop)?.setAttribute("tabindex", "-1");
    this.picture?.machines.get(name)?.setAttribute("tabindex", "0");
    this.tabStop = name;
  }

  private readonly onKey = (event: KeyboardEvent): void => {
    const name = machineOf(event);
    if (name === undefined || !this.picture || event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === "Enter" || event.key === " ") {
      this.pick(name, null);
    } else if (event.key in ARROWS) {
      const next = neighbour(this.picture.centres, name, ARROWS[event.key as keyof typeof ARROWS]);
      if (next !== undefined) this.picture.machines.get(next)?.focus();
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  };

  private readonly onFocus = (event: FocusEvent): void => {
    const name = machineOf(event);
    const group = name === undefined ? undefined : this.picture?.machines.get(name);
    if (name === undefined || !group || !this.picture) return;
    this.setTabStop(name);
    const box = this.picture.boxOf(group);
    const at = middle(box);
    const isInside =
      at.x > this.view.x &&
      at.x < this.view.x + this.view.width &&
      at.y > this.view.y &&
      at.y < this.view.y + this.view.height;
    if (!isInside) this.setView(centred(this.view, at), false);
  };

  /** A click without a pointer: screen readers and voice control make it. */
  private readonly onClick = (event: MouseEvent): void => {
    const name = event.detail === 0 ? machineOf(event) : undefined;
    if (name !== undefined) this.pick(name, deviceOf(event));
  };

  private toDrawing(event: { clientX: number; clientY: number }): Point {
    const { left, top } = this.host.getBoundingClientRect();
    const scale = scaleOf(this.view, this.window);
    return { x: this.view.x + (event.clientX - left) / scale, y: this.view.y + (event.clientY - top) / scale };
  }

  private readonly onWheel = (event: WheelEvent): void => {
    event.preventDefault();
    const pixels = event.deltaY * (event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1);
    const factor = Math.exp(-pixels * (event.ctrlKey ? 0.01 : 0.0015));
    this.setView(zoom(this.view, factor, this.toDrawing(event), this.content, this.window), false);
  };

  private start: Point | null = null;

  private readonly onPointerDown = (event: PointerEvent): void => {
    if (event.button !== 0) return;
    this.pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    this.start = this.pointers.size === 1 ? { x: event.clientX, y: event.clientY } : null;
  };

  private readonly onPointerMove = (event: PointerEvent): void => {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const now = { x: event.clientX, y: event.clientY };
    if (this.start && Math.hypot(now.x - this.start.x, now.y - this.start.y) < CLICK_PX) return;
    this.start = null;
    this.host.setPointerCapture(event.pointerId);
    const other = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1];
    this.pointers.set(event.pointerId, now);
    if (other) {
      const factor = Math.hypot(now.x - other.x, now.y - other.y) / Math.hypot(before.x - other.x, before.y - other.y);
      const around = this.toDrawing({ clientX: (now.x + other.x) / 2, clientY: (now.y + other.y) / 2 });
      this.setView(zoom(this.view, factor, around, this.content, this.window), false);
    } else {
      const scale = scaleOf(this.view, this.window);
      this.setView(pan(this.view, (before.x - now.x) / scale, (before.y - now.y) / scale, this.content), false);
    }
  };

  private readonly onPointerUp = (event: PointerEvent): void => {
    const name =
      event.type === "pointerup" && this.start && this.pointers.has(event.pointerId) ? machineOf(event) : undefined;
    this.pointers.delete(event.pointerId);
    this.start = null;
    if (name !== undefined) this.pick(name, deviceOf(event));
  };
}

/** The machine that an event is at: its element, or that of one of its devices. */
function machineOf(event: Event): string | undefined {
  for (const element of event.composedPath()) {
    if (!(element instanceof SVGElement)) continue;
    const { machine, device, pods } = element.dataset;
    const name = machine ?? device?.split("/")[0] ?? pods;
    if (name !== undefined) return name;
  }
  return undefined;
}

/** The device that an event is at: "node1/eth0"; null if at none. */
function deviceOf(event: Event): string | null {
  const [first] = event.composedPath().filter((one) => one instanceof SVGElement && one.dataset["device"] !== undefined);
  return (first as SVGElement | undefined)?.dataset["device"] ?? null;
}

function driftMark(box: Box): Mark {
  const element = svgElement("g", "badge");
  const [shape, sign] = [svgElement("path", "shape"), svgElement("path", "sign")];
  shape.setAttribute("d", "M0-15 15 11H-15Z");
  shape.setAttribute("stroke-linejoin", "round");
  sign.setAttribute("d", "M0-6V2M0 7V7.1");
  element.append(shape, sign);
  return { element, at: { x: box.x + box.width, y: box.y } };
}

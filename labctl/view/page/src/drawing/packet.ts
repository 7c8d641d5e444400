// The packet of a trace in the drawing: its way, its trail, and the place where it is lost.
import type { Step } from "../documents.ts";
import { ends, endsBefore, passed } from "../steps.ts";
import { type Mark, label, svgElement } from "./mark.ts";
import { type Point, ease, partOf, placeAt } from "./path.ts";
import type { Picture } from "./picture.ts";

const NAT_SHARE = 0.6; // of the way through a machine: there the addresses change

export class PacketMarks {
  private readonly picture: Picture;
  private readonly steps: readonly Step[];
  private readonly ways: readonly Point[][];
  private readonly trail = svgElement("polyline", "trail");
  private readonly packet = svgElement("g", "packet");
  private readonly label = label("label", "");
  private readonly loss: Mark | null;
  /** Marks that keep their size on the screen. */
  readonly marks: Mark[];
  private readonly packetMark: Mark;
  private frame = 0;

  constructor(picture: Picture, steps: readonly Step[], lostText: string) {
    this.picture = picture;
    this.steps = steps;
    this.ways = steps.map((_, index) => wayOf(picture, steps, index));
    const [halo, dot] = [svgElement("circle", "halo"), svgElement("circle", "dot")];
    halo.setAttribute("r", "17");
    dot.setAttribute("r", "9");
    this.packet.append(halo, dot, this.label.element);
    this.packetMark = { element: this.packet, at: { x: 0, y: 0 }, label: this.label };
    this.loss = lossMark(steps, this.ways, lostText);
    picture.ground.append(this.trail);
    picture.layer.append(...(this.loss ? [this.loss.element] : []), this.packet);
    this.marks = [this.packetMark, ...(this.loss ? [this.loss] : [])];
  }

  remove(): void {
    cancelAnimationFrame(this.frame);
    for (const element of [this.trail, this.packet, this.loss?.element]) element?.remove();
    for (const group of this.picture.svg.querySelectorAll(".current, .passed, .lost")) {
      group.classList.remove("current", "passed", "lost");
    }
  }

  /** Show the packet at the end of a step; with a duration it moves there. `moved` is called after each frame. */
  show(index: number, duration_ms: number, moved: (at: Point) => void): void {
    cancelAnimationFrame(this.frame);
    this.markMachines(index);
    const start = performance.now();
    const next = (now: number): void => {
      const share = duration_ms > 0 ? Math.min((now - start) / duration_ms, 1) : 1;
      this.draw(index, ease(share));
      moved(this.packetMark.at);
      if (share < 1) this.frame = requestAnimationFrame(next);
    };
    next(start);
  }

  private draw(index: number, share: number): void {
    const way = this.ways[index] ?? [];
    const before = passed(this.steps, index).slice(0, -1).length;
    const line = [...this.ways.slice(index - before, index).flat(), ...partOf(way, share)];
    this.trail.setAttribute("points", line.map(({ x, y }) => `${x},${y}`).join(" "));
    this.packetMark.at = way.length > 0 ? placeAt(way, share) : this.packetMark.at;
    const step = this.steps[index];
    if (!step) return;
    const isChanged = step.nat !== null && share >= NAT_SHARE;
    this.packet.classList.toggle("changed", isChanged);
    this.label.setText(isChanged ? ends(step) : endsBefore(step));
    const isLost = this.steps.slice(0, index + 1).some((one) => one.lost) && (share === 1 || !step.lost);
    this.loss?.element.toggleAttribute("hidden", !isLost);
    this.packet.toggleAttribute("hidden", step.lost && share === 1);
  }

  private markMachines(index: number): void {
    const current = this.steps[index];
    const before = new Set(passed(this.steps, index).map((step) => this.picture.machine(step.machine)));
    const lost = this.steps.slice(0, index + 1).find((step) => step.lost);
    const lostAt = lost && this.picture.machine(lost.machine);
    for (const group of this.picture.svg.querySelectorAll("[data-machine], [data-pods]")) {
      const isCurrent = current !== undefined && group === this.picture.machine(current.machine);
      group.classList.toggle("current", isCurrent);
      group.classList.toggle("passed", before.has(group) && !isCurrent);
      group.classList.toggle("lost", group === lostAt);
    }
  }
}

/** From the last device of the step before, in the same leg, through the devices of this step. */
function wayOf(picture: Picture, steps: readonly Step[], index: number): Point[] {
  const step = steps[index]!;
  const previous = steps[index - 1];
  const stops: (readonly [string, string])[] = step.devices.map((device) => [step.machine, device]);
  const last = previous?.leg === step.leg ? previous.devices[previous.devices.length - 1] : undefined;
  if (previous && last !== undefined) stops.unshift([previous.machine, last]);
  if (stops.length < 2) return [picture.place(step.machine, step.devices[0])].filter((point) => point !== null);
  return stops.slice(1).flatMap((stop, at) => picture.line(stops[at]!, stop));
}

function lossMark(steps: readonly Step[], ways: readonly Point[][], text: string): Mark | null {
  const index = steps.findIndex((step) => step.lost);
  const way = ways[index];
  const at = way?.[way.length - 1];
  if (!at) return null;
  const element = svgElement("g", "badge loss");
  const [circle, cross] = [svgElement("circle", "shape"), svgElement("path", "sign")];
  circle.setAttribute("r", "15");
  cross.setAttribute("d", "M-6-6 6 6M6-6-6 6");
  const words = label("label-loss", text);
  element.append(words.element, circle, cross);
  return { element, at, label: words };
}

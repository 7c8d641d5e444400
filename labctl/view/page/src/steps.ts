// The steps of a trace: one visit of a machine after the other, as the server lists them. Pure.
import type { Step, Trace } from "./documents.ts";

/** The addresses of the packet when it leaves the machine. */
export function ends(step: Pick<Step, "src" | "dst">): string {
  return step.src && step.dst ? `${step.src} → ${step.dst}` : "";
}

/** The steps before `index` in the same leg, and that step: what the packet has passed so far. */
export function passed(steps: readonly Step[], index: number): readonly Step[] {
  let first = index;
  while (first > 0 && steps[first - 1]?.leg === steps[index]?.leg) first -= 1;
  return steps.slice(first, index + 1);
}

/** How long a step stays, in milliseconds at normal speed: longer where there is more to read. */
export function readingTime(step: Step): number {
  return 900 + Math.min(step.rules.length, 4) * 450 + (step.nat ? 1200 : 0) + (step.lost ? 2500 : 0);
}

/** Whether the answer came back. */
export function isGood(trace: Trace): boolean {
  return trace.story.verdict === "answered";
}

/** The addresses before a translation on this machine; those after it, if nothing is known or translated. */
export function endsBefore(step: Step): string {
  return step.nat?.before ? arrows(step.nat.before) : ends(step);
}

/** A translation as the two pairs of addresses: " > " of the text output is an arrow on the page. */
export function arrows(text: string): string {
  return text.replaceAll(" > ", " → ");
}

// The faults that apply to a lab, one group for each kind. Pure.
import type { Fault } from "./documents.ts";

export interface FaultGroup {
  readonly id: string;
  readonly text: string;
  readonly objects: readonly string[];
}

/** The kinds of faults in their order. Each has all words of `search` in its name, sentence or object. */
export function groupFaults(faults: readonly Fault[], search: string): FaultGroup[] {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  const groups = new Map<string, { id: string; text: string; objects: string[] }>();
  for (const fault of faults) {
    const haystack = `${fault.id} ${fault.text} ${fault.object}`.toLowerCase();
    if (!words.every((word) => haystack.includes(word))) continue;
    const group = groups.get(fault.id) ?? { id: fault.id, text: fault.text, objects: [] };
    group.objects.push(fault.object);
    groups.set(fault.id, group);
  }
  return [...groups.values()];
}

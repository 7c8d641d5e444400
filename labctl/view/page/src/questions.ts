// A trace that looks into a check. Pure.
import type { Check } from "./documents.ts";

export interface Question {
  readonly from: string;
  readonly to: string;
  readonly protocol: string;
  readonly port?: number;
  readonly listen?: boolean;
}

/** The trace of what a check pings. Of other checks, none: they start a server that a trace does not have. */
export function traceOf(check: Check): Question | null {
  const { from, to, probe } = check;
  return from && to && probe?.startsWith("ping ") ? { from, to, protocol: "icmp" } : null;
}

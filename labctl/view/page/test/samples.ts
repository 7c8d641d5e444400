// Traces for the tests.
import type { LegName, Step, Trace } from "../src/documents.ts";

export function someStep(step: Partial<Step> = {}): Step {
  return {
    leg: "request",
    machine: "a",
    devices: ["eth0"],
    src: "10.0.0.1",
    dst: "10.0.0.2",
    ttl: 64,
    tunnel: "",
    when_us: 0,
    rules: [],
    nat: null,
    lost: false,
    cause: null,
    ...step,
  };
}

interface TraceWords {
  readonly id?: number;
  readonly legs?: Partial<Record<LegName, readonly string[]>>;
  readonly verdict?: string;
  readonly last?: Partial<Step>;
}

/** A trace through these machines; `last` is about its last step. */
export function someTrace({
  id,
  legs = { request: ["a", "b"] },
  verdict = "answered",
  last = {},
}: TraceWords = {}): Trace {
  const steps = Object.entries(legs).flatMap(([leg, machines]) =>
    machines.map((machine) => someStep({ leg: leg as LegName, machine })),
  );
  const end = steps.length - 1;
  return {
    ...(id === undefined ? {} : { id }),
    steps: steps.map((step, index) => (index === end ? { ...step, ...last } : step)),
    story: {
      probe: "ICMP echo: a -> b",
      verdict,
      sentence: "answered after 1 us",
      why: null,
      facts: [],
      tries: [],
      unknown: [],
    },
  };
}

// The documents that the server sends. Keys are those of the JSON; absent keys get an empty value in `fullState`.

export type CheckVerdict = "unknown" | "running" | "pass" | "fail" | "inconclusive" | "skip";

export interface Machine {
  readonly name: string;
  readonly role: string;
  /** The machine that this one is on: the node of a pod, the host of a container. */
  readonly node: string | null;
  readonly addresses: readonly string[];
}

export interface Check {
  readonly id: string;
  readonly text: string;
  readonly state: CheckVerdict;
  readonly why?: string | null;
  readonly evidence?: readonly string[];
  readonly probe?: string | null;
  readonly from?: string | null;
  readonly to?: string | null;
  readonly command?: string | null;
}

export interface Drift {
  readonly machine: string | null;
  /** "node1/eth0" */
  readonly device?: string | null;
  readonly text: string;
}

/** A fault that applies, on one object. */
export interface Fault {
  readonly id: string;
  readonly object: string;
  readonly text: string;
}

export interface Broken {
  readonly id?: string | null;
  readonly object?: string | null;
  readonly hidden?: boolean;
  readonly text?: string | null;
}

/** Where a trace can go: a machine or a Service. */
export interface Target {
  readonly name: string;
  readonly text: string;
}

export interface Busy {
  readonly verb: string;
}

export interface Note {
  readonly label: string;
  readonly text: string;
}

export type LegName = "request" | "reply" | "error";

/** One visit of a machine by the packet: the devices it passes there, in order, and what happens to it. */
export interface Step {
  readonly leg: LegName;
  readonly machine: string;
  readonly devices: readonly string[];
  readonly src: string;
  readonly dst: string;
  /** null: no device has seen the packet. */
  readonly ttl: number | null;
  readonly tunnel: string;
  readonly when_us: number;
  readonly rules: readonly Note[];
  /** A translation of addresses here: the addresses before, if known, and after. */
  readonly nat: { readonly text: string; readonly before: string | null; readonly after: string } | null;
  /** The packet was seen here last. */
  readonly lost: boolean;
  readonly cause: string | null;
}

export interface Story {
  readonly probe: string;
  readonly verdict: string;
  readonly sentence: string;
  readonly why: { readonly sentence: string } | null;
  readonly facts: readonly Note[];
  readonly tries: readonly string[];
  readonly unknown: readonly string[];
}

/** The document of `labctl trace --json`, as far as the page reads it, with the steps that the server makes of it. */
export interface Trace {
  readonly id?: number;
  readonly story: Story;
  readonly steps: readonly Step[];
  readonly title?: string;
}

export interface Table {
  readonly title: string;
  readonly columns: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

/** An object of a machine, and why it is there. */
export interface Reason {
  readonly object: string;
  readonly kind: string;
  readonly why: string;
  readonly component: string | null;
  /** "node1/eth0"; null if it belongs to the whole machine. */
  readonly device: string | null;
}

/** All that is known of an object: that of `labctl explain --json`, as far as the page reads it. */
export interface Explanation {
  readonly source: { readonly project: string; readonly file: string; readonly version: string } | null;
  readonly without: readonly {
    readonly fault: string;
    readonly summary: string;
    readonly effect: string;
  }[];
  readonly commands: readonly string[];
  /** The machine in which the commands run; null is the machine of labctl. */
  readonly in: string | null;
}

export interface MachineDocument {
  readonly tables: readonly Table[];
  /** Only in an exported file. */
  readonly reasons?: readonly Reason[];
}

export interface LessonProgress {
  /** The current step from 1; null at the end. */
  readonly step: number | null;
  readonly steps: number;
  readonly finished: string | null;
  readonly predictions: { readonly right: number; readonly answered: number };
}

export interface LessonStep {
  readonly number: number;
  readonly kind: "text" | "run" | "labctl" | "predict" | "claim";
  readonly say: string | null;
  readonly commands: readonly string[];
  readonly claim: string | null;
  /** What an answer looks like. */
  readonly answer: string | null;
}

/** What happened in a step. */
export interface LessonOutcome {
  readonly number: number;
  readonly output: string | null;
  readonly exit_code: number | null;
  readonly right: boolean | null;
  readonly seen: readonly string[];
  readonly trace: readonly string[] | null;
  readonly holds: boolean | null;
  readonly checks: readonly {
    readonly say: string;
    readonly verdict: CheckVerdict;
    readonly evidence: readonly string[];
  }[];
  readonly problems: readonly string[];
  readonly then: string | null;
}

/** The document of `labctl learn --json`. */
export interface LessonSession {
  readonly title: string;
  readonly text: string;
  readonly outcome: LessonOutcome | null;
  readonly step: LessonStep | null;
  readonly exercise: string | null;
  readonly progress: LessonProgress;
}

export interface LessonDocument {
  readonly lessons: readonly {
    readonly name: string;
    readonly title: string;
    readonly minutes: number;
    readonly progress: LessonProgress | null;
  }[];
  /** null: this lab is not that of a lesson. */
  readonly session: LessonSession | null;
}

export interface LabState {
  readonly lab: string;
  readonly model: string;
  /** Whether it is the lab of a lesson. */
  readonly lesson: boolean;
  readonly summary: string;
  readonly svg: string;
  readonly machines: readonly Machine[];
  readonly checks: readonly Check[];
  readonly drift: readonly Drift[];
  readonly faults: readonly Fault[];
  readonly broken: readonly Broken[];
  readonly targets: readonly Target[];
  readonly points: readonly string[];
  readonly busy: Busy | null;
  readonly capture: { readonly running: boolean } | null;
  /** The lab was taken down. */
  readonly ended: boolean;
  /** Only in an exported file: when it was written, its recorded traces and the tables of its machines. */
  readonly exported: boolean;
  readonly date: string;
  readonly traces: readonly Trace[];
  readonly machine_documents: Readonly<Record<string, MachineDocument>>;
}

export const EMPTY: LabState = {
  lab: "",
  model: "",
  lesson: false,
  summary: "",
  svg: "",
  machines: [],
  checks: [],
  drift: [],
  faults: [],
  broken: [],
  targets: [],
  points: [],
  busy: null,
  capture: null,
  ended: false,
  exported: false,
  date: "",
  traces: [],
  machine_documents: {},
};

export interface ServerError {
  readonly error: string;
  readonly hint: string;
}

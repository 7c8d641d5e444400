// All that the page knows, and how each event changes it. Pure.
import {
  EMPTY,
  type Broken,
  type Check,
  type Drift,
  type Fault,
  type LabState,
  type LessonDocument,
  type ServerError,
  type Target,
  type Trace,
} from "./documents.ts";

export const TABS = ["checks", "trace", "machine", "drift", "capture", "break", "learn"] as const;
export type Tab = (typeof TABS)[number];
export type Protocol = "icmp" | "tcp" | "udp";
export const SPEEDS = [0.5, 1, 2, 4] as const;

const MOST_TRACES = 12;
const MOST_LINES = 500;

/** lost: the server does not answer; gone: the lab was taken down; file: an exported file. */
export type Connection = "connecting" | "live" | "lost" | "gone" | "file";

export interface TraceForm {
  readonly from: string;
  readonly to: string;
  readonly protocol: Protocol;
  readonly port: string;
  /** labctl answers on the port (TCP and UDP). */
  readonly listen: boolean;
  /** Which end the next click in the drawing sets. */
  readonly next: "from" | "to";
}

export interface Player {
  readonly index: number;
  readonly playing: boolean;
  readonly speed: number;
}

export interface CaptureLog {
  readonly lines: readonly { readonly number: number; readonly text: string }[];
  readonly count: number;
}

export interface PageState {
  readonly lab: LabState;
  readonly connection: Connection;
  readonly tab: Tab;
  readonly machine: string | null;
  /** The device of the machine that is selected: "node1/eth0". */
  readonly device: string | null;
  readonly form: TraceForm;
  /** The newest first. */
  readonly traces: readonly Trace[];
  readonly trace: Trace | null;
  readonly player: Player;
  readonly pending: string | null;
  readonly error: ServerError | null;
  readonly message: string;
  readonly lesson: LessonDocument | null;
  readonly capture: CaptureLog;
}

export type Action =
  | { readonly type: "state"; readonly state: Partial<LabState> }
  | { readonly type: "check"; readonly check: Partial<Check> & Pick<Check, "id"> }
  | { readonly type: "drift"; readonly drift: readonly Drift[] }
  | { readonly type: "trace"; readonly trace: Trace; readonly play: boolean }
  | { readonly type: "recorded"; readonly traces: readonly Trace[] }
  | { readonly type: "replay"; readonly trace: Trace; readonly play: boolean }
  | { readonly type: "capture"; readonly lines: readonly string[] }
  | { readonly type: "clear-capture" }
  | { readonly type: "connection"; readonly connection: Connection }
  | { readonly type: "tab"; readonly tab: Tab }
  | { readonly type: "machine"; readonly name: string }
  | { readonly type: "device"; readonly device: string | null }
  | { readonly type: "pick"; readonly name: string; readonly device?: string | null }
  | { readonly type: "form"; readonly form: Partial<TraceForm> }
  | { readonly type: "player"; readonly player: Partial<Player> }
  | { readonly type: "step"; readonly by: number }
  | { readonly type: "close-trace" }
  | { readonly type: "pending"; readonly verb: string | null }
  | { readonly type: "error"; readonly error: ServerError | null }
  | { readonly type: "message"; readonly text: string }
  /** `isNews`: after a step, and not the first reading. */
  | { readonly type: "lesson"; readonly lesson: LessonDocument; readonly isNews: boolean };

export const START: PageState = {
  lab: EMPTY,
  connection: "connecting",
  tab: "checks",
  machine: null,
  device: null,
  form: { from: "", to: "", protocol: "icmp", port: "80", listen: true, next: "from" },
  traces: [],
  trace: null,
  player: { index: 0, playing: false, speed: 1 },
  pending: null,
  error: null,
  message: "",
  lesson: null,
  capture: { lines: [], count: 0 },
};

export function reduce(page: PageState, action: Action): PageState {
  switch (action.type) {
    case "state":
      return withLab(page, { ...page.lab, ...readState(action.state) });
    case "check":
      return { ...page, lab: { ...page.lab, checks: withCheck(page.lab.checks, action.check) } };
    case "drift":
      return { ...page, lab: { ...page.lab, drift: action.drift } };
    case "trace": {
      const others = page.traces.filter(
        (one) => one !== action.trace && (one.id === undefined || one.id !== action.trace.id),
      );
      const traces = [action.trace, ...others].slice(0, MOST_TRACES);
      return shown({ ...page, traces }, action.trace, action.play);
    }
    case "recorded": {
      const [first] = action.traces;
      return first ? shown({ ...page, traces: action.traces }, first, false) : page;
    }
    case "replay":
      return shown(page, action.trace, action.play);
    case "capture":
      return { ...page, capture: withLines(page.capture, action.lines) };
    case "clear-capture":
      return { ...page, capture: { lines: [], count: 0 } };
    case "connection":
      return { ...page, connection: action.connection };
    case "tab":
      return tabsOf(page).includes(action.tab) ? { ...page, tab: action.tab, error: null } : page;
    case "machine":
      return { ...page, machine: action.name, device: null };
    case "device":
      return { ...page, device: action.device };
    case "pick":
      return page.tab === "trace" && page.connection !== "file"
        ? { ...page, form: picked(page.form, action.name) }
        : { ...page, machine: action.name, device: action.device ?? null, tab: "machine" };
    case "form":
      return { ...page, form: { ...page.form, ...action.form } };
    case "player":
      return { ...page, player: moved(page, { ...page.player, ...action.player }) };
    case "step":
      return { ...page, player: moved(page, { ...page.player, index: page.player.index + action.by }) };
    case "close-trace":
      return { ...page, trace: null, player: { ...page.player, index: 0, playing: false } };
    case "pending":
      return { ...page, pending: action.verb };
    case "error":
      return { ...page, error: action.error };
    case "lesson":
      return { ...page, lesson: withOutcome(page.lesson, action) };
    case "message":
      return { ...page, message: action.text };
  }
}

/** The tabs that make sense here: an exported file captures and breaks nothing. */
export function tabsOf(page: PageState): readonly Tab[] {
  return page.connection === "file" ? TABS.filter((tab) => !["capture", "break", "learn"].includes(tab)) : TABS;
}

/** Whether a verb runs in this lab, so that no other can start. */
export function isBusy(page: PageState): boolean {
  return page.pending !== null || page.lab.busy !== null || page.connection !== "live";
}

export interface Counts {
  readonly all: number;
  readonly passed: number;
  readonly failed: number;
  readonly running: number;
  readonly unknown: number;
}

export function countChecks(checks: readonly Check[]): Counts {
  const of = (...states: Check["state"][]): number => checks.filter((check) => states.includes(check.state)).length;
  return {
    all: checks.length,
    passed: of("pass"),
    failed: of("fail", "inconclusive"),
    running: of("running"),
    unknown: of("unknown", "skip"),
  };
}

type Loose<Item> = { [Key in keyof Item]?: unknown };

/** What the server has sent, in the forms that the page uses: a fault for each object, a target with its text. */
export function readState(state: Partial<LabState>): Partial<LabState> {
  const known: Partial<LabState> = { ...state };
  if (state.faults) Object.assign(known, { faults: state.faults.flatMap(readFault) });
  if (state.broken) Object.assign(known, { broken: state.broken.map((one): Broken => ({ ...one })) });
  if (state.targets) {
    const targets = state.targets.map((one: Target | string): Target =>
      typeof one === "string" ? { name: one, text: one } : one,
    );
    Object.assign(known, { targets });
  }
  return known;
}

function readFault(fault: Loose<Fault> & { objects?: unknown; sentence?: unknown; effect?: unknown }): Fault[] {
  const id = String(fault.id ?? "");
  const text = [fault.text ?? fault.sentence, fault.effect].filter(Boolean).join(" ");
  const objects = Array.isArray(fault.objects) ? fault.objects.map(String) : [String(fault.object ?? "")];
  return objects.map((object) => ({ id, object, text }));
}

function withLab(page: PageState, lab: LabState): PageState {
  const names = new Set(lab.machines.map((machine) => machine.name));
  const targets = new Set([...names, ...lab.targets.map((target) => target.name)]);
  const { form } = page;
  const isSame = JSON.stringify(lab.machines) === JSON.stringify(page.lab.machines); // then nothing is drawn again
  const isLesson = lab.lesson && !page.lab.lesson; // its page begins with the lesson
  return {
    ...page,
    tab: isLesson && page.tab === "checks" && page.connection !== "file" ? "learn" : page.tab,
    lab: isSame ? { ...lab, machines: page.lab.machines } : lab,
    machine: page.machine !== null && names.has(page.machine) ? page.machine : null,
    form: { ...form, from: names.has(form.from) ? form.from : "", to: targets.has(form.to) ? form.to : "" },
  };
}

/** A first reading keeps what happened in the step before: the server knows it only right after that step. */
function withOutcome(
  before: LessonDocument | null,
  { lesson, isNews }: { readonly lesson: LessonDocument; readonly isNews: boolean },
): LessonDocument {
  const old = before?.session;
  if (isNews || !old || !lesson.session || old.progress.step !== lesson.session.progress.step) return lesson;
  return { ...lesson, session: { ...lesson.session, outcome: old.outcome } };
}

function withCheck(checks: readonly Check[], news: Partial<Check> & Pick<Check, "id">): readonly Check[] {
  return checks.map((check) => (check.id === news.id ? { ...check, ...news } : check));
}

function withLines(log: CaptureLog, lines: readonly string[]): CaptureLog {
  const numbered = lines.map((text, index) => ({ number: log.count + index, text }));
  return { lines: [...log.lines, ...numbered].slice(-MOST_LINES), count: log.count + lines.length };
}

function picked(form: TraceForm, name: string): TraceForm {
  return form.next === "from" ? { ...form, from: name, next: "to" } : { ...form, to: name, next: "from" };
}

function shown(page: PageState, trace: Trace, play: boolean): PageState {
  return { ...page, trace, player: { ...page.player, index: 0, playing: play } };
}

function moved(page: PageState, player: Player): Player {
  const last = Math.max((page.trace?.steps.length ?? 0) - 1, 0);
  const index = Math.min(Math.max(player.index, 0), last);
  return { ...player, index, playing: player.playing && index < last };
}

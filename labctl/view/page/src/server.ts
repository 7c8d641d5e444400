// The way to the server: requests, and the stream of events with reconnection.
import type { Drift, Explanation, LabState, LessonDocument, MachineDocument, Reason, ServerError, Trace } from "./documents.ts";
import type { Question } from "./questions.ts";
import type { Action } from "./state.ts";
import type { Texts } from "./texts.ts";

/** A request that the server did not carry out: its sentence and hint. */
export class Refusal extends Error {
  readonly answer: ServerError;
  readonly status: number;

  constructor(answer: ServerError, status = 0) {
    super(answer.error);
    this.answer = answer;
    this.status = status;
  }
}

export interface Server {
  state(): Promise<LabState>;
  machine(name: string): Promise<MachineDocument>;
  reasons(machine: string): Promise<{ reasons: readonly Reason[] }>;
  explanation(machine: string, object: string): Promise<Explanation>;
  lesson(): Promise<LessonDocument>;
  learn(step: { action: "next" | "skip" | "back"; answer: string }): Promise<LessonDocument>;
  trace(question: Question): Promise<Trace>;
  check(): Promise<unknown>;
  break(
    question: { fault: string; object: string } | { random: true },
  ): Promise<{ broken: LabState["broken"]; text: string }>;
  fix(question?: { fault: string; object: string }): Promise<{ broken: LabState["broken"]; text: string }>;
  startCapture(question: { point?: string; filter?: string }): Promise<unknown>;
  stopCapture(): Promise<unknown>;
}

export function server(texts: Texts): Server {
  async function ask(method: string, address: string, body?: object): Promise<never> {
    let response: Response;
    const content = body && { body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
    try {
      response = await fetch(address, { method, cache: "no-store", ...content });
    } catch {
      throw new Refusal({ error: texts.errors.network, hint: texts.errors.networkHint });
    }
    const answer: unknown = await response.json().catch(() => null);
    if (response.ok) return answer as never;
    const { error, hint } = (answer ?? {}) as Partial<ServerError>;
    throw new Refusal({ error: error || texts.errors.answer(response.status), hint: hint ?? "" }, response.status);
  }
  return {
    state: () => ask("GET", "state"),
    machine: (name) => ask("GET", `machine/${encodeURIComponent(name)}`),
    reasons: (machine) => ask("GET", `reasons/${encodeURIComponent(machine)}`),
    explanation: (machine, object) =>
      ask("GET", `reasons/${encodeURIComponent(machine)}?object=${encodeURIComponent(object)}`),
    lesson: () => ask("GET", "lesson"),
    learn: (step) => ask("POST", "lesson", step),
    trace: (question) => ask("POST", "trace", question),
    check: () => ask("POST", "check"),
    break: (question) => ask("POST", "break", question),
    fix: (question) => ask("POST", "fix", question),
    startCapture: (question) => ask("POST", "capture", question),
    stopCapture: () => ask("DELETE", "capture"),
  };
}

const SLOWEST_RETRY_MS = 10_000;
const GONE = 410; // the status of a lab that was taken down

/** Follow the events until the returned function is called. Each interruption is followed by a new connection. */
export function follow(api: Server, dispatch: (action: Action) => void, onTrace: (trace: Trace) => void): () => void {
  let source: EventSource | null = null;
  let timer = 0;
  let wait = 500;
  let stopped = false;

  function listen<Data>(name: string, use: (data: Data) => void): void {
    source?.addEventListener(name, (event) => use(JSON.parse((event as MessageEvent<string>).data) as Data));
  }

  function received(state: Partial<LabState>): void {
    dispatch({ type: "state", state });
    dispatch({ type: "connection", connection: state.ended ? "gone" : "live" });
  }

  function interrupted(): void {
    source?.close();
    source = null;
    if (stopped) return;
    dispatch({ type: "connection", connection: "lost" });
    window.clearTimeout(timer);
    timer = window.setTimeout(connect, wait);
    wait = Math.min(wait * 2, SLOWEST_RETRY_MS);
  }

  function connect(): void {
    source = new EventSource("events");
    source.onerror = interrupted;
    source.onopen = () => {
      wait = 500;
      api.state().then(received, (error: unknown) => {
        if (error instanceof Refusal && error.status === GONE) dispatch({ type: "connection", connection: "gone" });
        else interrupted();
      });
    };
    listen<Partial<LabState>>("state", received);
    listen<{ id: string }>("check", (check) => dispatch({ type: "check", check }));
    listen<readonly Drift[]>("drift", (drift) => dispatch({ type: "drift", drift }));
    listen<Trace>("trace", onTrace);
    listen<LessonDocument>("lesson", (lesson) => dispatch({ type: "lesson", lesson, isNews: true }));
    listen<LabState["busy"]>("busy", (busy) => dispatch({ type: "state", state: { busy } }));
    listen<ServerError>("refusal", (error) => dispatch({ type: "error", error }));
    listen<{ lines?: readonly string[]; running?: boolean; why?: string }>("capture", (capture) => {
      if (capture.lines) dispatch({ type: "capture", lines: capture.lines });
      if (capture.running !== undefined) dispatch({ type: "state", state: { capture: { running: capture.running } } });
      if (capture.why) dispatch({ type: "message", text: capture.why });
    });
    listen("end", () => dispatch({ type: "connection", connection: "gone" }));
  }

  connect();
  return () => {
    stopped = true;
    window.clearTimeout(timer);
    source?.close();
  };
}

/** The state that an exported file contains, or null on a page of the server. */
export function inlineState(): LabState | null {
  const element = document.getElementById("labctl-state");
  return element?.textContent ? (JSON.parse(element.textContent) as LabState) : null;
}

import assert from "node:assert/strict";
import { test } from "node:test";
import { EMPTY, type Check, type LabState, type LessonDocument, type Machine } from "../src/documents.ts";
import { START, countChecks, isBusy, readState, reduce, tabsOf, type Action, type PageState } from "../src/state.ts";
import { someTrace } from "./samples.ts";

const machine = (name: string): Machine => ({ name, role: "pod", node: "node1", addresses: ["10.0.0.1"] });
const check = (id: string, state: Check["state"] = "unknown"): Check => ({ id, text: `check ${id}`, state });
const lab = (state: Partial<LabState>): Action => ({ type: "state", state });
const after = (...actions: Action[]): PageState => actions.reduce(reduce, START);

test("a partial state changes its keys only", () => {
  const page = after(lab({ lab: "kubenet", model: "kubenet" }), lab({ drift: [{ machine: "a", text: "missing" }] }));
  assert.equal(page.lab.lab, "kubenet");
  assert.equal(page.lab.drift.length, 1);
  assert.deepEqual(page.lab.checks, EMPTY.checks);
});

test("one check changes, the others and their order stay", () => {
  const page = after(lab({ checks: [check("0"), check("1"), check("2")] }), {
    type: "check",
    check: { id: "1", state: "fail", why: "no answer" },
  });
  assert.deepEqual(
    page.lab.checks.map((one) => one.state),
    ["unknown", "fail", "unknown"],
  );
  assert.equal(page.lab.checks[1]?.why, "no answer");
  assert.equal(page.lab.checks[1]?.text, "check 1");
});

test("a check that the lab does not have is not added", () => {
  const page = after(lab({ checks: [check("0")] }), { type: "check", check: { id: "9", state: "pass" } });
  assert.deepEqual(page.lab.checks, [check("0")]);
});

test("checks are counted by what they say: inconclusive is not passed", () => {
  const states = ["pass", "pass", "fail", "inconclusive", "running", "unknown", "skip"] as const;
  const counts = countChecks(states.map((state, index) => check(String(index), state)));
  assert.deepEqual(counts, { all: 7, passed: 2, failed: 2, running: 1, unknown: 2 });
});

test("two clicks in the tab Trace choose both ends, the third the first end again", () => {
  const machines = ["a", "b", "c"].map(machine);
  const pick = (name: string): Action => ({ type: "pick", name });
  const start = [lab({ machines }), { type: "tab", tab: "trace" } as const];
  const two = after(...start, pick("a"), pick("b"));
  assert.deepEqual([two.form.from, two.form.to, two.tab], ["a", "b", "trace"]);
  assert.deepEqual([reduce(two, pick("c")).form.from, reduce(two, pick("c")).form.to], ["c", "b"]);
});

test("a click on a device selects it with its machine; another machine has no device", () => {
  const machines = ["a", "b"].map(machine);
  const device = after(lab({ machines }), { type: "pick", name: "a", device: "a/eth0" });
  assert.deepEqual([device.tab, device.machine, device.device], ["machine", "a", "a/eth0"]);
  assert.equal(reduce(device, { type: "machine", name: "b" }).device, null);
  assert.equal(reduce(device, { type: "pick", name: "b" }).device, null);
  assert.equal(reduce(device, { type: "device", device: null }).machine, "a");
});

test("in other tabs, and in an exported file, a click shows the tables of the machine", () => {
  const machines = [machine("a")];
  const checks = after(lab({ machines }), { type: "pick", name: "a" });
  assert.deepEqual([checks.tab, checks.machine, checks.form.from], ["machine", "a", ""]);
  const file = after(
    lab({ machines }),
    { type: "connection", connection: "file" },
    { type: "tab", tab: "trace" },
    { type: "pick", name: "a" },
  );
  assert.deepEqual([file.tab, file.machine], ["machine", "a"]);
});

test("a machine that the lab does not have any more is not chosen any more", () => {
  const page = after(
    lab({ machines: [machine("a"), machine("b")], targets: [{ name: "web", text: "web (10.96.0.1)" }] }),
    { type: "form", form: { from: "a", to: "web" } },
    { type: "machine", name: "a" },
    lab({ machines: [machine("b")] }),
  );
  assert.deepEqual([page.machine, page.form.from, page.form.to], [null, "", "web"]);
});

test("the player stays between the first and the last step, and stops at the last", () => {
  const trace = someTrace({ legs: { request: ["a", "node1", "b"] } });
  const playing = after({ type: "trace", trace, play: true });
  assert.deepEqual(playing.player, { index: 0, playing: true, speed: 1 });
  const step = (by: number): Action => ({ type: "step", by });
  assert.deepEqual(reduce(playing, step(-1)).player.index, 0);
  assert.deepEqual(reduce(playing, step(1)).player, { index: 1, playing: true, speed: 1 });
  assert.deepEqual([step(1), step(1), step(1)].reduce(reduce, playing).player, { index: 2, playing: false, speed: 1 });
});

test("a new trace begins at its first step, at the chosen speed, and the old one stays in the list", () => {
  const [first, second] = [someTrace({ id: 1 }), someTrace({ id: 2 })];
  const page = after(
    { type: "trace", trace: first, play: false },
    { type: "player", player: { index: 1, speed: 4 } },
    { type: "trace", trace: second, play: true },
  );
  assert.deepEqual(page.player, { index: 0, playing: true, speed: 4 });
  assert.deepEqual(page.traces, [second, first]);
});

test("the same trace by two ways is in the list once, and the list is bounded", () => {
  const twice = after(
    { type: "trace", trace: someTrace({ id: 1 }), play: true },
    { type: "trace", trace: someTrace({ id: 1 }), play: true },
  );
  assert.equal(twice.traces.length, 1);
  const many = Array.from({ length: 40 }, (_, id): Action => ({
    type: "trace",
    trace: someTrace({ id }),
    play: false,
  }));
  assert.deepEqual(
    after(...many).traces.map((trace) => trace.id),
    [39, 38, 37, 36, 35, 34, 33, 32, 31, 30, 29, 28],
  );
});

test("of a capture, the newest lines stay with their numbers, and all are counted", () => {
  const batch = (from: number): Action => ({
    type: "capture",
    lines: Array.from({ length: 300 }, (_, at) => `line ${from + at}`),
  });
  const { capture } = after(batch(0), batch(300));
  assert.equal(capture.count, 600);
  assert.equal(capture.lines.length, 500);
  assert.deepEqual(capture.lines[0], { number: 100, text: "line 100" });
  assert.deepEqual(reduce({ ...START, capture }, { type: "clear-capture" }).capture, { lines: [], count: 0 });
});

test("while a verb runs, here or for another viewer, and without a connection, none can start", () => {
  const live = after({ type: "connection", connection: "live" });
  assert.equal(isBusy(live), false);
  assert.equal(isBusy(reduce(live, { type: "pending", verb: "trace" })), true);
  assert.equal(isBusy(reduce(live, lab({ busy: { verb: "check" } }))), true);
  for (const connection of ["connecting", "lost", "gone", "file"] as const) {
    assert.equal(isBusy(reduce(live, { type: "connection", connection })), true, connection);
  }
});

test("faults come as one entry for each kind, and become one for each object", () => {
  const faults = [
    { id: "mtu", sentence: "An MTU is wrong.", effect: "Large packets are lost.", objects: ["a/eth0", "b/eth0"] },
  ];
  assert.deepEqual(readState({ faults } as unknown as Partial<LabState>).faults, [
    { id: "mtu", object: "a/eth0", text: "An MTU is wrong. Large packets are lost." },
    { id: "mtu", object: "b/eth0", text: "An MTU is wrong. Large packets are lost." },
  ]);
});

test("an exported file has no tabs that need a server, by no way", () => {
  const file = after({ type: "connection", connection: "file" });
  assert.deepEqual(tabsOf(file), ["checks", "trace", "machine", "drift"]);
  assert.equal(reduce(file, { type: "tab", tab: "break" }).tab, "checks");
  assert.equal(tabsOf(after({ type: "connection", connection: "live" })).length, 7);
});

test("an error is shown until the reader goes on", () => {
  const refused = after({ type: "error", error: { error: "busy", hint: "wait" } });
  assert.equal(refused.error?.error, "busy");
  assert.equal(reduce(refused, { type: "tab", tab: "drift" }).error, null);
});

test("an exported file shows all of its traces in their order, the first at its begin", () => {
  const traces = Array.from({ length: 30 }, (_, id) => someTrace({ id }));
  const page = after({ type: "connection", connection: "file" }, { type: "recorded", traces });
  assert.deepEqual(page.traces, traces);
  assert.equal(page.trace, traces[0]);
  assert.equal(page.player.playing, false);
  assert.equal(after({ type: "recorded", traces: [] }).trace, null);
});

const session = (step: number | null, outcome: object | null = null): LessonDocument =>
  ({ lessons: [], session: { title: "t", outcome, progress: { step, steps: 3 } } }) as unknown as LessonDocument;
const lesson = (document: LessonDocument, isNews: boolean): Action => ({ type: "lesson", lesson: document, isNews });

test("the page of a lesson's lab begins with the lesson, but not in an exported file", () => {
  assert.equal(after(lab({ lesson: true })).tab, "learn");
  assert.equal(after(lab({ lesson: false })).tab, "checks");
  assert.equal(after({ type: "tab", tab: "drift" }, lab({ lesson: true })).tab, "drift");
  assert.equal(after({ type: "connection", connection: "file" }, lab({ lesson: true })).tab, "checks");
  assert.equal(after(lab({ lesson: true }), { type: "tab", tab: "checks" }, lab({ lesson: true })).tab, "checks");
});

test("what happened in a step stays when the lesson is read again, until the next step", () => {
  const done = after(lesson(session(2, { number: 1 }), true));
  assert.deepEqual(reduce(done, lesson(session(2), false)).lesson?.session?.outcome, { number: 1 });
  assert.equal(reduce(done, lesson(session(3), false)).lesson?.session?.outcome, null);
  assert.equal(reduce(done, lesson(session(1), true)).lesson?.session?.outcome, null);
});

import assert from "node:assert/strict";
import { test } from "node:test";
import { announcements } from "../src/announcements.ts";
import type { Check, Drift, LabState, LessonDocument } from "../src/documents.ts";
import { groupFaults } from "../src/faults.ts";
import { START, reduce, type Action, type PageState } from "../src/state.ts";
import { traceOf } from "../src/questions.ts";
import { changedRows } from "../src/tables.ts";
import { blocksOf, inlineParts } from "../src/text_blocks.ts";
import { chooseLanguage, textsOf } from "../src/texts.ts";
import { someStep, someTrace } from "./samples.ts";

const english = textsOf("en");
const lab = (state: Partial<LabState>): Action => ({ type: "state", state });
const said = (page: PageState, ...actions: Action[]): string[] =>
  announcements(page, actions.reduce(reduce, page), english);

const checks: Check[] = ["first", "second"].map((text, index) => ({ id: String(index), text, state: "running" }));
const running = reduce(START, lab({ checks }));

test("each result of a check is announced, and the sum after the last", () => {
  const one: Action = { type: "check", check: { id: "0", state: "pass" } };
  const two: Action = { type: "check", check: { id: "1", state: "fail" } };
  assert.deepEqual(said(running, one), ["pass: first"]);
  assert.deepEqual(said(reduce(running, one), two), ["fail: second", "Checks are done: 1 of 2 passed."]);
});

test("results from before this visit are not announced", () => {
  assert.deepEqual(said(START, lab({ checks: [{ id: "0", text: "first", state: "pass" }] })), []);
});

test("drift is announced once, and its end", () => {
  const drift: Drift[] = [{ machine: "node2", text: "missing route default" }];
  const drifted = reduce(START, { type: "drift", drift });
  assert.deepEqual(said(START, { type: "drift", drift }), ["Drift on node2: missing route default"]);
  assert.deepEqual(said(drifted, { type: "drift", drift: [...drift] }), []);
  assert.deepEqual(said(drifted, { type: "drift", drift: [] }), ["No difference from the definition any more."]);
});

test("each step of a trace is announced, with its translation, its loss and the end", () => {
  const nat = { text: "", before: "1.1.1.1 > 2.2.2.2", after: "3.3.3.3 > 2.2.2.2" };
  const trace = someTrace({ legs: { request: ["a", "node1", "b"] } });
  const steps = trace.steps.map((step, index) => (index === 1 ? { ...step, nat } : step));
  const shown = reduce(START, { type: "trace", trace: { ...trace, steps }, play: false });
  assert.deepEqual(announcements(START, shown, english), ["Step 1 of 3, request: a, eth0, 10.0.0.1 → 10.0.0.2"]);
  const [, translation] = said(shown, { type: "step", by: 1 });
  assert.equal(translation, "Address translation: 1.1.1.1 → 2.2.2.2 becomes 3.3.3.3 → 2.2.2.2.");
  assert.deepEqual(said(shown, { type: "step", by: 2 }).slice(1), ["Answered: answered after 1 us"]);
  const lost = someTrace({ verdict: "lost", last: { lost: true, cause: "b has no route" } });
  assert.deepEqual(said(reduce(START, { type: "trace", trace: lost, play: false }), { type: "step", by: 1 }).slice(1), [
    "Lost here: b has no route",
  ]);
});

test("a lost connection is announced, the first connection is not", () => {
  const live = reduce(START, { type: "connection", connection: "live" });
  assert.deepEqual(announcements(START, live, english), []);
  assert.deepEqual(said(live, { type: "connection", connection: "lost" }), ["no connection"]);
});

test("a step of a lesson is announced with its result", () => {
  const at = (step: number | null, right: boolean | null): Action => {
    const current = step === null ? null : { number: step };
    const found = { lessons: [], session: { outcome: { right }, step: current, progress: { step, steps: 3 } } };
    return { type: "lesson", lesson: found as unknown as LessonDocument, isNews: true };
  };
  const first = reduce(START, at(1, null));
  assert.deepEqual(announcements(START, first, english), []);
  assert.deepEqual(said(first, at(2, null)), ["Step 2 of 3"]);
  assert.deepEqual(said(first, at(2, true)), ["Right. Step 2 of 3"]);
  assert.deepEqual(said(first, at(null, false)), ["Not so. This is the end of the lesson"]);
});

test("texts of a lesson have paragraphs, commands and lists", () => {
  assert.deepEqual(blocksOf("One `x`.\nTwo\n\n  ip a\n\n  ip b\n- a\n- b"), [
    { kind: "paragraph", lines: ["One `x`."] },
    { kind: "paragraph", lines: ["Two"] },
    { kind: "code", lines: ["ip a", "", "ip b"] },
    { kind: "list", lines: ["a", "b"] },
  ]);
  assert.deepEqual(inlineParts("a `b` c"), [
    { code: false, part: "a " },
    { code: true, part: "b" },
    { code: false, part: " c" },
  ]);
  assert.deepEqual(inlineParts("a ` b"), [{ code: false, part: "a ` b" }]);
});

test("an unchanged page says nothing", () => {
  assert.deepEqual(announcements(running, running, english), []);
  assert.deepEqual(said(running, { type: "tab", tab: "drift" }), []);
});

test("the language is that of the server, if the page has it, else English", () => {
  assert.equal(chooseLanguage("ja"), "ja");
  assert.equal(chooseLanguage("ja-JP"), "ja");
  assert.equal(chooseLanguage("xx"), "en");
  assert.equal(chooseLanguage(""), "en");
});

/** Every text of a table, by its place; functions are called with `1`, `2`, ... */
function leaves(value: unknown, place = ""): [string, string][] {
  if (typeof value === "function") {
    const words = Array.from({ length: value.length }, (_, index) => String(index + 1));
    return [[place, String((value as (...words: string[]) => unknown)(...words))]];
  }
  if (typeof value === "object" && value !== null) {
    return Object.entries(value).flatMap(([key, inner]) => leaves(inner, `${place}/${key}`));
  }
  return [[place, String(value)]];
}

test("the Japanese table has every text, with the values of the English one", () => {
  const japanese = new Map(leaves(textsOf("ja")));
  const isSame = /^\/(keys\/list\/\d+\/0|trace\/(ttl|time|services))$/;
  for (const [place, text] of leaves(english)) {
    const other = japanese.get(place);
    assert.ok(other, `${place} is missing`);
    if (isSame.test(place) || !/[a-z]{3}/i.test(text)) continue;
    assert.match(other, /[\u3040-\u30ff\u4e00-\u9fff]/, `${place} is not Japanese`);
    for (const number of text.match(/\d+/g) ?? []) {
      if (!place.startsWith("/keys")) assert.ok(other.includes(number), `${place} has no ${number}`);
    }
  }
  assert.equal(japanese.size, leaves(english).length);
});

test("faults are grouped by kind; a search needs all of its words", () => {
  const faults = ["a", "b"].flatMap((object) => [
    { id: "mtu", object: `${object}/eth0`, text: "An MTU is wrong." },
    { id: "route-missing", object, text: "A route is missing." },
  ]);
  assert.deepEqual(
    groupFaults(faults, "").map((group) => [group.id, group.objects]),
    [
      ["mtu", ["a/eth0", "b/eth0"]],
      ["route-missing", ["a", "b"]],
    ],
  );
  assert.deepEqual(
    groupFaults(faults, "Wrong b/").map((group) => [group.id, group.objects]),
    [["mtu", ["b/eth0"]]],
  );
  assert.deepEqual(groupFaults(faults, "no such"), []);
});

test("rows that the reading before did not have are marked", () => {
  const table = (rows: string[][]) => ({ title: "nat", columns: ["packets", "rule"], rows });
  const before = table([
    ["1", "x"],
    ["0", "y"],
    ["0", "y"],
  ]);
  assert.deepEqual(
    [
      ...changedRows(
        table([
          ["2", "x"],
          ["0", "y"],
          ["0", "y"],
          ["0", "y"],
        ]),
        before,
      ),
    ],
    [0, 3],
  );
  assert.deepEqual([...changedRows(before, undefined)], []);
});

test("a step without devices and addresses can be told", () => {
  const trace = {
    ...someTrace(),
    steps: [someStep({ devices: [], src: "", dst: "", ttl: null, lost: true, cause: "not sent" })],
  };
  const page = reduce(START, { type: "trace", trace, play: true });
  assert.equal(announcements(START, page, english)[1], "Lost here: not sent");
});

test("a ping can be traced, checks that need a server or many pairs cannot", () => {
  const check = { id: "0", text: "", state: "fail", from: "a", to: "c", probe: "ping a -> c" } as const;
  assert.deepEqual(traceOf(check), { from: "a", to: "c", protocol: "icmp" });
  assert.equal(traceOf({ ...check, probe: "tcp a -> c:8080" }), null);
  assert.equal(traceOf({ ...check, from: null, probe: "mesh a b -> c" }), null);
});

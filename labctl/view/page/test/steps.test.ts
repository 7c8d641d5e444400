import assert from "node:assert/strict";
import { test } from "node:test";
import { arrows, ends, endsBefore, passed, readingTime } from "../src/steps.ts";
import { someStep, someTrace } from "./samples.ts";

const nat = { text: "source 10.0.0.1 becomes 9.9.9.9", before: "10.0.0.1 > 8.8.8.8", after: "9.9.9.9 > 8.8.8.8" };

test("what the packet has passed are the steps of its leg up to now, in order", () => {
  const { steps } = someTrace({ legs: { request: ["a", "node1", "b"], reply: ["b", "node1", "a"] } });
  const names = (index: number): string[] => passed(steps, index).map((step) => `${step.leg} ${step.machine}`);
  assert.deepEqual(names(0), ["request a"]);
  assert.deepEqual(names(1), ["request a", "request node1"]);
  assert.deepEqual(names(2), ["request a", "request node1", "request b"]);
  assert.deepEqual(names(3), ["reply b"]);
  assert.deepEqual(names(4), ["reply b", "reply node1"]);
  assert.deepEqual(names(5), ["reply b", "reply node1", "reply a"]);
});

test("before a translation, the addresses are the old ones; else those of the step", () => {
  const step = someStep({ src: "9.9.9.9", dst: "8.8.8.8", nat });
  assert.equal(endsBefore(step), "10.0.0.1 → 8.8.8.8");
  assert.equal(ends(step), "9.9.9.9 → 8.8.8.8");
  assert.equal(endsBefore({ ...step, nat: { ...nat, before: null } }), "9.9.9.9 → 8.8.8.8");
  assert.equal(endsBefore(someStep()), "10.0.0.1 → 10.0.0.2");
});

test("a packet that no device has seen has no addresses", () => {
  assert.equal(ends({ src: "", dst: "" }), "");
});

test("the arrow of the text output is an arrow", () => {
  assert.equal(arrows("10.0.0.1 > 8.8.8.8"), "10.0.0.1 → 8.8.8.8");
});

test("a step with more to read stays longer, the loss the longest", () => {
  const times = [
    someStep(),
    someStep({ rules: [{ label: "route", text: "" }] }),
    someStep({ nat }),
    someStep({ lost: true }),
  ].map(readingTime);
  assert.deepEqual(
    times,
    [...times].sort((one, other) => one - other),
  );
  assert.equal(new Set(times).size, 4);
});

// What a screen reader is told when the page changes by itself. Pure.
import { type PageState, countChecks } from "./state.ts";
import { arrows, ends, endsBefore } from "./steps.ts";
import type { Texts } from "./texts.ts";

/** The sentences that a change is worth, in order. */
export function announcements(before: PageState, after: PageState, texts: Texts): string[] {
  return [
    ...connectionSentences(before, after, texts),
    ...checkSentences(before, after, texts),
    ...driftSentences(before, after, texts),
    ...traceSentences(before, after, texts),
    ...lessonSentences(before, after, texts),
    ...(after.message !== before.message && after.message ? [after.message] : []),
  ];
}

function connectionSentences(before: PageState, after: PageState, texts: Texts): string[] {
  if (before.connection === after.connection || before.connection === "connecting") return [];
  return [texts.connection[after.connection]];
}

function checkSentences(before: PageState, after: PageState, texts: Texts): string[] {
  const old = new Map(before.lab.checks.map((check) => [check.id, check.state]));
  const isResult = (state: string): boolean => state !== "unknown" && state !== "running";
  const news = after.lab.checks.filter((check) => isResult(check.state) && old.get(check.id) === "running");
  const sentences = news.map((check) => texts.checks.said(texts.checks.state[check.state], check.text));
  const [was, is] = [countChecks(before.lab.checks), countChecks(after.lab.checks)];
  if (was.running > 0 && is.running === 0 && is.unknown === 0) sentences.push(texts.checks.done(is.passed, is.all));
  return sentences;
}

function driftSentences(before: PageState, after: PageState, texts: Texts): string[] {
  if (before.lab.drift === after.lab.drift) return [];
  const key = (one: { machine: string | null; text: string }): string => `${one.machine} ${one.text}`;
  const old = new Set(before.lab.drift.map(key));
  const news = after.lab.drift.filter((one) => !old.has(key(one)));
  if (before.lab.drift.length > 0 && after.lab.drift.length === 0) return [texts.drift.gone];
  return news.map((one) => texts.drift.said(one.machine ?? texts.drift.lab, one.text));
}

function traceSentences(before: PageState, after: PageState, texts: Texts): string[] {
  const { index } = after.player;
  const step = after.trace?.steps[index];
  if (!step || !after.trace) return [];
  if (before.trace === after.trace && before.player.index === index) return [];
  const { trace } = texts;
  const [at, all] = [index + 1, after.trace.steps.length];
  const sentences = [trace.said(at, all, trace.leg[step.leg], step.machine, step.devices.join(", "), ends(step))];
  if (step.nat) sentences.push(trace.natSaid(endsBefore(step), arrows(step.nat.after)));
  if (step.lost) sentences.push(trace.lostSaid(step.cause ?? ""));
  const { verdict, sentence } = after.trace.story;
  if (at === all && !step.lost) sentences.push(trace.ended(trace.verdict[verdict] ?? verdict, sentence));
  return sentences;
}

function lessonSentences(before: PageState, after: PageState, texts: Texts): string[] {
  const [old, now] = [before.lesson?.session, after.lesson?.session];
  if (!old || !now || old === now || old.progress.step === now.progress.step) return [];
  const { learn } = texts;
  const right = now.outcome?.right ?? null;
  const verdict = right === null ? "" : right ? learn.right : learn.wrong;
  const step = now.step ? learn.step(now.step.number, now.progress.steps) : learn.end;
  return [learn.said(verdict, step)];
}

// The lesson of this lab: what to read, to run and to predict, step by step. Without one, the list of lessons.
import { useEffect, useRef, useState } from "preact/hooks";
import { usePage } from "../context.ts";
import type { LessonDocument, LessonOutcome, LessonSession, LessonStep } from "../documents.ts";
import { Icon } from "../icons.tsx";
import { Paragraphs } from "../paragraphs.tsx";
import { Refusal } from "../server.ts";
import { isBusy } from "../state.ts";

export function LearnPanel() {
  const { page, texts, api, dispatch } = usePage();
  const { lesson, lab } = page;
  useEffect(() => {
    api.lesson().then(
      (found) => dispatch({ type: "lesson", lesson: found, isNews: false }),
      (error: unknown) => {
        if (error instanceof Refusal) dispatch({ type: "error", error: error.answer });
      },
    );
  }, [lab.lab, lab.lesson]);
  if (!lesson) return <p class="empty">{texts.machine.loading}</p>;
  return lesson.session ? <Session session={lesson.session} /> : <Lessons lesson={lesson} />;
}

function Lessons({ lesson }: { readonly lesson: LessonDocument }) {
  const { texts } = usePage();
  const words = texts.learn;
  return (
    <>
      <div class="head">
        <h2>{texts.tab.learn}</h2>
      </div>
      <p>{words.none}</p>
      <ol class="list">
        {lesson.lessons.map((one) => (
          <li key={one.name} class="reason">
            <p>
              <strong>{one.title}</strong> <span class="soft small">{words.minutes(one.minutes)}</span>
            </p>
            {one.progress && (
              <p class="small">
                {one.progress.step === null || one.progress.finished
                  ? words.finished
                  : words.step(one.progress.step, one.progress.steps)}
              </p>
            )}
            <p class="mono small">sudo labctl learn {one.name}</p>
          </li>
        ))}
      </ol>
    </>
  );
}

function Session({ session }: { readonly session: LessonSession }) {
  const { page, texts, api, dispatch, run } = usePage();
  const words = texts.learn;
  const { step, progress, outcome } = session;
  const heading = useRef<HTMLHeadingElement>(null);
  const acted = useRef(false);
  const at = progress.step ?? progress.steps + 1;

  useEffect(() => {
    if (acted.current) heading.current?.focus();
    acted.current = false;
  }, [session]);

  const act = (action: "next" | "skip" | "back", answer = ""): void =>
    run(
      "learn",
      () => api.learn({ action, answer }),
      (found) => {
        acted.current = true;
        dispatch({ type: "lesson", lesson: found, isNews: true });
      },
    );
  return (
    <>
      <div class="head">
        <h2>{session.title}</h2>
        <button type="button" disabled={isBusy(page) || at === 1} onClick={() => act("back")}>
          <Icon name="back" />
          {words.back}
        </button>
      </div>
      <progress aria-label={words.progress} value={at - 1} max={progress.steps} />
      <details key={at === 1 ? "first" : "later"} open={at === 1}>
        <summary>{words.introduction}</summary>
        <Paragraphs text={session.text} />
      </details>
      {outcome && <Outcome outcome={outcome} />}
      <section class="question" aria-labelledby="lesson-step">
        <h3 id="lesson-step" ref={heading} tabIndex={-1}>
          {step ? words.step(step.number, progress.steps) : words.end}
        </h3>
        {step ? <Step key={step.number} step={step} onAct={act} /> : <End session={session} />}
      </section>
    </>
  );
}

interface StepProps {
  readonly step: LessonStep;
  readonly onAct: (action: "next" | "skip", answer?: string) => void;
}

function Step({ step, onAct }: StepProps) {
  const { page, texts } = usePage();
  const words = texts.learn;
  const [answer, setAnswer] = useState("");
  const isQuestion = step.kind === "predict";
  const onSubmit = (event: Event): void => {
    event.preventDefault();
    if (!isBusy(page) && (!isQuestion || answer.trim())) onAct("next", answer.trim());
  };
  return (
    <form onSubmit={onSubmit}>
      {step.say && <Paragraphs text={step.say} />}
      {step.claim && (
        <p>
          {words.claim} <strong>{step.claim}</strong>
        </p>
      )}
      {step.commands.length > 0 && (
        <pre tabIndex={0} aria-label={words.command} role="region">
          {step.commands.join("\n")}
        </pre>
      )}
      {isQuestion && (
        <label>
          {words.answer}
          <input
            type="text"
            value={answer}
            autocomplete="off"
            spellcheck={false}
            aria-describedby="lesson-form"
            onInput={(event) => setAnswer(event.currentTarget.value)}
          />
        </label>
      )}
      {isQuestion && (
        <p id="lesson-form" class="soft small">
          {words.form(step.answer ?? "")}
        </p>
      )}
      <div class="row">
        <button class="main" disabled={isBusy(page) || (isQuestion && !answer.trim())}>
          {words.act[step.kind]}
        </button>
        {!isQuestion && step.kind !== "text" && (
          <button type="button" disabled={isBusy(page)} onClick={() => onAct("skip")}>
            {words.skip}
          </button>
        )}
      </div>
    </form>
  );
}

function Outcome({ outcome }: { readonly outcome: LessonOutcome }) {
  const { texts } = usePage();
  const words = texts.learn;
  const { right, output, checks, holds } = outcome;
  return (
    <section class="outcome" aria-label={words.happened(outcome.number)}>
      <h3>{words.happened(outcome.number)}</h3>
      {outcome.seen.length > 0 && (
        <div class={`verdict ${right === null ? "warn" : right ? "good" : "bad"}`}>
          <Icon name={right === null ? "question" : right ? "pass" : "fail"} />
          <div>
            <strong>{right === null ? words.unclear : right ? words.right : words.wrong}</strong>
            {outcome.seen.map((line) => (
              <p key={line}>{line}</p>
            ))}
          </div>
        </div>
      )}
      {output !== null && (
        <pre tabIndex={0} role="region" aria-label={words.output}>
          {output.trimEnd()}
        </pre>
      )}
      {outcome.exit_code !== null && outcome.exit_code !== 0 && (
        <p class="soft small">{words.exitCode(outcome.exit_code)}</p>
      )}
      {outcome.trace && (
        <details>
          <summary>{texts.tab.trace}</summary>
          <pre tabIndex={0}>{outcome.trace.join("\n")}</pre>
        </details>
      )}
      {holds !== null && checks.every((one) => one.verdict === "pass") && (
        <p>
          <strong>{holds ? words.holds : words.holdsNot}</strong>
        </p>
      )}
      {checks.map((one) => (
        <div key={one.say}>
          <p>
            {texts.checks.said(texts.checks.state[one.verdict] ?? one.verdict, one.say)}
          </p>
          {one.evidence.length > 0 && <pre tabIndex={0}>{one.evidence.join("\n")}</pre>}
        </div>
      ))}
      {outcome.problems.map((one) => (
        <p key={one} class="why">
          {words.problem(one)}
        </p>
      ))}
      {outcome.then && <Paragraphs text={outcome.then} />}
    </section>
  );
}

function End({ session }: { readonly session: LessonSession }) {
  const { texts } = usePage();
  const words = texts.learn;
  const { right, answered } = session.progress.predictions;
  return (
    <>
      {answered > 0 && <p>{words.predictions(right, answered)}</p>}
      {session.exercise && (
        <>
          <p>{words.exercise}</p>
          <pre tabIndex={0}>sudo labctl exercise start {session.exercise}</pre>
        </>
      )}
    </>
  );
}

import { usePage } from "../context.ts";
import type { Check, CheckVerdict } from "../documents.ts";
import { IconButton } from "../header.tsx";
import { Icon, type IconName } from "../icons.tsx";
import { traceOf } from "../questions.ts";
import { countChecks, isBusy } from "../state.ts";

const ICONS: Readonly<Record<CheckVerdict, IconName>> = {
  unknown: "unknown",
  running: "running",
  pass: "pass",
  fail: "fail",
  inconclusive: "question",
  skip: "unknown",
};

export function ChecksPanel() {
  const { page, texts, runChecks } = usePage();
  const { checks } = page.lab;
  const words = texts.checks;
  const counts = countChecks(checks);
  const done = counts.passed + counts.failed;
  return (
    <>
      <div class="head">
        <h2>{texts.tab.checks}</h2>
        {page.connection !== "file" && (
          <button type="button" class="main" onClick={runChecks} disabled={isBusy(page) || checks.length === 0}>
            <Icon name="play" />
            {words.run}
          </button>
        )}
      </div>
      {checks.length > 0 && (
        <div class="progress">
          <div class="bar" aria-hidden="true">
            {checks.map((check) => (
              <span key={check.id} class={check.state} />
            ))}
          </div>
          <p>
            {counts.running > 0 ? words.running : done === 0 ? words.never : words.passed(counts.passed, counts.all)}
            {counts.failed > 0 && <strong class="bad"> {words.failed(counts.failed)}</strong>}
          </p>
        </div>
      )}
      {checks.length === 0 && <p class="empty">{words.none}</p>}
      <ol class="list">
        {checks.map((check) => (
          <CheckItem key={check.id} check={check} />
        ))}
      </ol>
    </>
  );
}

function CheckItem({ check }: { check: Check }) {
  const { page, texts, dispatch, runTrace } = usePage();
  const words = texts.checks;
  const { state } = check;
  const question = page.connection === "file" ? null : traceOf(check);
  const lines = check.evidence ?? [];
  const hasFailed = state === "fail" || state === "inconclusive";
  const why = lines[0] ?? check.why;
  return (
    <li class={`item ${state}`}>
      <span class={`sign ${state}`} title={words.state[state]}>
        <Icon name={ICONS[state]} className={state === "running" ? "turns" : ""} />
        <span class="unseen">{words.state[state]}: </span>
      </span>
      <div>
        <p>{check.text}</p>
        {hasFailed && why && <p class="why">{why}</p>}
        {lines.length === 0 && <p class="soft mono small probe">{check.probe}</p>}
        {lines.length > 0 && (
          <details open={hasFailed && lines.length > 1}>
            <summary>
              <span class="mono probe">{check.probe}</span>{" "}
              <span>· {words.evidence}</span>
            </summary>
            <pre tabIndex={0}>{lines.join("\n")}</pre>
          </details>
        )}
      </div>
      {question && (
        <IconButton
          icon="trace"
          label={words.trace(question.from, question.to)}
          isDisabled={isBusy(page)}
          onClick={() => {
            dispatch({ type: "form", form: { from: question.from, to: question.to, protocol: "icmp", next: "from" } });
            dispatch({ type: "tab", tab: "trace" });
            runTrace(question);
          }}
        />
      )}
    </li>
  );
}

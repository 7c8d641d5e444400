import { useEffect, useRef } from "preact/hooks";
import { usePage } from "../context.ts";
import type { Note, Step, Trace } from "../documents.ts";
import { IconButton } from "../header.tsx";
import { Icon } from "../icons.tsx";
import { wantsLessMotion } from "../settings.ts";
import { type Protocol, isBusy } from "../state.ts";
import { arrows, ends, endsBefore, isGood } from "../steps.ts";

const PROTOCOLS: readonly Protocol[] = ["icmp", "tcp", "udp"];

export function TracePanel() {
  const { page, texts } = usePage();
  const isFile = page.connection === "file";
  return (
    <>
      <div class="head">
        <h2>{texts.tab.trace}</h2>
      </div>
      {isFile ? <TraceList /> : <TraceQuestion />}
      {page.trace && <Result trace={page.trace} />}
      {!isFile && <TraceList />}
      {isFile && page.traces.length === 0 && <p class="empty">{texts.trace.noneRecorded}</p>}
    </>
  );
}

function TraceQuestion() {
  const { page, texts, dispatch, runTrace } = usePage();
  const words = texts.trace;
  const { form, lab, pending } = page;
  const machines = lab.machines.map((machine) => ({ name: machine.name, text: machine.name }));
  const names = new Set(machines.map((machine) => machine.name));
  const services = lab.targets.filter((target) => !names.has(target.name));
  const hasPort = form.protocol !== "icmp";
  const submit = (event: Event): void => {
    event.preventDefault();
    const port = Number(form.port);
    if (!form.from || !form.to) {
      dispatch({ type: "error", error: { error: texts.errors.ends, hint: "" } });
    } else if (hasPort && !(Number.isInteger(port) && port >= 1 && port <= 65535)) {
      dispatch({ type: "error", error: { error: texts.errors.port, hint: "" } });
    } else {
      const question = {
        from: form.from,
        to: form.to,
        protocol: form.protocol,
        ...(hasPort ? { port, listen: form.listen } : {}),
      };
      runTrace(question);
    }
  };
  return (
    <form class="question" onSubmit={submit}>
      <div class="ends">
        <label>
          {words.from}
          <select
            value={form.from}
            onChange={(event) => dispatch({ type: "form", form: { from: event.currentTarget.value, next: "to" } })}
          >
            <option value="">{words.choose}</option>
            {machines.map(({ name }) => (
              <option key={name}>{name}</option>
            ))}
          </select>
        </label>
        <IconButton
          icon="swap"
          label={words.swap}
          isDisabled={form.to !== "" && !names.has(form.to)}
          onClick={() => dispatch({ type: "form", form: { from: form.to, to: form.from } })}
        />
        <label>
          {words.to}
          <select
            value={form.to}
            onChange={(event) => dispatch({ type: "form", form: { to: event.currentTarget.value, next: "from" } })}
          >
            <option value="">{words.choose}</option>
            <optgroup label={words.machines}>
              {machines.map(({ name }) => (
                <option key={name}>{name}</option>
              ))}
            </optgroup>
            {services.length > 0 && (
              <optgroup label={words.services}>
                {services.map(({ name, text }) => (
                  <option key={name} value={name}>
                    {text}
                  </option>
                ))}
              </optgroup>
            )}
          </select>
        </label>
      </div>
      <div class="row">
        <fieldset class="choice">
          <legend class="unseen">{words.protocol}</legend>
          {PROTOCOLS.map((protocol) => (
            <label key={protocol}>
              <input
                type="radio"
                name="protocol"
                checked={form.protocol === protocol}
                onChange={() => dispatch({ type: "form", form: { protocol } })}
              />
              <span>{protocol.toUpperCase()}</span>
            </label>
          ))}
        </fieldset>
        {hasPort && (
          <label class="port">
            {words.port}
            <input
              inputMode="numeric"
              value={form.port}
              size={5}
              onInput={(event) => dispatch({ type: "form", form: { port: event.currentTarget.value } })}
            />
          </label>
        )}
        <button class="main" disabled={isBusy(page)}>
          <Icon name={pending === "trace" ? "running" : "play"} className={pending === "trace" ? "turns" : ""} />
          {words.run}
        </button>
      </div>
      {hasPort && (
        <label class="check">
          <input
            type="checkbox"
            checked={form.listen}
            onChange={(event) => dispatch({ type: "form", form: { listen: event.currentTarget.checked } })}
          />
          {words.listen}
        </label>
      )}
      <p class="soft small">{form.next === "to" && form.from ? words.pickTo : words.pickFrom}</p>
    </form>
  );
}

function Result({ trace }: { trace: Trace }) {
  const { page, texts, dispatch } = usePage();
  const words = texts.trace;
  const { story, steps } = trace;
  const good = isGood(trace);
  return (
    <section class="result" aria-label={story.probe}>
      <h3 class="mono">{story.probe.replaceAll("->", "→")}</h3>
      <p class={`verdict ${good ? "good" : story.verdict === "lost" ? "bad" : "warn"}`}>
        <Icon name={good ? "pass" : story.verdict === "lost" ? "fail" : "drift"} />
        <span>
          <strong>{words.verdict[story.verdict] ?? story.verdict}:</strong> {story.sentence}
          {story.why && <span class="cause">{story.why.sentence}</span>}
        </span>
      </p>
      <ol class="steps" aria-label={words.steps}>
        {steps.map((step, index) => (
          <StepItem
            key={index}
            step={step}
            startsLeg={step.leg !== steps[index - 1]?.leg}
            isCurrent={index === page.player.index}
            onClick={() => dispatch({ type: "player", player: { index, playing: false } })}
          />
        ))}
      </ol>
      <Notes title={words.facts} notes={story.facts} />
      {story.tries.length > 0 && (
        <>
          <h4>{words.tries}</h4>
          {story.tries.map((text) => (
            <pre key={text} tabIndex={0}>
              {text}
            </pre>
          ))}
        </>
      )}
      <Notes title={words.unknown} notes={story.unknown.map((text) => ({ label: "", text }))} />
    </section>
  );
}

interface StepItemProps {
  readonly step: Step;
  readonly startsLeg: boolean;
  readonly isCurrent: boolean;
  readonly onClick: () => void;
}

function StepItem({ step, startsLeg, isCurrent, onClick }: StepItemProps) {
  const { texts } = usePage();
  const words = texts.trace;
  const item = useRef<HTMLLIElement>(null);
  useEffect(() => {
    if (isCurrent) item.current?.scrollIntoView({ block: "nearest" });
  }, [isCurrent]);
  return (
    <>
      {startsLeg && (
        <li class="legname">
          <span class={`leg ${step.leg}`}>{words.leg[step.leg]}</span>
        </li>
      )}
      <li class={`step ${step.leg}${isCurrent ? " current" : ""}${step.lost ? " lost" : ""}`} ref={item}>
        <button type="button" class="plain" aria-current={isCurrent ? "step" : undefined} onClick={onClick}>
          <span class="machine">{step.machine}</span>
          <span class="soft small devices">{step.devices.join(" → ")}</span>
          <span class="soft small time">{words.time(step.when_us)}</span>
          <span class="mono small ends">
            {ends(step)} {step.ttl !== null && <span class="soft">{words.ttl(step.ttl)}</span>}
            {step.tunnel && <span class="tag">{words.tunnel(step.tunnel)}</span>}
          </span>
        </button>
        {isCurrent && <StepDetails step={step} />}
      </li>
    </>
  );
}

function StepDetails({ step }: { step: Step }) {
  const { texts } = usePage();
  const words = texts.trace;
  return (
    <div class="details">
      {step.nat && (
        <div class="nat" role="group" aria-label={words.nat}>
          <span class="soft small">{words.before}</span>
          <s class="mono">{endsBefore(step)}</s>
          <span class="soft small">{words.after}</span>
          <strong class="mono">{arrows(step.nat.after)}</strong>
        </div>
      )}
      <Rules notes={step.rules} />
      {step.lost && (
        <p class="why">
          <Icon name="fail" />
          <strong>{words.lost}</strong>
        </p>
      )}
    </div>
  );
}

function Notes({ title, notes }: { title: string; notes: readonly Note[] }) {
  if (notes.length === 0) return null;
  return (
    <>
      <h4>{title}</h4>
      <Rules notes={notes} />
    </>
  );
}

function Rules({ notes }: { notes: readonly Note[] }) {
  if (notes.length === 0) return null;
  return (
    <dl class="rules">
      {notes.map(({ label, text }, index) => (
        <div key={index}>
          <dt>{label}</dt>
          <dd class="mono small">{text}</dd>
        </div>
      ))}
    </dl>
  );
}

/** The traces of this visit, or those of the file: a click plays one again. */
function TraceList() {
  const { page, texts, dispatch } = usePage();
  const words = texts.trace;
  const isFile = page.connection === "file";
  const others = isFile ? page.traces : page.traces.filter((trace) => trace !== page.trace);
  if (others.length === 0) return null;
  return (
    <section>
      <h3>{isFile ? words.recorded : words.earlier}</h3>
      <ul class={`list${isFile ? " recorded" : ""}`}>
        {others.map((trace, index) => (
          <li key={index}>
            <button
              type="button"
              class="plain item"
              aria-current={trace === page.trace ? "true" : undefined}
              onClick={() => dispatch({ type: "replay", trace, play: !wantsLessMotion() })}
            >
              <span class={`sign ${isGood(trace) ? "pass" : "fail"}`}>
                <Icon name={isGood(trace) ? "pass" : "fail"} />
                <span class="unseen">{words.verdict[trace.story.verdict] ?? trace.story.verdict}: </span>
              </span>
              <span>{(trace.title ?? trace.story.probe).replaceAll("->", "→")}</span>
            </button>
          </li>
        ))}
      </ul>
    </section>
  );
}

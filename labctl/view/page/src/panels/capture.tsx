import { useEffect, useRef, useState } from "preact/hooks";
import { usePage } from "../context.ts";
import { Icon } from "../icons.tsx";
import { isBusy } from "../state.ts";

export function CapturePanel() {
  const { page, texts, api, dispatch, run } = usePage();
  const words = texts.capture;
  const { lab, capture } = page;
  const [point, setPoint] = useState("");
  const [filter, setFilter] = useState("");
  const lines = useRef<HTMLOListElement>(null);
  const isAtEnd = useRef(true);
  const isRunning = lab.capture?.running === true;
  useEffect(() => {
    const list = lines.current;
    if (list && isAtEnd.current) list.scrollTop = list.scrollHeight;
  }, [capture]);

  const setRunning = (running: boolean): void => {
    dispatch({ type: "state", state: { capture: { running } } });
    dispatch({ type: "message", text: running ? words.started : words.stopped });
  };
  const submit = (event: Event): void => {
    event.preventDefault();
    if (isRunning) {
      run("capture", api.stopCapture, () => setRunning(false));
      return;
    }
    const question = { ...(point ? { point } : {}), ...(filter.trim() ? { filter: filter.trim() } : {}) };
    run(
      "capture",
      () => api.startCapture(question),
      () => setRunning(true),
    );
  };
  return (
    <>
      <div class="head">
        <h2>{texts.tab.capture}</h2>
      </div>
      <form class="question" onSubmit={submit}>
        <label>
          {words.point}
          <select value={point} disabled={isRunning} onChange={(event) => setPoint(event.currentTarget.value)}>
            <option value="">{words.everywhere}</option>
            {lab.points.map((one) => (
              <option key={one}>{one}</option>
            ))}
          </select>
        </label>
        <label>
          {words.filter}
          <input
            class="mono"
            value={filter}
            disabled={isRunning}
            placeholder="icmp"
            aria-describedby="filter-hint"
            onInput={(event) => setFilter(event.currentTarget.value)}
          />
        </label>
        <p class="soft small" id="filter-hint">
          {words.filterHint}
        </p>
        <div class="row">
          <button class="main" disabled={isRunning ? page.pending !== null : isBusy(page)}>
            <Icon name={isRunning ? "pause" : "play"} />
            {isRunning ? words.stop : words.start}
          </button>
          <button type="button" disabled={capture.count === 0} onClick={() => dispatch({ type: "clear-capture" })}>
            {words.clear}
          </button>
          <span class="soft">{words.count(capture.count)}</span>
        </div>
      </form>
      {capture.count > capture.lines.length && <p class="soft small">{words.older(capture.lines.length)}</p>}
      {capture.count === 0 ? (
        <p class="empty">{words.none}</p>
      ) : (
        <ol
          class="lines mono"
          ref={lines}
          tabIndex={0}
          aria-label={words.lines}
          onScroll={({ currentTarget: list }) => {
            isAtEnd.current = list.scrollHeight - list.scrollTop - list.clientHeight < 24;
          }}
        >
          {capture.lines.map(({ number, text }) => (
            <li key={number}>{text}</li>
          ))}
        </ol>
      )}
    </>
  );
}

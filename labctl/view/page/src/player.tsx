// The player of a trace: it moves the packet from step to step.
import { useEffect } from "preact/hooks";
import { usePage } from "./context.ts";
import type { Step } from "./documents.ts";
import { IconButton } from "./header.tsx";
import { Icon } from "./icons.tsx";
import { SPEEDS, type Action, type PageState } from "./state.ts";
import { arrows, ends, endsBefore, isGood, readingTime } from "./steps.ts";

/** How long the packet moves to a step, in milliseconds at normal speed. */
export function movingTime(step: Step): number {
  return 700 + 250 * step.devices.length;
}

/** While it plays, go to the next step when this one was shown long enough. */
export function usePlayer(page: PageState, dispatch: (action: Action) => void): void {
  const { trace, player } = page;
  useEffect(() => {
    const step = trace?.steps[player.index];
    if (!player.playing || !step) return undefined;
    const timer = window.setTimeout(
      () => dispatch({ type: "step", by: 1 }),
      (movingTime(step) + readingTime(step)) / player.speed,
    );
    return () => window.clearTimeout(timer);
  }, [trace, player.playing, player.index, player.speed]);
}

interface PlayerBarProps {
  readonly follows: boolean;
  readonly onFollow: (follows: boolean) => void;
}

export function PlayerBar({ follows, onFollow }: PlayerBarProps) {
  const { page, texts, dispatch } = usePage();
  const { trace, player } = page;
  const step = trace?.steps[player.index];
  if (!trace || !step) return null;
  const words = texts.trace;
  const last = trace.steps.length - 1;
  const move = (index: number): void => dispatch({ type: "player", player: { index, playing: false } });
  const play = (): void => {
    const isAtEnd = player.index === last;
    dispatch({ type: "player", player: { playing: !player.playing, index: isAtEnd ? 0 : player.index } });
  };
  return (
    <section class={`player${step.lost ? " lost" : ""}`} aria-label={words.player}>
      <StepLine step={step} />
      <div class="controls">
        <IconButton
          icon="back"
          label={words.back}
          onClick={() => move(player.index - 1)}
          isDisabled={player.index === 0}
        />
        <IconButton
          kind="main"
          icon={player.playing ? "pause" : "play"}
          label={player.playing ? words.pause : words.play}
          onClick={play}
        />
        <IconButton
          icon="forward"
          label={words.forward}
          onClick={() => move(player.index + 1)}
          isDisabled={player.index === last}
        />
        <input
          type="range"
          min={0}
          max={last}
          value={player.index}
          aria-label={words.steps}
          aria-valuetext={words.position(player.index + 1, last + 1)}
          onInput={(event) => move(Number(event.currentTarget.value))}
        />
        <span class="soft nowrap count" aria-hidden="true">
          {player.index + 1} / {last + 1}
        </span>
        <label class="speed">
          <span class="unseen">{words.speed}</span>
          <select
            value={player.speed}
            onChange={(event) => dispatch({ type: "player", player: { speed: Number(event.currentTarget.value) } })}
          >
            {SPEEDS.map((speed) => (
              <option key={speed} value={speed}>
                {speed}×
              </option>
            ))}
          </select>
        </label>
        <IconButton icon="follow" label={words.follow} isPressed={follows} onClick={() => onFollow(!follows)} />
        <IconButton icon="close" label={words.close} onClick={() => dispatch({ type: "close-trace" })} />
      </div>
    </section>
  );
}

/** One step in large letters: where, and what is different after it. */
function StepLine({ step }: { step: Step }) {
  const { page, texts } = usePage();
  const words = texts.trace;
  const { story, steps } = page.trace!;
  const isLast = page.player.index === steps.length - 1;
  return (
    <div class="stepline">
      <p>
        <span class={`leg ${step.leg}`}>{words.leg[step.leg]}</span> <strong translate={false}>{step.machine}</strong>{" "}
        <span class="soft" translate={false}>
          {step.devices.join(" → ")}
        </span>
        {!step.nat && <span class="addresses mono">{ends(step)}</span>}
      </p>
      {step.nat && (
        <p class="nat">
          <span class="tag">NAT</span> <span class="unseen">{words.before}</span>
          <s class="mono">{endsBefore(step)}</s> <span class="unseen">{words.after}</span>
          <strong class="mono">{arrows(step.nat.after)}</strong>
        </p>
      )}
      {step.lost && (
        <p class="cause">
          <Icon name="fail" />
          <strong>{words.lost}:</strong> {step.cause}
        </p>
      )}
      {isLast && !step.lost && (
        <p class={`verdict ${isGood(page.trace!) ? "good" : "warn"}`}>
          <Icon name={isGood(page.trace!) ? "pass" : "drift"} />
          <strong>{words.verdict[story.verdict] ?? story.verdict}:</strong> {story.sentence}
          {story.why && `. ${story.why.sentence}`}
        </p>
      )}
    </div>
  );
}

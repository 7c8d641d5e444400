import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { usePage } from "./context.ts";
import { Stage } from "./drawing/stage.ts";
import { IconButton } from "./header.tsx";
import { PlayerBar, movingTime } from "./player.tsx";
import { wantsLessMotion } from "./settings.ts";
import { ZOOM, type ZoomKey, askZoom } from "./shortcuts.ts";
import type { PageState } from "./state.ts";
import type { Texts } from "./texts.ts";

export function DrawingPane() {
  const { page, texts, pick, isDark } = usePage();
  const host = useRef<HTMLDivElement>(null);
  const stage = useRef<Stage | null>(null);
  const onPick = useRef(pick);
  onPick.current = pick;
  const [follows, setFollow] = useState(false);
  const shown = useRef({ trace: page.trace, index: -1 });
  const { lab, trace, player } = page;

  useEffect(() => {
    if (!host.current) return undefined;
    const made = new Stage(host.current, (name, device) => onPick.current(name, device));
    stage.current = made;
    const onZoom = (event: Event): void => {
      const key = (event as CustomEvent<ZoomKey>).detail;
      if (key === "all") made.showAll();
      else made.zoomBy(key === "in" ? 1.3 : 1 / 1.3);
    };
    window.addEventListener(ZOOM, onZoom);
    return () => {
      window.removeEventListener(ZOOM, onZoom);
      made.dispose();
    };
  }, []);

  useEffect(() => {
    if (lab.svg) stage.current?.setDrawing(lab.svg, lab.machines, isDark);
  }, [lab.svg, lab.machines]);
  useEffect(() => stage.current?.setDark(isDark), [isDark]);

  const labels = useMemo(
    () => machineLabels(page, texts),
    [lab.machines, lab.drift, page.form, page.tab, page.machine, trace, player.index],
  );
  useEffect(() => {
    const { form, tab } = page;
    const ends = [
      { machine: form.from, text: texts.from },
      { machine: form.to, text: texts.to },
    ].filter((end) => tab === "trace" && end.machine);
    const selected = tab === "machine" ? page.machine : null;
    stage.current?.setMarks({ labels, selected, ends, drift: lab.drift });
  }, [labels, lab.svg, lab.machines]);

  useEffect(() => {
    stage.current?.setTrace(trace?.steps ?? null, texts.trace.lost);
    const isLarge = trace !== null && stage.current?.isLarge() === true;
    setFollow(isLarge);
    stage.current?.setFollow(isLarge);
    shown.current = { trace, index: -1 };
  }, [trace, lab.svg, lab.machines]);
  useEffect(() => stage.current?.setFollow(follows), [follows]);
  useEffect(() => {
    const step = trace?.steps[player.index];
    if (!step) return;
    const isNext = player.index === shown.current.index + 1;
    shown.current = { trace, index: player.index };
    stage.current?.showStep(player.index, isNext && !wantsLessMotion() ? movingTime(step) / player.speed : 0);
  }, [trace, player.index, lab.svg, lab.machines]);

  return (
    <main class="drawing" aria-label={texts.drawing}>
      <p class="unseen">{texts.drawingHelp}</p>
      <div class="stage" ref={host} />
      <div class="zoom">
        <IconButton icon="plus" label={texts.zoomIn} onClick={() => askZoom("in")} />
        <IconButton icon="minus" label={texts.zoomOut} onClick={() => askZoom("out")} />
        <IconButton icon="whole" label={texts.fit} onClick={() => askZoom("all")} />
      </div>
      {trace && <PlayerBar follows={follows} onFollow={setFollow} />}
    </main>
  );
}

/** The name of each machine for screen readers: what it is, and what the page shows about it now. */
function machineLabels(page: PageState, texts: Texts): ReadonlyMap<string, string> {
  const { lab, form, tab, trace, player } = page;
  const here = trace?.steps[player.index]?.machine;
  return new Map(
    lab.machines.map(({ name, role, node, addresses }) => {
      const drift = lab.drift.filter((one) => one.machine === name).map((one) => texts.hasDrift(one.text));
      const parts = [
        texts.machineName(name, role, node, addresses.join(" ")),
        ...(tab === "trace" && form.from === name ? [texts.isFrom] : []),
        ...(tab === "trace" && form.to === name ? [texts.isTo] : []),
        ...(here === name ? [texts.isHere] : []),
        ...drift,
      ];
      return [name, parts.join(", ")] as const;
    }),
  );
}

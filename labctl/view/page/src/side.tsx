import { useRef } from "preact/hooks";
import { usePage } from "./context.ts";
import { Divider } from "./divider.tsx";
import { Icon } from "./icons.tsx";
import { BreakPanel } from "./panels/break.tsx";
import { CapturePanel } from "./panels/capture.tsx";
import { ChecksPanel } from "./panels/checks.tsx";
import { DriftPanel } from "./panels/drift.tsx";
import { LearnPanel } from "./panels/learn.tsx";
import { MachinePanel } from "./panels/machine.tsx";
import { TracePanel } from "./panels/trace.tsx";
import { type PageState, type Tab, countChecks, tabsOf } from "./state.ts";
import type { Texts } from "./texts.ts";

const PANELS: Readonly<Record<Tab, () => preact.JSX.Element>> = {
  checks: ChecksPanel,
  trace: TracePanel,
  machine: MachinePanel,
  drift: DriftPanel,
  capture: CapturePanel,
  break: BreakPanel,
  learn: LearnPanel,
};

interface SideProps {
  readonly isHidden: boolean;
  readonly onShow: () => void;
  /** Percent of the width of the page. */
  readonly share: number;
  readonly onShare: (share: number) => void;
}

export function Side({ isHidden, onShow, share, onShare }: SideProps) {
  const { page, texts, dispatch } = usePage();
  const list = useRef<HTMLDivElement>(null);
  const tabs = tabsOf(page);
  const Panel = PANELS[page.tab];
  const choose = (tab: Tab): void => {
    dispatch({ type: "tab", tab });
    onShow();
  };
  const onKey = (event: KeyboardEvent): void => {
    const at = tabs.indexOf(page.tab);
    const next = {
      ArrowDown: at + 1,
      ArrowRight: at + 1,
      ArrowUp: at - 1,
      ArrowLeft: at - 1,
      Home: 0,
      End: tabs.length - 1,
    }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    const tab = tabs[(next + tabs.length) % tabs.length]!;
    choose(tab);
    list.current?.querySelector<HTMLElement>(`#tab-${tab}`)?.focus();
  };
  return (
    <aside class="side" aria-label={texts.side}>
      {!isHidden && <Divider share={share} onShare={onShare} />}
      <div class="tabs" role="tablist" aria-label={texts.side} aria-orientation="vertical" ref={list} onKeyDown={onKey}>
        {tabs.map((tab) => (
          <TabButton key={tab} tab={tab} isSelected={tab === page.tab} onClick={() => choose(tab)} />
        ))}
      </div>
      {!isHidden && (
        <div class={`panel ${page.tab}`} role="tabpanel" id="panel" aria-labelledby={`tab-${page.tab}`} tabIndex={0}>
          <Panel />
        </div>
      )}
    </aside>
  );
}

function TabButton({ tab, isSelected, onClick }: { tab: Tab; isSelected: boolean; onClick: () => void }) {
  const { page, texts } = usePage();
  const note = noteOf(tab, page, texts);
  return (
    <button
      type="button"
      role="tab"
      id={`tab-${tab}`}
      aria-selected={isSelected}
      aria-label={note ? `${texts.tab[tab]}, ${note.text}` : undefined}
      aria-controls={isSelected ? "panel" : undefined}
      tabIndex={isSelected ? 0 : -1}
      onClick={onClick}
    >
      <span class="tabicon">
        <Icon name={tab} />
        {note && (
          <span class={`count ${note.kind}`} data-sign={note.sign} />
        )}
      </span>
      {texts.tab[tab]}
    </button>
  );
}

function noteOf(tab: Tab, page: PageState, texts: Texts): { sign: string; kind: string; text: string } | null {
  const { lab } = page;
  const { failed } = countChecks(lab.checks);
  const drifted = lab.drift.length;
  const broken = lab.broken.length;
  if (tab === "checks" && failed > 0) return { sign: String(failed), kind: "bad", text: texts.tabNote.failed(failed) };
  if (tab === "drift" && drifted > 0)
    return { sign: String(drifted), kind: "bad", text: texts.tabNote.differences(drifted) };
  if (tab === "break" && broken > 0) return { sign: String(broken), kind: "warn", text: texts.tabNote.faults(broken) };
  if (tab === "capture" && lab.capture?.running) return { sign: "●", kind: "bad", text: texts.tabNote.capturing };
  return null;
}

import { useEffect, useRef } from "preact/hooks";
import type { Page } from "./context.ts";
import { tabsOf } from "./state.ts";

export interface PageActions {
  readonly nextTheme: () => void;
  readonly togglePanel: () => void;
  readonly help: () => void;
}

/** Events for the drawing, which listens for them: it is not a part of the state. */
export type ZoomKey = "in" | "out" | "all";
export const ZOOM = "labctl-zoom";

export function askZoom(detail: ZoomKey): void {
  window.dispatchEvent(new CustomEvent<ZoomKey>(ZOOM, { detail }));
}

/** The keys of the help. They do nothing while a text is typed. */
export function useShortcuts(page: Page, isOn: boolean, actions: PageActions): void {
  const now = useRef({ page, isOn, actions });
  now.current = { page, isOn, actions };
  useEffect(() => {
    const onKey = (event: KeyboardEvent): void => {
      if (!now.current.isOn || event.altKey || event.ctrlKey || event.metaKey || isTyping(event)) return;
      if (act(event.key, now.current.page, now.current.actions)) event.preventDefault();
    };
    window.addEventListener("keydown", onKey);
    return () => window.removeEventListener("keydown", onKey);
  }, []);
}

function act(key: string, { page, dispatch, runChecks }: Page, actions: PageActions): boolean {
  const tab = tabsOf(page)[Number(key) - 1];
  if (tab !== undefined) dispatch({ type: "tab", tab });
  else if (key === "?") actions.help();
  else if (key === "c") runChecks();
  else if (key === "d") actions.nextTheme();
  else if (key === "w") actions.togglePanel();
  else if (key === "+" || key === "=") askZoom("in");
  else if (key === "-") askZoom("out");
  else if (key === "0") askZoom("all");
  else if (page.trace && key === "p") dispatch({ type: "player", player: { playing: !page.player.playing } });
  else if (page.trace && key === ",") dispatch({ type: "step", by: -1 });
  else if (page.trace && key === ".") dispatch({ type: "step", by: 1 });
  else return false;
  return true;
}

function isTyping(event: KeyboardEvent): boolean {
  const element = event.composedPath()[0];
  if (!(element instanceof HTMLElement)) return false;
  if (element instanceof HTMLInputElement) return !["checkbox", "radio", "range"].includes(element.type);
  return element instanceof HTMLSelectElement || element instanceof HTMLTextAreaElement || element.isContentEditable;
}

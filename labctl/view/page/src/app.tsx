// The page: the drawing in the middle, the questions beside it.
import { useEffect, useMemo, useReducer, useRef, useState } from "preact/hooks";
import { Announcer } from "./announcer.tsx";
import { type Page, PageContext } from "./context.ts";
import type { Trace } from "./documents.ts";
import { DrawingPane } from "./drawing_pane.tsx";
import { Banner, ErrorBox, Header } from "./header.tsx";
import { HelpDialog } from "./help.tsx";
import { Side } from "./side.tsx";
import { usePlayer } from "./player.tsx";
import { useShortcuts } from "./shortcuts.ts";
import { Refusal, follow, inlineState, server } from "./server.ts";
import {
  type Theme,
  THEMES,
  isDark,
  onSystemTheme,
  recall,
  recallTheme,
  remember,
  wantsLessMotion,
} from "./settings.ts";
import { START, isBusy, reduce } from "./state.ts";
import { chooseLanguage, textsOf } from "./texts.ts";

const SHARE = 34; // percent of the page that the side panel has

export function App() {
  const language = useMemo(() => chooseLanguage(document.documentElement.lang), []);
  const texts = textsOf(language);
  const api = useMemo(() => server(texts), [texts]);
  const [page, dispatch] = useReducer(reduce, START);
  const [theme, setTheme] = useState<Theme>(recallTheme);
  const dark = useDark(theme);
  const [isNarrow, setNarrow] = useState(recall("panel") === "hidden");
  const [share, setShare] = useState(Number(recall("share")) || SHARE);
  const [isHelp, setHelp] = useState(false);
  const [hasShortcuts, setShortcuts] = useState(recall("shortcuts") !== "off");
  const own = useRef<number | undefined>(undefined);
  const pending = useRef<string | null>(null);

  const showTrace = (trace: Trace): void => dispatch({ type: "trace", trace, play: !wantsLessMotion() });

  useEffect(() => {
    document.documentElement.lang = language;
  }, [language]);
  useEffect(() => {
    document.documentElement.dataset["theme"] = theme;
    remember("theme", theme);
  }, [theme]);
  useEffect(() => remember("panel", isNarrow ? "hidden" : "shown"), [isNarrow]);
  useEffect(() => remember("share", String(share)), [share]);
  useEffect(() => remember("shortcuts", hasShortcuts ? "on" : "off"), [hasShortcuts]);
  useEffect(() => {
    if (page.lab.lab) document.title = `${page.lab.lab} · labctl`;
  }, [page.lab.lab]);
  useEffect(() => {
    const state = inlineState();
    if (!state) {
      return follow(api, dispatch, (trace) => {
        if (pending.current !== "trace" && trace.id !== own.current) showTrace(trace);
      });
    }
    dispatch({ type: "state", state });
    dispatch({ type: "connection", connection: "file" });
    dispatch({ type: "recorded", traces: state.traces ?? [] });
    return undefined;
  }, [api]);
  usePlayer(page, dispatch);

  function run<Answer>(verb: string, work: () => Promise<Answer>, done?: (answer: Answer) => void): void {
    dispatch({ type: "pending", verb });
    dispatch({ type: "error", error: null });
    pending.current = verb;
    work()
      .then((answer) => done?.(answer))
      .catch((error: unknown) => {
        if (!(error instanceof Refusal)) throw error;
        dispatch({ type: "error", error: error.answer });
      })
      .finally(() => {
        pending.current = null;
        dispatch({ type: "pending", verb: null });
      });
  }

  const value: Page = {
    page,
    texts,
    api,
    dispatch,
    run,
    pick: (name, device) => dispatch({ type: "pick", name, device }),
    runChecks: () => {
      if (!isBusy(page) && page.lab.checks.length > 0) run("check", api.check);
    },
    runTrace: (question) =>
      run(
        "trace",
        () => api.trace(question),
        (trace) => {
          own.current = trace.id;
          showTrace(trace);
        },
      ),
    isDark: dark,
  };
  const nextTheme = (): void => setTheme(THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length] ?? "auto");
  useShortcuts(value, hasShortcuts && !isHelp, {
    nextTheme,
    togglePanel: () => setNarrow(!isNarrow),
    help: () => setHelp(true),
  });

  return (
    <PageContext.Provider value={value}>
      <div class={`layout${isNarrow ? " narrow" : ""}`} style={{ "--share": share }}>
        <Header
          theme={theme}
          onTheme={nextTheme}
          isNarrow={isNarrow}
          onPanel={() => setNarrow(!isNarrow)}
          onHelp={() => setHelp(true)}
        />
        <Banner />
        <ErrorBox />
        <DrawingPane />
        <Side isHidden={isNarrow} onShow={() => setNarrow(false)} share={share} onShare={setShare} />
      </div>
      <Announcer page={page} texts={texts} />
      {isHelp && <HelpDialog hasShortcuts={hasShortcuts} onShortcuts={setShortcuts} onClose={() => setHelp(false)} />}
    </PageContext.Provider>
  );
}

/** Whether the page is dark now: as chosen, or as the system wants. */
function useDark(theme: Theme): boolean {
  const [, setCount] = useState(0);
  useEffect(() => onSystemTheme(() => setCount((count) => count + 1)), []);
  return isDark(theme);
}

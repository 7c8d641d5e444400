// What every part of the page needs: the state, the texts, and what a reader can do.
import { createContext } from "preact";
import { useContext } from "preact/hooks";
import type { Question } from "./questions.ts";
import type { Action, PageState } from "./state.ts";
import type { Server } from "./server.ts";
import type { Texts } from "./texts.ts";

export interface Page {
  readonly page: PageState;
  readonly texts: Texts;
  readonly api: Server;
  readonly dispatch: (action: Action) => void;
  /** Run a verb of the server: nothing else starts meanwhile, and an error is shown. */
  readonly run: <Answer>(verb: string, work: () => Promise<Answer>, done?: (answer: Answer) => void) => void;
  readonly pick: (name: string, device: string | null) => void;
  readonly runChecks: () => void;
  readonly runTrace: (question: Question) => void;
  readonly isDark: boolean;
}

export const PageContext = createContext<Page | null>(null);

export function usePage(): Page {
  const page = useContext(PageContext);
  if (!page) throw new Error("outside of the page");
  return page;
}

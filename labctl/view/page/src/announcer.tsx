import { useEffect, useRef, useState } from "preact/hooks";
import { announcements } from "./announcements.ts";
import { START, type PageState } from "./state.ts";
import type { Texts } from "./texts.ts";

const MOST_SENTENCES = 20;

/** The live region: it tells a screen reader what has changed by itself. */
export function Announcer({ page, texts }: { page: PageState; texts: Texts }) {
  const before = useRef(START);
  const count = useRef(0);
  const [sentences, setSentences] = useState<readonly { key: number; text: string }[]>([]);
  useEffect(() => {
    const news = announcements(before.current, page, texts).map((text) => ({ key: (count.current += 1), text }));
    before.current = page;
    if (news.length > 0) setSentences((old) => [...old, ...news].slice(-MOST_SENTENCES));
  }, [page]);
  return (
    <div class="unseen" role="log" aria-live="polite">
      {sentences.map(({ key, text }) => (
        <p key={key}>{text}</p>
      ))}
    </div>
  );
}

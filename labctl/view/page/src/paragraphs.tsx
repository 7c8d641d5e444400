// A text of a lesson: paragraphs, lists (`- `), and lines of commands, which begin with two blanks.
import { blocksOf, inlineParts } from "./text_blocks.ts";

export function Paragraphs({ text }: { readonly text: string }) {
  return (
    <div class="paragraphs">
      {blocksOf(text).map(({ kind, lines }, index) =>
        kind === "code" ? (
          <pre key={index} tabIndex={0}>
            {lines.join("\n")}
          </pre>
        ) : kind === "list" ? (
          <ul key={index}>
            {lines.map((line) => (
              <li key={line}>
                <Inline text={line} />
              </li>
            ))}
          </ul>
        ) : (
          <p key={index}>
            <Inline text={lines[0] ?? ""} />
          </p>
        ),
      )}
    </div>
  );
}

function Inline({ text }: { readonly text: string }) {
  return <>{inlineParts(text).map(({ code, part }, index) => (code ? <code key={index}>{part}</code> : part))}</>;
}

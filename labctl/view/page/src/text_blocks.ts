// The parts of a text with paragraphs. Pure.

export interface TextBlock {
  readonly kind: "paragraph" | "list" | "code";
  readonly lines: readonly string[];
}

/** Paragraphs, lists and commands, in their order. */
export function blocksOf(text: string): TextBlock[] {
  const blocks: { kind: TextBlock["kind"]; lines: string[] }[] = [];
  let isNew = true;
  for (const line of text.split("\n")) {
    if (line === "") {
      isNew = true;
      continue;
    }
    const kind = line.startsWith("  ") ? "code" : line.startsWith("- ") ? "list" : "paragraph";
    const last = blocks[blocks.length - 1];
    const content = kind === "paragraph" ? line : line.slice(2);
    if (last && last.kind === kind && kind !== "paragraph" && (!isNew || kind === "code")) {
      if (isNew) last.lines.push("");
      last.lines.push(content);
    } else {
      blocks.push({ kind, lines: [content] });
    }
    isNew = false;
  }
  return blocks;
}

/** A line in parts: `code` stands between two backticks. */
export function inlineParts(text: string): { readonly code: boolean; readonly part: string }[] {
  const parts = text.split("`");
  if (parts.length % 2 === 0) return [{ code: false, part: text }];
  return parts.map((part, index) => ({ code: index % 2 === 1, part })).filter(({ part }) => part !== "");
}

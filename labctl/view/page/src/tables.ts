// What is different between two readings of a table. Pure.
import type { Table } from "./documents.ts";

/** The numbers of the rows that the reading before did not have. Without a reading before, none. */
export function changedRows(table: Table, before: Table | undefined): ReadonlySet<number> {
  if (!before) return new Set();
  const old = new Map<string, number>();
  const key = (row: readonly string[]): string => row.join("\t");
  for (const row of before.rows) old.set(key(row), (old.get(key(row)) ?? 0) + 1);
  const changed = new Set<number>();
  table.rows.forEach((row, index) => {
    const left = old.get(key(row)) ?? 0;
    if (left > 0) old.set(key(row), left - 1);
    else changed.add(index);
  });
  return changed;
}

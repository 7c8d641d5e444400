import { useEffect, useState } from "preact/hooks";
import { usePage } from "../context.ts";
import type { MachineDocument, Table } from "../documents.ts";
import { IconButton } from "../header.tsx";
import { Refusal } from "../server.ts";
import { changedRows } from "../tables.ts";
import { Reasons } from "./reasons.tsx";

interface Reading {
  readonly name: string;
  readonly tables: readonly Table[];
  /** The reading before, of the same machine. */
  readonly before: readonly Table[] | null;
}

export function MachinePanel() {
  const { page, texts, api, dispatch } = usePage();
  const words = texts.machine;
  const { machine, lab, connection } = page;
  const [reading, setReading] = useState<Reading | null>(null);
  const isFile = connection === "file";

  function show(name: string, document: MachineDocument | undefined): void {
    setReading((old) => ({ name, tables: document?.tables ?? [], before: old?.name === name ? old.tables : null }));
  }
  function read(name: string): void {
    api.machine(name).then(
      (document) => show(name, document),
      (error: unknown) => {
        if (error instanceof Refusal) dispatch({ type: "error", error: error.answer });
      },
    );
  }
  useEffect(() => {
    if (machine === null) return;
    if (isFile) show(machine, lab.machine_documents[machine]);
    else read(machine);
  }, [machine, isFile, page.traces, lab.broken, lab.drift]);

  const chosen = lab.machines.find((one) => one.name === machine);
  const current = reading?.name === machine ? reading : null;
  const traceTo = (form: { from: string } | { to: string }): void => {
    dispatch({ type: "form", form: { ...form, next: "from" in form ? "to" : "from" } });
    dispatch({ type: "close-trace" });
    dispatch({ type: "tab", tab: "trace" });
  };
  return (
    <>
      <div class="head">
        <h2>{texts.tab.machine}</h2>
        <select
          aria-label={words.choose}
          value={machine ?? ""}
          onChange={(event) => dispatch({ type: "machine", name: event.currentTarget.value })}
        >
          <option value="" disabled>
            {texts.trace.choose}
          </option>
          {lab.machines.map(({ name }) => (
            <option key={name}>{name}</option>
          ))}
        </select>
        {machine !== null && !isFile && (
          <IconButton icon="refresh" label={words.refresh} onClick={() => read(machine)} />
        )}
      </div>
      {!chosen && <p class="empty">{words.none}</p>}
      {chosen && (
        <>
          <p class="soft">{texts.machineName(chosen.name, chosen.role, chosen.node, chosen.addresses.join(" "))}</p>
          {!isFile && (
            <div class="row">
              <button type="button" onClick={() => traceTo({ from: chosen.name })}>
                {words.traceFrom}
              </button>
              <button type="button" onClick={() => traceTo({ to: chosen.name })}>
                {words.traceTo}
              </button>
            </div>
          )}
          <Reasons machine={chosen.name} />
          {!current && <p class="empty">{words.loading}</p>}
          {current?.tables.length === 0 && isFile && <p class="empty">{words.absent}</p>}
          {current?.tables.map((table) => (
            <TableBlock
              key={table.title}
              table={table}
              before={current.before?.find((one) => one.title === table.title)}
            />
          ))}
        </>
      )}
    </>
  );
}

function TableBlock({ table, before }: { table: Table; before: Table | undefined }) {
  const { texts } = usePage();
  const changed = changedRows(table, before);
  return (
    <details class="table" open={table.title !== "settings" && table.title !== "link options"}>
      <summary>
        <h3 lang="en">{table.title}</h3> <span class="soft small">{texts.machine.rows(table.rows.length)}</span>
      </summary>
      <div class="scroll" tabIndex={0} role="region" aria-label={table.title}>
        <table lang="en" class={table.columns.includes("rule") ? "firewall" : ""}>
          {table.columns.length > 0 && (
            <thead>
              <tr>
                {table.columns.map((column) => (
                  <th key={column} scope="col">
                    {column}
                  </th>
                ))}
              </tr>
            </thead>
          )}
          <tbody>
            {table.rows.map((row, index) => (
              <tr key={index} class={changed.has(index) ? "changed" : ""}>
                {row.map((cell, column) => (
                  <td key={column}>
                    {cell}
                    {column === 0 && changed.has(index) && <span class="unseen"> ({texts.machine.changed})</span>}
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </details>
  );
}

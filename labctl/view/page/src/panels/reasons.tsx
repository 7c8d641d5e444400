// Why each object of a machine is there: all of them, or those of one device.
import { useEffect, useState } from "preact/hooks";
import { usePage } from "../context.ts";
import type { Explanation, Reason } from "../documents.ts";
import { Refusal } from "../server.ts";

interface Found {
  readonly machine: string;
  readonly reasons: readonly Reason[];
}

export function Reasons({ machine }: { readonly machine: string }) {
  const { page, texts, api, dispatch } = usePage();
  const words = texts.reasons;
  const { lab, connection, device } = page;
  const isFile = connection === "file";
  const [found, setFound] = useState<Found>({ machine: "", reasons: [] });

  useEffect(() => {
    if (isFile) {
      setFound({ machine, reasons: lab.machine_documents[machine]?.reasons ?? [] });
      return;
    }
    api.reasons(machine).then(
      ({ reasons }) => setFound({ machine, reasons }),
      (error: unknown) => {
        if (error instanceof Refusal) dispatch({ type: "error", error: error.answer });
      },
    );
  }, [machine, isFile, lab.svg]);

  const [isOpen, setOpen] = useState(device !== null);
  useEffect(() => {
    if (device !== null) setOpen(true);
  }, [device]);

  const reasons = found.machine === machine ? found.reasons : [];
  if (reasons.length === 0) return null;
  const devices = [...new Set(reasons.flatMap((one) => one.device ?? []))];
  const shown = device === null ? reasons : reasons.filter((one) => one.device === device);
  return (
    <details class="table reasons" open={isOpen} onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>
        <h3>{words.title}</h3> <span class="soft small">{words.objects(shown.length)}</span>
      </summary>
      <label>
        {words.device}
        <select
          value={device ?? ""}
          onChange={(event) => dispatch({ type: "device", device: event.currentTarget.value || null })}
        >
          <option value="">{words.whole}</option>
          {devices.map((one) => (
            <option key={one} value={one}>
              {one}
            </option>
          ))}
        </select>
      </label>
      <ul class="list">
        {shown.map((one) => (
          <ReasonItem key={`${machine} ${one.object}`} machine={machine} reason={one} hasMore={!isFile} />
        ))}
      </ul>
    </details>
  );
}

interface ItemProps {
  readonly machine: string;
  readonly reason: Reason;
  readonly hasMore: boolean;
}

function ReasonItem({ machine, reason, hasMore }: ItemProps) {
  const { texts, api, dispatch } = usePage();
  const words = texts.reasons;
  const [known, setKnown] = useState<Explanation | null>(null);
  const load = (): void => {
    if (known) return;
    api.explanation(machine, reason.object).then(setKnown, (error: unknown) => {
      if (error instanceof Refusal) dispatch({ type: "error", error: error.answer });
    });
  };
  return (
    <li class="reason">
      <p class="mono" lang="en">
        {reason.object}
      </p>
      <p lang="en">{reason.why}</p>
      {reason.component && <p class="soft small">{words.madeBy(reason.component)}</p>}
      {hasMore && (
        <details onToggle={(event) => event.currentTarget.open && load()}>
          <summary aria-label={words.moreOn(reason.object)}>{words.more}</summary>
          {!known && <p class="soft">{texts.machine.loading}</p>}
          {known && <Known known={known} />}
        </details>
      )}
    </li>
  );
}

function Known({ known }: { readonly known: Explanation }) {
  const words = usePage().texts.reasons;
  return (
    <>
      <h4>{words.without}</h4>
      {known.without.length === 0 && <p>{words.nothing}</p>}
      <ul lang="en">
        {known.without.map((one) => (
          <li key={one.fault}>
            <strong class="mono">{one.fault}</strong> {one.effect || one.summary}
          </li>
        ))}
      </ul>
      {known.commands.length > 0 && <h4>{words.command}</h4>}
      {known.commands.length > 0 && <pre tabIndex={0}>{known.commands.join("\n")}</pre>}
      {known.source && (
        <p class="small soft" lang="en">
          {words.source}: {[known.source.project, known.source.version, known.source.file].filter(Boolean).join(" ")}
        </p>
      )}
    </>
  );
}

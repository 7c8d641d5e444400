import { useMemo, useState } from "preact/hooks";
import { usePage } from "../context.ts";
import type { LabState } from "../documents.ts";
import { type FaultGroup, groupFaults } from "../faults.ts";
import { Icon } from "../icons.tsx";
import { isBusy } from "../state.ts";

export function BreakPanel() {
  const { page, texts, api, dispatch, run } = usePage();
  const words = texts.break;
  const { faults, broken } = page.lab;
  const [search, setSearch] = useState("");
  const [sentence, setSentence] = useState("");
  const groups = useMemo(() => groupFaults(faults, search), [faults, search]);
  const isDisabled = isBusy(page);

  const done = (answer: { broken: LabState["broken"]; text: string }): void => {
    dispatch({ type: "state", state: { broken: answer.broken } });
    dispatch({ type: "message", text: answer.text });
    setSentence(answer.text);
  };
  return (
    <>
      <div class="head">
        <h2>{texts.tab.break}</h2>
        <button
          type="button"
          disabled={isDisabled}
          onClick={() => run("break", () => api.break({ random: true }), done)}
        >
          <Icon name="question" />
          {words.random}
        </button>
      </div>
      <section class="now" aria-label={words.now}>
        {broken.length === 0 ? (
          <p class="soft">
            {words.nothing} {words.intro}
          </p>
        ) : (
          <>
            <ul class="list">
              {broken.map((one, index) => (
                <li key={index} class="item warn">
                  <span class="sign warn">
                    <Icon name={one.hidden ? "question" : "break"} />
                  </span>
                  <div>
                    {one.id && one.object && (
                      <button
                        type="button"
                        class="aside"
                        aria-label={words.fixNamed(words.name(one.id, one.object))}
                        disabled={isDisabled}
                        onClick={() => run("fix", () => api.fix({ fault: one.id!, object: one.object! }), done)}
                      >
                        {words.fixOne}
                      </button>
                    )}
                    {one.hidden || !one.id ? (
                      <p>{words.hidden}</p>
                    ) : (
                      <p>
                        <strong>{words.name(one.id, one.object ?? "")}</strong>
                      </p>
                    )}
                    {one.text && <p lang="en">{one.text}</p>}
                  </div>
                </li>
              ))}
            </ul>
            <button type="button" class="main" disabled={isDisabled} onClick={() => run("fix", () => api.fix(), done)}>
              {words.fix}
            </button>
          </>
        )}
        {sentence && <p lang="en">{sentence}</p>}
      </section>
      {faults.length === 0 ? (
        <p class="empty">{words.absent}</p>
      ) : (
        <>
          <label class="search">
            {words.search}
            <input type="search" value={search} onInput={(event) => setSearch(event.currentTarget.value)} />
          </label>
          {groups.length === 0 && <p class="empty">{words.none}</p>}
          <ul class="list faults">
            {groups.map((group) => (
              <FaultItem
                key={group.id}
                group={group}
                isDisabled={isDisabled}
                onBreak={(object) => run("break", () => api.break({ fault: group.id, object }), done)}
              />
            ))}
          </ul>
        </>
      )}
    </>
  );
}

interface FaultItemProps {
  readonly group: FaultGroup;
  readonly isDisabled: boolean;
  readonly onBreak: (object: string) => void;
}

function FaultItem({ group, isDisabled, onBreak }: FaultItemProps) {
  const { texts } = usePage();
  const words = texts.break;
  const [chosen, setChosen] = useState("");
  const object = group.objects.includes(chosen) ? chosen : (group.objects[0] ?? "");
  return (
    <li class="fault">
      <p>
        <strong class="mono">{group.id}</strong>
      </p>
      <p class="small" lang="en">
        {group.text}
      </p>
      <div class="row">
        <select
          class="mono small"
          aria-label={words.objectNamed(group.id)}
          value={object}
          onChange={(event) => setChosen(event.currentTarget.value)}
        >
          {group.objects.map((one) => (
            <option key={one}>{one}</option>
          ))}
        </select>
        <button
          type="button"
          aria-label={words.runNamed(group.id)}
          disabled={isDisabled}
          onClick={() => onBreak(object)}
        >
          {words.run}
        </button>
      </div>
    </li>
  );
}

import { usePage } from "../context.ts";
import { Icon } from "../icons.tsx";

export function DriftPanel() {
  const { page, texts, dispatch } = usePage();
  const words = texts.drift;
  const { drift } = page.lab;
  return (
    <>
      <div class="head">
        <h2>{texts.tab.drift}</h2>
      </div>
      {drift.length === 0 ? (
        <>
          <p class="verdict good">
            <Icon name="pass" />
            <strong>{words.none}</strong>
          </p>
          {page.connection !== "file" && <p class="soft">{words.noneHint}</p>}
        </>
      ) : (
        <>
          <p class="verdict bad">
            <Icon name="drift" />
            <span>
              <strong>{words.some(drift.length)}.</strong> {words.repair}
            </span>
          </p>
          <ul class="list">
            {drift.map(({ machine, device, text }) => (
              <li key={`${machine} ${text}`} class="item fail">
                <span class="sign fail">
                  <Icon name="drift" />
                </span>
                <div>
                  {machine === null ? (
                    <strong>{words.lab}</strong>
                  ) : (
                    <button type="button" class="link" onClick={() => dispatch({ type: "pick", name: machine })}>
                      {device ?? machine}
                    </button>
                  )}
                  <p class="mono small" lang="en">
                    {text}
                  </p>
                </div>
              </li>
            ))}
          </ul>
        </>
      )}
    </>
  );
}

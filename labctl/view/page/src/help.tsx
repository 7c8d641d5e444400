import { useEffect, useRef } from "preact/hooks";
import { usePage } from "./context.ts";

interface HelpProps {
  readonly hasShortcuts: boolean;
  readonly onShortcuts: (isOn: boolean) => void;
  readonly onClose: () => void;
}

export function HelpDialog({ hasShortcuts, onShortcuts, onClose }: HelpProps) {
  const { texts } = usePage();
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current?.showModal(), []);
  return (
    <dialog ref={dialog} aria-labelledby="help-title" onClose={onClose}>
      <h2 id="help-title">{texts.keys.title}</h2>
      <dl class="keys">
        {texts.keys.list.map(([key, text]) => (
          <div key={key}>
            <dt>
              <kbd>{key}</kbd>
            </dt>
            <dd>{text}</dd>
          </div>
        ))}
      </dl>
      <p>{texts.keys.mouse}</p>
      <form method="dialog" class="row">
        <label class="check">
          <input
            type="checkbox"
            checked={hasShortcuts}
            onChange={(event) => onShortcuts(event.currentTarget.checked)}
          />
          {texts.keys.on}
        </label>
        <button class="main" autofocus>
          {texts.close}
        </button>
      </form>
    </dialog>
  );
}

import { usePage } from "./context.ts";
import { Icon, type IconName } from "./icons.tsx";
import type { Theme } from "./settings.ts";

interface HeaderProps {
  readonly theme: Theme;
  readonly onTheme: () => void;
  readonly isNarrow: boolean;
  readonly onPanel: () => void;
  readonly onHelp: () => void;
}

export function Header({ theme, onTheme, isNarrow, onPanel, onHelp }: HeaderProps) {
  const { page, texts } = usePage();
  const { lab } = page;
  const panel = isNarrow ? texts.narrowPanel : texts.widePanel;
  return (
    <header class="header">
      <div class="names">
        <span class="brand" translate={false}>
          labctl
        </span>
        <h1>{lab.lab || texts.loading}</h1>
        {lab.model && <span class="soft nowrap">{texts.model(lab.model)}</span>}
        <span class="soft summary" title={lab.summary}>
          {lab.summary}
        </span>
      </div>
      <Status />
      <div class="tools">
        <IconButton icon={theme} label={texts.themeNow(texts.themes[theme])} onClick={onTheme} />
        <IconButton icon="panel" label={panel} onClick={onPanel} />
        <IconButton icon="question" label={texts.help} onClick={onHelp} />
      </div>
    </header>
  );
}

function Status() {
  const { page, texts } = usePage();
  const { connection, lab } = page;
  if (connection !== "live") {
    return <Pill kind={connection === "file" ? "calm" : "warn"} icon="unknown" text={texts.connection[connection]} />;
  }
  const verb = lab.busy?.verb ?? page.pending;
  return (
    <div class="pills">
      {verb && <Pill kind="calm" icon="running" text={texts.busy(verb)} />}
      {lab.drift.length > 0 ? (
        <Pill kind="bad" icon="drift" text={texts.drifted(lab.drift.length)} />
      ) : (
        <Pill kind="good" icon="pass" text={texts.noDrift} />
      )}
    </div>
  );
}

function Pill({ kind, icon, text }: { kind: string; icon: IconName; text: string }) {
  return (
    <span class={`pill ${kind}`}>
      <Icon name={icon} className={icon === "running" ? "turns" : ""} />
      {text}
    </span>
  );
}

/** A clear sentence if what the page shows is not live. */
export function Banner() {
  const { page, texts } = usePage();
  const { connection, lab } = page;
  if (connection === "live" || connection === "connecting") return null;
  const { banner } = texts;
  if (connection === "file") {
    return (
      <p class="banner calm">
        <span>{banner.file(dateText(lab.date))}</span>
      </p>
    );
  }
  return (
    <p class="banner warn" role="alert">
      <Icon name="drift" />
      <strong>{banner[connection]}</strong> <span>{connection === "lost" ? banner.lostHint : banner.goneHint}</span>
    </p>
  );
}

/** A date as a reader writes it; as it is, if it is none. */
function dateText(date: string): string {
  const time = new Date(date);
  return Number.isNaN(time.getTime()) ? date : time.toLocaleString(undefined, { dateStyle: "long", timeStyle: "short" });
}

/** What the server has refused, with its hint. */
export function ErrorBox() {
  const { page, texts, dispatch } = usePage();
  const { error } = page;
  if (!error) return null;
  return (
    <div class="banner bad" role="alert">
      <Icon name="fail" />
      <strong>{error.error}</strong>
      {error.hint && <span>{error.hint}</span>}
      <IconButton icon="close" label={texts.close} onClick={() => dispatch({ type: "error", error: null })} />
    </div>
  );
}

interface IconButtonProps {
  readonly icon: IconName;
  readonly label: string;
  readonly onClick: () => void;
  readonly isDisabled?: boolean;
  readonly isPressed?: boolean;
  readonly kind?: string;
}

export function IconButton({ icon, label, onClick, isDisabled = false, isPressed, kind = "" }: IconButtonProps) {
  return (
    <button
      type="button"
      class={`tool ${kind}`}
      aria-label={label}
      title={label}
      aria-pressed={isPressed}
      disabled={isDisabled}
      onClick={onClick}
    >
      <Icon name={icon} />
    </button>
  );
}

import { usePage } from "./context.ts";

const LEAST = 20; // percent of the width of the page
const MOST = 70;
const STEP = 2;

interface DividerProps {
  readonly share: number;
  readonly onShare: (share: number) => void;
}

/** The line between the drawing and the side panel: it can be moved, with the pointer or with arrow keys. */
export function Divider({ share, onShare }: DividerProps) {
  const { texts } = usePage();
  const set = (wanted: number): void => onShare(Math.round(Math.min(Math.max(wanted, LEAST), MOST)));
  const onKey = (event: KeyboardEvent): void => {
    const by = { ArrowLeft: STEP, ArrowRight: -STEP }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    set(share + by);
  };
  const onMove = (event: PointerEvent): void => {
    if (event.buttons === 1) set(100 - (event.clientX / window.innerWidth) * 100);
  };
  return (
    <div
      class="divider"
      role="separator"
      tabIndex={0}
      aria-orientation="vertical"
      aria-label={texts.panelWidth}
      aria-valuenow={share}
      aria-valuemin={LEAST}
      aria-valuemax={MOST}
      onKeyDown={onKey}
      onPointerDown={(event) => event.currentTarget.setPointerCapture(event.pointerId)}
      onPointerMove={onMove}
    />
  );
}

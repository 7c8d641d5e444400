// Icons, as lines of 24 by 24. They are decoration: the words are beside them, or in the name of their button.
const PATHS = {
  checks: "M4 12.5l5 5L20 6.5",
  trace: "M5 18a2 2 0 1 0 .01 0M19 6a2 2 0 1 0 .01 0M7 18h6a4 4 0 0 0 0-8H11a4 4 0 0 1 0-4h6",
  machine: "M4 5h16v6H4zM4 13h16v6H4zM8 8h.01M8 16h.01",
  drift: "M12 4L21 19H3ZM12 10v4M12 16.7v.01",
  capture: "M3 12h4l2-6 4 12 2-6h6",
  break: "M13 3L5 14h6l-1 7 8-11h-6z",
  learn: "M12 6c-3-2-6-2-9-1v13c3-1 6-1 9 1 3-2 6-2 9-1V5c-3-1-6-1-9 1zM12 6v13",
  pass: "M4 12.5l5 5L20 6.5",
  fail: "M6 6l12 12M18 6L6 18",
  unknown: "M6 12h12",
  question: "M9 9a3 3 0 1 1 4 2.8c-.7.3-1 .8-1 1.7M12 17v.01",
  running: "M12 3a9 9 0 1 0 9 9",
  play: "M8 5v14l11-7z",
  pause: "M8 5v14M16 5v14",
  back: "M17 5L9 12l8 7zM6 5v14",
  forward: "M7 5l8 7-8 7zM18 5v14",
  close: "M6 6l12 12M18 6L6 18",
  swap: "M7 4L4 7l3 3M4 7h13M17 14l3 3-3 3M20 17H7",
  refresh: "M20 12a8 8 0 1 1-2.3-5.6M20 4v4h-4",
  plus: "M12 5v14M5 12h14",
  minus: "M5 12h14",
  whole: "M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5",
  follow: "M12 9a3 3 0 1 0 .01 0M12 2v4M12 18v4M2 12h4M18 12h4",
  auto: "M12 3a9 9 0 1 0 .01 0M12 3v18M12 7l6 3M12 12h9M12 17l6-2",
  light: "M12 8a4 4 0 1 0 .01 0M12 2v2M12 20v2M2 12h2M20 12h2M5 5l1.4 1.4M17.6 17.6L19 19M5 19l1.4-1.4M17.6 6.4L19 5",
  dark: "M20 14.5A8.5 8.5 0 1 1 9.5 4a6.5 6.5 0 0 0 10.5 10.5z",
  panel: "M4 5h16v14H4zM14.5 5v14",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name, className = "" }: { name: IconName; className?: string }) {
  return (
    <svg class={`icon ${className}`} viewBox="0 0 24 24" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}

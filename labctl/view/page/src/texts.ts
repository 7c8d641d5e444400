// All texts of the page, one table for each language. Texts of the lab (checks, rules, causes) come from the server.
import type { Connection, Tab } from "./state.ts";
import { japanese } from "./texts_ja.ts";

const english = {
  loading: "Waiting for the lab …",
  model: (name: string) => `model ${name}`,
  drawing: "Drawing of the lab",
  drawingHelp: "Arrow keys move between machines, Enter selects one.",
  side: "Questions to the lab",
  main: "Lab",
  tab: {
    checks: "Checks",
    trace: "Trace",
    machine: "Machine",
    drift: "Drift",
    capture: "Capture",
    break: "Break",
  } satisfies Record<Tab, string>,
  tabNote: {
    failed: (n: number) => (n === 1 ? "1 failed" : `${n} failed`),
    differences: (n: number) => (n === 1 ? "1 difference" : `${n} differences`),
    faults: (n: number) => (n === 1 ? "1 fault" : `${n} faults`),
    capturing: "running",
  },
  connection: {
    connecting: "connecting",
    live: "live",
    lost: "no connection",
    gone: "lab is down",
    file: "exported file",
  } satisfies Record<Connection, string>,
  banner: {
    lost: "The server does not answer. What you see may be old. The page tries again by itself.",
    lostHint: "Does labctl view still run?",
    gone: "This lab is no longer there: it was taken down.",
    goneHint: "Start it again with labctl up, and then labctl view.",
    file: (date: string) =>
      date
        ? `Recorded ${date}. This file shows a lab; it does not run one.`
        : "This file shows a lab; it does not run one.",
  },
  busy: (verb: string) => `labctl ${verb} is running`,
  noDrift: "as defined",
  drifted: (n: number) => (n === 1 ? "1 difference" : `${n} differences`),
  theme: "Colours",
  themes: { auto: "automatic", light: "light", dark: "dark" },
  themeNow: (theme: string) => `Colours: ${theme}`,
  help: "Keys and help",
  zoomIn: "Zoom in",
  zoomOut: "Zoom out",
  fit: "Show the whole drawing",
  widePanel: "Hide the side panel",
  narrowPanel: "Show the side panel",
  panelWidth: "Width of the side panel",
  close: "Close",
  machineName: (name: string, role: string, node: string | null, addresses: string) =>
    [name, node ? `${role} on ${node}` : role, addresses].filter(Boolean).join(", "),
  isFrom: "trace starts here",
  isTo: "trace goes here",
  isHere: "the packet is here",
  isSelected: "selected",
  hasDrift: (text: string) => `drift: ${text}`,
  from: "from",
  to: "to",

  checks: {
    run: "Run all checks",
    running: "Checks are running …",
    none: "This lab has no checks.",
    never: "Not run yet.",
    passed: (passed: number, all: number) => `${passed} of ${all} passed`,
    failed: (n: number) => `${n} failed`,
    state: {
      unknown: "not run",
      running: "running",
      pass: "pass",
      fail: "fail",
      inconclusive: "inconclusive",
      skip: "skipped",
    },
    evidence: "evidence",
    said: (state: string, text: string) => `${state}: ${text}`,
    trace: (from: string, to: string) => `Trace ${from} → ${to}`,
    done: (passed: number, all: number) => `Checks are done: ${passed} of ${all} passed.`,
  },

  trace: {
    from: "From",
    to: "To",
    choose: "choose …",
    swap: "Swap from and to",
    protocol: "Protocol",
    port: "Port",
    run: "Trace",
    listen: "labctl answers on this port",
    running: "The packet is on its way …",
    pickFrom: "Choose where the packet starts: click a machine in the drawing, or use the lists.",
    pickTo: "Now choose where it goes.",
    machines: "Machines",
    services: "Services",
    recorded: "Recorded traces",
    earlier: "Earlier traces",
    none: "No trace yet.",
    noneRecorded: "This file has no recorded traces.",
    steps: "Steps of the trace",
    leg: { request: "request", reply: "reply", error: "ICMP error" },
    ttl: (ttl: number) => `ttl ${ttl}`,
    time: (us: number) => (us >= 1000 ? `${(us / 1000).toFixed(1)} ms` : `${Math.round(us)} µs`),
    tunnel: (name: string) => `in ${name}`,
    before: "before",
    after: "after",
    nat: "Address translation",
    lost: "Lost here",
    verdict: { answered: "Answered", refused: "Refused", unanswered: "No answer", lost: "Lost" } as Record<
      string,
      string
    >,
    facts: "Proof",
    tries: "Try",
    unknown: "Unknown",
    player: "Player of the trace",
    play: "Play",
    pause: "Pause",
    back: "Step back",
    forward: "Step forward",
    first: "First step",
    close: "Close the trace",
    speed: "Speed",
    follow: "Follow the packet",
    position: (at: number, all: number) => `Step ${at} of ${all}`,
    said: (at: number, all: number, leg: string, machine: string, devices: string, addresses: string) =>
      `Step ${at} of ${all}, ${leg}: ${machine}, ${devices}, ${addresses}`,
    natSaid: (before: string, after: string) => `Address translation: ${before} becomes ${after}.`,
    lostSaid: (cause: string) => `Lost here: ${cause}`,
    ended: (verdict: string, sentence: string) => `${verdict}: ${sentence}`,
  },

  machine: {
    choose: "Machine",
    none: "Choose a machine here or in the drawing.",
    refresh: "Read again",
    loading: "Reading …",
    rows: (n: number) => (n === 1 ? "1 row" : `${n} rows`),
    absent: "This file has no tables of this machine.",
    changed: "changed since the last reading",
    traceFrom: "Trace from here",
    traceTo: "Trace to here",
  },

  reasons: {
    title: "Why is it here?",
    device: "Device",
    whole: "the whole machine",
    objects: (n: number) => (n === 1 ? "1 object" : `${n} objects`),
    more: "More",
    moreOn: (object: string) => `More on ${object}`,
    madeBy: (component: string) => `made by ${component}`,
    without: "If it is missing or wrong",
    nothing: "No fault of labctl is about this object.",
    command: "Made by this command",
    source: "Source",
  },

  drift: {
    none: "The kernel is as the lab is defined.",
    noneHint: "A difference appears here as soon as something in the lab changes.",
    some: (n: number) => (n === 1 ? "1 difference from the definition" : `${n} differences from the definition`),
    repair: "labctl up repairs it.",
    gone: "No difference from the definition any more.",
    said: (machine: string, text: string) => `Drift on ${machine}: ${text}`,
    lab: "the lab",
  },

  capture: {
    point: "Where",
    everywhere: "every device",
    filter: "Filter",
    filterHint: "as for tcpdump: icmp, port 53, host 10.0.0.1",
    start: "Start",
    stop: "Stop",
    clear: "Clear",
    none: "Packets appear here, one line each.",
    count: (n: number) => (n === 1 ? "1 packet" : `${n} packets`),
    older: (n: number) => `Only the last ${n} lines are kept.`,
    lines: "Captured packets",
    started: "Capture started.",
    stopped: "Capture stopped.",
  },

  break: {
    intro: "Give the lab a fault, find it with traces and tables, and fix it.",
    random: "Random, hidden fault",
    search: "Search faults",
    object: "On",
    run: "Break",
    none: "No fault matches.",
    absent: "No fault applies to this lab.",
    now: "Broken now",
    nothing: "Nothing is broken.",
    hidden: "A hidden fault: find it.",
    fix: "Fix everything",
    fixOne: "Fix",
    fixNamed: (fault: string) => `Fix: ${fault}`,
    name: (fault: string, object: string) => `${fault} on ${object}`,
    runNamed: (fault: string) => `Break: ${fault}`,
    objectNamed: (fault: string) => `Object of ${fault}`,
  },

  keys: {
    title: "Keys",
    on: "Shortcut keys are on",
    list: [
      ["Tab", "next control"],
      ["← → ↑ ↓", "next machine, in the drawing"],
      ["Enter", "select this machine: its tables and reasons, or an end of the trace"],
      ["1 … 6", "Checks, Trace, Machine, Drift, Capture, Break"],
      ["c", "run all checks"],
      ["p", "play or pause the trace"],
      [", .", "step back, step forward"],
      ["+ − 0", "zoom in, zoom out, whole drawing"],
      ["w", "hide or show the side panel; arrow keys on its edge change its width"],
      ["d", "colours: automatic, light, dark"],
      ["?", "this help"],
      ["Esc", "close this help"],
    ] as readonly (readonly [string, string])[],
    mouse: "Drag moves the drawing, the wheel zooms, a click selects a machine or a device.",
  },

  errors: {
    network: "The server does not answer.",
    networkHint: "Does labctl view still run?",
    answer: (status: number) => `The server answered with status ${status}.`,
    port: "A port is a number from 1 to 65535.",
    ends: "Choose where the packet starts and where it goes.",
  },
};

export type Texts = typeof english;

const TABLES: Readonly<Record<string, Texts>> = { en: english, ja: japanese };

/** The language of the page: that of the server, whose sentences are in it, if it has a table. */
export function chooseLanguage(wanted: string): string {
  const short = wanted.toLowerCase().split("-")[0] ?? "";
  return short in TABLES ? short : "en";
}

export function textsOf(language: string): Texts {
  return TABLES[language] ?? english;
}

// What a reader has chosen for this page; kept in the browser, if it allows that.
export type Theme = "auto" | "light" | "dark";

export const THEMES: readonly Theme[] = ["auto", "light", "dark"];

export function recall(key: string): string | null {
  try {
    return localStorage.getItem(`labctl-${key}`);
  } catch {
    return null;
  }
}

export function remember(key: string, value: string): void {
  try {
    localStorage.setItem(`labctl-${key}`, value);
  } catch {
    // a browser without storage: the choice is for this visit
  }
}

export function recallTheme(): Theme {
  const stored = recall("theme");
  return THEMES.find((theme) => theme === stored) ?? "auto";
}

const DARK = "(prefers-color-scheme: dark)";

export function isDark(theme: Theme): boolean {
  return theme === "dark" || (theme === "auto" && matchMedia(DARK).matches);
}

export function onSystemTheme(changed: () => void): () => void {
  const query = matchMedia(DARK);
  query.addEventListener("change", changed);
  return () => query.removeEventListener("change", changed);
}

export function wantsLessMotion(): boolean {
  return matchMedia("(prefers-reduced-motion: reduce)").matches;
}

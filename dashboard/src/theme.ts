// Light or dark: as the system has it, until somebody chooses. Drawings ask here for the colours of the moment.

import { h, write } from "./dom";

const KEY = "terrace-theme";
const CHOICES = ["system", "light", "dark"] as const;
type Choice = (typeof CHOICES)[number];

const probe = h("span", { hidden: true });
const listeners: (() => void)[] = [];

function chosen(): Choice {
  const kept = localStorage.getItem(KEY);
  return CHOICES.find((choice) => choice === kept) ?? "system";
}

function apply(choice: Choice): void {
  if (choice === "system") delete document.documentElement.dataset["theme"];
  else document.documentElement.dataset["theme"] = choice;
  for (const listener of listeners) listener();
}

/** Calls when the colours are others. */
export function onTheme(listener: () => void): void {
  listeners.push(listener);
}

/** A colour of the style sheet, as drawings need it. */
export function colour(name: string): string {
  if (!probe.isConnected) document.body.append(probe);
  probe.style.color = `var(--${name})`;
  return getComputedStyle(probe).color;
}

/** A colour with less of itself. */
export function faint(of: string, share: number): string {
  return `color-mix(in srgb, ${of} ${(100 * share).toFixed(1)}%, transparent)`;
}

/** The switch. */
export function themeSwitch(): HTMLElement {
  const button = h("button", { type: "button", class: "quiet-button", id: "theme" });
  const say = (): void => {
    write(button, `Theme: ${chosen()}`);
  };
  button.addEventListener("click", () => {
    const next = CHOICES[(CHOICES.indexOf(chosen()) + 1) % CHOICES.length] ?? "system";
    localStorage.setItem(KEY, next);
    apply(next);
    say();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => apply(chosen()));
  apply(chosen());
  say();
  return button;
}

// How numbers are written. One place, so that the same number looks the same everywhere on the page.

const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const tenth = new Intl.NumberFormat("en-US", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const digits = new Intl.NumberFormat("en-US", { maximumSignificantDigits: 3 });

/** What stands where there is no number. */
export const NONE = "–";
const SPACE = "\u00a0";

/** A number of things, exact. */
export function count(value: number): string {
  return whole.format(value);
}

/** Things in a second. */
export function rate(perSecond: number): string {
  if (perSecond === 0) return "0";
  if (perSecond < 0.1) return "<0.1";
  return perSecond < 100 ? tenth.format(perSecond) : whole.format(perSecond);
}

/** A share from 0 to 1; nothing if it is of nothing. */
export function share(part: number, all: number): string {
  return all > 0 ? `${tenth.format((100 * part) / all)}${SPACE}%` : NONE;
}

const BYTES = ["B", "KiB", "MiB", "GiB", "TiB"];

export function bytes(value: number): string {
  let scaled = value;
  let unit = 0;
  while (scaled >= 1024 && unit < BYTES.length - 1) {
    scaled /= 1024;
    unit += 1;
  }
  return `${unit === 0 || scaled >= 100 ? whole.format(scaled) : tenth.format(scaled)}${SPACE}${BYTES[unit]}`;
}

const SHORT: readonly [number, number, string][] = [
  [1e-6, 1e-9, "ns"],
  [1e-3, 1e-6, "µs"],
  [1, 1e-3, "ms"],
  [120, 1, "s"],
];
const LONG: readonly [number, number, string, number, string][] = [
  [7200, 60, "min", 1, "s"],
  [172_800, 3600, "h", 60, "min"],
  [Infinity, 86_400, "d", 3600, "h"],
];

/** A time span, from seconds: three digits, or from two minutes on the two largest units. */
export function duration(seconds: number): string {
  if (seconds === 0) return `0${SPACE}s`;
  const short = SHORT.find(([below]) => seconds < below);
  if (short) return `${digits.format(seconds / short[1])}${SPACE}${short[2]}`;
  const [, size, unit, smaller, name] = LONG.find(([below]) => seconds < below) ?? LONG[0]!;
  const rest = Math.floor((seconds % size) / smaller);
  return `${whole.format(Math.floor(seconds / size))}${SPACE}${unit}${rest > 0 ? `${SPACE}${rest}${SPACE}${name}` : ""}`;
}

/** A time of day, from milliseconds since the epoch. */
export function clock(at: number): string {
  return new Date(at).toLocaleTimeString("en-GB");
}

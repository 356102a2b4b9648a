// What is known of the service: asked every two seconds, kept for ten minutes.
//
// 1. At most one round of questions is under way. A round that takes longer than the interval delays the next one.
// 2. A question that fails costs its own picture only, which says why.
// 3. While nobody looks at the page nothing is asked.
// 4. Told to come back later (429, 503), it comes back later.
// 5. What was before the page was opened, or while nobody looked at it, is asked for once and put in its place.
// 6. What an event tells of shows at once: it is asked for then, at most every [`SOON_MS`], however many come.
// 7. A configuration that was refused stays said until another is taken.
// 8. While one keyspace is chosen, its latencies are asked for beside those of all, so that both go on. Nothing is kept of those before.

import {
  get, Problem, words,
  type Behind, type Breaker, type Bus, type Capacity, type History, type HotKey, type Keyspace, type Latencies, type Ready, type Summary,
} from "./api";
import type { Happening } from "./events";
import { looksOf, marksOf, together } from "./history";

/** Between two looks. */
export const INTERVAL_MS = 2000;
/** How far back the pictures go. */
export const WINDOW_MS = 600_000;
/** Between a look and another one because of an event. */
const SOON_MS = INTERVAL_MS / 2;
const LOOKS_MAX = WINDOW_MS / SOON_MS + 1;
const MARKS_MAX = 2000;

/** An answer, or why there is none. */
export type Answer<T> = { ok: true; value: T } | { ok: false; why: string; status: number };

export interface Look {
  /** Milliseconds since the epoch. */
  at: number;
  keyspaces: Answer<Keyspace[]>;
  latencies: Answer<Latencies>;
  /** Those of the keyspace that was chosen, if one was. */
  chosen: { keyspace: string; latencies: Answer<Latencies> } | null;
  breakers: Answer<Breaker[]>;
  bus: Answer<Bus>;
  behind: Answer<Behind>;
  hot: Answer<HotKey[]>;
  summary: Answer<Summary>;
  capacity: Answer<Capacity>;
  ready: Answer<Ready>;
}

/** Something that happened, on the time axis. */
export interface Mark {
  at: number;
  keyspace: string;
  text: string;
}

/** A configuration that was not taken. */
export interface Refused {
  at: number;
  /** What of it cannot be changed; none if something else is wrong with it. */
  settings: readonly string[];
}

export interface State {
  looks: readonly Look[];
  marks: readonly Mark[];
  refused: Refused | null;
  /** The keyspace that everything is about, if it is one. */
  filter: string | null;
  /** Whether the service answers at all. */
  reach: "unknown" | "yes" | "no" | "refused";
}

async function answer<T, U = T>(path: string, pick: (value: T) => U): Promise<Answer<U>> {
  try {
    return { ok: true, value: pick(await get<T>(path)) };
  } catch (error) {
    return { ok: false, why: words(error), status: error instanceof Problem ? error.status : 0 };
  }
}

function same<T>(value: T): T {
  return value;
}

export class Store {
  private looks: Look[] = [];
  private marks: Mark[] = [];
  private refused: Refused | null = null;
  private filter: string | null = null;
  private reach: State["reach"] = "unknown";
  private timer: ReturnType<typeof setTimeout> | undefined;
  private isAsking = false;
  private isWanted = false;
  private began = 0;
  private notBefore = 0;
  private wantsPast = true;
  private hasMarks = false;

  constructor(private readonly show: (state: State) => void) {
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) return;
      this.wantsPast ||= Date.now() - (this.looks.at(-1)?.at ?? 0) > 3 * INTERVAL_MS;
      this.ask();
    });
  }

  state(): State {
    return { looks: this.looks, marks: this.marks, refused: this.refused, filter: this.filter, reach: this.reach };
  }

  /** Asks now, and from now on. */
  ask(): void {
    clearTimeout(this.timer);
    if (!this.isAsking) void this.round();
  }

  /** Another keyspace, or all. The hottest keys and its latencies are asked for at once. */
  choose(keyspace: string | null): void {
    this.filter = this.filter === keyspace ? null : keyspace;
    this.show(this.state());
    this.ask();
  }

  /** Marks what happened, or asks how things are since. */
  happened({ type, data }: Happening): void {
    const at = data.at === undefined ? Date.now() : Date.parse(data.at);
    if (type === "bus" || type === "gap" || type === "breaker" || (type === "queue" && this.isNews(data))) this.soon();
    // Nobody knows what is missing: it is another life of the service, which has taken some configuration.
    if (type === "gap" && data.missed === null) this.refused = null;
    if (type === "config") {
      this.refused = data.state === "refused" ? { at, settings: data.settings ?? [] } : null;
      this.show(this.state());
      if (this.refused === null) this.soon();
    }
    if (type !== "invalidate") return;
    const text = data.key ?? data.pattern ?? (data.tag === undefined ? "everything" : `tag ${data.tag}`);
    this.marks = [...this.marks.slice(1 - MARKS_MAX), { at, keyspace: data.keyspace ?? "", text }];
  }

  /** Whether an event of a queue tells of dead letters. How many wait changes all the time, and is for the next round. */
  private isNews({ keyspace, state, dead }: Happening["data"]): boolean {
    if (state !== "standing") return true;
    const behind = this.looks.at(-1)?.behind;
    return !behind?.ok || behind.value.keyspaces.find((lane) => lane.keyspace === keyspace)?.dead !== dead;
  }

  /** Asks as soon as may be. */
  private soon(): void {
    this.isWanted = true;
    if (!this.isAsking) this.plan();
  }

  private async round(): Promise<void> {
    this.isAsking = true;
    this.isWanted = false;
    this.began = Date.now();
    if (this.began >= this.notBefore) await this.look(this.began);
    this.isAsking = false;
    this.show(this.state());
    this.plan();
  }

  /** Sets when the next round begins. */
  private plan(): void {
    clearTimeout(this.timer);
    if (document.hidden) return;
    const next = this.began + (this.isWanted ? SOON_MS : INTERVAL_MS);
    this.timer = setTimeout(() => this.ask(), Math.max(Math.max(next, this.notBefore) - Date.now(), this.isWanted ? 0 : 100));
  }

  private async look(at: number): Promise<void> {
    const filter = this.filter;
    const only = filter === null ? "" : `keyspace=${encodeURIComponent(filter)}`;
    const [past, keyspaces, latencies, chosen, breakers, bus, behind, hot, summary, capacity, ready] = await Promise.all([
      this.wantsPast ? answer<History>("api/cache/history", same) : null,
      answer("api/cache/keyspaces", (value: { keyspaces: Keyspace[] }) => value.keyspaces),
      answer<Latencies>("api/cache/latencies", same),
      filter === null ? null : answer<Latencies>(`api/cache/latencies?${only}`, same).then((own) => ({ keyspace: filter, latencies: own })),
      answer("api/cache/breakers", (value: { breakers: Breaker[] }) => value.breakers),
      answer<Bus>("api/cache/bus", same),
      answer<Behind>("api/cache/behind", same),
      answer(`api/cache/hot?limit=15&${only}`, (value: { keys: HotKey[] }) => value.keys),
      answer<Summary>("api/cache/metrics", same),
      answer<Capacity>("api/cache/capacity", same),
      answer<Ready>("readyz?verbose=true", same),
    ]);
    const look: Look = { at, keyspaces, latencies, chosen, breakers, bus, behind, hot, summary, capacity, ready };
    const answers: Answer<unknown>[] = [keyspaces, latencies, breakers, bus, behind, hot, summary, capacity];
    const isRefused = answers.every((one) => !one.ok && (one.status === 401 || one.status === 403));
    const isGone = [...answers, ready].every((one) => !one.ok && one.status === 0);
    this.reach = isRefused ? "refused" : isGone ? "no" : "yes";
    if (answers.some((one) => !one.ok && (one.status === 429 || one.status === 503))) {
      this.notBefore = Date.now() + 2 * INTERVAL_MS;
    }
    const since = at - WINDOW_MS;
    // A look right after another one, after a change, takes its place: a pace needs time to be measured in.
    const isSoon = at - (this.looks.at(-1)?.at ?? 0) < SOON_MS;
    const kept = isSoon ? this.looks.slice(0, -1) : this.looks;
    this.looks = [...kept, look];
    if (past) this.recall(past, look);
    this.looks = this.looks.filter((old) => old.at >= since).slice(-LOOKS_MAX);
    this.marks = this.marks.filter((mark) => mark.at >= since);
  }

  /** Puts what was before in its place. Where there was no answer because of who asked, or when, it is asked for again. */
  private recall(past: Answer<History>, look: Look): void {
    if (!past.ok) {
      this.wantsPast = [0, 401, 429, 503].includes(past.status);
      return;
    }
    this.wantsPast = false;
    this.looks = together(this.looks, looksOf(past.value, look), INTERVAL_MS);
    if (this.hasMarks) return;
    this.hasMarks = true;
    const first = Math.min(look.at, ...this.marks.map((mark) => mark.at));
    this.marks = [...marksOf(past.value, look.at).filter((mark) => mark.at < first), ...this.marks].slice(-MARKS_MAX);
  }
}

/** The last look at which there was an answer of one kind. */
export function latest<K extends Exclude<keyof Look, "at" | "chosen">>(state: State, what: K): Look[K] | null {
  return state.looks.at(-1)?.[what] ?? null;
}

/** Pairs of looks that follow each other and both have an answer. */
export function pairs<K extends "keyspaces" | "latencies">(
  looks: readonly Look[],
  what: K,
): { from: number; to: number; before: Extract<Look[K], { ok: true }>["value"]; now: Extract<Look[K], { ok: true }>["value"] }[] {
  const found = [];
  let last: Look | null = null;
  for (const look of looks) {
    const now = look[what];
    if (!now.ok) continue;
    const before = last?.[what];
    if (last && before?.ok) found.push({ from: last.at, to: look.at, before: before.value, now: now.value });
    last = look;
  }
  return found as ReturnType<typeof pairs<K>>;
}

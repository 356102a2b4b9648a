// What the service says, as types, and how it is asked.
//
// 1. Only paths below the page's own: nothing is asked of another host.
// 2. Every question has a time limit.
// 3. The token is kept for this tab alone.

export interface Keyspace {
  name: string;
  pattern: string | null;
  strategy: string;
  ttl: number | null;
  origin: string | null;
  l1_entries: number;
  l1_bytes: number;
  hits_l1: number;
  hits_l2: number;
  hits_stale: number;
  misses: number;
  loads: number;
  load_failures: number;
  sets: number;
  deletes: number;
  evictions: number;
  behind_pending: number | null;
}

/** The counters of a keyspace that are kept, each as numbers over time. */
export type Counters = Record<
  "hits_l1" | "hits_l2" | "hits_stale" | "misses" | "loads" | "load_failures" | "evictions" | "invalidations",
  (number | null)[]
>;

/** What the service has kept, the oldest first. */
export interface History {
  interval_seconds: number;
  ago_seconds: number[];
  keyspaces: ({ name: string } & Counters)[];
  service: {
    latencies: { tier: string; counts: number[][] }[];
    breakers: { target: string; states: (Breaker["state"] | null)[] }[];
    lag_seconds: (number | null)[];
    left_out: number;
  } | null;
}

export interface TierLatency {
  tier: string;
  counts: number[];
  sum_seconds: number;
  count: number;
  sampled?: number;
}

export interface Latencies {
  bounds: number[];
  tiers: TierLatency[];
}

export interface Breaker {
  target: string;
  state: "closed" | "open" | "half_open";
  since: string | null;
  calls: number;
  failures: number;
}

export interface Instance {
  id: string;
  version: string;
  started_at: string;
}

export interface Bus {
  state: string;
  lag_seconds: number | null;
  gaps: number;
  instance: Instance;
  instances: Partial<Instance>[];
}

export interface DeadLetter {
  /** For tokens that may read it. */
  key?: string;
  operation: string;
  write_id: string;
  attempts: number;
  reason: string;
  overtaken: boolean;
}

export interface Lane {
  keyspace: string;
  pending: number;
  pending_bytes: number;
  oldest_seconds: number;
  parked: number;
  dead: number;
  stored: number;
  retried: number;
  dead_letters: DeadLetter[];
}

export interface Behind {
  journal: { condition: string; pending: number; pending_bytes: number; unattended: number } | null;
  keyspaces: Lane[];
}

export interface Summary {
  requests: number;
  hits: number;
  misses: number;
  l1_size: number;
  l1_bytes: number;
  l2_errors: number;
  pending_invalidations: number;
  seconds: number;
}

/** Memory of a size, and what it would miss. */
export interface Size {
  factor: number;
  entries: number;
  bytes: number;
  miss_ratio: number;
}

export interface Capacity {
  l1_entries: number;
  l1_bytes: number;
  sizes: Size[];
  unknown: { code: string; detail: string } | null;
}

export interface Ready {
  status: string;
  degraded?: string[];
  warnings?: string[];
}

export interface HotKey {
  keyspace: string;
  key: string;
  lookups: number;
  error: number;
  /** Of late. */
  per_second: number;
  /** Where this instance has it. */
  tier: "l1" | null;
  bytes: number | null;
}

export interface Held {
  version: number;
  cached_at: string;
  ttl: number | null;
  tags: string[];
  dead_by: string | null;
}

export interface Why {
  key: string;
  keyspace: string;
  answer: string;
  l1: Held | null;
  l2: Held | null;
  l2_error: string | null;
  trusted_for: number | null;
  pending: boolean;
  loading: boolean;
  partition: number | null;
  changes: { number: number; by: string; what: string; of: string }[];
}

export interface Entry {
  value: unknown;
  hit: boolean;
  source: string;
  expires_at: string | null;
  /** How the value is written, if it is not itself. */
  encoding?: string;
}

export interface FoundKey {
  key: string;
  keyspace: string;
  tier: string;
  ttl: number | null;
  bytes: number | null;
}

export interface Matched {
  matched: number;
  exact: boolean;
  sample: string[];
}

/** What the service says instead of an answer. */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    detail: string,
    /** Seconds after which it may be asked again. */
    readonly retryAfter: number | null,
  ) {
    super(detail);
  }
}

const TOKEN = "terrace-token";
const PATIENCE_MS = 10_000;
const WRITE_PATIENCE_MS = 30_000;

export const token = {
  get: (): string => sessionStorage.getItem(TOKEN) ?? "",
  set(value: string): void {
    if (value === "") sessionStorage.removeItem(TOKEN);
    else sessionStorage.setItem(TOKEN, value);
  },
};

export function headers(): Record<string, string> {
  const value = token.get();
  return value === "" ? {} : { authorization: `Bearer ${value}` };
}

/** A path of the API, from where this page lies. */
export function address(path: string): string {
  return new URL(path, document.baseURI).href;
}

async function problem(response: Response): Promise<Problem> {
  const body = (await response.json().catch(() => null)) as { code?: string; detail?: string; title?: string } | null;
  const after = Number(response.headers.get("retry-after"));
  const detail = body?.detail ?? body?.title ?? `the service answered ${response.status}`;
  return new Problem(response.status, body?.code ?? "", detail, after > 0 ? after : null);
}

async function ask(method: string, path: string, more: Record<string, string>): Promise<Response> {
  const response = await fetch(address(path), {
    method,
    headers: { ...headers(), ...more },
    cache: "no-store",
    signal: AbortSignal.timeout(PATIENCE_MS),
  });
  if (!response.ok) throw await problem(response);
  return response;
}

/** Asks. Fails with a [`Problem`] if that is the answer, with another error if there is none. */
export async function get<T>(path: string): Promise<T> {
  return (await (await ask("GET", path, {})).json()) as T;
}

/**
 * Asks for what the tiers have, so that nothing is loaded. It has to be said: a browser that is to keep no answers asks for a new one by itself
 * (`Cache-Control: no-cache`), and that goes to the origin. `no-store`: memory gets no copy of what Redis has, so whoever looks again sees the same.
 */
export async function look<T>(path: string): Promise<T> {
  return (await (await ask("GET", path, { "cache-control": "only-if-cached, no-store" })).json()) as T;
}

/** What an answer would say of itself, of what the tiers have. */
export async function head(path: string): Promise<Headers> {
  return (await ask("HEAD", path, { "cache-control": "only-if-cached, no-store" })).headers;
}

export interface Done<T> {
  value: T;
  /** Whether the second tier is still to be told. */
  isQueued: boolean;
}

/** Asks for a change. */
export async function post<T>(path: string, body: unknown): Promise<Done<T>> {
  const response = await fetch(address(path), {
    method: "POST",
    headers: { ...headers(), "content-type": "application/json" },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(WRITE_PATIENCE_MS),
  });
  if (!response.ok) throw await problem(response);
  return { value: (await response.json()) as T, isQueued: response.headers.get("terrace-effect") === "queued" };
}

/** What went wrong, in words. */
export function words(error: unknown): string {
  if (error instanceof Problem) return error.message;
  if (error instanceof DOMException && error.name === "TimeoutError") return "there was no answer in time";
  return "the service does not answer";
}

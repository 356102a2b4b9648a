// What was before the page was opened, from what the service has kept, as if the page had looked then.
//
// 1. The page's own looks stay as they are: what was kept only fills the time around them.
// 2. A keyspace of whose past nothing is known did nothing then: it is not taken for one that began anew.
// 3. The service says how long ago things were, so its clock need not be that of this machine.

import type { Answer, Look, Mark } from "./store";
import type { Breaker, Bus, Counters, History, Keyspace, Latencies } from "./api";

/** Marks that are drawn for the invalidations between two samples at most. */
const MARKS_MAX = 50;

const KEPT: (keyof Counters)[] = ["hits_l1", "hits_l2", "hits_stale", "misses", "loads", "load_failures", "evictions"];

const NOT_KEPT: Answer<never> = { ok: false, why: "it is not kept", status: 0 };

/** What a column has at a place or, where it has nothing there, first has after it. */
function at(column: readonly (number | null)[], place: number): number {
  for (let later = place; later < column.length; later += 1) {
    const value = column[later];
    if (value !== null && value !== undefined) return value;
  }
  return 0;
}

function keyspaces(of: History, place: number, now: readonly Keyspace[]): Keyspace[] {
  const kept = new Map(of.keyspaces.map((one) => [one.name, one]));
  return now.map((keyspace) => {
    const columns = kept.get(keyspace.name);
    return columns ? { ...keyspace, ...Object.fromEntries(KEPT.map((name) => [name, at(columns[name], place)])) } : keyspace;
  });
}

function latencies(of: History, place: number, now: Latencies): Latencies {
  const kept = new Map((of.service?.latencies ?? []).map(({ tier, counts }) => [tier, counts[place]]));
  const tiers = now.tiers.map((tier) => {
    const counts = kept.get(tier.tier);
    return counts ? { ...tier, counts, count: counts.reduce((sum, value) => sum + value, 0) } : tier;
  });
  return { bounds: now.bounds, tiers };
}

function breakers(of: History, place: number): Breaker[] {
  return (of.service?.breakers ?? []).flatMap(({ target, states }) => {
    const state = states[place];
    return state ? [{ target, state, since: null, calls: 0, failures: 0 }] : [];
  });
}

function bus(of: History, place: number): Answer<Bus> {
  const lag_seconds = of.service?.lag_seconds[place] ?? null;
  return { ok: true, value: { state: "", lag_seconds, gaps: 0, instance: { id: "", version: "", started_at: "" }, instances: [] } };
}

/** The looks that the page would have had, had it looked; `look` is one that it had, when the service answered with `of`. */
export function looksOf(of: History, look: Look): Look[] {
  return of.ago_seconds.map((ago, place) => ({
    at: look.at - ago * 1000,
    keyspaces: look.keyspaces.ok ? { ok: true, value: keyspaces(of, place, look.keyspaces.value) } : look.keyspaces,
    latencies: look.latencies.ok && of.service ? { ok: true, value: latencies(of, place, look.latencies.value) } : look.latencies,
    chosen: null,
    breakers: of.service ? { ok: true, value: breakers(of, place) } : NOT_KEPT,
    bus: of.service ? bus(of, place) : NOT_KEPT,
    behind: NOT_KEPT, hot: NOT_KEPT, summary: NOT_KEPT, capacity: NOT_KEPT, ready: NOT_KEPT,
  }));
}

/** What this instance was asked to invalidate, by the sample at which that was known. */
export function marksOf(of: History, now: number): Mark[] {
  return of.keyspaces.flatMap(({ name, invalidations }) => of.ago_seconds.flatMap((ago, place) => {
    const rise = place === 0 ? 0 : at(invalidations, place) - at(invalidations, place - 1);
    const mark = { at: now - ago * 1000, keyspace: name, text: `${rise} in ${of.interval_seconds} s` };
    return Array.from({ length: Math.min(Math.max(rise, 0), MARKS_MAX) }, () => mark);
  }));
}

/** All of `own`, and of `past` what is not within `apartMs` of one of them; in the order of time. */
export function together(own: readonly Look[], past: readonly Look[], apartMs: number): Look[] {
  const isNear = (look: Look): boolean => own.some((one) => Math.abs(one.at - look.at) < apartMs);
  return [...past.filter((look) => !isNear(look)), ...own].sort((one, other) => one.at - other.at);
}

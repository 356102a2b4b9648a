// From counters that only rise to what happened between two looks.
//
// 1. A counter that is lower than before is that of a service that began anew: all of it happened since.
// 2. A keyspace that was not there before began at zero.

import type { Keyspace, TierLatency } from "./api";

type Counter =
  | "hits_l1" | "hits_l2" | "hits_stale" | "misses" | "loads" | "load_failures" | "sets" | "deletes" | "evictions";

/** How much a counter rose. */
export function rise(before: number | undefined, now: number): number {
  return before === undefined || now < before ? now : now - before;
}

/** What keyspaces answered in a span of time. */
export interface Flow {
  l1: number;
  l2: number;
  stale: number;
  /** Neither tier had it, and the keyspace has an origin to ask. */
  origin: number;
  /** Neither tier had it, and there is nobody to ask. */
  miss: number;
  loads: number;
  loadFailures: number;
  evictions: number;
}

export const NO_FLOW: Flow = { l1: 0, l2: 0, stale: 0, origin: 0, miss: 0, loads: 0, loadFailures: 0, evictions: 0 };

/** What happened between two looks at the keyspaces, at all of them or at one. */
export function flow(before: readonly Keyspace[], now: readonly Keyspace[], only: string | null): Flow {
  const earlier = new Map(before.map((keyspace) => [keyspace.name, keyspace]));
  const sum = { ...NO_FLOW };
  for (const keyspace of now) {
    if (only !== null && keyspace.name !== only) continue;
    const old = earlier.get(keyspace.name);
    const of = (counter: Counter): number => rise(old?.[counter], keyspace[counter]);
    sum.l1 += of("hits_l1");
    sum.l2 += of("hits_l2");
    sum.stale += of("hits_stale");
    sum[keyspace.origin === null ? "miss" : "origin"] += of("misses");
    sum.loads += of("loads");
    sum.loadFailures += of("load_failures");
    sum.evictions += of("evictions");
  }
  return sum;
}

/** Lookups of a span. */
export function lookups(of: Flow): number {
  return of.l1 + of.l2 + of.stale + of.origin + of.miss;
}

/** Lookups of a keyspace since the service began. */
export function requests(of: Keyspace): number {
  return of.hits_l1 + of.hits_l2 + of.hits_stale + of.misses;
}

/** How much each bucket of a histogram rose. */
export function bucketRises(before: TierLatency | undefined, now: TierLatency): number[] {
  const isAnew = before === undefined || now.count < before.count;
  return now.counts.map((value, index) => (isAnew ? value : rise(before.counts[index], value)));
}

/**
 * What a share of the calls did not exceed, in seconds: by the place within the bucket, as far as that is known. What is
 * above the last bound counts as that. Nothing if there were no calls.
 */
export function quantile(bounds: readonly number[], counts: readonly number[], share: number): number | null {
  const all = counts.reduce((sum, value) => sum + value, 0);
  if (all === 0) return null;
  let left = share * all;
  for (const [index, value] of counts.entries()) {
    if (left <= value && value > 0) {
      const upper = bounds[index] ?? bounds[bounds.length - 1] ?? 0;
      const lower = index === 0 ? upper / 2 : (bounds[index - 1] ?? upper);
      return index >= bounds.length ? upper : lower + (upper - lower) * (left / value);
    }
    left -= value;
  }
  return bounds[bounds.length - 1] ?? null;
}

/** A rectangle, in shares of the whole. */
export interface Tile<T> {
  item: T;
  x: number;
  y: number;
  width: number;
  height: number;
}

/**
 * Divides a rectangle of `width` by `height` among items by their weights, in tiles that are as square as may be: rows along
 * the shorter side take items for as long as their worst tile gets better.
 */
export function treemap<T>(items: readonly (readonly [T, number])[], width: number, height: number): Tile<T>[] {
  const left = items.filter(([, weight]) => weight > 0).sort((one, other) => other[1] - one[1]);
  const all = left.reduce((sum, [, weight]) => sum + weight, 0);
  const scale = (width * height) / all;
  const tiles: Tile<T>[] = [];
  let [x, y, w, h] = [0, 0, width, height];
  while (left.length > 0) {
    const side = Math.min(w, h);
    let row: (readonly [T, number])[] = [];
    while (left.length > 0 && (row.length === 0 || worst([...row, left[0]!], side, scale) <= worst(row, side, scale))) {
      row = [...row, left.shift()!];
    }
    const area = row.reduce((sum, [, weight]) => sum + weight, 0) * scale;
    const depth = area / side;
    let along = 0;
    for (const [item, weight] of row) {
      const length = (weight * scale) / depth;
      tiles.push(
        w >= h
          ? { item, x, y: y + along, width: depth, height: length }
          : { item, x: x + along, y, width: length, height: depth },
      );
      along += length;
    }
    if (w >= h) [x, w] = [x + depth, w - depth];
    else [y, h] = [y + depth, h - depth];
  }
  return tiles;
}

function worst(row: readonly (readonly [unknown, number])[], side: number, scale: number): number {
  const areas = row.map(([, weight]) => weight * scale);
  const sum = areas.reduce((all, area) => all + area, 0);
  return Math.max(...areas.map((area) => Math.max((side * side * area) / (sum * sum), (sum * sum) / (side * side * area))));
}

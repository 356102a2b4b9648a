// The past that the service has kept, as looks that the page might have had.

import assert from "node:assert/strict";
import { test } from "node:test";
import { load } from "./load.mjs";

const { looksOf, marksOf, together } = await load("history");

const column = (...values) => values;
const history = {
  interval_seconds: 5,
  ago_seconds: [10, 5, 0.5],
  keyspaces: [{
    name: "a", hits_l1: column(null, 3, 7), hits_l2: column(0, 1, 1), hits_stale: column(0, 0, 0), misses: column(0, 0, 2), loads: column(0, 0, 2),
    load_failures: column(0, 0, 0), evictions: column(0, 0, 0), invalidations: column(0, 2, 2),
  }],
  service: {
    latencies: [{ tier: "l1", counts: [[0, 0], [3, 0], [6, 1]] }],
    breakers: [{ target: "l2", states: ["closed", "open", null] }],
    lag_seconds: [null, 0.2, 0.1],
    left_out: 0,
  },
};
const ok = (value) => ({ ok: true, value });
const look = {
  at: 100_000,
  keyspaces: ok([{ name: "a", origin: "main", hits_l1: 9, misses: 2 }, { name: "b", origin: null, hits_l1: 40, misses: 4 }]),
  latencies: ok({ bounds: [1], tiers: [{ tier: "l1", counts: [8, 1], count: 9, sum_seconds: 1 }, { tier: "l2", counts: [5, 5], count: 10, sum_seconds: 1 }] }),
  chosen: null, breakers: ok([]), bus: ok({}), behind: ok({}), hot: ok([]), summary: ok({}), capacity: ok({}), ready: ok({}),
};

test("what was kept becomes looks at its times, with what is kept of each", () => {
  const looks = looksOf(history, look);
  assert.deepEqual(looks.map(({ at }) => at), [90_000, 95_000, 99_500]);
  const hits = looks.map(({ keyspaces }) => keyspaces.value.map((of) => of.hits_l1));
  assert.deepEqual(hits, [[3, 40], [3, 40], [7, 40]], "what is not known did not rise");
  assert.deepEqual(looks.map(({ keyspaces }) => keyspaces.value[0].origin), ["main", "main", "main"]);
  assert.deepEqual(looks.map(({ latencies }) => latencies.value.tiers.map(({ counts, count }) => [counts, count])),
    [[[[0, 0], 0], [[5, 5], 10]], [[[3, 0], 3], [[5, 5], 10]], [[[6, 1], 7], [[5, 5], 10]]]);
  assert.deepEqual(looks.map(({ breakers }) => breakers.value.map(({ state }) => state)), [["closed"], ["open"], []]);
  assert.deepEqual(looks.map(({ bus }) => bus.value.lag_seconds), [null, 0.2, 0.1]);
  assert.ok(looks.every(({ hot, behind, ready }) => !hot.ok && !behind.ok && !ready.ok));
});

test("who sees a part of the service has the past of that part", () => {
  const looks = looksOf({ ...history, service: null }, { ...look, latencies: { ok: false, why: "no", status: 403 } });
  assert.ok(looks.every(({ keyspaces, latencies, breakers, bus }) => keyspaces.ok && !latencies.ok && !breakers.ok && !bus.ok));
});

test("each invalidation is a mark at the sample that knew of it", () => {
  assert.deepEqual(marksOf(history, 100_000).map(({ at, keyspace }) => [at, keyspace]), [[95_000, "a"], [95_000, "a"]]);
});

test("the past fills the time around the page's own looks, and takes the place of none", () => {
  const at = (...times) => times.map((time) => ({ at: time }));
  const all = together(at(1000, 3000, 9000), at(0, 500, 2500, 5000, 7000, 9500), 1000);
  assert.deepEqual(all.map((one) => one.at), [0, 1000, 3000, 5000, 7000, 9000]);
  assert.deepEqual(together([], at(2, 1), 1000).map((one) => one.at), [1, 2]);
});

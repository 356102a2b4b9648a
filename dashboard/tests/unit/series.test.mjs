// Numbers: from counters to what is shown.

import assert from "node:assert/strict";
import { test } from "node:test";
import { random } from "../fixture/world.mjs";
import { load } from "./load.mjs";

const { flow, quantile, rise, treemap, bucketRises } = await load("series");
const { bytes, count, duration, rate, share } = await load("format");
const { Parser } = await load("events");

const keyspace = (name, numbers, origin = null) => ({
  name, origin, hits_l1: 0, hits_l2: 0, hits_stale: 0, misses: 0, loads: 0, load_failures: 0, sets: 0, deletes: 0, evictions: 0, ...numbers,
});

test("a counter that fell is that of a service that began anew", () => {
  assert.equal(rise(10, 14), 4);
  assert.equal(rise(10, 3), 3);
  assert.equal(rise(undefined, 3), 3);
});

test("what happened between two looks is told by tier, and by whether there is an origin", () => {
  const before = [keyspace("a", { hits_l1: 5, misses: 1 }, "main"), keyspace("b", { hits_l2: 7 })];
  const now = [keyspace("a", { hits_l1: 9, misses: 4, loads: 2 }, "main"), keyspace("b", { hits_l2: 8, misses: 2, hits_stale: 1 })];
  const all = flow(before, now, null);
  assert.deepEqual([all.l1, all.l2, all.stale, all.origin, all.miss, all.loads], [4, 1, 1, 3, 2, 2]);
  const one = flow(before, now, "b");
  assert.deepEqual([one.l1, one.l2, one.stale, one.origin, one.miss], [0, 1, 1, 0, 2]);
});

test("quantiles lie within the bucket that has them", () => {
  const bounds = [1, 2, 4, 8];
  assert.equal(quantile(bounds, [0, 0, 0, 0, 0], 0.5), null);
  assert.equal(quantile(bounds, [0, 10, 0, 0, 0], 0.5), 1.5);
  assert.equal(quantile(bounds, [0, 0, 0, 0, 3], 0.99), 8, "above the last bound");
  const next = random(3);
  for (let round = 0; round < 200; round += 1) {
    const counts = [0, 0, 0, 0, 0].map(() => Math.floor(next() * 20));
    if (counts.every((value) => value === 0)) continue;
    const [low, high] = [quantile(bounds, counts, 0.5), quantile(bounds, counts, 0.99)];
    assert.ok(low <= high, `${counts}`);
    assert.ok(low >= 0.5 && high <= 8, `${counts}`);
  }
});

test("buckets of a service that began anew are all new", () => {
  const now = { tier: "l1", counts: [1, 2], count: 3, sum_seconds: 0 };
  assert.deepEqual(bucketRises({ ...now, counts: [5, 5], count: 10 }, now), [1, 2]);
  assert.deepEqual(bucketRises({ ...now, counts: [1, 1], count: 2 }, now), [0, 1]);
});

test("tiles fill the rectangle, by weight, and do not overlap", () => {
  const next = random(11);
  for (let round = 0; round < 50; round += 1) {
    const items = Array.from({ length: 1 + Math.floor(next() * 12) }, (_, index) => [index, next() * 100 + 0.01]);
    const all = items.reduce((sum, [, weight]) => sum + weight, 0);
    const tiles = treemap(items, 100, 44);
    assert.equal(tiles.length, items.length);
    for (const tile of tiles) {
      const weight = items.find(([index]) => index === tile.item)[1];
      assert.ok(Math.abs(tile.width * tile.height - (4400 * weight) / all) < 1e-6);
      assert.ok(tile.x >= -1e-9 && tile.y >= -1e-9 && tile.x + tile.width <= 100 + 1e-6 && tile.y + tile.height <= 44 + 1e-6);
      for (const other of tiles) {
        if (other === tile) continue;
        const wide = Math.min(tile.x + tile.width, other.x + other.width) - Math.max(tile.x, other.x);
        const high = Math.min(tile.y + tile.height, other.y + other.height) - Math.max(tile.y, other.y);
        assert.ok(wide < 1e-6 || high < 1e-6, "two tiles overlap");
      }
    }
  }
  assert.deepEqual(treemap([], 10, 10), []);
  assert.deepEqual(treemap([["empty", 0]], 10, 10), []);
});

test("numbers are written alike everywhere", () => {
  const plain = (text) => text.replaceAll("\u00a0", " ");
  assert.equal(count(1234567), "1,234,567");
  assert.deepEqual([0, 0.04, 9.96, 1234.4].map(rate), ["0", "<0.1", "10.0", "1,234"]);
  assert.deepEqual([share(1, 3), share(0, 0)].map(plain), ["33.3 %", "–"]);
  assert.deepEqual([0, 1023, 1024, 1536 * 1024, 3 * 1024 ** 3].map(bytes).map(plain), ["0 B", "1,023 B", "1.0 KiB", "1.5 MiB", "3.0 GiB"]);
  assert.deepEqual(
    [0, 2.5e-7, 1e-6, 0.0123, 1, 61, 150, 9000, 200_000].map(duration).map(plain),
    ["0 s", "250 ns", "1 µs", "12.3 ms", "1 s", "61 s", "2 min 30 s", "2 h 30 min", "2 d 7 h"],
  );
});

test("events are cut from a stream wherever it is torn", () => {
  const stream = 'retry: 1000\nid: a-1\n\nid: a-2\nevent: invalidate\ndata: {"key":"é\\n"}\n\n:\nid: a-3\n\nevent: gap\ndata: {"missed":null}\n\n';
  for (let at = 0; at <= stream.length; at += 1) {
    const parser = new Parser();
    const events = [...parser.push(stream.slice(0, at)), ...parser.push(stream.slice(at))];
    assert.deepEqual(events, [{ type: "invalidate", data: { key: "é\n" } }, { type: "gap", data: { missed: null } }]);
    assert.equal(parser.lastId, "a-3");
  }
});

// The five strategies from JavaScript, through two instances of the service: node five_strategies.mjs URL URL
//
// Needs nothing but Node 18 or newer. The service's configuration is beside this file, terrace.toml; the table is in its first lines.

import assert from "node:assert/strict";

// After a change was acknowledged, how long another instance may still return the value before, in milliseconds.
const STALENESS_MAX = 1000;

class Cache {
  constructor(url) {
    this.url = url;
  }

  async #ask(method, path, body) {
    const reply = await fetch(`${this.url}${path}`, {
      method,
      headers: body === undefined ? {} : { "content-type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    const answer = await reply.json();
    if (!reply.ok && reply.status !== 404) throw new Error(`${method} ${path}: ${answer.code}: ${answer.detail}`);
    return { status: reply.status, location: reply.headers.get("location"), ...answer };
  }

  #of(key) {
    return `/api/cache?key=${encodeURIComponent(key)}`;
  }

  /** The value and where it was; undefined if there is none. */
  async get(key) {
    const { status, value, source } = await this.#ask("GET", this.#of(key));
    return status === 404 ? {} : { value, source };
  }

  put = (key, value, more = {}) => this.#ask("PUT", this.#of(key), { value, ...more });
  delete = (key) => this.#ask("DELETE", this.#of(key));
  invalidate = (what) => this.#ask("POST", "/api/cache/invalidate", what);
  flush = (keyspace) => this.#ask("POST", `/api/cache/behind/${keyspace}/flush`);

  /** What has become of a write that the origin gets later: waiting, dead, coalesced or gone. Only the instance that took it knows. */
  state = async (location) => (await this.#ask("GET", location)).state;

  /** What the database has: the tiers are asked to forget the key first. */
  async atOrigin(key) {
    await this.invalidate({ keys: [key] });
    const { value, source } = await this.get(key);
    assert.ok(source === "origin" || source === undefined, `${key}: ${source}`);
    return value;
  }

  /** Waits until this instance returns the value, which it has to within its bound. */
  async sees(key, expected) {
    const began = performance.now();
    for (;;) {
      const { value } = await this.get(key);
      try {
        return assert.deepEqual(value, expected);
      } catch (different) {
        if (performance.now() - began >= STALENESS_MAX) throw different;
      }
    }
  }
}

const strategies = {
  async cache_aside(one, other) {
    const key = "aside:2";
    assert.deepEqual(await other.get(key), {});
    await one.put(key, { n: 1 }, { ttl: 60 });
    await other.sees(key, { n: 1 });
    await other.put(key, { n: 2 });
    await one.sees(key, { n: 2 });
    await one.invalidate({ pattern: "aside:*" });
    await other.sees(key, undefined);
  },

  async read_through(one, other) {
    const key = "read:2";
    assert.deepEqual(await one.get(key), { value: { name: "bob" }, source: "origin" });
    assert.deepEqual(await one.get(key), { value: { name: "bob" }, source: "l1" });
    assert.ok(["l1", "l2"].includes((await other.get(key)).source), "one load serves both");
  },

  async write_through(one, other) {
    const key = "through:2";
    for (const [n, writer, reader] of [[0, one, other], [1, other, one]]) {
      await writer.put(key, { n });
      await reader.sees(key, { n });
    }
    assert.deepEqual(await one.atOrigin(key), { n: 1 });
    await other.delete(key);
    await one.sees(key, undefined);
    assert.equal(await one.atOrigin(key), undefined);
  },

  async write_around(one, other) {
    const key = "around:2";
    for (const [n, writer, reader] of [[0, one, other], [1, other, one]]) {
      await writer.put(key, { n });
      assert.deepEqual(await writer.get(key), { value: { n }, source: "origin" }, "the writer kept no copy");
      await reader.sees(key, { n });
    }
  },

  async write_behind(one, other) {
    const key = "behind:2";
    for (const [n, writer, reader] of [[0, one, other], [1, other, one]]) {
      const reply = await writer.put(key, { n });
      assert.deepEqual([reply.status, reply.ack], [202, "fsync"]);
      assert.equal(await writer.state(reply.location), "waiting");
      assert.deepEqual((await writer.get(key)).value, { n });
      await reader.sees(key, { n });
      assert.equal((await writer.flush("behind")).stored, 1);
      assert.equal(await writer.state(reply.location), "gone", "the origin has it, and the journal keeps nothing of it");
      assert.deepEqual(await reader.atOrigin(key), { n });
    }
  },
};

const [one, other] = process.argv.slice(2, 4).map((url) => new Cache(url));
for (const [name, run] of Object.entries(strategies)) {
  await run(one, other);
  console.log(`${name}: ok`);
}

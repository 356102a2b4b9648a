// The page before fixed answers: the numbers on it are those it was given, and it does what its buttons say.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { serve } from "../fixture/serve.mjs";
import { World } from "../fixture/world.mjs";
import { faint, faults } from "./access.mjs";
import { launch, open } from "./browser.mjs";
import { until } from "./service.mjs";

let browser;
before(async () => {
  browser = await launch();
});
const servers = [];
after(async () => {
  await browser.close();
  for (const server of servers) await server.close();
});

/** A page before a world in which as much time passes as the page looks, after `minutes` of which the service knows; `change` may answer otherwise. */
async function stage({ change = () => undefined, token = null, minutes = 0, ...options } = {}) {
  const world = new World();
  if (minutes > 0) world.live(minutes);
  const posts = [];
  const server = await serve({
    token,
    answer(path, query, body) {
      if (body !== null) posts.push([path, body]);
      const own = change(path, query, body, world);
      if (own !== undefined) return own;
      if (path === "/api/cache/latencies") world.pass(2000, 1);
      return world.answer(path, query);
    },
  });
  servers.push(server);
  const { page, noted, close } = await open(browser, server.url, options);
  return {
    page, world, posts, server,
    async end() {
      assert.deepEqual([...noted.hosts], [new URL(server.url).host], "it asks this service alone");
      await close();
      return noted.errors;
    },
  };
}

const plain = (text) => text.replaceAll("\u00a0", " ");
const row = (page, keyspace) => page.locator(`tr[data-keyspace="${keyspace}"]`);

test("the numbers are those of the answers, by keyspace and all together", async () => {
  const still = [
    { name: "users", pattern: "user:{id}", strategy: "read-through", ttl: 900, origin: "main", l1_entries: 1200, l1_bytes: 614_400, hits_l1: 7000, hits_l2: 1500, hits_stale: 500, misses: 1000, loads: 990, load_failures: 3, sets: 5, deletes: 1, evictions: 2, behind_pending: null },
    { name: "counters", pattern: "m:{id}", strategy: "write-behind", ttl: null, origin: "main", l1_entries: 10, l1_bytes: 1000, hits_l1: 1, hits_l2: 0, hits_stale: 0, misses: 1, loads: 1, load_failures: 0, sets: 9, deletes: 0, evictions: 0, behind_pending: 17 },
  ];
  const it = await stage({ change: (path) => (path === "/api/cache/keyspaces" ? { keyspaces: still } : undefined) });
  await row(it.page, "users").waitFor();
  const cells = async (name) => (await row(it.page, name).locator("td").allTextContents()).map(plain);
  assert.deepEqual((await cells("users")).slice(3), ["10,000", "85.0 %", "990", "3", "1,200", "600 KiB", "512 B", "15 min", "–"]);
  assert.deepEqual((await cells("counters")).slice(3), ["2", "50.0 %", "1", "0", "10", "1,000 B", "100 B", "none", "17"]);
  assert.equal(await it.page.locator("#figure-entries").textContent(), "1,210");
  await row(it.page, "users").getByRole("button").click();
  await it.page.locator("#filter:not([hidden])").waitFor();
  assert.equal(await it.page.locator("#figure-entries").textContent(), "1,200");
  await it.page.getByText("users is not written behind.").waitFor();
  await it.page.locator("#filter").click();
  assert.equal(await it.page.locator("#figure-entries").textContent(), "1,210");
  assert.deepEqual(await it.end(), []);
});

test("the pace and the shares are those of what happened between two looks", async () => {
  let looks = 0;
  const keyspace = { name: "users", pattern: "user:{id}", strategy: "read-through", ttl: 900, origin: "main", l1_entries: 1, l1_bytes: 100, hits_l1: 0, hits_l2: 0, hits_stale: 0, misses: 0, loads: 0, load_failures: 0, sets: 1, deletes: 0, evictions: 0, behind_pending: null };
  const it = await stage({
    change(path) {
      if (path !== "/api/cache/keyspaces") return undefined;
      looks += 1;
      return { keyspaces: [{ ...keyspace, hits_l1: 700 * looks, hits_l2: 150 * looks, hits_stale: 50 * looks, misses: 100 * looks }] };
    },
  });
  const legend = it.page.locator("#legend-l1");
  await it.page.waitForFunction(() => document.getElementById("legend-l1")?.textContent?.includes("%"));
  assert.equal(plain(await legend.textContent()), "70.0 %");
  assert.equal(plain(await it.page.locator("#legend-l2").textContent()), "15.0 %");
  assert.equal(plain(await it.page.locator("#legend-stale").textContent()), "5.0 %");
  assert.equal(plain(await it.page.locator("#legend-origin").textContent()), "10.0 %");
  assert.equal(plain(await it.page.locator("#figure-hit-rate").textContent()), "85.0 %");
  await it.page.locator("#hits").getByRole("button", { name: "Table" }).click();
  const cells = await it.page.locator("#hits tbody tr").first().locator("td").allTextContents();
  const [lookups, l1] = [cells[1], cells[2]].map((text) => Number(text.replaceAll(",", "")));
  assert.ok(lookups > 0 && Math.abs(l1 / lookups - 0.7) < 1e-9, `${cells}`);
  assert.deepEqual(await it.end(), []);
});

/** The sums of the columns of the table of which tier answers. */
async function answered(page) {
  const button = page.locator("#hits").getByRole("button", { name: "Table" });
  if ((await button.getAttribute("aria-pressed")) === "false") await button.click();
  const rows = await page.locator("#hits tbody tr").evaluateAll((all) => all.map((row) => [...row.children].slice(1).map((cell) => Number(cell.textContent.replaceAll(",", "")))));
  return { minutes: rows.length, sums: rows.reduce((sum, row) => sum.map((value, index) => value + row[index])) };
}

test("a page that was only just opened shows what was before, and a second time too", async () => {
  // Nothing goes on: all that is drawn is of the past.
  const it = await stage({ minutes: 8, change: (path, query, _, world) => (path === "/api/cache/latencies" ? world.answer(path, query) : undefined) });
  const { keyspaces, service } = it.world.history();
  const rise = (names) => keyspaces.reduce((sum, of) => sum + names.reduce((all, name) => all + of[name].at(-1) - of[name][0], 0), 0);
  const told = keyspaces[0].invalidations.at(-1);
  assert.ok(rise(["hits_l1"]) > 1000 && told > 0, "there is something to be seen");
  for (const round of ["opened", "opened again"]) {
    if (round === "opened again") await it.page.reload();
    await row(it.page, "users").waitFor();
    const { minutes, sums } = await answered(it.page);
    assert.ok(minutes >= 8, `${round}: ${minutes}`);
    const expected = [["hits_l1", "hits_l2", "hits_stale", "misses"], ["hits_l1"], ["hits_l2"], ["hits_stale"]].map(rise);
    assert.deepEqual(sums.slice(0, 4), expected, round);
    assert.equal(sums[4] + sums[5], rise(["misses"]), round);
    assert.equal(sums[6], told, `${round}: marks`);
    assert.equal(await it.page.locator("#legend-marks").textContent(), String(told));
    const ribbon = await it.page.locator(".ribbon").getAttribute("aria-label");
    assert.match(ribbon, /closed, then open, then half open, then closed$/, `${round}: ${ribbon}`);
    const lookups = service.latencies.map(({ counts }) => counts.at(-1).reduce((sum, value, index) => sum + value - counts[0][index], 0));
    await it.page.locator("#latency").getByRole("button", { name: "Table" }).click();
    const timed = await it.page.locator("#latency tbody tr").evaluateAll((rows) => rows.map((one) => [one.children[1].textContent, Number(one.children[2].textContent.replaceAll(",", ""))]));
    const byTier = ["Memory (L1)", "Redis (L2)", "Origin"].map((name) => timed.reduce((sum, [tier, value]) => sum + (tier === name ? value : 0), 0));
    assert.deepEqual(byTier, lookups, round);
  }
  assert.equal(it.server.requests.filter((line) => line === "GET /api/cache/history").length, 2, "once each time");
  assert.deepEqual(await it.end(), []);
});

test("latencies of one keyspace are those of its answers since it was chosen, and what is of all says so", async () => {
  const bounds = [1e-6, 1e-3];
  let looks = 0;
  const tiers = (of) => ["l1", "l2", "origin"].map((tier, index) => {
    const counts = [0, of * (index + 1), 0];
    return { tier, counts, count: counts[1], sum_seconds: 0 };
  });
  const it = await stage({
    change(path, query) {
      if (path === "/api/cache/history") return { interval_seconds: 5, ago_seconds: [], keyspaces: [], service: null };
      if (path !== "/api/cache/latencies") return undefined;
      const keyspace = query.get("keyspace");
      if (keyspace === null) looks += 1;
      return { bounds, tiers: tiers(keyspace === null ? 1000 * looks : keyspace === "users" ? 7 * looks : 3 * looks) };
    },
  });
  await row(it.page, "users").waitFor();
  await it.page.locator("#latency").getByRole("button", { name: "Table" }).click();
  const first = it.page.locator("#latency tbody tr").first();
  await first.waitFor();
  /** The lookups of each tier, by what all of them are multiples of. */
  const sums = async (of) => {
    const rows = await it.page.locator("#latency tbody tr").evaluateAll((all) => all.map((one) => [one.children[1].textContent, Number(one.children[2].textContent.replaceAll(",", ""))]));
    const byTier = ["Memory (L1)", "Redis (L2)", "Origin"].map((name) => rows.reduce((sum, [tier, value]) => sum + (tier === name ? value : 0), 0));
    assert.ok(byTier[0] > 0 && byTier[0] % of === 0 && byTier[0] / of < 1000, `${byTier} of ${of}`);
    assert.deepEqual(byTier.slice(1), [2 * byTier[0], 3 * byTier[0]]);
  };
  await sums(1000);
  const note = (panel) => it.page.locator(`#${panel} > header .note`);
  for (const [name, of] of [["users", 7], ["products", 3]]) {
    await row(it.page, name).getByRole("button").click();
    await it.page.locator("#latency").getByText(`${name}, since it was chosen`).waitFor();
    await first.waitFor();
    await sums(of);
    for (const panel of ["breakers", "bus", "capacity"]) assert.match(await note(panel).textContent(), new RegExp(` · of the service, not of ${name} alone$`));
    assert.equal(await it.page.getByText("L2 errors, all keyspaces").count(), 1);
  }
  await it.page.locator("#filter").click();
  assert.equal(await note("latency").textContent(), "all keyspaces");
  await sums(1000);
  assert.equal(await note("breakers").textContent(), "ten minutes");
  assert.deepEqual(await it.end(), []);
});

test("a keyspace of whose past nothing is known is not taken for one that began anew", async () => {
  const it = await stage({
    minutes: 3,
    change(path, _query, _body, world) {
      if (path !== "/api/cache/history") return undefined;
      const all = world.history();
      const [users, products] = all.keyspaces;
      users.hits_l1 = users.hits_l1.map((value, index) => (index < 10 ? null : value));
      return { ...all, keyspaces: [users, products] };
    },
  });
  const before = structuredClone(it.world.past[0].keyspaces);
  await row(it.page, "users").waitFor();
  const { sums } = await answered(it.page);
  const all = it.world.keyspaces.reduce((sum, of, index) => sum + of.hits_l1 - before[index].hits_l1, 0);
  assert.ok(sums[1] > 0 && sums[1] <= all, `${sums[1]} of at most ${all}`);
  assert.deepEqual(await it.end(), []);
});

test("what memory of another size would answer is that of the answers, as a drawing and as a table", async () => {
  const sizes = [[0.25, 10, 0.4], [0.5, 20, 0.31], [1, 40, 0.17], [2, 80, 0.12], [4, 160, 0.115]];
  let answer = { l1_entries: 40, l1_bytes: 40_960, sizes: sizes.map(([factor, entries, miss_ratio]) => ({ factor, entries, bytes: entries * 1024, miss_ratio })), unknown: null };
  const it = await stage({ change: (path) => (path === "/api/cache/capacity" ? answer : undefined) });
  await it.page.getByText("Twice the memory: 83.0 % → 88.0 % of the lookups.".replaceAll(" %", "\u00a0%")).waitFor();
  const steps = (await it.page.locator(".sizes-steps li").allTextContents()).map(plain);
  assert.deepEqual(steps, ["60.0 %¼ ×10.0 KiB", "69.0 %½ ×20.0 KiB", "83.0 %now40.0 KiB", "88.0 %2 ×80.0 KiB", "88.5 %4 ×160 KiB"]);
  const heights = await it.page.locator(".size-dot").evaluateAll((dots) => dots.map((dot) => Number(dot.getAttribute("d").match(/^M\S+ ([\d.]+)h0$/)[1])));
  assert.deepEqual(heights, [...heights].sort((one, other) => other - one), "a larger size is higher");
  assert.equal(await it.page.locator(".size-now").count(), 1);
  await it.page.locator("#capacity").getByRole("button", { name: "Table" }).focus();
  await it.page.keyboard.press("Enter");
  const cells = await it.page.getByRole("region", { name: "Hits of memory at other sizes" }).locator("tbody tr").nth(3).locator("th, td").allTextContents();
  assert.deepEqual(cells.map(plain), ["2 ×", "80", "80.0 KiB", "88.0 %"]);
  answer = { l1_entries: 0, l1_bytes: 0, sizes: [], unknown: { code: "not_full", detail: "L1 has not been full" } };
  await it.page.keyboard.press("Enter");
  await it.page.getByText("Not known yet: L1 has not been full.").waitFor();
  assert.equal(await it.page.locator(".sizes-steps li").count(), 0);
  assert.deepEqual(await it.end(), []);
});

test("the hottest keys have the pace, the tier and the size of the answer, and a click says why", async () => {
  const keys = [
    { keyspace: "users", key: "user:1", lookups: 61_000, error: 61, per_second: 508.31, tier: "l1", bytes: 2048 },
    { keyspace: "users", key: "user:2", lookups: 610, error: 0, per_second: 0.0125, tier: null, bytes: null },
  ];
  const it = await stage({ change: (path) => (path === "/api/cache/hot" ? { keys } : undefined) });
  const cells = async (key) => (await it.page.locator(`tr[data-key="${key}"] td`).allTextContents()).map(plain);
  await it.page.locator('tr[data-key="user:1"]').waitFor();
  assert.deepEqual(await cells("user:1"), ["users", "508", "L1", "2.0 KiB", "61,000", "≤ 61"]);
  assert.deepEqual(await cells("user:2"), ["users", "<0.1", "–", "–", "610", ""]);
  await it.page.getByRole("button", { name: "user:2", exact: true }).click();
  await it.page.locator("#inspected").getByText("user:2", { exact: true }).first().waitFor();
  assert.ok(it.server.requests.includes("GET /api/cache/why"));
  keys[1] = { ...keys[1], per_second: 12.34, tier: "l1", bytes: 96 };
  await it.page.locator('tr[data-key="user:2"]', { hasText: "12.3" }).waitFor();
  assert.deepEqual((await cells("user:2")).slice(1, 4), ["12.3", "L1", "96 B"]);
  assert.deepEqual(await it.end(), []);
});

/** What the page has of what was said of the entry. */
const said = (page) => page.locator("#inspected-headers").evaluate((list) => Object.fromEntries([...list.querySelectorAll("dt")].map((name) => [name.textContent, name.nextElementSibling.textContent])));

test("a look shows what the answers say of an entry, and says that nothing is to be loaded", async () => {
  const entry = { value: "aGVsbG8=", encoding: "base64", content_type: "image/png", hit: true, source: "l2", expires_at: "2026-11-20T09:05:00.000Z" };
  const headers = { "content-type": "image/png", etag: '"1-2"', age: "12", "cache-control": "private, max-age=300", "cache-status": "terrace-l2; hit; ttl=288, terrace-l1; fwd=uri-miss" };
  let answers = "l2";
  const it = await stage({
    change(path, query, _, world) {
      if (path === "/api/cache/why") return { ...world.why(query.get("key")), answer: answers };
      if (path === "/api/cache") return entry;
      return path === "/v1/keys" ? headers : undefined;
    },
  });
  await it.page.locator("#inspect").fill("logo");
  await it.page.keyboard.press("Enter");
  await it.page.locator("#inspected-value").waitFor();
  assert.deepEqual(await said(it.page), {
    "Content-Type": headers["content-type"], ETag: headers.etag, Age: headers.age, "Cache-Control": headers["cache-control"], "Cache-Status": headers["cache-status"], expires_at: entry.expires_at,
  });
  assert.match(await it.page.locator("#inspected").textContent(), /answered by l2 at \d\d:\d\d:\d\d, as base64/);
  const controls = () => it.server.controls.filter(([line]) => line === "GET /api/cache" || line.startsWith("HEAD"));
  assert.deepEqual(controls(), [["GET /api/cache", "only-if-cached, no-store"], ["HEAD /v1/keys", "only-if-cached, no-store"]]);
  answers = "miss";
  await it.page.getByRole("button", { name: "Look again" }).click();
  await it.page.getByText("No tier has it").waitFor();
  assert.equal(controls().length, 2, "no value is asked for that no tier has");
  await it.page.getByRole("button", { name: "Read it" }).click();
  await it.page.locator("#inspected-value").waitFor();
  assert.doesNotMatch(String(controls()[2][1]), /only-if-cached/, "somebody asked for a load");
  assert.deepEqual(await it.end(), []);
});

test("what somebody called a key is text and nothing else", async () => {
  const name = '<img src=x onerror="document.title=1">';
  const it = await stage({
    change(path) {
      if (path === "/api/cache/hot") return { keys: [{ keyspace: "users", key: name, lookups: 9, error: 0, per_second: 0, tier: null, bytes: null }] };
      if (path === "/api/cache") return { value: name, hit: true, source: "l1", expires_at: null };
      if (path === "/v1/keys") return { "content-type": "image/png", "cache-status": name };
      return undefined;
    },
  });
  await it.page.getByRole("button", { name }).click();
  await it.page.locator("#inspected-value").waitFor();
  assert.equal(await it.page.locator("#inspected-value").textContent(), JSON.stringify(name));
  assert.deepEqual(await said(it.page), { "Content-Type": "image/png", "Cache-Status": name, expires_at: "null: it does not age" });
  assert.equal(await it.page.locator("img").count(), 0);
  assert.equal(await it.page.title(), "terrace");
  assert.deepEqual(await it.end(), []);
});

test("nothing is invalidated before it was counted and agreed to", async () => {
  const it = await stage({
    change(path, _, body) {
      if (path !== "/api/cache/invalidate") return undefined;
      return body.dry_run ? { matched: 4182, exact: false, sample: ["user:1", "user:2"], success: true } : { invalidated: 4182, exact: false, success: true };
    },
  });
  await it.page.locator("#sweep").fill("user:*");
  await it.page.getByRole("button", { name: "Count", exact: true }).click();
  const said = it.page.locator("#sweep-said");
  await it.page.getByText("at least 4,182 keys match pattern user:*, such as user:1, user:2.").waitFor();
  assert.deepEqual(it.posts, [["/api/cache/invalidate", { pattern: "user:*", dry_run: true }]]);
  await it.page.getByRole("button", { name: "Keep" }).click();
  assert.equal(await said.textContent(), "");
  assert.equal(it.posts.length, 1);
  await it.page.getByRole("button", { name: "Count", exact: true }).click();
  await it.page.getByRole("button", { name: "Invalidate them" }).click();
  await it.page.getByText("At least 4,182 invalidated.").waitFor();
  assert.deepEqual(it.posts[2], ["/api/cache/invalidate", { pattern: "user:*" }]);
  assert.deepEqual(await it.end(), []);
});

test("dead letters are brought back, and dropped after a second word", async () => {
  const it = await stage({ change: (path) => (/(retry|drop|flush)$/.test(path) ? { retried: 1, dropped: 1, stored: 3, parked: 0, dead: 0, success: true } : undefined) });
  const letter = it.page.locator('tr[data-letter="metrics:1207"]');
  await letter.waitFor();
  assert.equal(await it.page.locator('tr[data-lane="counters"] td').nth(6).textContent(), "2");
  await letter.getByRole("button", { name: "Retry" }).click();
  await it.page.getByText("1 of metrics:1207 brought back.").waitFor();
  const overtaken = it.page.locator('tr[data-letter="metrics:88"]');
  assert.ok(await overtaken.getByRole("button", { name: "Retry" }).isDisabled());
  const drop = overtaken.getByRole("button", { name: "Drop" });
  await drop.click();
  assert.equal(it.posts.length, 1, "the first word drops nothing");
  await drop.click();
  await it.page.getByText("1 of metrics:88 forgotten.").waitFor();
  await it.page.getByRole("button", { name: "Send what waits of counters" }).click();
  await it.page.getByText("3 stored, 0 parked, 0 given up.").waitFor();
  assert.deepEqual(it.posts.map(([path]) => path.split("/").slice(-2).join("/")), ["counters/retry", "counters/drop", "counters/flush"]);
  assert.deepEqual(await it.end(), []);
});

test("a breaker that opens, a bus that is lost and an invalidation show", async () => {
  const it = await stage();
  await it.page.getByText("hears the others").waitFor();
  await it.page.getByText("events: live").waitFor();
  it.server.tell("invalidate", { keyspace: "users", key: "user:1", own: false, at: new Date().toISOString() });
  Object.assign(it.world.breaker, { state: "open", since: new Date().toISOString() });
  it.world.pass = () => [];
  await it.page.getByText("does not hear the others").waitFor();
  await it.page.locator('.breaker[data-state="open"]').waitFor();
  assert.match(await it.page.locator(".ribbon").getAttribute("aria-label"), /closed, then open$/);
  await it.page.getByText("degraded: l2").waitFor();
  assert.equal(await it.page.locator("#legend-marks").textContent(), "1");
  assert.deepEqual(await it.end(), []);
});

/** Notes on the page when it looked last, by its own clock. */
function noteLooks() {
  const ask = window.fetch;
  window.fetch = (target, options) => {
    if (String(target).includes("/api/cache/breakers")) window.lookedAt = Date.now();
    return ask(target, options);
  };
}

test("what events tell of shows before the next round, and what changes all the time waits for it", async () => {
  const it = await stage({ before: { script: noteLooks } });
  it.world.pass = () => [];
  await row(it.page, "users").waitFor();
  await it.page.getByText("events: live").waitFor();
  await it.page.clock.install();
  await it.page.clock.pauseAt(Date.now() + 1000);
  const clock = () => it.page.evaluate(() => ({ now: Date.now(), lookedAt: window.lookedAt }));
  const round = async (least) => {
    const { now, lookedAt } = await clock();
    await it.page.clock.runFor(Math.max(lookedAt + 2000 - now, 0));
    const since = await until("a round", async () => {
      const then = await clock();
      return then.lookedAt > lookedAt && then.lookedAt - lookedAt;
    });
    assert.ok(since >= least, `a round after ${since} ms`);
    await it.page.clock.runFor(950);
  };
  /** What shows because of an event, by a clock that takes some steps. */
  const shows = async (what, is) => {
    const { lookedAt } = await clock();
    await until(what, async () => {
      await it.page.clock.runFor(5);
      return is();
    });
    const since = (await clock()).lookedAt - lookedAt;
    assert.ok(since >= 1000 && since < 2000, `${what}: a look after ${since} ms`);
  };
  await round(0);
  Object.assign(it.world.breaker, { state: "open", since: new Date().toISOString() });
  it.server.tell("breaker", { target: "l2", state: "open", was: "closed", at: new Date().toISOString() });
  await shows("the breaker", async () => (await it.page.locator('.breaker[data-state="open"]').count()) === 1);
  await round(2000);
  const dead = it.page.locator('tr[data-lane="counters"] td').nth(6);
  it.world.letters.push(["metrics:9", "no", 8, false]);
  it.server.tell("queue", { keyspace: "counters", state: "standing", pending: 17, parked: 1, dead: 2, oldest_seconds: 1 });
  it.server.tell("config", { state: "refused", settings: [], at: new Date().toISOString() });
  await it.page.locator("#notice", { hasText: "log says why" }).waitFor();
  assert.equal(await dead.textContent(), "2");
  await round(2000);
  await it.page.waitForFunction(() => document.querySelectorAll('tr[data-lane="counters"] td')[6].textContent === "3");
  it.world.letters.pop();
  it.server.tell("queue", { keyspace: "counters", state: "standing", pending: 17, parked: 1, dead: 2, oldest_seconds: 1 });
  await shows("the letter that is gone", async () => (await dead.textContent()) === "2");
  await round(2000);
  it.world.letters.pop();
  it.server.tell("queue", { keyspace: "counters", state: "dropped", letters: 1, own: true });
  await shows("another one that is gone", async () => (await dead.textContent()) === "1");
  assert.deepEqual(await it.end(), []);
});

test("a configuration that is refused stays said until another is taken", async () => {
  const it = await stage();
  const notice = it.page.locator("#notice");
  await it.page.getByText("events: live").waitFor();
  assert.ok(await notice.isHidden());
  it.server.tell("config", { state: "refused", settings: ["server.listen", "l1.max_entries"], at: "2026-11-20T09:00:00.000Z" });
  await it.page.getByText("these cannot be changed while it runs: server.listen, l1.max_entries.").waitFor();
  assert.match(await notice.textContent(), /^The configuration of \d\d:00:00 was refused/);
  const before = it.server.requests.length;
  await until("more looks", () => it.server.requests.slice(before).filter((line) => line === "GET /readyz").length > 1);
  assert.ok(await notice.isVisible());
  it.server.tell("config", { state: "taken", settings: ["defaults.ttl"], at: new Date().toISOString() });
  await notice.waitFor({ state: "hidden" });
  it.server.tell("config", { state: "refused", settings: [], at: new Date().toISOString() });
  await it.page.getByText("the service’s log says why.").waitFor();
  it.server.tell("gap", { missed: 3 });
  it.server.tell("invalidate", { keyspace: "users", key: "user:1", own: false, at: new Date().toISOString() });
  await it.page.waitForFunction(() => document.getElementById("legend-marks").textContent === "1");
  assert.ok(await notice.isVisible());
  it.server.tell("gap", { missed: null });
  await notice.waitFor({ state: "hidden" });
  assert.deepEqual(await it.end(), []);
});

test("a service that wants a token gets the one that was typed, and no other request has it", async () => {
  const it = await stage({ token: "s3cret" });
  await it.page.getByText("wants a token", { exact: true }).waitFor();
  await it.page.locator("#access").click();
  await it.page.getByLabel("Token", { exact: true }).fill("s3cret");
  await it.page.getByRole("button", { name: "Use it" }).click();
  await row(it.page, "users").waitFor();
  await it.page.getByText("events: live").waitFor();
  assert.equal(await it.page.evaluate(() => JSON.stringify(localStorage).includes("s3cret")), false);
  assert.ok(!it.server.requests.some((line) => line.includes("s3cret")), "it is in no address");
  const errors = await it.end();
  assert.ok(errors.every((line) => line.includes("401")), `${errors}`);
});

test("what is missing costs its own picture, and an idle service says what to type", async () => {
  const idle = new World().keyspaces.map((keyspace) => ({ ...keyspace, hits_l1: 0, hits_l2: 0, hits_stale: 0, misses: 0, sets: 0, l1_bytes: 0, l1_entries: 0 }));
  const it = await stage({
    change(path) {
      if (path === "/api/cache/latencies") return null;
      if (path === "/api/cache/keyspaces") return { keyspaces: idle };
      if (path === "/api/cache/breakers") return { breakers: [] };
      if (path === "/api/cache/behind") return { journal: null, keyspaces: [] };
      return undefined;
    },
  });
  await it.page.locator("#latency").getByText("Not to be had").waitFor();
  assert.match(await it.page.locator("#keyspaces code").textContent(), /^curl -X PUT http:\/\/127\.0\.0\.1:\d+\/api\/cache\/hello /);
  assert.match(await it.page.locator("#breakers code").textContent(), /REDIS_URL=/);
  assert.match(await it.page.locator("#behind code").textContent(), /write-behind/);
  const errors = await it.end();
  assert.ok(errors.every((line) => line.includes("404")), `${errors}`);
});

test("a service that goes away is said to be away, and comes back", async () => {
  const it = await stage();
  await row(it.page, "users").waitFor();
  await it.page.context().setOffline(true);
  await it.page.getByText("does not answer", { exact: true }).waitFor();
  await it.page.context().setOffline(false);
  await it.page.locator("#status", { hasText: "ready" }).waitFor();
  await it.end();
});

test("everything is reached by keyboard, in order, and shows that it has the focus", async () => {
  const it = await stage();
  await row(it.page, "users").waitFor();
  await it.page.locator("tr[data-key]").first().waitFor();
  await it.page.locator("tr[data-letter]").first().waitFor();
  const stops = [];
  for (let press = 0; press < 200; press += 1) {
    await it.page.keyboard.press("Tab");
    const stop = await it.page.evaluate(() => {
      const at = document.activeElement;
      if (!at || at === document.body) return null;
      const last = window.lastStop;
      const isAfter = !last?.isConnected || Boolean(last.compareDocumentPosition(at) & Node.DOCUMENT_POSITION_FOLLOWING);
      window.lastStop = at;
      const style = getComputedStyle(at);
      return { text: at.getAttribute("aria-label") ?? at.textContent ?? "", id: at.id, isAfter, outline: Number.parseFloat(style.outlineWidth) * (style.outlineStyle === "none" ? 0 : 1) };
    });
    if (stop === null) break;
    stops.push(stop);
  }
  assert.ok(stops.length > 40 && stops.length < 200, `${stops.length} stops, and then out of the page`);
  assert.match(stops[0].text, /^Skip/);
  for (const stop of stops) {
    assert.ok(stop.outline >= 2, `no outline: ${stop.text}`);
    assert.ok(stop.isAfter, `before the one before it: ${stop.text}`);
  }
  for (const text of ["users", "user:42", "Table", "Retry metrics:1207", "Flush"].map((text) => (text === "Flush" ? "Send what waits of counters" : text))) {
    assert.ok(stops.some((stop) => stop.text === text), `not reached: ${text}`);
  }
  await row(it.page, "users").getByRole("button").focus();
  await it.page.keyboard.press("Enter");
  await it.page.locator("#filter:not([hidden])").waitFor();
  assert.equal(await it.page.evaluate(() => document.activeElement.textContent), "users", "the focus stays where it is");
  await it.page.locator("#inspect").focus();
  await it.page.keyboard.type("user:42");
  await it.page.keyboard.press("Enter");
  await it.page.locator("#inspected-value").waitFor();
  assert.deepEqual(await it.end(), []);
});

for (const colorScheme of ["light", "dark"]) {
  test(`names, heads, order and contrast are as they should be, ${colorScheme}`, async () => {
    const it = await stage({ colorScheme });
    await row(it.page, "users").waitFor();
    await it.page.getByRole("button", { name: "user:42", exact: true }).first().click();
    await it.page.locator("#inspected-value").waitFor();
    assert.deepEqual(await it.page.evaluate(faults), []);
    assert.deepEqual(await it.page.evaluate(faint), []);
    for (const table of await it.page.getByRole("button", { name: "Table", exact: true }).all()) await table.click();
    await it.page.locator("#access").click();
    assert.deepEqual(await it.page.evaluate(faults), []);
    assert.deepEqual(await it.page.evaluate(faint), []);
    assert.deepEqual(await it.end(), []);
  });
}

test("the theme is the system's until one is chosen, and stays chosen", async () => {
  const it = await stage({ colorScheme: "dark" });
  const background = () => it.page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
  const dark = await background();
  const button = it.page.locator("#theme");
  await button.click();
  assert.equal(await button.textContent(), "Theme: light");
  const light = await background();
  assert.notEqual(light, dark);
  await it.page.reload();
  await it.page.locator("#theme").waitFor();
  assert.equal(await background(), light);
  assert.deepEqual(await it.end(), []);
});

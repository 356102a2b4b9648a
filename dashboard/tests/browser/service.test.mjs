// The page before a real service: what it shows is what the API says, and what is done on it happens.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { createServer } from "node:http";
import { launch, open } from "./browser.mjs";
import { redis, redisProgram, service, until } from "./service.mjs";

const KEYSPACES = `
[keyspace.users]
pattern = "user:{id}"
ttl = "15m"

[keyspace.sessions]
pattern = "session:{*id}"
ttl = "30m"
`;

const isSkipped = redisProgram() === undefined && "SKIP: no redis-server or valkey-server is installed";
let browser;
let it;
let server;
before(async () => {
  browser = await launch();
  if (isSkipped) return;
  it = await redis();
  server = await service(`l2.url = "${it.url}"\n${KEYSPACES}`);
});
after(async () => {
  await browser.close();
  await server?.end();
  await it?.end();
});

const plain = (text) => text.replaceAll("\u00a0", " ");

/** Asks as programs do: some keys often, some that are not there. */
async function load() {
  for (let id = 1; id <= 20; id += 1) await server.put(`user:${id}`, { id, name: `user ${id}` }, { tags: ["org:7"] });
  for (let id = 1; id <= 5; id += 1) await server.put(`session:${id}`, "x".repeat(100 * id));
  for (let round = 0; round < 3; round += 1) {
    for (let id = 1; id <= 25; id += 1) await server.status(`api/cache/user:${id}`);
  }
  for (let id = 1; id <= 5; id += 1) await server.status(`api/cache/session:${id}`);
}

test("the numbers on the page are those of the API", { skip: isSkipped }, async () => {
  await load();
  const { page, noted, close } = await open(browser, server.url);
  const { keyspaces } = await server.get("api/cache/keyspaces");
  for (const of of keyspaces) {
    const cells = page.locator(`tr[data-keyspace="${of.name}"] td`);
    await cells.first().waitFor();
    const shown = (await cells.allTextContents()).map(plain);
    const lookups = of.hits_l1 + of.hits_l2 + of.hits_stale + of.misses;
    assert.equal(shown[3], lookups.toLocaleString("en-US"), of.name);
    if (lookups > 0) assert.equal(shown[4], `${((100 * (of.hits_l1 + of.hits_l2)) / lookups).toFixed(1)} %`, of.name);
    assert.deepEqual([shown[5], shown[6], shown[7]], [of.loads, of.load_failures, of.l1_entries].map((value) => value.toLocaleString("en-US")), of.name);
  }
  const users = keyspaces.find(({ name }) => name === "users");
  assert.equal(users.hits_l1 + users.hits_l2 + users.misses, 75, "the load was what it should be");
  const entries = keyspaces.reduce((sum, of) => sum + of.l1_entries, 0);
  assert.equal(await page.locator("#figure-entries").textContent(), entries.toLocaleString("en-US"));
  const { breakers } = await server.get("api/cache/breakers");
  assert.deepEqual(breakers.map(({ target, state }) => [target, state]), [["l2", "closed"]]);
  await page.locator('.breaker[data-state="closed"]').waitFor();
  const { instance } = await server.get("api/cache/bus");
  assert.match(await page.locator("#bus tbody tr").first().textContent(), new RegExp(`^${instance.id}.*${instance.version}`));
  assert.equal(await page.locator("#bus tbody tr").count(), 1);
  assert.match(await page.locator("#bus-elsewhere").textContent(), /terrace_build_info/, "it says where the others are known");
  assert.match(await (await fetch(`${server.url}metrics`)).text(), /^terrace_build_info\{.*version="/m);
  const { tiers } = await server.get("api/cache/latencies");
  assert.ok(tiers.some(({ tier, count }) => tier === "l2" && count > 0));
  await page.locator("#status", { hasText: "ready" }).waitFor();
  assert.deepEqual(noted.errors, []);
  assert.deepEqual([...noted.hosts], [new URL(server.url).host]);
  await close();
});

test("the latencies of a chosen keyspace are those of the API", { skip: isSkipped }, async () => {
  const { page, noted, close } = await open(browser, server.url);
  await page.locator('tr[data-keyspace="sessions"] button').click();
  await page.locator("#latency").getByText("sessions, since it was chosen").waitFor();
  await page.locator("#latency").getByRole("button", { name: "Table" }).click();
  const lookups = async (name, keyspace) => {
    const { tiers } = await server.get(`api/cache/latencies?keyspace=${keyspace}`);
    return tiers.find(({ tier }) => tier === name).count;
  };
  const before = [await lookups("l2", "sessions"), await lookups("l2", "users")];
  await page.locator("#latency tbody tr").first().waitFor();
  for (let id = 100; id < 111; id += 1) await server.status(`api/cache/session:${id}`);
  for (let id = 100; id < 150; id += 1) await server.status(`api/cache/user:${id}`);
  assert.deepEqual([await lookups("l2", "sessions"), await lookups("l2", "users")], [before[0] + 11, before[1] + 50]);
  const shown = async () => {
    const rows = await page.locator("#latency tbody tr").evaluateAll((all) => all.map((row) => [row.children[1].textContent, Number(row.children[2].textContent)]));
    return rows.reduce((sum, [tier, value]) => sum + (tier === "Redis (L2)" ? value : 0), 0);
  };
  await until("the eleven", async () => (await shown()) === 11);
  assert.deepEqual(noted.errors, []);
  await close();
});

test("what memory of another size would answer is that of the API", { skip: isSkipped }, async () => {
  const small = await service("l1.max_entries = 100");
  const ids = Array.from({ length: 300 }, (_, id) => `k:${id}`);
  for (let round = 0; round < 8; round += 1) {
    for (let from = 0; from < ids.length; from += 50) {
      const some = ids.slice(from, from + 50);
      const body = JSON.stringify({ get: some, set: some.map((key) => ({ key, value: from })) });
      const answer = await fetch(`${small.url}api/cache/batch`, { method: "POST", body, headers: { "content-type": "application/json" } });
      assert.equal(answer.status, 200);
      await answer.text();
    }
  }
  const { page, noted, close } = await open(browser, small.url);
  await page.locator(".sizes-steps li").first().waitFor();
  const { sizes } = await small.get("api/cache/capacity");
  const shown = await page.locator(".sizes-steps li").evaluateAll((steps) => steps.map((step) => [Number(step.dataset.factor), step.querySelector("b").textContent]));
  assert.deepEqual(shown.map(([factor, text]) => [factor, plain(text)]), sizes.map(({ factor, miss_ratio }) => [factor, `${(100 * (1 - miss_ratio)).toFixed(1)} %`]));
  assert.match(plain(await page.locator("#what-if").textContent()), /^Twice the memory/);
  assert.deepEqual(noted.errors, []);
  await close();
  await small.end();
});

test("a page that was only just opened shows what was before, and a second time too", { skip: isSkipped }, async () => {
  const young = await service(KEYSPACES);
  await until("a first sample", async () => (await young.get("api/cache/history")).ago_seconds.length > 0);
  for (let id = 1; id <= 9; id += 1) await young.put(`user:${id}`, { id });
  for (let round = 0; round < 7; round += 1) for (let id = 1; id <= 12; id += 1) await young.status(`api/cache/user:${id}`);
  const lookups = ({ hits_l1, misses }, at) => hits_l1.at(at) + misses.at(at);
  const kept = await until("a sample with all of it", async () => {
    const { keyspaces } = await young.get("api/cache/history");
    const users = keyspaces.find(({ name }) => name === "users");
    return lookups(users, -1) === 84 && users;
  });
  assert.equal(lookups(kept, 0), 0, "the first sample is of before");
  const { page, noted, close } = await open(browser, young.url);
  for (const round of ["opened", "opened again"]) {
    if (round === "opened again") await page.reload();
    await page.locator('tr[data-keyspace="users"]').waitFor();
    await page.locator("#hits").getByRole("button", { name: "Table" }).click();
    const rows = await page.locator("#hits tbody tr").evaluateAll((all) => all.map((row) => [...row.children].slice(1).map((cell) => Number(cell.textContent))));
    const sums = rows.reduce((sum, row) => sum.map((value, index) => value + row[index]));
    assert.deepEqual(sums.slice(0, 3), [84, kept.hits_l1.at(-1), 0], round);
    assert.equal(sums[4] + sums[5], kept.misses.at(-1), round);
  }
  assert.deepEqual(noted.errors, []);
  await close();
  await young.end();
});

test("the hottest keys are those of the API", { skip: isSkipped }, async () => {
  for (let round = 0; round < 61 * 4; round += 1) for (const key of ["user:3", "user:404"]) await server.status(`api/cache/${key}`);
  const { keys } = await server.get("api/cache/hot?limit=15");
  assert.deepEqual(["user:3", "user:404"].map((name) => keys.find(({ key }) => key === name)?.tier), ["l1", null]);
  const { page, close } = await open(browser, server.url);
  await page.locator("#hot tbody tr").first().waitFor();
  const shown = await page.locator("#hot tbody tr").evaluateAll((rows) => rows.map((row) => [row.dataset.key, ...[3, 4, 5].map((at) => row.children[at].textContent)]));
  const bytes = (value) => (value === null ? "–" : value < 1024 ? `${value} B` : `${(value / 1024).toFixed(1)} KiB`);
  assert.deepEqual(shown.map((texts) => texts.map(plain)), keys.map(({ key, tier, bytes: size, lookups }) => [key, tier?.toUpperCase() ?? "–", bytes(size), lookups.toLocaleString("en-US")]));
  const pace = await page.locator('tr[data-key="user:3"] td').nth(1).textContent();
  const { per_second } = keys.find(({ key }) => key === "user:3");
  assert.ok(Number(pace) > 0 && Number(pace) <= per_second + 0.1, `${pace} and, some time before, ${per_second}`);
  await close();
});

test("keys are found by their pattern", { skip: isSkipped }, async () => {
  await load();
  const { page, noted, close } = await open(browser, server.url);
  await page.locator("#find").fill("session:*");
  await page.locator("#find").press("Enter");
  const rows = page.locator(".finder tbody tr");
  await until("all five", async () => new Set((await rows.allTextContents()).map((text) => text.match(/session:\d/)?.[0])).size === 5);
  assert.match(await page.locator(".finder").textContent(), /\d+ found\./, "there are no more");
  assert.deepEqual(noted.errors, []);
  await close();
});

test("a key is looked into, and invalidated", { skip: isSkipped }, async () => {
  const { page, noted, close } = await open(browser, server.url);
  await page.getByText("events: live").waitFor();
  await page.locator("#inspect").fill("user:17");
  await page.keyboard.press("Enter");
  await page.locator("#inspected-value").waitFor();
  assert.deepEqual(JSON.parse(await page.locator("#inspected-value").textContent()), { id: 17, name: "user 17" });
  assert.match(plain(await page.locator(".tier").first().textContent()), /Memory \(L1\).* left/);
  assert.match(plain(await page.locator(".tier").nth(1).textContent()), /Redis \(L2\)1[45] min/);
  assert.equal(await page.getByRole("button", { name: "org:7" }).count(), 1);
  await page.getByRole("button", { name: "Invalidate…" }).click();
  await page.getByText("1 key matches user:17.").waitFor();
  assert.equal(await server.status("api/cache/user:17"), 200, "it was only counted");
  await page.keyboard.press("Enter");
  await page.getByText("1 invalidated.").waitFor();
  assert.equal(await server.status("api/cache/user:17"), 404);
  await page.getByText("No tier has it").waitFor();
  await page.waitForFunction(() => document.getElementById("legend-marks").textContent === "1");
  assert.deepEqual(noted.errors, []);
  await close();
});

test("a look shows the headers of the API, and asks no origin", { skip: isSkipped }, async () => {
  const asked = [];
  const origin = createServer((request, response) => {
    asked.push(`${request.method} ${request.url}`);
    response.writeHead(200, { "content-type": "application/json" }).end('{"name":"ann"}');
  });
  await new Promise((done) => origin.listen(0, "127.0.0.1", done));
  const base = `http://127.0.0.1:${origin.address().port}`;
  const through = await service(`[origin.api]\ntype = "http"\nbase_url = "${base}"\n[keyspace.users]\npattern = "user:{id}"\nsource = { origin = "api", load = "GET /users/{id}" }\nstrategy = "read-through"`);
  const { page, noted, close } = await open(browser, through.url);
  const inspect = async (key) => {
    await page.locator("#inspect").fill(key);
    await page.locator("#inspect").press("Enter");
  };
  await inspect("user:1");
  await page.getByText("No tier has it").waitFor();
  assert.deepEqual(asked, []);
  assert.equal(await through.status("api/cache/user:1"), 200);
  assert.deepEqual(asked, ["GET /users/1"]);
  await inspect("user:1");
  await page.locator("#inspected-value").waitFor();
  const head = await fetch(`${through.url}v1/keys/user:1`, { method: "HEAD" });
  const shown = await page.locator("#inspected-headers").evaluate((list) => Object.fromEntries([...list.querySelectorAll("dt")].map((name) => [name.textContent, name.nextElementSibling.textContent])));
  for (const name of ["Content-Type", "ETag"]) assert.equal(shown[name], head.headers.get(name), name);
  assert.match(shown["Cache-Status"], /^terrace-l1; hit; ttl=\d+$/);
  assert.match(shown["Cache-Control"], /^private, max-age=\d+$/);
  assert.ok(Number(shown.Age) <= Number(head.headers.get("age")), `${shown.Age}`);
  const { expires_at } = await through.get("api/cache/user:1");
  assert.ok(Math.abs(Date.parse(shown.expires_at) - Date.parse(expires_at)) < 1000, `${shown.expires_at} and ${expires_at}`);
  const bytes = await fetch(`${through.url}v1/keys/logo`, { method: "PUT", headers: { "content-type": "image/png" }, body: "not one" });
  assert.ok(bytes.ok, `${bytes.status}`);
  await inspect("logo");
  await page.locator("#inspected-headers dd", { hasText: "image/png" }).waitFor();
  assert.deepEqual(asked, ["GET /users/1"], "to look is to load nothing");
  assert.deepEqual(noted.errors, []);
  await close();
  await through.end();
  await new Promise((done) => origin.close(done));
});

test("by pattern and by tag, what was counted is what goes", { skip: isSkipped }, async () => {
  const { page, close } = await open(browser, server.url);
  const said = page.locator("#sweep-said");
  await page.locator("#sweep").fill("session:*");
  await page.getByRole("button", { name: "Count", exact: true }).click();
  await page.getByText("5 keys match pattern session:*").waitFor();
  await page.getByRole("button", { name: "Invalidate them" }).click();
  await page.getByText("5 invalidated.").waitFor();
  assert.equal(await server.status("api/cache/session:1"), 404);
  await page.locator("#sweep-kind").selectOption("tag");
  await page.locator("#sweep").fill("org:7");
  await page.getByRole("button", { name: "Count", exact: true }).click();
  await page.getByRole("button", { name: /^Invalidate (it|them)$/ }).click();
  await until("the answer", async () => /invalidated\.$/.test(await said.textContent()));
  assert.equal(await server.status("api/cache/user:1"), 404);
  await close();
});

test("an outage of Redis shows, and its end", { skip: isSkipped }, async () => {
  const { page, close } = await open(browser, server.url);
  await page.locator("#status", { hasText: "ready" }).waitFor();
  await it.kill();
  await page.locator("#status", { hasText: "degraded: l2" }).waitFor();
  await until("the breaker", async () => {
    await server.status(`api/cache/user:${Math.floor(Math.random() * 1e6)}`);
    return (await page.locator('.breaker[data-state="open"]').count()) === 1;
  });
  assert.match(await page.locator(".ribbon").getAttribute("aria-label"), /closed, then .*open/);
  const errors = Number((await page.locator("#figure-l2-errors").textContent()).replaceAll(",", ""));
  assert.ok(errors > 0);
  await it.again();
  await until("ready", async () => {
    await server.status("api/cache/user:1");
    return (await page.locator("#status").textContent()) === "ready";
  });
  await close();
});

test("a configuration that is refused shows, until another is taken", async () => {
  const own = await service(KEYSPACES);
  const { page, noted, close } = await open(browser, own.url);
  await page.getByText("events: live").waitFor();
  const notice = page.locator("#notice");
  assert.ok(await notice.isHidden());
  await own.reload(`l1.max_entries = 7\n${KEYSPACES}`);
  await page.getByText(/was refused.* cannot be changed while it runs: l1\.max_entries\.$/).waitFor();
  await own.reload(`nothing = "known"\n${KEYSPACES}`);
  await page.getByText(/was refused.* log says why\.$/).waitFor();
  await own.reload(`defaults.ttl = "7m"\n${KEYSPACES}`);
  await notice.waitFor({ state: "hidden" });
  assert.equal((await own.get("api/cache/keyspaces")).keyspaces.find(({ name }) => name === "default").ttl, 420);
  assert.deepEqual(noted.errors, []);
  await close();
  await own.end();
});

test("an idle service on memory alone says what to type, and that works", async () => {
  const idle = await service("");
  const { page, noted, close } = await open(browser, idle.url);
  const command = await page.locator("#keyspaces code").textContent();
  const { execFileSync } = await import("node:child_process");
  const output = execFileSync("sh", ["-c", command], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
  assert.match(output, /"value":"world"/);
  await page.locator("tr[data-keyspace]").first().waitFor();
  assert.deepEqual(noted.errors, []);
  await close();
  await idle.end();
});

// Pictures of the page for the documentation: a real service with Redis and a SQLite origin, under a load that is made here.
//
// `npm run screenshots -- FOLDER MINUTES`. The page's window is ten minutes, which pass in real time, so that is how long it takes
// unless fewer are said.

import { spawnSync } from "node:child_process";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { launch } from "./browser.mjs";
import { redis, service } from "./service.mjs";

const target = process.argv[2] ?? join(dirname(fileURLToPath(import.meta.url)), "../../../docs/images");
const minutes = Number(process.argv[3] ?? 10);
/** How often something is invalidated, or somebody writes. */
const CHANGE_MS = 25_000;
const CLIENTS = 6;
const USERS = 20_000;

const TABLES = `create table users (id integer primary key, name text, org text);
with recursive n(i) as (select 1 union all select i + 1 from n where i < ${USERS}) insert into users select i, 'user ' || i, i % 50 from n;
create table docs (kind text, id text, doc text not null, version integer not null default 0, primary key (kind, id));
with recursive n(i) as (select 1 union all select i + 1 from n where i < 2000) insert into docs select 'product', i, '{"price":' || i || '}', 0 from n;`;

const source = (kind, version) => `
origin = "main"
document = "doc"
load = "select doc from docs where kind = '${kind}' and id = :id"
store = "insert into docs values ('${kind}', :id, :value, ${version ? ":version" : "0"}) on conflict (kind, id) do update set doc = excluded.doc, version = excluded.version${version ? " where docs.version < excluded.version" : ""}"
`;

const config = (folder, url) => `
[l1]
max_entries = 4000
ttl = "30s"
[l2]
url = "${url}"
[origin.main]
type = "sqlite"
file = "${folder}/app.db"
[write_behind]
path = "${folder}/writes.journal"
[keyspace.users]
pattern = "user:{id}"
strategy = "read-through"
ttl = "90s"
stale_while_revalidate = "30s"
source = { origin = "main", load = "select id, name, org from users where id = :id" }
[keyspace.products]
pattern = "product:{id}"
strategy = "write-through"
ttl = "5m"
[keyspace.products.source]${source("product", false)}
[keyspace.visits]
pattern = "visits:{id}"
strategy = "write-behind"
write_behind = { interval = "20s" }
[keyspace.visits.source]${source("visits", true)}
[keyspace.sessions]
pattern = "session:{id}"
ttl = "30m"
`;

/** A number up to `count`, low ones often. */
const often = (count) => Math.min(count, Math.ceil(count ** Math.random()));

/** What clients do until `ended` says so. */
async function load(running, ended) {
  const client = async () => {
    while (!ended()) {
      const dice = Math.random();
      if (dice < 0.6) await running.status(`api/cache/user:${often(USERS)}`);
      else if (dice < 0.85) await running.status(`api/cache/product:${often(2000)}`);
      else if (dice < 0.9) await running.put(`visits:${often(40)}`, Math.floor(Math.random() * 1000));
      else if (dice < 0.93) await running.put(`session:${often(500)}`, { user: often(USERS) });
      else await running.status(`api/cache/session:${often(500)}`);
      await new Promise((done) => setTimeout(done, 10 + 40 * Math.random()));
    }
  };
  const changes = async () => {
    for (let last = Date.now(); !ended(); ) {
      await new Promise((done) => setTimeout(done, 500));
      if (Date.now() - last < CHANGE_MS) continue;
      last = Date.now();
      await running.invalidate({ keys: Array.from({ length: 40 }, () => `user:${often(USERS)}`) });
      await running.put(`product:${often(200)}`, { price: often(900) });
    }
  };
  await Promise.all([changes(), ...Array.from({ length: CLIENTS }, client)]);
}

async function page(browser, url, colorScheme) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 1056 }, colorScheme, deviceScaleFactor: 1 });
  const opened = await context.newPage();
  await opened.goto(url);
  return opened;
}

async function shot(opened, name) {
  await opened.getByRole("button", { name: /^user:\d+$/ }).first().click();
  await opened.locator("#inspected-value").waitFor();
  await opened.evaluate(() => {
    document.activeElement?.blur();
    scrollTo(0, 0);
  });
  await opened.waitForResponse((response) => response.url().includes("/readyz"));
  await opened.screenshot({ path: join(target, name) });
}

await mkdir(target, { recursive: true });
const folder = await mkdtemp(join(tmpdir(), "terrace-pictures-"));
const made = spawnSync("sqlite3", [join(folder, "app.db"), TABLES], { stdio: "inherit" });
if (made.status !== 0) throw new Error("no table: is sqlite3 installed?");
const server = await redis();
const running = await service(config(folder, server.url));
const browser = await launch();
let over = false;
const working = load(running, () => over);
const light = await page(browser, running.url, "light");
const dark = await page(browser, running.url, "dark");
await new Promise((done) => setTimeout(done, minutes * 60_000));
await shot(light, "dashboard-light.png");
await shot(dark, "dashboard-dark.png");
over = true;
await working;
await browser.close();
await running.end();
await server.end();
await rm(folder, { recursive: true });

// A real service and a real Redis of one test's own, on free ports of 127.0.0.1.

import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "../../..");
const PATIENCE_MS = 30_000;

/** The program `terrace`: `TERRACE_BIN`, or the one that was built last. */
export function program() {
  const found = [process.env.TERRACE_BIN, join(root, "target/debug/terrace")].find((path) => path && existsSync(path));
  if (!found) throw new Error("no program: type `cargo build -p terrace-cli`, or set TERRACE_BIN");
  return found;
}

/** Redis or Valkey, if one is installed. */
export function redisProgram() {
  const folders = (process.env.PATH ?? "").split(delimiter);
  return ["redis-server", "valkey-server"].flatMap((name) => folders.map((folder) => join(folder, name))).find(existsSync);
}

async function freePort() {
  const server = createServer();
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  const { port } = server.address();
  await new Promise((done) => server.close(done));
  return port;
}

/** Waits until `look` gives something; it may throw until then. */
export async function until(what, look) {
  const end = Date.now() + PATIENCE_MS;
  let last;
  for (;;) {
    try {
      const found = await look();
      if (found) return found;
    } catch (error) {
      last = error;
    }
    if (Date.now() > end) throw new Error(`${what} did not come: ${last ?? "no"}`);
    await new Promise((done) => setTimeout(done, 50));
  }
}

function start(command, args, folder) {
  const environment = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !/^(TERRACE_|CACHE_|REDIS_|METRICS_)/.test(name)),
  );
  const child = spawn(command, args, { cwd: folder, env: environment, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (part) => {
      output += part;
    });
  }
  const ended = new Promise((done) => child.on("exit", done));
  return {
    output: () => output,
    tell: (signal) => child.kill(signal),
    async end(signal = "SIGKILL") {
      child.kill(signal);
      await ended;
    },
  };
}

/** A Redis that keeps nothing. */
export async function redis() {
  const folder = await mkdtemp(join(tmpdir(), "terrace-browser-"));
  const port = await freePort();
  const args = ["--bind", "127.0.0.1", "--port", `${port}`, "--save", "", "--appendonly", "no"];
  let running;
  const begin = async () => {
    running = start(redisProgram(), args, folder);
    await until("Redis", () => running.output().includes("Ready to accept connections"));
  };
  await begin();
  return {
    url: `redis://127.0.0.1:${port}`,
    kill: () => running.end(),
    again: begin,
    async end() {
      await running.end();
      await rm(folder, { recursive: true });
    },
  };
}

/** The service, with this file. */
export async function service(toml) {
  const folder = await mkdtemp(join(tmpdir(), "terrace-browser-"));
  const port = await freePort();
  await writeFile(join(folder, "terrace.toml"), toml);
  const running = start(program(), ["serve", "-c", "terrace.toml", "--listen", `127.0.0.1:${port}`], folder);
  const url = `http://127.0.0.1:${port}/`;
  await until("the service", async () => (await fetch(`${url}livez`)).ok).catch((error) => {
    throw new Error(`${error}\n${running.output()}`);
  });
  return {
    url,
    /** Gives it another file, which it reads. */
    async reload(another) {
      await writeFile(join(folder, "terrace.toml"), another);
      running.tell("SIGHUP");
    },
    get: async (path) => (await fetch(url + path)).json(),
    status: async (path) => (await fetch(url + path)).status,
    async put(key, value, more = {}) {
      const body = JSON.stringify({ value, ...more });
      const answer = await fetch(`${url}api/cache/${key}`, { method: "PUT", body, headers: { "content-type": "application/json" } });
      if (!answer.ok) throw new Error(`${key}: ${answer.status} ${await answer.text()}`);
    },
    async invalidate(what) {
      const body = JSON.stringify(what);
      const answer = await fetch(`${url}api/cache/invalidate`, { method: "POST", body, headers: { "content-type": "application/json" } });
      if (!answer.ok) throw new Error(`invalidate: ${answer.status} ${await answer.text()}`);
    },
    async end() {
      await running.end();
      await rm(folder, { recursive: true });
    },
  };
}

// Bundles `src/` into `dist/`. With `--compare` it writes nothing, and fails if `dist/` is not what would be written.
//
// 1. The same sources and the same lock file give the same bytes: no times, no paths of this machine.
// 2. `dist/` has all that the page needs. Nothing is fetched from elsewhere.

import { build } from "esbuild";
import { mkdir, readFile, readdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(fileURLToPath(import.meta.url));
const dist = join(root, "dist");

async function bundle() {
  const { outputFiles } = await build({
    absWorkingDir: root,
    entryPoints: { app: "src/main.ts" },
    outdir: "dist",
    bundle: true,
    minify: true,
    format: "esm",
    target: ["es2022"],
    legalComments: "inline",
    charset: "utf8",
    write: false,
    logLevel: "warning",
  });
  const files = new Map(outputFiles.map((file) => [file.path.slice(dist.length + 1), Buffer.from(file.contents)]));
  for (const name of await readdir(join(root, "static"))) {
    files.set(name, await readFile(join(root, "static", name)));
  }
  return files;
}

async function differences(files) {
  const there = await readdir(dist).catch(() => []);
  const found = there.filter((name) => !files.has(name)).map((name) => `dist/${name} is built from nothing`);
  for (const [name, bytes] of files) {
    const old = await readFile(join(dist, name)).catch(() => null);
    if (!old?.equals(bytes)) found.push(`dist/${name} is not what the sources build`);
  }
  return found;
}

const files = await bundle();
if (process.argv.includes("--compare")) {
  const found = await differences(files);
  for (const line of found) console.error(line);
  if (found.length > 0) console.error("type `npm run build` in dashboard/, and commit dist/");
  process.exitCode = found.length > 0 ? 1 : 0;
} else {
  await mkdir(dist, { recursive: true });
  for (const [name, bytes] of files) {
    await writeFile(join(dist, name), bytes);
    console.log(`dist/${name} ${bytes.length} bytes`);
  }
}

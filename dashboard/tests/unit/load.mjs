// The page's own modules, as this program can run them.

import { build } from "esbuild";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "../..");

/** A module of `src/`, with what it imports. */
export async function load(name) {
  const { outputFiles } = await build({
    absWorkingDir: root, entryPoints: [`src/${name}.ts`], bundle: true, format: "esm", write: false,
  });
  return import(`data:text/javascript;base64,${Buffer.from(outputFiles[0].contents).toString("base64")}`);
}

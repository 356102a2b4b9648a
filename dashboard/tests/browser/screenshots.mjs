// Pictures of the page for the documentation, of a world that does not exist: ten minutes of it pass in a moment.
//
// The page's clock is set forward look by look, so that its window is full.

import { mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { serve } from "../fixture/serve.mjs";
import { World } from "../fixture/world.mjs";
import { launch } from "./browser.mjs";

const target = process.argv[2] ?? join(dirname(fileURLToPath(import.meta.url)), "../../../docs/images");
const LOOKS = 300;
const LOOK_MS = 2000;

async function shot(browser, colorScheme, name) {
  const world = new World();
  const server = await serve({ answer: (path, query) => world.answer(path, query) });
  const context = await browser.newContext({ viewport: { width: 1440, height: 1056 }, colorScheme, deviceScaleFactor: 1 });
  const page = await context.newPage();
  await page.clock.install({ time: world.now });
  await page.goto(server.url);
  const pass = async (minute) => {
    for (const of of world.pass(LOOK_MS, minute)) server.tell("invalidate", { ...of, own: false, at: new Date(world.now).toISOString() });
    const round = page.waitForResponse((response) => response.url().includes("/readyz"));
    await page.clock.runFor(LOOK_MS);
    await round;
  };
  for (let look = 0; look < LOOKS; look += 1) await pass((look * LOOK_MS) / 60_000);
  await page.getByRole("button", { name: "user:42", exact: true }).first().click();
  await page.locator("#inspected-value").waitFor();
  await page.evaluate(() => {
    document.activeElement?.blur();
    scrollTo(0, 0);
  });
  await pass(10);
  await page.screenshot({ path: join(target, name) });
  await context.close();
  await server.close();
}

await mkdir(target, { recursive: true });
const browser = await launch();
await shot(browser, "light", "dashboard-light.png");
await shot(browser, "dark", "dashboard-dark.png");
await browser.close();

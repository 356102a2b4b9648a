// A real Chromium, and what a test wants to know of a page.

import { chromium } from "playwright-core";
import { existsSync } from "node:fs";

const PLACES = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

/** The browser of this machine, as `CHROMIUM` or in the usual places. */
export function executable() {
  const found = [process.env.CHROMIUM, ...PLACES].find((place) => place && existsSync(place));
  if (!found) throw new Error("no Chromium: type `apt-get install chromium`, or set CHROMIUM to the program");
  return found;
}

export function launch() {
  return chromium.launch({ executablePath: executable(), args: ["--no-sandbox", "--disable-dev-shm-usage"] });
}

/** Opens a page, and notes what it says on its console and whom it asks. */
export async function open(browser, url, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 1000 }, ...options });
  const page = await context.newPage();
  const noted = { errors: [], hosts: new Set() };
  page.on("console", (message) => {
    if (message.type() === "error") noted.errors.push(message.text());
  });
  page.on("pageerror", (error) => noted.errors.push(String(error)));
  page.on("request", (request) => noted.hosts.add(new URL(request.url()).host));
  if (options.before) await page.addInitScript(options.before.script, options.before.argument);
  await page.goto(url);
  return { page, noted, close: () => context.close() };
}

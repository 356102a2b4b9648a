// What happens, as it happens: Server-Sent Events over `fetch`, because `EventSource` cannot send a token.
//
// 1. A connection that ends is made again, after a pause that grows up to [`PAUSE_MAX_MS`].
// 2. It goes on behind the last event that came; what was missed meanwhile comes then, or the event `gap`.
// 3. A connection on which nothing comes for [`SILENCE_MS`] is given up: the service writes a line each 15 s.

import { address, headers, Problem } from "./api";

export interface Happening {
  type: string;
  data: {
    keyspace?: string;
    key?: string;
    tag?: string;
    pattern?: string;
    all?: boolean;
    state?: string;
    /** Of a configuration: what it changes, or what of it cannot be changed. */
    settings?: string[];
    /** Of what is written behind: how many were given up and are kept. */
    dead?: number;
    missed?: number | null;
    own?: boolean;
    at?: string;
  };
}

/** What the page listens to: all that changes a picture but values, which come with the numbers. */
const TYPES = "invalidate,refresh,bus,breaker,queue,config";
const PAUSE_MIN_MS = 1000;
const PAUSE_MAX_MS = 15_000;
const SILENCE_MS = 40_000;

/** Cuts a stream of text into events. */
export class Parser {
  private rest = "";
  lastId = "";

  push(text: string): Happening[] {
    this.rest += text;
    const found: Happening[] = [];
    for (;;) {
      const end = this.rest.indexOf("\n\n");
      if (end < 0) return found;
      const event = this.event(this.rest.slice(0, end));
      this.rest = this.rest.slice(end + 2);
      if (event) found.push(event);
    }
  }

  private event(block: string): Happening | null {
    let type = "message";
    let data = "";
    for (const line of block.split("\n")) {
      const colon = line.indexOf(":");
      const [name, value] = colon < 0 ? [line, ""] : [line.slice(0, colon), line.slice(colon + 1).trimStart()];
      if (name === "id") this.lastId = value;
      if (name === "event") type = value;
      if (name === "data") data += value;
    }
    return data === "" ? null : { type, data: JSON.parse(data) as Happening["data"] };
  }
}

/** How the stream stands. */
export type Standing = "waiting" | "live" | "refused";

/** Listens for ever; `restart` begins anew at once, for another token. */
export function listen(
  onEvent: (event: Happening) => void,
  onStanding: (standing: Standing) => void,
): { restart(): void } {
  const parser = new Parser();
  let current = new AbortController();
  let wake: () => void = () => undefined;

  async function once(): Promise<void> {
    const after = parser.lastId === "" ? "" : `&last_event_id=${encodeURIComponent(parser.lastId)}`;
    const response = await fetch(address(`api/cache/events?types=${TYPES}${after}`), {
      headers: headers(),
      cache: "no-store",
      signal: current.signal,
    });
    if (!response.ok || !response.body) throw new Problem(response.status, "", "no events", null);
    onStanding("live");
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const silence = setTimeout(() => current.abort(), SILENCE_MS);
      const { value, done } = await reader.read().finally(() => clearTimeout(silence));
      if (done) return;
      for (const event of parser.push(value)) onEvent(event);
    }
  }

  async function forever(): Promise<never> {
    let pause = PAUSE_MIN_MS;
    for (;;) {
      const began = Date.now();
      current = new AbortController();
      let standing: Standing = "waiting";
      await once().catch((error: unknown) => {
        if (error instanceof Problem && (error.status === 401 || error.status === 403)) standing = "refused";
      });
      onStanding(standing);
      pause = Date.now() - began > PAUSE_MAX_MS ? PAUSE_MIN_MS : Math.min(pause * 2, PAUSE_MAX_MS);
      await new Promise<void>((done) => {
        const timer = setTimeout(done, pause);
        wake = () => {
          clearTimeout(timer);
          pause = PAUSE_MIN_MS;
          done();
        };
      });
    }
  }

  void forever();
  return {
    restart() {
      current.abort();
      wake();
    },
  };
}

// 5. The breakers as ribbons over time: when what is behind was left alone.

import type { Breaker } from "../api";
import { h, Rows, svg, write, type Row } from "../dom";
import { count, duration } from "../format";
import { ofAll, Panel, type Picture } from "../panel";
import { latest, WINDOW_MS, type Look, type State } from "../store";

type BreakerState = Breaker["state"];

const WORDS: Record<BreakerState, string> = { closed: "closed", open: "open", half_open: "half open" };
const NAMES: Record<string, string> = { l2: "Redis (L2)" };
const WIDTH = 600;
const HEIGHT = 18;

interface Stretch {
  state: BreakerState;
  from: number;
  to: number;
}

interface Ribbon {
  of: Breaker;
  stretches: Stretch[];
  now: number;
}

/** From looks to stretches of one state. The first one reaches back as far as the service says. */
export function stretches(looks: readonly Look[], target: string): Stretch[] {
  const found: Stretch[] = [];
  for (const look of looks) {
    const of = look.breakers.ok ? look.breakers.value.find((breaker) => breaker.target === target) : undefined;
    if (!of) continue;
    const last = found.at(-1);
    if (last?.state === of.state) {
      last.to = look.at;
      continue;
    }
    const since = of.since === null ? look.at : Date.parse(of.since);
    const from = last ? Math.max(Math.min(since, look.at), last.from) : of.since === null ? look.at : since;
    if (last) last.to = from;
    found.push({ state: of.state, from, to: look.at });
  }
  return found;
}

function row(): Row<Ribbon> {
  const name = h("b");
  const words = h("span", { class: "note" });
  const image = svg("svg", { class: "ribbon", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
  const element = h("div", { class: "breaker" }, h("p", {}, name, " ", words), image);
  return {
    element,
    update({ of, stretches: all, now }) {
      const label = NAMES[of.target] ?? of.target;
      write(name, label);
      const lasting = of.since === null ? "" : ` for ${duration(Math.max(now - Date.parse(of.since), 0) / 1000)}`;
      write(words, `${WORDS[of.state]}${lasting} · ${count(of.calls)} calls, ${count(of.failures)} failed`);
      element.dataset["state"] = of.state;
      image.setAttribute("aria-label", `${label} over ten minutes: ${all.map(({ state }) => WORDS[state]).join(", then ")}`);
      const x = (at: number): number => Math.max(WIDTH * (1 - (now - at) / WINDOW_MS), 0);
      image.replaceChildren(
        ...all.map(({ state, from, to }) =>
          svg("rect", { class: `breaker-${state}`, x: x(from), y: 0, width: Math.max(x(to) - x(from), 1), height: HEIGHT })),
      );
    },
  };
}

export function breakers(): Picture {
  const panel = new Panel("breakers", "Breakers", "ten minutes");
  const list = h("div");
  const key = h("ul", { class: "legend" }, ...(["closed", "half_open", "open"] as const).map((state) =>
    h("li", {}, h("i", { class: `swatch swatch-${state}`, "aria-hidden": "true" }), WORDS[state])));
  panel.body.append(list, key);
  const rows = new Rows<Ribbon>(list, ({ of }) => of.target, () => row());
  return {
    element: panel.element,
    update(state: State) {
      panel.about(`ten minutes${ofAll(state)}`);
      const all = panel.value(latest(state, "breakers"));
      if (all === null) return;
      if (all.length === 0) {
        panel.empty("There is no second tier, so nothing to break from. With Redis:", "REDIS_URL=redis://localhost:6379 terrace serve");
        return;
      }
      panel.full();
      const now = Date.now();
      rows.show(all.map((of) => ({ of, stretches: stretches(state.looks, of.target), now })));
    },
  };
}

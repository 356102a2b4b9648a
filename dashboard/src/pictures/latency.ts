// 2. How long lookups take, by the tier that answered: a column for each look, darker where more of them lie.
//
// The three share their axis, so that they can be compared. It spans what was measured in the window. Of one keyspace, that is since it was chosen.

import { cells, h, Rows, table, write } from "../dom";
import { clock, count, duration, NONE } from "../format";
import { Panel, type Picture } from "../panel";
import { bucketRises, quantile } from "../series";
import { pairs, WINDOW_MS, type Look, type State } from "../store";
import { colour, faint, onTheme } from "../theme";

const TIERS = [["l1", "Memory (L1)"], ["l2", "Redis (L2)"], ["origin", "Origin"]] as const;
type Tier = (typeof TIERS)[number][0];

interface Column {
  from: number;
  to: number;
  counts: number[];
}

interface Range {
  low: number;
  high: number;
}

const HEIGHT = 168;
const LEFT = 46;
const BOTTOM = 16;
const ROWS_MIN = 6;
const DECADES = [1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1, 10];

/** The looks at what is to be shown: at all keyspaces, or at the chosen one. */
function looks({ looks: all, filter }: State): Look[] {
  return all.flatMap((look) => {
    if (filter === null) return [look];
    return look.chosen?.keyspace === filter ? [{ ...look, latencies: look.chosen.latencies }] : [];
  });
}

function columns(of: readonly Look[], tier: Tier): { bounds: readonly number[]; columns: Column[] } {
  let bounds: readonly number[] = [];
  const found = pairs(of, "latencies").flatMap(({ from, to, before, now }) => {
    bounds = now.bounds;
    const own = now.tiers.find((one) => one.tier === tier);
    return own ? [{ from, to, counts: bucketRises(before.tiers.find((one) => one.tier === tier), own) }] : [];
  });
  return { bounds, columns: found };
}

function total(of: readonly Column[]): number[] {
  const sum: number[] = [];
  for (const { counts } of of) for (const [index, value] of counts.entries()) sum[index] = (sum[index] ?? 0) + value;
  return sum;
}

/** The buckets that have something, with some room around. */
function range(all: readonly number[][], bounds: readonly number[]): Range {
  const used = bounds.map((_, index) => index).filter((index) => all.some((counts) => (counts[index] ?? 0) > 0));
  let low = Math.max((used[0] ?? 0) - 1, 0);
  let high = Math.min((used.at(-1) ?? 0) + 1, bounds.length - 1);
  while (high - low < ROWS_MIN && (low > 0 || high < bounds.length - 1)) {
    low = Math.max(low - 1, 0);
    high = Math.min(high + 1, bounds.length - 1);
  }
  return { low, high };
}

class Heatmap {
  readonly element: HTMLElement;
  private readonly canvas = h("canvas");
  private readonly numbers = h("span", { class: "note" });
  private redraw: () => void = () => undefined;

  constructor(readonly tier: Tier, private readonly label: string) {
    this.element = h("figure", { class: "heatmap" }, h("figcaption", {}, h("b", {}, label), " ", this.numbers), this.canvas);
    this.canvas.setAttribute("role", "img");
    new ResizeObserver(() => this.redraw()).observe(this.element);
    onTheme(() => this.redraw());
  }

  update(bounds: readonly number[], of: readonly Column[], rows: Range): void {
    const all = total(of);
    const text = (part: number): string => {
      const value = quantile(bounds, all, part);
      return value === null ? NONE : duration(value);
    };
    const words = `p50 ${text(0.5)} · p99 ${text(0.99)}`;
    write(this.numbers, words);
    this.canvas.setAttribute("aria-label", `${this.label}: latencies over ten minutes. ${words}`);
    this.redraw = () => this.draw(bounds, of, rows);
    this.redraw();
  }

  private draw(bounds: readonly number[], of: readonly Column[], { low, high }: Range): void {
    const width = Math.max(this.element.clientWidth, 60);
    const ratio = devicePixelRatio;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(HEIGHT * ratio);
    const context = this.canvas.getContext("2d");
    if (!context) return;
    context.scale(ratio, ratio);
    const now = Date.now();
    const x = (at: number): number => LEFT + (width - LEFT) * (1 - (now - at) / WINDOW_MS);
    const step = (HEIGHT - BOTTOM) / (high - low + 1);
    const top = (index: number): number => (high - index) * step;
    this.axes(context, bounds, { low, high }, width, step);
    const accent = colour("accent");
    for (const { from, to, counts } of of) {
      const most = Math.max(...counts);
      for (let index = low; index <= high; index += 1) {
        const value = (counts[index] ?? 0) + (index === high ? rest(counts, high) : 0);
        if (value === 0) continue;
        context.fillStyle = faint(accent, 0.1 + 0.8 * Math.sqrt(value / most));
        const left = Math.max(x(from), LEFT);
        context.fillRect(left, top(index), Math.max(x(to) - left, 0.5), step);
      }
    }
    const y = (seconds: number): number => top(place(bounds, seconds)) + step / 2;
    this.line(context, of, bounds, 0.99, x, y, [2, 3]);
    this.line(context, of, bounds, 0.5, x, y, []);
  }

  private axes(context: CanvasRenderingContext2D, bounds: readonly number[], { low, high }: Range, width: number, step: number): void {
    context.font = "11px Inter, system-ui, sans-serif";
    context.fillStyle = colour("muted");
    context.strokeStyle = colour("line");
    context.textAlign = "right";
    context.textBaseline = "middle";
    for (const decade of DECADES) {
      const at = place(bounds, decade);
      if (at < low || at > high) continue;
      const y = Math.round((high - at) * step + step / 2) + 0.5;
      context.beginPath();
      context.moveTo(LEFT, y);
      context.lineTo(width, y);
      context.stroke();
      context.fillText(duration(decade), LEFT - 6, Math.min(Math.max(y, 6), HEIGHT - BOTTOM - 6));
    }
    context.textBaseline = "alphabetic";
    context.textAlign = "left";
    context.fillText("10 min ago", LEFT, HEIGHT - 3);
    context.textAlign = "right";
    context.fillText("now", width, HEIGHT - 3);
  }

  private line(
    context: CanvasRenderingContext2D, of: readonly Column[], bounds: readonly number[], part: number,
    x: (at: number) => number, y: (seconds: number) => number, dash: number[],
  ): void {
    context.strokeStyle = colour("ink");
    context.lineWidth = 1.4;
    context.setLineDash(dash);
    context.beginPath();
    let isDown = false;
    for (const { from, to, counts } of of) {
      const value = quantile(bounds, counts, part);
      const middle = x((from + to) / 2);
      if (value === null || middle < LEFT) {
        isDown = false;
        continue;
      }
      if (isDown) context.lineTo(middle, y(value));
      else context.moveTo(middle, y(value));
      isDown = true;
    }
    context.stroke();
    context.setLineDash([]);
  }
}

function rest(counts: readonly number[], above: number): number {
  return counts.slice(above + 1).reduce((sum, value) => sum + value, 0);
}

/** Where a time lies among the buckets, between two of them where it does. */
function place(bounds: readonly number[], seconds: number): number {
  const index = bounds.findIndex((bound) => seconds <= bound);
  if (index < 0) return bounds.length - 1;
  const upper = bounds[index] ?? seconds;
  const lower = bounds[index - 1] ?? upper / 2;
  return index - 0.5 + (seconds - lower) / (upper - lower || 1);
}

interface Line {
  minute: number;
  tier: Tier;
  label: string;
  counts: number[];
}

function lines(of: readonly Look[]): Line[] {
  const found = new Map<string, Line>();
  for (const [tier, label] of TIERS) {
    for (const { to, counts } of columns(of, tier).columns) {
      const minute = Math.floor(to / 60_000) * 60_000;
      const old = found.get(tier + minute);
      const sum = counts.map((value, index) => value + (old?.counts[index] ?? 0));
      found.set(tier + minute, { minute, tier, label, counts: sum });
    }
  }
  return [...found.values()].sort((one, other) => other.minute - one.minute);
}

export function latency(): Picture {
  const panel = new Panel("latency", "How long lookups take", "all keyspaces");
  const maps = TIERS.map(([tier, label]) => new Heatmap(tier, label));
  const list = table("Latencies of lookups by tier and minute", ["Minute", "Tier", "#Lookups", "#p50", "#p99"]);
  let bounds: readonly number[] = [];
  const rows = new Rows<Line>(list.body, (line) => line.tier + line.minute, () => {
    const element = h("tr");
    return {
      element,
      update({ minute, label, counts }) {
        const text = (part: number): string => {
          const value = quantile(bounds, counts, part);
          return value === null ? NONE : duration(value);
        };
        const sum = counts.reduce((all, value) => all + value, 0);
        element.replaceChildren(...cells([clock(minute).slice(0, 5), label, count(sum), text(0.5), text(0.99)], 2));
      },
    };
  });
  const key = h("p", { class: "note" }, "Darker: more of the column’s lookups. Solid line: p50. Dotted line: p99.");
  const views = panel.views(h("div", {}, h("div", { class: "heatmaps" }, ...maps.map((map) => map.element)), key), list.root);
  let last: State | null = null;
  const update = (state: State): void => {
    last = state;
    const whose = state.filter === null ? "all keyspaces" : `${state.filter}, since it was chosen`;
    panel.about(whose);
    const shown = looks(state);
    const answer = panel.value(shown.at(-1)?.latencies ?? null);
    if (answer === null) return;
    panel.full();
    bounds = answer.bounds;
    const sampled = answer.tiers.find((tier) => (tier.sampled ?? 0) > 1)?.sampled;
    if (sampled) panel.about(`${whose} · of L1, one in ${sampled} is measured`);
    if (views.isTable()) {
      rows.show(lines(shown));
      return;
    }
    const all = maps.map((map) => columns(shown, map.tier).columns);
    const shared = range(all.map(total), bounds);
    for (const [index, map] of maps.entries()) map.update(bounds, all[index] ?? [], shared);
  };
  panel.tools.addEventListener("click", () => last && update(last));
  return { element: panel.element, update };
}

// 1. Which tier answered, over time, with marks where something was invalidated.
//
// Layers are drawn from the highest to the lowest, each down to zero, so that each shows as far as the next one leaves it.

import uPlot from "uplot";
import { cells, h, table, write, Rows } from "../dom";
import { clock, count, rate, share } from "../format";
import { Panel, type Picture } from "../panel";
import { flow, lookups, type Flow } from "../series";
import { pairs, WINDOW_MS, type State } from "../store";
import { colour, faint, onTheme } from "../theme";

const LAYERS = [
  ["l1", "memory (L1)"],
  ["l2", "Redis (L2)"],
  ["stale", "stale"],
  ["origin", "origin asked"],
  ["miss", "miss, no origin"],
] as const;
type Layer = (typeof LAYERS)[number][0];

interface Point {
  at: number;
  seconds: number;
  of: Flow;
}

const HEIGHT = 268;
const AXIS_FONT = "11px Inter, system-ui, sans-serif";

function points(state: State): Point[] {
  return pairs(state.looks, "keyspaces").map(({ from, to, before, now }) => ({
    at: to,
    seconds: Math.max((to - from) / 1000, 0.001),
    of: flow(before, now, state.filter),
  }));
}

/** The series of the chart: the time, then the sums from the highest layer to the lowest. Shares of nothing are not drawn. */
function stacked(of: readonly Point[], isShare: boolean): uPlot.AlignedData {
  const sums = of.map((point) => {
    const unit = isShare ? lookups(point.of) / 100 : point.seconds;
    let sum = 0;
    return unit > 0 ? LAYERS.map(([layer]) => (sum += point.of[layer] / unit)) : [];
  });
  const series = LAYERS.map((_, index) => sums.map((all) => all[LAYERS.length - 1 - index] ?? null));
  return [of.map((point) => point.at / 1000), ...series];
}

class Chart {
  private plot: uPlot | null = null;
  private marks: readonly number[] = [];
  private isShare = true;
  hovered: number | null = null;

  constructor(private readonly place: HTMLElement, private readonly onHover: () => void) {
    new ResizeObserver(() => this.plot?.setSize({ width: place.clientWidth, height: HEIGHT })).observe(place);
    onTheme(() => {
      this.plot?.destroy();
      this.plot = null;
    });
  }

  draw(of: readonly Point[], marks: readonly number[], isShare: boolean): void {
    if (isShare !== this.isShare) {
      this.plot?.destroy();
      this.plot = null;
    }
    this.isShare = isShare;
    this.marks = marks;
    const data = stacked(of, isShare);
    this.plot ??= this.make(data);
    this.plot.setData(data);
  }

  private make(data: uPlot.AlignedData): uPlot {
    const axis = {
      stroke: colour("muted"), font: AXIS_FONT, ticks: { show: false }, grid: { stroke: colour("line"), width: 1 },
    };
    return new uPlot(
      {
        width: Math.max(this.place.clientWidth, 100),
        height: HEIGHT,
        legend: { show: false },
        cursor: { drag: { x: false, y: false }, points: { show: false }, y: false },
        scales: {
          x: { range: () => [(Date.now() - WINDOW_MS) / 1000, Date.now() / 1000] },
          y: { range: (_, __, highest) => [0, this.isShare ? 100 : Math.max(highest * 1.08, 1)] },
        },
        axes: [
          { ...axis, grid: { show: false }, space: 90, size: 26, values: (_, times) => times.map((at) => clock(at * 1000).slice(0, 5)) },
          { ...axis, size: 52, space: 44, values: (_, values) => values.map((value) => (this.isShare ? `${value} %` : rate(value))) },
        ],
        series: [{}, ...[...LAYERS].reverse().map(([layer, label]) => ({ label, ...this.style(layer) }))],
        hooks: { draw: [(plot) => this.drawMarks(plot)], setCursor: [(plot) => this.hover(plot)] },
      },
      data,
      this.place,
    );
  }

  private style(layer: Layer): Partial<uPlot.Series> {
    const fill = colour(`tier-${layer}`);
    return { fill, stroke: fill, width: 0, points: { show: false } };
  }

  private hover(plot: uPlot): void {
    this.hovered = plot.cursor.idx ?? null;
    this.onHover();
  }

  private drawMarks(plot: uPlot): void {
    const { ctx, bbox } = plot;
    const ratio = devicePixelRatio;
    ctx.save();
    ctx.strokeStyle = faint(colour("ink"), 0.45);
    ctx.fillStyle = colour("ink");
    ctx.lineWidth = ratio;
    for (const at of this.marks) {
      const x = Math.round(plot.valToPos(at / 1000, "x", true)) + 0.5;
      if (x < bbox.left || x > bbox.left + bbox.width) continue;
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
      ctx.beginPath();
      ctx.moveTo(x - 4 * ratio, bbox.top);
      ctx.lineTo(x + 4 * ratio, bbox.top);
      ctx.lineTo(x, bbox.top + 6 * ratio);
      ctx.fill();
    }
    ctx.restore();
  }
}

/** A minute of the table. */
interface Minute {
  at: number;
  of: Flow;
  marks: number;
}

function minutes(of: readonly Point[], marks: readonly number[]): Minute[] {
  const found = new Map<number, Minute>();
  for (const point of of) {
    const at = Math.floor(point.at / 60_000) * 60_000;
    const old = found.get(at);
    const sum = { ...point.of };
    if (old) for (const key of Object.keys(sum) as (keyof Flow)[]) sum[key] += old.of[key];
    const within = marks.filter((mark) => mark >= at && mark < at + 60_000).length;
    found.set(at, { at, of: sum, marks: within });
  }
  return [...found.values()].reverse();
}

export function hits(): Picture {
  const panel = new Panel("hits", "Which tier answers");
  const place = h("div", { class: "chart", role: "img", "aria-label": "Lookups by the tier that answered, over ten minutes" });
  const values = new Map<Layer, HTMLElement>();
  const legend = h("ul", { class: "legend" });
  for (const [layer, label] of LAYERS) {
    const value = h("b", { id: `legend-${layer}` });
    values.set(layer, value);
    legend.append(h("li", {}, h("i", { class: `swatch tier-${layer}`, "aria-hidden": "true" }), label, " ", value));
  }
  const marked = h("b", { id: "legend-marks" });
  legend.append(h("li", {}, h("i", { class: "swatch mark-swatch", "aria-hidden": "true" }), "invalidated ", marked));
  const list = table("Lookups by the tier that answered, by minute", [
    "Minute", "#Lookups", "#L1", "#L2", "#Stale", "#Origin", "#Miss", "#Invalidations",
  ]);
  const rows = new Rows<Minute>(list.body, (minute) => String(minute.at), () => {
    const element = h("tr");
    return {
      element,
      update: ({ at, of, marks }) => element.replaceChildren(
        ...cells([clock(at).slice(0, 5), ...[lookups(of), of.l1, of.l2, of.stale, of.origin, of.miss, marks].map(count)], 1),
      ),
    };
  });
  const drawing = h("div", {}, place, legend);
  let isShare = true;
  const unit = h("button", { type: "button", class: "quiet-button", "aria-pressed": "false" }, "Per second");
  panel.tools.append(unit);
  const views = panel.views(drawing, list.root);
  let last: State | null = null;
  let seen: readonly Point[] = [];

  const chart = new Chart(place, () => say());
  const say = (): void => {
    const point = seen[chart.hovered ?? seen.length - 1] ?? seen.at(-1);
    for (const [layer, element] of values) {
      if (!point) write(element, "");
      else write(element, isShare ? share(point.of[layer], lookups(point.of)) : rate(point.of[layer] / point.seconds));
    }
  };
  const update = (state: State): void => {
    last = state;
    if (panel.value(state.looks.at(-1)?.keyspaces ?? null) === null) return;
    panel.full();
    panel.about(state.filter ?? "all keyspaces");
    seen = points(state);
    const marks = state.marks.filter((mark) => state.filter === null || mark.keyspace === state.filter).map((mark) => mark.at);
    write(marked, count(marks.length));
    if (views.isTable()) rows.show(minutes(seen, marks));
    else chart.draw(seen, marks, isShare);
    say();
  };
  unit.addEventListener("click", () => {
    isShare = !isShare;
    unit.setAttribute("aria-pressed", String(!isShare));
    if (last) update(last);
  });
  panel.tools.addEventListener("click", () => last && update(last));
  onTheme(() => last && update(last));
  return { element: panel.element, update };
}

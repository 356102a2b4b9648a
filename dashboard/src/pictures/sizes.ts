// What if memory were larger or smaller: its hit ratio over its size, below the areas of what is in it now.

import type { Capacity, Size } from "../api";
import { cells, h, Rows, svg, table, write } from "../dom";
import { bytes, count, share } from "../format";
import type { Answer } from "../store";

const FACTORS: Record<string, string> = { 0.25: "¼ ×", 0.5: "½ ×", 1: "now", 2: "2 ×", 4: "4 ×" };

const hits = (of: Size): string => share(1 - of.miss_ratio, 1);

/** The one thing that is most worth saying. */
function sentence(sizes: readonly Size[]): string {
  const [now, twice] = [1, 2].map((factor) => sizes.find((size) => size.factor === factor));
  if (!now || !twice) return "";
  return hits(now) === hits(twice)
    ? `Twice the memory would answer no more: ${hits(now)} of the lookups`
    : `Twice the memory: ${hits(now)} → ${hits(twice)} of the lookups`;
}

/** Places of the sizes, one column for each, and the share of the height at which each has its dot. */
function places(sizes: readonly Size[]): { x: number; y: number }[] {
  const ratios = sizes.map((size) => size.miss_ratio);
  const [least, most] = [Math.min(...ratios), Math.max(...ratios)];
  return sizes.map((size, index) => ({
    x: index + 0.5,
    y: most > least ? 0.12 + (0.76 * (size.miss_ratio - least)) / (most - least) : 0.5,
  }));
}

/** The drawing, the table that says the same, and how both follow what is known. */
export function sizes(): { drawing: HTMLElement; list: HTMLElement; update(answer: Answer<Capacity> | null): void } {
  const said = h("p", { id: "what-if" });
  const line = svg("path", { class: "size-line" });
  const dots = svg("g", {});
  const chart = svg("svg", { class: "sizes-chart", preserveAspectRatio: "none", "aria-hidden": "true" }, line, dots);
  const steps = h("ol", { class: "sizes-steps" });
  const figure = h("div", { class: "sizes-figure" }, chart, steps);
  const drawing = h("div", { class: "sizes" }, h("h3", {}, "If memory had another size"), said, figure);
  const list = table("Hits of memory at other sizes", ["Size", "#Entries", "#Bytes", "#Hits"]);
  const stepRows = new Rows<Size>(steps, (size) => String(size.factor), (first) => {
    const [ratio, room] = [h("b"), h("span")];
    const element = h("li", { "data-factor": first.factor }, ratio, h("span", {}, FACTORS[first.factor] ?? `${first.factor} ×`), room);
    return {
      element,
      update(of) {
        write(ratio, hits(of));
        write(room, bytes(of.bytes));
        element.title = `${count(of.entries)} entries`;
      },
    };
  });
  const tableRows = new Rows<Size>(list.body, (size) => String(size.factor), () => {
    const element = h("tr");
    return {
      element,
      update: (of) => element.replaceChildren(
        h("th", { scope: "row" }, FACTORS[of.factor] ?? `${of.factor} ×`),
        ...cells([count(of.entries), bytes(of.bytes), hits(of)], 0),
      ),
    };
  });

  const draw = (all: readonly Size[]): void => {
    const at = places(all);
    const path = at.map(({ x, y }) => `${x} ${y.toFixed(3)}`).join("L");
    chart.setAttribute("viewBox", `0 0 ${Math.max(all.length, 1)} 1`);
    line.setAttribute("d", path === "" ? "" : `M${path}`);
    dots.replaceChildren(...at.map(({ x, y }, index) =>
      svg("path", { class: all[index]?.factor === 1 ? "size-dot size-now" : "size-dot", d: `M${x} ${y.toFixed(3)}h0` })));
  };
  return {
    drawing,
    list: list.root,
    update(answer) {
      const known = answer?.ok ? answer.value.sizes : [];
      figure.hidden = known.length === 0;
      list.root.hidden = known.length === 0;
      stepRows.show(known);
      tableRows.show(known);
      draw(known);
      if (answer === null) write(said, "Waiting for the first answer.");
      else if (!answer.ok) write(said, `Not to be had: ${answer.why}.`);
      else write(said, known.length > 0 ? `${sentence(known)}.` : `Not known yet: ${answer.value.unknown?.detail ?? "nothing was said"}.`);
    },
  };
}

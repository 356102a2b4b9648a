// A line the height of a word.

import { svg } from "./dom";

const WIDTH = 96;
const HEIGHT = 20;

/** A picture of values over time, for those who see it; the numbers beside it say the same. */
export function sparkline(): { element: SVGElement; draw(values: readonly number[]): void } {
  const area = svg("path", { class: "spark-area" });
  const line = svg("path", { class: "spark-line" });
  const element = svg("svg", { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, "aria-hidden": "true" }, area, line);
  return {
    element,
    draw(values) {
      const most = Math.max(...values, 1e-9);
      const step = WIDTH / Math.max(values.length - 1, 1);
      const at = (value: number, index: number): string =>
        `${(index * step).toFixed(1)} ${(HEIGHT - 1 - (value / most) * (HEIGHT - 3)).toFixed(1)}`;
      const path = values.length > 1 ? `M${values.map(at).join("L")}` : "";
      line.setAttribute("d", path);
      area.setAttribute("d", path === "" ? "" : `${path}L${WIDTH} ${HEIGHT}L0 ${HEIGHT}Z`);
    },
  };
}

// 6. How late this instance hears of the others, whether it missed something, and which one it is. Who else is there it does not know.

import type { Instance } from "../api";
import { cells, h, Rows, table, write } from "../dom";
import { count, duration, NONE } from "../format";
import { ofAll, Panel, type Picture } from "../panel";
import { sparkline } from "../spark";
import { latest, type State } from "../store";

interface Line extends Partial<Instance> {
  isThis: boolean;
}

const WORDS: Record<string, string> = {
  alone: "alone", waiting: "waits for its first change", joined: "hears the others", joined_anew: "hears the others", lost: "does not hear the others", suspected: "may have missed changes",
};

function age(started: string | undefined): string {
  const at = started === undefined ? NaN : Date.parse(started);
  return Number.isNaN(at) ? NONE : duration(Math.max(Math.round((Date.now() - at) / 1000), 0));
}

function lags(state: State): number[] {
  return state.looks.flatMap((look) => (look.bus.ok && look.bus.value.lag_seconds !== null ? [look.bus.value.lag_seconds] : []));
}

export function bus(): Picture {
  const panel = new Panel("bus", "Bus and instances");
  const standing = h("dd", { id: "bus-state" });
  const lag = h("dd", { id: "bus-lag" });
  const gaps = h("dd", { id: "bus-gaps" });
  const spark = sparkline();
  const list = table("Instances", ["Instance", "Version", "#Up for"]);
  const rows = new Rows<Line>(list.body, (line) => line.id ?? "", () => {
    const element = h("tr");
    return {
      element,
      update: ({ id, version, started_at, isThis }) => element.replaceChildren(
        h("th", { scope: "row", class: "mono" }, id ?? NONE, isThis ? h("span", { class: "note" }, " this one") : null),
        ...cells([version ?? NONE, age(started_at)], 1),
      ),
    };
  });
  const elsewhere = h("p", { class: "note", id: "bus-elsewhere" },
    "An instance hears of changes, and not of instances. What starts them, such as the orchestrator, knows which run; Prometheus knows their versions, by ", h("code", {}, "terrace_build_info"), ".");
  panel.body.append(
    h("dl", { class: "facts" },
      h("div", {}, h("dt", {}, "state"), standing),
      h("div", {}, h("dt", {}, "lag ", spark.element), lag),
      h("div", {}, h("dt", {}, "gaps since start"), gaps)),
    list.root,
    elsewhere,
  );
  return {
    element: panel.element,
    update(state) {
      const of = panel.value(latest(state, "bus"));
      if (of === null) return;
      panel.full();
      write(standing, WORDS[of.state] ?? of.state);
      standing.classList.toggle("bad", of.state === "lost" || of.state === "suspected");
      write(lag, of.lag_seconds === null ? NONE : duration(of.lag_seconds));
      write(gaps, count(of.gaps));
      gaps.classList.toggle("bad", of.gaps > 0);
      spark.draw(lags(state));
      const others = of.instances.filter((other) => other.id !== of.instance.id);
      elsewhere.hidden = others.length > 0;
      panel.about((others.length === 0 ? "of this instance" : `${others.length + 1} instances`) + ofAll(state));
      rows.show([{ ...of.instance, isThis: true }, ...others.map((other) => ({ ...other, isThis: false }))]);
    },
  };
}

// 4. The keys that are looked up most, by estimate: how often, and what memory has of them. A click looks into one, and says why it is
// answered as it is.

import type { HotKey } from "../api";
import { h, Rows, table, write, type Row } from "../dom";
import { bytes, count, NONE, rate } from "../format";
import { Panel, type Picture, type Wishes } from "../panel";
import { latest } from "../store";

interface Line extends HotKey {
  /** Of the hottest one, from 0 to 1. */
  share: number;
}

function row(wishes: Wishes, { key, keyspace }: Line): Row<Line> {
  const bar = h("i", { class: "bar", "aria-hidden": "true" });
  const [perSecond, size, lookups] = [h("td", { class: "number" }), h("td", { class: "number" }), h("td", { class: "number" })];
  const tier = h("td");
  const error = h("td", { class: "number note" });
  const button = h("button", { type: "button", class: "link mono", title: "Say why it is answered as it is" }, key);
  button.addEventListener("click", () => wishes.inspect(key));
  const element = h(
    "tr",
    { "data-key": key },
    h("th", { scope: "row", class: "barred" }, bar, button),
    h("td", { class: "note" }, keyspace), perSecond, tier, size, lookups, error,
  );
  return {
    element,
    update(line) {
      bar.style.width = `${(100 * line.share).toFixed(1)}%`;
      write(perSecond, rate(line.per_second));
      write(tier, line.tier === null ? NONE : line.tier.toUpperCase());
      write(size, line.bytes === null ? NONE : bytes(line.bytes));
      write(lookups, count(line.lookups));
      write(error, line.error > 0 ? `≤ ${count(line.error)}` : "");
    },
  };
}

export function hot(wishes: Wishes): Picture {
  const panel = new Panel("hot", "Hottest keys", "estimates of this instance");
  const list = table("Hottest keys", ["Key", "Keyspace", "#Lookups/s", "Tier", "#Size", "#Lookups", "#Too high by"]);
  const key = h("p", { class: "note" }, "A second: over the last one to two minutes. Tier and size: what this instance has in memory. A click says why a key is answered as it is.");
  panel.body.append(list.root, key);
  const rows = new Rows<Line>(list.body, (line) => `${line.keyspace} ${line.key}`, (line) => row(wishes, line));
  return {
    element: panel.element,
    update(state) {
      const keys = panel.value(latest(state, "hot"));
      if (keys === null) return;
      panel.about(`estimates of this instance · ${state.filter ?? "all keyspaces"}`);
      if (keys.length === 0) {
        panel.empty("No key was looked up often enough to be noticed. One lookup in 61 is looked at.", "terrace hot");
        return;
      }
      panel.full();
      const most = keys[0]?.lookups ?? 1;
      rows.show(keys.map((key) => ({ ...key, share: key.lookups / most })));
    },
  };
}

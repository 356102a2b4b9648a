// 3. The keyspaces, one a row. A click on a name lets everything be about that one; a click on a head sorts.

import type { Keyspace } from "../api";
import { h, Rows, table, write, type Row } from "../dom";
import { bytes, count, duration, NONE, rate, share } from "../format";
import { Panel, type Picture, type Wishes } from "../panel";
import { flow, lookups, requests } from "../series";
import { sparkline } from "../spark";
import { pairs, type State } from "../store";

/** A row's numbers. */
interface Line {
  of: Keyspace;
  /** Lookups per second, from look to look. */
  paces: number[];
  isChosen: boolean;
}

type Order = (one: Line, other: Line) => number;

const pace = (line: Line): number => line.paces.at(-1) ?? 0;
const hitRate = ({ of }: Line): number => (of.hits_l1 + of.hits_l2) / Math.max(requests(of), 1);

const COLUMNS: readonly { head: string; order?: Order }[] = [
  { head: "Keyspace", order: (one, other) => one.of.name.localeCompare(other.of.name) },
  { head: "Strategy" },
  { head: "#Lookups/s", order: (one, other) => pace(other) - pace(one) },
  { head: "Ten minutes" },
  { head: "#Lookups", order: (one, other) => requests(other.of) - requests(one.of) },
  { head: "#Hits", order: (one, other) => hitRate(other) - hitRate(one) },
  { head: "#Loads" },
  { head: "#Failed" },
  { head: "#Entries", order: (one, other) => other.of.l1_entries - one.of.l1_entries },
  { head: "#Bytes", order: (one, other) => other.of.l1_bytes - one.of.l1_bytes },
  { head: "#Each" },
  { head: "#TTL" },
  { head: "#Behind" },
];

function lines(state: State, all: readonly Keyspace[]): Line[] {
  const steps = pairs(state.looks, "keyspaces");
  return all.map((of) => ({
    of,
    paces: steps.map(({ from, to, before, now }) => lookups(flow(before, now, of.name)) / ((to - from) / 1000)),
    isChosen: state.filter === of.name,
  }));
}

function row(wishes: Wishes, first: Line): Row<Line> {
  const name = h("button", { type: "button", class: "link", "aria-pressed": "false" }, first.of.name);
  name.addEventListener("click", () => wishes.choose(first.of.name));
  const spark = sparkline();
  const strategy = h("td");
  const numbers = COLUMNS.slice(4).map(() => h("td", { class: "number" }));
  const perSecond = h("td", { class: "number" });
  const pattern = h("span", { class: "note mono" }, first.of.pattern ?? "");
  const element = h(
    "tr",
    { "data-keyspace": first.of.name },
    h("th", { scope: "row" }, name, " ", pattern),
    strategy, perSecond, h("td", { class: "spark-cell" }, spark.element), ...numbers,
  );
  return {
    element,
    update({ of, paces, isChosen }) {
      name.setAttribute("aria-pressed", String(isChosen));
      element.classList.toggle("chosen", isChosen);
      write(strategy, of.origin === null ? of.strategy : `${of.strategy}, ${of.origin}`);
      write(perSecond, paces.length > 0 ? rate(paces.at(-1) ?? 0) : NONE);
      spark.draw(paces);
      const texts = [
        count(requests(of)),
        share(of.hits_l1 + of.hits_l2, requests(of)),
        count(of.loads),
        count(of.load_failures),
        count(of.l1_entries),
        bytes(of.l1_bytes),
        of.l1_entries > 0 ? bytes(of.l1_bytes / of.l1_entries) : NONE,
        of.ttl === null ? "none" : duration(of.ttl),
        of.behind_pending === null ? NONE : count(of.behind_pending),
      ];
      for (const [index, text] of texts.entries()) {
        const cell = numbers[index];
        if (cell) write(cell, text);
      }
      numbers[3]?.classList.toggle("bad", of.load_failures > 0);
    },
  };
}

export function keyspaces(wishes: Wishes): Picture {
  const panel = new Panel("keyspaces", "Keyspaces", "since the service began; a name shows it alone");
  const list = table("Keyspaces", COLUMNS.map((column) => column.head));
  panel.body.append(list.root);
  let order = COLUMNS[0]?.order;
  let last: State | null = null;
  for (const [index, head] of [...list.root.querySelectorAll("thead th")].entries()) {
    const by = COLUMNS[index]?.order;
    if (!by) continue;
    const button = h("button", { type: "button", class: "sort" }, head.textContent);
    head.replaceChildren(button);
    if (by === order) head.setAttribute("aria-sort", "other");
    button.addEventListener("click", () => {
      order = by;
      for (const other of list.root.querySelectorAll("[aria-sort]")) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", index === 0 ? "ascending" : "descending");
      if (last) update(last);
    });
  }
  const rows = new Rows<Line>(list.body, (line) => line.of.name, (line) => row(wishes, line));
  const update = (state: State): void => {
    last = state;
    const all = panel.value(state.looks.at(-1)?.keyspaces ?? null);
    if (all === null) return;
    if (all.every((keyspace) => requests(keyspace) === 0 && keyspace.sets === 0)) {
      const url = new URL("api/cache/hello", document.baseURI).href;
      const command = `curl -X PUT ${url} -H 'content-type: application/json' -d '{"value":"world"}'; curl ${url}`;
      panel.empty(`Nobody has asked for anything yet. ${all.length} keyspaces are open. Type this, and look again:`, command);
      return;
    }
    panel.full();
    const found = lines(state, all);
    rows.show(order ? [...found].sort(order) : found);
  };
  return { element: panel.element, update };
}

// 9. What takes the room in memory: bytes of L1 by keyspace, as areas; and what more room would bring.

import type { Keyspace } from "../api";
import { cells, h, Rows, table, write, type Row } from "../dom";
import { bytes, count, share } from "../format";
import { ofAll, Panel, type Picture, type Wishes } from "../panel";
import { treemap, type Tile } from "../series";
import { latest, type State } from "../store";
import { sizes } from "./sizes";

/** The proportions for which the tiles are laid out. */
const WIDTH = 100;
const HEIGHT = 44;

interface Area {
  tile: Tile<Keyspace>;
  all: number;
  isChosen: boolean;
}

function area(wishes: Wishes, name: string): Row<Area> {
  const title = h("b", {}, name);
  const size = h("span");
  const element = h("button", { type: "button", class: "tile" }, title, size);
  element.addEventListener("click", () => wishes.choose(name));
  return {
    element,
    update({ tile: { item, x, y, width, height }, all, isChosen }) {
      write(size, `${bytes(item.l1_bytes)} · ${share(item.l1_bytes, all)}`);
      element.setAttribute("aria-pressed", String(isChosen));
      element.title = `${name}: ${bytes(item.l1_bytes)} in ${count(item.l1_entries)} entries`;
      element.classList.toggle("small", width < 22 || height < 14);
      element.classList.toggle("tiny", width < 10 || height < 8);
      element.setAttribute("aria-label", element.title);
      element.style.left = `${(100 * x) / WIDTH}%`;
      element.style.top = `${(100 * y) / HEIGHT}%`;
      element.style.width = `${(100 * width) / WIDTH}%`;
      element.style.height = `${(100 * height) / HEIGHT}%`;
      element.style.setProperty("--weight", `${(18 + 60 * Math.sqrt(item.l1_bytes / all)).toFixed(1)}%`);
    },
  };
}

export function capacity(wishes: Wishes): Picture {
  const panel = new Panel("capacity", "Memory by keyspace");
  const map = h("div", { class: "treemap" });
  const list = table("Memory by keyspace", ["Keyspace", "#Entries", "#Bytes", "#Share", "#Evicted"]);
  const other = sizes();
  const views = panel.views(h("div", {}, map, other.drawing), h("div", {}, list.root, other.list));
  const areas = new Rows<Area>(map, ({ tile }) => tile.item.name, ({ tile }) => area(wishes, tile.item.name));
  const rows = new Rows<readonly [Keyspace, number]>(list.body, ([of]) => of.name, () => {
    const element = h("tr");
    return {
      element,
      update: ([of, all]) => element.replaceChildren(
        h("th", { scope: "row" }, of.name),
        ...cells([count(of.l1_entries), bytes(of.l1_bytes), share(of.l1_bytes, all), count(of.evictions)], 0),
      ),
    };
  });
  let last: State | null = null;
  const update = (state: State): void => {
    last = state;
    const all = panel.value(latest(state, "keyspaces"));
    if (all === null) return;
    const sum = all.reduce((total, of) => total + of.l1_bytes, 0);
    if (sum === 0) {
      panel.empty("Memory is empty.");
      return;
    }
    panel.full();
    other.update(latest(state, "capacity"));
    panel.about(`${bytes(sum)} in ${count(all.reduce((total, of) => total + of.l1_entries, 0))} entries${ofAll(state)}`);
    const byName = [...all].sort((one, other) => other.l1_bytes - one.l1_bytes);
    if (views.isTable()) rows.show(byName.map((of) => [of, sum] as const));
    const tiles = treemap(byName.map((of) => [of, of.l1_bytes] as const), WIDTH, HEIGHT);
    areas.show(tiles.map((tile) => ({ tile, all: sum, isChosen: state.filter === tile.item.name })));
  };
  panel.tools.addEventListener("click", () => last && update(last));
  return { element: panel.element, update };
}

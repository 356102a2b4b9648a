// 7. What is written behind: what waits, for how long, how fast it goes, and what was given up.

import { post, words, type DeadLetter, type Lane } from "../api";
import { cells, h, Rows, table, write, type Row } from "../dom";
import { bytes, count, duration, NONE, rate } from "../format";
import { Panel, type Picture, type Wishes } from "../panel";
import { rise } from "../series";
import { latest, type State } from "../store";

interface LaneLine {
  of: Lane;
  /** Writes per second that reached the origin, of late. */
  pace: number | null;
}

interface Letter {
  of: DeadLetter;
  keyspace: string;
}

const PACE_LOOKS = 15;

function pace(state: State, keyspace: string): number | null {
  const looks = state.looks.slice(-PACE_LOOKS).flatMap((look) => {
    const lane = look.behind.ok ? look.behind.value.keyspaces.find((one) => one.keyspace === keyspace) : undefined;
    return lane ? [{ at: look.at, stored: lane.stored }] : [];
  });
  const [first, last] = [looks[0], looks.at(-1)];
  return first && last && first !== last ? rise(first.stored, last.stored) / ((last.at - first.at) / 1000) : null;
}

export function behind(wishes: Wishes): Picture {
  const panel = new Panel("behind", "Written behind");
  const said = h("p", { class: "said", role: "status" });
  const lanes = table("Keyspaces that are written behind", [
    "Keyspace", "#Waiting", "#Bytes", "#Oldest", "#Stored/s", "#Stored", "#Parked keys", "#Dead letters", "Send",
  ]);
  const letters = table("Dead letters", ["Key", "Keyspace", "Operation", "#Attempts", "Reason", "What now"]);
  panel.body.append(lanes.root, letters.root, said);

  const act = async (button: HTMLButtonElement, path: string, body: unknown, done: (value: Record<string, number>) => string): Promise<void> => {
    button.disabled = true;
    try {
      write(said, done((await post<Record<string, number>>(`api/cache/behind/${path}`, body)).value));
      wishes.ask();
    } catch (error) {
      write(said, `That failed: ${words(error)}.`);
    } finally {
      button.disabled = false;
    }
  };

  const laneRow = ({ of: { keyspace } }: LaneLine): Row<LaneLine> => {
    const flush = h("button", { type: "button", "aria-label": `Send what waits of ${keyspace}` }, "Flush");
    flush.addEventListener("click", () => void act(flush, `${encodeURIComponent(keyspace)}/flush`, {}, (value) =>
      `${count(value["stored"] ?? 0)} stored, ${count(value["parked"] ?? 0)} parked, ${count(value["dead"] ?? 0)} given up.`));
    const numbers = Array.from({ length: 7 }, () => h("td", { class: "number" }));
    const element = h("tr", { "data-lane": keyspace }, h("th", { scope: "row" }, keyspace), ...numbers, h("td", {}, flush));
    return {
      element,
      update({ of, pace: perSecond }) {
        const texts = [
          count(of.pending), bytes(of.pending_bytes), of.pending > 0 ? duration(of.oldest_seconds) : NONE,
          perSecond === null ? NONE : rate(perSecond), count(of.stored), count(of.parked), count(of.dead),
        ];
        for (const [index, cell] of numbers.entries()) write(cell, texts[index] ?? "");
        numbers[6]?.classList.toggle("bad", of.dead > 0);
      },
    };
  };

  const letterRow = ({ of, keyspace }: Letter): Row<Letter> => {
    const path = encodeURIComponent(keyspace);
    const name = of.key ?? "a key that you may not read";
    const retry = h("button", { type: "button", "aria-label": `Retry ${name}` }, "Retry");
    const drop = h("button", { type: "button", "aria-label": `Drop ${name}` }, "Drop");
    retry.addEventListener("click", () => void act(retry, `${path}/retry`, { key: of.key }, (value) =>
      `${count(value["retried"] ?? 0)} of ${name} brought back.`));
    drop.addEventListener("click", () => {
      if (drop.dataset["sure"] !== "yes") {
        drop.dataset["sure"] = "yes";
        write(drop, "Drop for good");
        return;
      }
      void act(drop, `${path}/drop`, { key: of.key }, (value) => `${count(value["dropped"] ?? 0)} of ${name} forgotten.`);
    });
    drop.addEventListener("blur", () => {
      delete drop.dataset["sure"];
      write(drop, "Drop");
    });
    const element = h("tr", { "data-letter": name });
    const texts = (letter: DeadLetter): HTMLElement[] => [
      ...cells([keyspace, letter.operation], 9), ...cells([count(letter.attempts)], 0), h("td", { class: "wide" }, letter.reason),
    ];
    const key = h("th", { scope: "row", class: "mono" }, name);
    const actions = h("td", { class: "row" }, retry, drop);
    let shown = "";
    return {
      element,
      update({ of: letter }) {
        retry.disabled = letter.overtaken || letter.key === undefined;
        drop.disabled = letter.key === undefined;
        retry.title = letter.overtaken ? "A newer write of this key was acknowledged since" : "";
        const now = JSON.stringify(letter);
        if (now === shown) return;
        shown = now;
        // The buttons stay where they are, so that they keep the focus.
        if (!element.firstChild) element.append(key, actions);
        while (key.nextSibling && key.nextSibling !== actions) key.nextSibling.remove();
        key.after(...texts(letter));
      },
    };
  };

  const laneRows = new Rows<LaneLine>(lanes.body, ({ of }) => of.keyspace, laneRow);
  const letterRows = new Rows<Letter>(letters.body, ({ of }) => of.write_id, letterRow);
  return {
    element: panel.element,
    update(state) {
      const value = panel.value(latest(state, "behind"));
      if (value === null) return;
      const shown = value.keyspaces.filter((of) => state.filter === null || of.keyspace === state.filter);
      if (value.keyspaces.length === 0) {
        panel.empty("No keyspace is written behind. One that is has, in the file:", 'strategy = "write-behind"');
        return;
      }
      if (shown.length === 0) {
        panel.empty(`${state.filter ?? ""} is not written behind.`);
        return;
      }
      panel.full();
      const { journal } = value;
      const condition = journal ? `journal ${journal.condition === "sound" ? "is sound" : journal.condition.replace("_", " ")}` : "no journal";
      const unattended = journal && journal.unattended > 0 ? ` · ${count(journal.unattended)} writes of keyspaces that are not written behind any more` : "";
      panel.about(condition + unattended);
      laneRows.show(shown.map((of) => ({ of, pace: pace(state, of.keyspace) })));
      const dead = shown.flatMap((of) => of.dead_letters.map((letter) => ({ of: letter, keyspace: of.keyspace })));
      letters.root.hidden = dead.length === 0;
      letterRows.show(dead);
    },
  };
}

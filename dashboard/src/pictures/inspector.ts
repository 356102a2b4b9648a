// 8. One key: which tier has it, for how long still, what it is, and why it is answered so. And how to be rid of it.
//
// 1. A look changes nothing: a value is read only if a tier has it, or if somebody asks for a load. What its answer says of it is shown as it is said.
// 2. Nothing is invalidated before it was said how much that is, and somebody said yes.
// 3. An answer that comes after another key was asked for is not shown.

import { get, head, look, post, words, type Entry, type FoundKey, type Held, type Why } from "../api";
import { h, Rows, table, write } from "../dom";
import { bytes, clock, count, duration, NONE } from "../format";
import { Panel, type Picture } from "../panel";
import { sweeping, type Aim } from "../sweep";

const VALUE_SHOWN_MAX = 16_384;
const FOUND_MAX = 50;
/** Pages of one search, at most: a pattern that matches little of much is looked for in parts. */
const PAGES_MAX = 50;

function path(below: string, key: string): string {
  return `api/cache${below}?key=${encodeURIComponent(key)}`;
}

/** Seconds since a moment; nothing negative, as clocks differ. */
function since(moment: string): number {
  return Math.max((Date.now() - Date.parse(moment)) / 1000, 0);
}

function tier(name: string, held: Held | null, error: string | null): HTMLElement {
  if (!held) return h("div", { class: "tier absent" }, h("h3", {}, name), h("p", {}, error ? `not known: ${error}` : "does not have it"));
  const age = since(held.cached_at);
  const left = held.ttl;
  const bar = h("i");
  if (left !== null) bar.style.width = `${((100 * left) / Math.max(left + age, 1e-9)).toFixed(1)}%`;
  return h(
    "div",
    { class: held.dead_by ? "tier dead" : "tier" },
    h("h3", {}, name),
    h("p", {}, left === null ? "does not age" : `${duration(left)} left`, h("span", { class: "note" }, ` · stored ${duration(age)} ago`)),
    left === null ? null : h("div", { class: "ttl", "aria-hidden": "true" }, bar),
    h("p", { class: "note" }, held.dead_by ? `not used: ${held.dead_by}` : `version ${held.version}`),
  );
}

function trust(why: Why): string {
  if (why.trusted_for === null) return "always trusted";
  return why.trusted_for > 0 ? `copies are trusted for ${duration(why.trusted_for)}` : "copies are not trusted now";
}

function value(entry: Entry): HTMLElement {
  const text = JSON.stringify(entry.value, null, 2) ?? "null";
  const pre = h("pre", { id: "inspected-value", tabindex: 0, "aria-label": "Value" }, text.slice(0, VALUE_SHOWN_MAX));
  if (text.length <= VALUE_SHOWN_MAX) return pre;
  const more = h("button", { type: "button" }, `Show all ${bytes(text.length)}`);
  more.addEventListener("click", () => {
    write(pre, text);
    more.remove();
  });
  return h("div", {}, pre, more);
}

/** What the raw view says of an entry, in its own words. */
const HEADERS = ["Content-Type", "ETag", "Age", "Cache-Control", "Cache-Status"] as const;

async function headersOf(key: string): Promise<[string, string][]> {
  const answer = await head(`v1/keys?key=${encodeURIComponent(key)}`);
  return HEADERS.flatMap((name) => {
    const said = answer.get(name);
    return said === null ? [] : [[name, said]];
  });
}

function facts(entry: Entry, said: readonly [string, string][]): HTMLElement {
  const all = [...said, ["expires_at", entry.expires_at ?? "null: it does not age"]] as const;
  return h("dl", { class: "said-of", id: "inspected-headers" }, ...all.flatMap(([name, text]) => [h("dt", {}, name), h("dd", { class: "mono" }, text)]));
}

function changes(why: Why): HTMLElement | null {
  if (why.changes.length === 0) return null;
  const items = why.changes.map(({ number, by, what, of }) =>
    h("tr", {}, h("td", {}, what), h("td", { class: "mono" }, of), h("td", { class: "mono" }, by), h("td", { class: "number" }, String(number))));
  const list = table("Last changes of its partition", ["What", "Of", "By instance", "#Number"]);
  list.body.append(...items);
  return list.root;
}

function tags(why: Why, onTag: (tag: string) => void): HTMLElement | null {
  const names = [...new Set([...(why.l1?.tags ?? []), ...(why.l2?.tags ?? [])])];
  if (names.length === 0) return null;
  return h("p", { class: "row" }, "Tags", ...names.map((name) => {
    const button = h("button", { type: "button", class: "tag", title: "Invalidate by this tag" }, name);
    button.addEventListener("click", () => onTag(name));
    return button;
  }));
}

class Finder {
  readonly element: HTMLElement;
  private readonly said = h("p", { class: "note", role: "status" });
  private readonly rows: Rows<FoundKey>;
  private readonly field = h("input", { id: "find", type: "search", placeholder: "user:*", autocomplete: "off", spellcheck: "false" });
  private readonly list = table("Keys that match", ["Key", "Tier", "#TTL", "#Bytes"]);

  constructor(inspect: (key: string) => void) {
    this.rows = new Rows<FoundKey>(this.list.body, (found) => found.tier + found.key, (found) => {
      const button = h("button", { type: "button", class: "link mono" }, found.key);
      button.addEventListener("click", () => inspect(found.key));
      const [name, ttl, size] = [h("td"), h("td", { class: "number" }), h("td", { class: "number" })];
      return {
        element: h("tr", {}, h("th", { scope: "row" }, button), name, ttl, size),
        update(of) {
          write(name, of.tier.toUpperCase());
          write(ttl, of.ttl === null ? "none" : duration(of.ttl));
          write(size, of.bytes === null ? NONE : bytes(of.bytes));
        },
      };
    });
    this.list.root.hidden = true;
    const form = h("form", { class: "row" }, h("label", { for: "find" }, "Find by pattern"), this.field, h("button", { type: "submit" }, "Find"));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.find();
    });
    this.element = h("div", { class: "finder" }, form, this.said, this.list.root);
  }

  private async find(): Promise<void> {
    const pattern = this.field.value.trim() || "*";
    write(this.said, "Looking…");
    try {
      const { keys, cursor } = await pages(pattern);
      this.list.root.hidden = keys.length === 0;
      this.rows.show(keys);
      write(this.said, `${count(keys.length)} found${cursor === null ? "" : ", and there are more: be more precise"}.`);
    } catch (error) {
      write(this.said, `That failed: ${words(error)}.`);
    }
  }
}

/** The first keys of a pattern. A page may have fewer than it could have, or none, and others behind it. */
async function pages(pattern: string): Promise<{ keys: FoundKey[]; cursor: string | null }> {
  const keys: FoundKey[] = [];
  let cursor: string | null = null;
  for (let page = 0; page < PAGES_MAX && keys.length < FOUND_MAX; page += 1) {
    const from = cursor === null ? "" : `&cursor=${encodeURIComponent(cursor)}`;
    const more: { keys: FoundKey[]; cursor: string | null } = await get(
      `api/cache/keys?pattern=${encodeURIComponent(pattern)}&limit=${FOUND_MAX - keys.length}${from}`,
    );
    keys.push(...more.keys);
    cursor = more.cursor;
    if (cursor === null) break;
  }
  return { keys, cursor };
}

export function inspector(onChange: () => void): Picture & { inspect(key: string): void } {
  const panel = new Panel("inspector", "Key inspector", "a look changes nothing");
  const field = h("input", { id: "inspect", type: "text", placeholder: "user:42", autocomplete: "off", spellcheck: "false", required: true });
  const form = h("form", { class: "row" }, h("label", { for: "inspect" }, "Key"), field, h("button", { type: "submit", class: "primary" }, "Inspect"));
  const result = h("div", { id: "inspected", "aria-live": "polite" });
  let asked = 0;

  const again = (): void => {
    onChange();
    if (field.value !== "") void show(field.value);
  };
  const sweep = sweeping(again);

  const actions = (why: Why, held: boolean): HTMLElement => {
    const row = h("div", { class: "row" });
    const add = (label: string, run: () => void): void => {
      const button = h("button", { type: "button" }, label);
      button.addEventListener("click", run);
      row.append(button);
    };
    const aim: Aim = { keys: [why.key] };
    add("Invalidate…", () => void sweep.propose(aim, why.key));
    add("Load anew", () => void refresh(why.key));
    if (!held) add("Read it", () => void show(why.key, true));
    add("Look again", () => void show(why.key));
    return row;
  };
  const refresh = async (key: string): Promise<void> => {
    try {
      await post("api/cache/refresh", { keys: [key] });
      again();
    } catch (error) {
      sweep.say(`That failed: ${words(error)}.`);
    }
  };
  const entryOf = async (key: string, isForced: boolean): Promise<HTMLElement> => {
    try {
      const entry = await (isForced ? get : look)<Entry>(path("", key));
      const said = await headersOf(key).catch(() => []);
      const encoding = entry.encoding === undefined ? "" : `, as ${entry.encoding}`;
      return h("div", {}, facts(entry, said), h("p", { class: "note" }, `Value, answered by ${entry.source} at ${clock(Date.now())}${encoding}`), value(entry));
    } catch (error) {
      return h("p", { class: "note" }, `No value: ${words(error)}.`);
    }
  };
  const show = async (key: string, isForced = false): Promise<void> => {
    const own = (asked += 1);
    try {
      const why = await get<Why>(path("/why", key));
      const held = why.answer !== "miss";
      const entry = held || isForced ? await entryOf(key, isForced) : h("p", { class: "note" }, "No tier has it; reading it would load it from the origin, if there is one.");
      if (own !== asked) return;
      const standing = `${why.keyspace} · answered by ${why.answer} · ${trust(why)}${why.loading ? " · is being loaded" : ""}${why.pending ? " · Redis is still to be told of a change" : ""}`;
      result.replaceChildren(
        h("p", { class: "inspected-key mono" }, why.key),
        h("p", { class: "note" }, standing),
        h("div", { class: "tiers" }, tier("Memory (L1)", why.l1, null), tier("Redis (L2)", why.l2, why.l2_error)),
        ...[tags(why, (tag) => void sweep.propose({ tags: [tag] }, `the tag ${tag}`)), actions(why, held), entry, changes(why)].filter((part) => part !== null),
      );
    } catch (error) {
      if (own === asked) result.replaceChildren(h("p", {}, `Not to be had: ${words(error)}.`));
    }
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    void show(field.value);
  });
  const finder = new Finder((key) => inspect(key));
  const inspect = (key: string): void => {
    field.value = key;
    panel.element.scrollIntoView({ block: "nearest" });
    field.focus();
    void show(key);
  };
  panel.body.append(form, sweep.question, result, h("div", { class: "split" }, finder.element, sweep.form));
  return { element: panel.element, update: () => undefined, inspect };
}

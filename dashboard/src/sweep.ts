// Invalidation in two steps: how much would it be, and then, if somebody says so, it is done.

import { post, words, type Matched } from "./api";
import { h, write } from "./dom";
import { count } from "./format";

/** What is to be invalidated. */
export type Aim = { keys: string[] } | { pattern: string } | { tags: string[] };

export interface Sweep {
  /** Where the question is asked, and the answer given. */
  question: HTMLElement;
  /** The form for patterns and tags. */
  form: HTMLElement;
  propose(aim: Aim, words: string): Promise<void>;
  say(text: string): void;
}

function amount({ matched, exact }: Matched): string {
  const number = exact ? count(matched) : `at least ${count(matched)}`;
  return matched === 1 && exact ? "1 key matches" : `${number} keys match`;
}

export function sweeping(onDone: () => void): Sweep {
  const said = h("p", { id: "sweep-said", role: "status" });
  const confirm = h("button", { type: "button", class: "danger" });
  const keep = h("button", { type: "button" }, "Keep");
  const buttons = h("div", { class: "row", hidden: true }, confirm, keep);
  const question = h("div", { class: "question" }, said, buttons);
  let aim: Aim | null = null;

  const say = (text: string): void => {
    buttons.hidden = true;
    aim = null;
    write(said, text);
  };
  const propose = async (wanted: Aim, name: string): Promise<void> => {
    say("Counting…");
    try {
      const { value } = await post<Matched>("api/cache/invalidate", { ...wanted, dry_run: true });
      const sample = "keys" in wanted || value.sample.length === 0 ? "" : `, such as ${value.sample.slice(0, 3).join(", ")}`;
      write(said, `${amount(value)} ${name}${sample}.`);
      write(confirm, value.exact && value.matched === 1 ? "Invalidate it" : "Invalidate them");
      aim = wanted;
      buttons.hidden = false;
      confirm.focus();
    } catch (error) {
      say(`That failed: ${words(error)}.`);
    }
  };
  confirm.addEventListener("click", () => {
    const agreed = aim;
    if (!agreed) return;
    say("Invalidating…");
    void post<{ invalidated: number; exact?: boolean }>("api/cache/invalidate", agreed).then(
      ({ value, isQueued }) => {
        const number = value.exact === false ? `At least ${count(value.invalidated)}` : count(value.invalidated);
        say(`${number} invalidated${isQueued ? " on this instance; Redis will be told when it is back" : ""}.`);
        onDone();
      },
      (error: unknown) => say(`That failed: ${words(error)}.`),
    );
  });
  keep.addEventListener("click", () => say(""));

  const kind = h("select", { id: "sweep-kind", "aria-label": "By" }, h("option", { value: "pattern" }, "pattern"), h("option", { value: "tag" }, "tag"));
  const field = h("input", { id: "sweep", type: "text", placeholder: "user:*", autocomplete: "off", spellcheck: "false", required: true });
  const form = h("form", { class: "row" }, h("label", { for: "sweep" }, "Invalidate by"), kind, field, h("button", { type: "submit" }, "Count"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = field.value.trim();
    void propose(kind.value === "tag" ? { tags: [text] } : { pattern: text }, `${kind.value} ${text}`);
  });
  return { question, form, propose, say };
}

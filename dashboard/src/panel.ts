// The frame of a picture: its title, what it is about, the switch to a table, and what stands there when there is nothing.

import { h, write } from "./dom";
import type { Answer, State } from "./store";

/** A picture: an element, and how it follows what is known. */
export interface Picture {
  readonly element: HTMLElement;
  update(state: State): void;
}

/** What pictures can ask for. */
export interface Wishes {
  /** Lets everything be about one keyspace; again for all. */
  choose(keyspace: string): void;
  /** Looks into one key. */
  inspect(key: string): void;
  /** Looks at the service at once, after a change. */
  ask(): void;
}

export class Panel {
  readonly element: HTMLElement;
  /** Where the picture is. */
  readonly body: HTMLElement;
  /** At the right of the title. */
  readonly tools: HTMLElement;
  private readonly note: HTMLElement;
  private readonly instead: HTMLElement;
  private shown = "";

  constructor(id: string, title: string, note = "") {
    this.note = h("span", { class: "note" }, note);
    this.tools = h("div", { class: "tools" });
    this.body = h("div", { class: "body" });
    this.instead = h("div", { class: "instead", hidden: true });
    this.element = h(
      "section",
      { id, class: `panel panel-${id}`, "aria-labelledby": `${id}-title` },
      h("header", {}, h("h2", { id: `${id}-title` }, title), this.note, this.tools),
      this.body,
      this.instead,
    );
  }

  /** Says what the picture is about. */
  about(text: string): void {
    write(this.note, text);
  }

  /** Shows the picture. */
  full(): void {
    this.shown = "";
    this.body.hidden = false;
    this.instead.hidden = true;
  }

  /** Shows words instead of the picture, and a command to type next. */
  empty(text: string, command = ""): void {
    if (this.shown === text + command) return;
    this.shown = text + command;
    this.body.hidden = true;
    this.instead.hidden = false;
    this.instead.replaceChildren(h("p", {}, text), ...(command === "" ? [] : [commandLine(command)]));
  }

  /** The answer, or nothing after words were shown instead. */
  value<T>(answer: Answer<T> | null): T | null {
    if (answer === null) {
      this.empty("Waiting for the first answer.");
      return null;
    }
    if (!answer.ok) {
      this.empty(`Not to be had: ${answer.why}.`);
      return null;
    }
    return answer.value;
  }

  /** Two views of the same: a drawing, and a table for those who rather read. */
  views(drawing: HTMLElement, table: HTMLElement): { isTable(): boolean } {
    table.hidden = true;
    const button = h("button", { type: "button", class: "quiet-button", "aria-pressed": "false" }, "Table");
    button.addEventListener("click", () => {
      table.hidden = !table.hidden;
      drawing.hidden = !table.hidden;
      button.setAttribute("aria-pressed", String(!table.hidden));
    });
    this.tools.append(button);
    this.body.append(drawing, table);
    return { isTable: () => !table.hidden };
  }
}

/** What a picture adds to its note that is of all keyspaces together, while one is chosen. */
export function ofAll({ filter }: State): string {
  return filter === null ? "" : ` · of the service, not of ${filter} alone`;
}

/** A command, to be copied. */
export function commandLine(command: string): HTMLElement {
  const button = h("button", { type: "button", class: "quiet-button", "aria-label": "Copy the command" }, "Copy");
  button.addEventListener("click", () => {
    const copied = navigator.clipboard?.writeText(command);
    void copied?.then(() => write(button, "Copied"));
  });
  return h("div", { class: "command" }, h("code", {}, command), navigator.clipboard ? button : null);
}

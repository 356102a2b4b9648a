// The token field. The token stays in this tab, and goes nowhere but to the service.

import { token } from "./api";
import { h, write } from "./dom";

/** A button that opens the field; `onChange` runs with each new token. */
export function access(onChange: () => void): { button: HTMLElement; ask(): void } {
  const field = h("input", {
    id: "token", type: "password", autocomplete: "off", spellcheck: "false", "aria-describedby": "token-help",
  });
  const form = h(
    "form",
    { method: "dialog" },
    h("h2", { id: "token-title" }, "Access token"),
    h("p", { id: "token-help" }, "Sent as “Authorization: Bearer …” to this service alone, and forgotten with this tab. Empty for none."),
    h("label", { for: "token" }, "Token"),
    field,
    h("div", { class: "row" }, h("button", { type: "submit", value: "keep", class: "primary" }, "Use it"),
      h("button", { type: "submit", value: "cancel" }, "Cancel")),
  );
  const dialog = h("dialog", { "aria-labelledby": "token-title" }, form);
  const button = h("button", { type: "button", class: "quiet-button", id: "access" });
  const say = (): void => write(button, token.get() === "" ? "No token" : "Token set");
  dialog.addEventListener("close", () => {
    if (dialog.returnValue === "keep") {
      token.set(field.value.trim());
      onChange();
    }
    field.value = "";
    say();
  });
  const ask = (): void => {
    if (!dialog.isConnected) document.body.append(dialog);
    if (!dialog.open) dialog.showModal();
  };
  button.addEventListener("click", ask);
  say();
  return { button, ask };
}

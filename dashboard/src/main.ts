// The page: nine pictures of one service, drawn from its public API.

import "./style.css";
import "uplot/dist/uPlot.min.css";
import { access } from "./access";
import { h, write } from "./dom";
import { listen, type Standing } from "./events";
import { clock } from "./format";
import type { Picture, Wishes } from "./panel";
import { behind } from "./pictures/behind";
import { breakers } from "./pictures/breakers";
import { bus } from "./pictures/bus";
import { capacity } from "./pictures/capacity";
import { figures } from "./pictures/figures";
import { hits } from "./pictures/hits";
import { hot } from "./pictures/hot";
import { inspector } from "./pictures/inspector";
import { keyspaces } from "./pictures/keyspaces";
import { latency } from "./pictures/latency";
import { latest, Store, type Refused, type State } from "./store";
import { themeSwitch } from "./theme";

const MARK = "M4 20h16M4 14h11M4 8h6";

function mark(): SVGElement {
  const image = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  image.setAttribute("viewBox", "0 0 24 24");
  image.setAttribute("class", "mark");
  image.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", MARK);
  image.append(path);
  return image;
}

/** What the line at the top says of the service. */
function condition(state: State): { text: string; kind: "good" | "warn" | "bad" | "wait" } {
  if (state.reach === "refused") return { text: "wants a token", kind: "warn" };
  if (state.reach === "no") return { text: "does not answer", kind: "bad" };
  const ready = latest(state, "ready");
  if (!ready) return { text: "asking", kind: "wait" };
  if (!ready.ok) return { text: ready.status === 503 ? "stopping" : ready.why, kind: "warn" };
  const degraded = ready.value.degraded ?? [];
  return degraded.length > 0 ? { text: `degraded: ${degraded.join(", ")}`, kind: "bad" } : { text: "ready", kind: "good" };
}

/** What is said of a configuration that was refused. */
function refusal({ at, settings }: Refused): string {
  const why = settings.length === 0 ? "the service’s log says why" : `these cannot be changed while it runs: ${settings.join(", ")}`;
  return `The configuration of ${clock(at)} was refused, and the one before stays in force; ${why}.`;
}

const STANDINGS: Record<Standing, string> = {
  waiting: "events: connecting", live: "events: live", refused: "events: not allowed",
};

function begin(): void {
  const pictures: Picture[] = [];
  const filter = h("button", { type: "button", class: "filter", id: "filter", hidden: true });
  const status = h("span", { class: "status", id: "status", role: "status" });
  const stream = h("span", { class: "note", id: "stream" }, STANDINGS.waiting);
  const warnings = h("div", { class: "warnings", hidden: true });
  const notice = h("div", { class: "warnings", id: "notice", role: "status", hidden: true });
  const store = new Store((state) => {
    const { text, kind } = condition(state);
    write(status, text);
    status.dataset["kind"] = kind;
    filter.hidden = state.filter === null;
    write(filter, `Only ${state.filter ?? ""} ×`);
    filter.setAttribute("aria-label", `Only the keyspace ${state.filter ?? ""}. Show all`);
    const ready = latest(state, "ready");
    const words = ready?.ok ? (ready.value.warnings ?? []) : [];
    warnings.hidden = words.length === 0;
    write(warnings, words.join(" · "));
    notice.hidden = state.refused === null;
    write(notice, state.refused === null ? "" : refusal(state.refused));
    for (const picture of pictures) picture.update(state);
  });
  const events = listen((event) => store.happened(event), (standing) => write(stream, STANDINGS[standing]));
  const { button: tokenButton } = access(() => {
    events.restart();
    store.ask();
  });
  filter.addEventListener("click", () => store.choose(null));

  const look = inspector(() => store.ask());
  const wishes: Wishes = {
    choose: (keyspace) => store.choose(keyspace),
    inspect: (key) => look.inspect(key),
    ask: () => store.ask(),
  };
  const strip = figures();
  const panels = [
    hits(), breakers(), bus(), latency(), keyspaces(wishes), hot(wishes), look, capacity(wishes), behind(wishes),
  ];
  pictures.push(strip, ...panels);
  document.body.append(
    h("a", { class: "skip", href: "#pictures" }, "Skip to the pictures"),
    h("header", { class: "top" }, h("h1", {}, mark(), "terrace"), status, stream, filter, h("span", { class: "spring" }),
      tokenButton, themeSwitch()),
    warnings,
    notice,
    h("main", { id: "pictures", tabindex: -1 }, strip.element, ...panels.map((panel) => panel.element)),
  );
  store.ask();
}

begin();

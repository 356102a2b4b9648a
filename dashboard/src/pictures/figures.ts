// The line of numbers: of the last minute where it is about pace, of now where it is about room.

import { h, write } from "../dom";
import { bytes, count, NONE, rate, share } from "../format";
import type { Picture } from "../panel";
import { flow, lookups } from "../series";
import { latest, type State } from "../store";

const MINUTE_MS = 60_000;

interface Figure {
  id: string;
  label: string;
  /** What is said while one keyspace is chosen, if it is of all of them then, too. */
  ofAll?: string;
  of(state: State): string;
}

/** What happened in the last minute, and how many seconds that is. */
function lastMinute(state: State): { of: ReturnType<typeof flow>; seconds: number } | null {
  const looks = state.looks.filter((look) => look.keyspaces.ok);
  const last = looks.at(-1);
  if (!last?.keyspaces.ok) return null;
  const first = looks.find((look) => look.at >= last.at - MINUTE_MS);
  if (!first?.keyspaces.ok || first === last) return null;
  return { of: flow(first.keyspaces.value, last.keyspaces.value, state.filter), seconds: (last.at - first.at) / 1000 };
}

function chosen(state: State) {
  const answer = latest(state, "keyspaces");
  if (!answer?.ok) return null;
  return answer.value.filter((keyspace) => state.filter === null || keyspace.name === state.filter);
}

const FIGURES: Figure[] = [
  {
    id: "hit-rate", label: "hit rate, last minute",
    of(state) {
      const minute = lastMinute(state);
      return minute ? share(minute.of.l1 + minute.of.l2, lookups(minute.of)) : NONE;
    },
  },
  {
    id: "l1-rate", label: "of it from memory",
    of(state) {
      const minute = lastMinute(state);
      return minute ? share(minute.of.l1, lookups(minute.of)) : NONE;
    },
  },
  {
    id: "requests", label: "lookups per second",
    of(state) {
      const minute = lastMinute(state);
      return minute ? rate(lookups(minute.of) / minute.seconds) : NONE;
    },
  },
  {
    id: "loads", label: "loads per second",
    of(state) {
      const minute = lastMinute(state);
      return minute ? rate(minute.of.loads / minute.seconds) : NONE;
    },
  },
  { id: "entries", label: "entries in L1", of: (state) => sum(state, (keyspace) => keyspace.l1_entries, count) },
  { id: "bytes", label: "bytes in L1", of: (state) => sum(state, (keyspace) => keyspace.l1_bytes, bytes) },
  {
    id: "l2-errors", label: "L2 errors since start", ofAll: "L2 errors, all keyspaces",
    of(state) {
      const answer = latest(state, "summary");
      return answer?.ok ? count(answer.value.l2_errors) : NONE;
    },
  },
];

function sum(
  state: State,
  of: (keyspace: NonNullable<ReturnType<typeof chosen>>[number]) => number,
  format: (value: number) => string,
): string {
  const keyspaces = chosen(state);
  return keyspaces ? format(keyspaces.reduce((all, keyspace) => all + of(keyspace), 0)) : NONE;
}

export function figures(): Picture {
  const values = FIGURES.map((figure) => h("dd", { id: `figure-${figure.id}` }, NONE));
  const labels = FIGURES.map((figure) => h("dt", {}, figure.label));
  const element = h("dl", { class: "figures" }, ...FIGURES.map((_, index) => h("div", {}, labels[index], values[index])));
  return {
    element,
    update(state) {
      for (const [index, figure] of FIGURES.entries()) {
        const place = values[index];
        if (place) write(place, figure.of(state));
        const label = labels[index];
        if (label) write(label, state.filter === null ? figure.label : (figure.ofAll ?? figure.label));
      }
    },
  };
}

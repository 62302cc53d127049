// Where one frame's time went: a bar for each stage, one after the other.

import { STAGES, element, find, ms, say } from "./words.js";

const APART_MS = 250; // between changes: it can be looked at
const rows = new Map();
let changed = 0;

export function waterfall(reading, atOnce) {
  const now = performance.now();
  if (!atOnce && now - changed < APART_MS) return;
  changed = now;
  const list = find("waterfall");
  const spent = Object.entries(reading.stages_ms).filter(([stage, value]) => !stage.includes("/") && value !== null);
  const total = Math.max(reading.latency_ms ?? 0, spent.reduce((sum, [, value]) => sum + value, 0)) || 1;
  let start = 0;
  const shown = spent.map(([stage, value]) => {
    const [words, place] = STAGES[stage] ?? [stage, "edge"];
    const row = rowOf(stage, place);
    const [name, track, figure] = row.children;
    say(name, words);
    say(figure, ms(value));
    track.firstElementChild.style.left = `${(100 * start) / total}%`;
    track.firstElementChild.style.width = `${(100 * value) / total}%`;
    row.title = parts(reading, stage);
    start += value;
    return row;
  });
  const sum = rowOf("total", "total");
  say(sum.children[0], "in all");
  say(sum.children[2], ms(total));
  const wanted = [...shown, sum];
  if (wanted.length !== list.childElementCount || wanted.some((row, place) => list.children[place] !== row)) {
    list.replaceChildren(...wanted);
  }
}

function rowOf(stage, place) {
  if (!rows.has(stage)) {
    const track = element("span", { class: "track" }, element("i"));
    rows.set(stage, element("li", { class: place }, element("span"), track, element("span", { class: "figure" })));
  }
  return rows.get(stage);
}

// What a stage is made of, as "enhance 8.1 ms, collect 0.4 ms".
function parts(reading, stage) {
  return Object.entries(reading.stages_ms)
    .filter(([name, value]) => name.startsWith(`${stage}/`) && value !== null)
    .map(([name, value]) => `${name.slice(stage.length + 1)} ${ms(value)}`)
    .join(", ");
}

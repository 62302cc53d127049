// What was read, the newest first: a bounded list, of which few rows are in the document.

import { count, element, find, isRead, say, time } from "./words.js";

const MOST_ENTRIES = 1000;
const ROWS = 60;
const LEAST_SURE = 0.2; // what is less sure than this has no row
const APART_MS = 200; // between changes of the list: it stays calm, however much is read

export class Readings extends EventTarget {
  #entries = new Map(); // the oldest first
  #rows = new Map();
  #changed = new Set();
  #seen = new Set(); // frames
  #last = new Map(); // camera -> key of the newest entry without a sight
  #alerts = new Map(); // pattern by sight
  #list = find("list");
  #limit = ROWS;
  #timer = 0;
  severalCameras = false;

  constructor() {
    super();
    find("more").onclick = () => {
      this.#limit += ROWS;
      this.#fill();
    };
    this.#list.addEventListener("click", ({ target }) => this.#open(target.closest("li")));
  }

  // Entries whose text has this in it, for when nothing is kept to search in.
  matching(text) {
    const wanted = text.toLocaleLowerCase();
    return [...this.#entries.values()].filter((entry) => entry.text.toLocaleLowerCase().includes(wanted)).reverse();
  }

  add(camera, reading) {
    if (this.#seen.has(reading.frame)) return; // told again after a break
    this.#seen.add(reading.frame);
    if (this.#seen.size > 2 * MOST_ENTRIES) this.#seen.delete(this.#seen.values().next().value);
    const common = { camera, frame: reading.frame, last: reading.captured_unix_ns, priority: reading.priority };
    const untracked = [];
    for (const region of reading.regions) {
      if (region.sight) this.#merge(region.sight, { ...common, text: region.text, confidence: region.confidence });
      else untracked.push(region);
    }
    const read = isRead(reading);
    if (read && !untracked.length) return;
    const texts = untracked.map(({ text }) => text).filter(Boolean);
    const text = texts.join(" · ");
    const note = !read ? `${reading.outcome}: ${reading.reason}` : text ? "" : "found, not recognised";
    const what = text || (read ? count(untracked.length, "piece of text", "pieces of text") : "a frame was not read");
    const before = this.#entries.get(this.#last.get(camera));
    const same = before && before.text === what && before.note === note;
    const key = same ? before.key : reading.frame;
    this.#last.set(camera, key);
    const confidence = texts.length ? Math.min(...untracked.map((region) => region.confidence)) : null;
    this.#merge(key, { ...common, text: what, note, confidence });
  }

  sight(camera, { id, text, confidence, first_unix_ns, last_unix_ns, frames, priority, ended }) {
    const entry = this.#entries.get(id);
    if (!entry && ended) return;
    this.#merge(id, { camera, text, confidence, first: first_unix_ns, last: last_unix_ns, frames, priority, ended });
  }

  // Marks the sight that raised one.
  alert({ sight, alert }) {
    this.#alerts.set(sight, alert);
    if (this.#alerts.size > MOST_ENTRIES) this.#alerts.delete(this.#alerts.keys().next().value);
    const entry = this.#entries.get(sight);
    if (entry) this.#merge(sight, { frames: entry.frames });
  }

  #merge(key, news) {
    let entry = this.#entries.get(key);
    if (!entry) {
      entry = { key, first: news.last, frames: 0, note: "", text: "", confidence: null };
      this.#entries.set(key, entry);
      while (this.#entries.size > MOST_ENTRIES) {
        const [oldest] = this.#entries.keys();
        this.#entries.delete(oldest);
        this.#rows.get(oldest)?.remove();
        this.#rows.delete(oldest);
      }
    }
    const frames = entry.frames + 1;
    if (news.frames === undefined && entry.confidence > news.confidence) {
      delete news.text;
      delete news.confidence;
    }
    Object.assign(entry, { frames, ...news, alert: this.#alerts.get(key) });
    this.#changed.add(key);
    this.#timer ||= setTimeout(() => this.#flush(), APART_MS);
  }

  #flush() {
    this.#timer = 0;
    const fresh = [];
    for (const key of this.#changed) {
      const entry = this.#entries.get(key);
      if (!entry) continue;
      const row = this.#rows.get(key);
      if (row) this.#update(row, entry);
      else if (worth(entry)) fresh.push(entry);
    }
    this.#changed.clear();
    const rows = fresh.slice(-this.#limit).map((entry) => this.#row(entry));
    this.#list.prepend(...rows.reverse());
    while (this.#list.childElementCount > this.#limit) {
      const last = this.#list.lastElementChild;
      this.#rows.delete(last.dataset.key);
      last.remove();
    }
    this.#after();
  }

  #fill() {
    const wanted = [...this.#entries.values()].filter(worth).reverse().slice(0, this.#limit);
    for (const entry of wanted) if (!this.#rows.has(entry.key)) this.#list.append(this.#row(entry));
    this.#after();
  }

  #after() {
    find("more").hidden = this.#rows.size < this.#limit;
    this.#list.classList.toggle("empty", !this.#rows.size);
  }

  #row(entry) {
    const row = rowOf();
    row.dataset.key = entry.key;
    this.#rows.set(entry.key, row);
    this.#update(row, entry);
    return row;
  }

  #update(row, entry) {
    fill(row, { ...entry, camera: this.severalCameras ? entry.camera : "" });
    row.classList.toggle("ended", Boolean(entry.ended));
  }

  #open(row) {
    const entry = row && this.#entries.get(row.dataset.key);
    if (entry) this.dispatchEvent(new CustomEvent("open", { detail: entry }));
  }
}

function worth({ text, note, confidence }) {
  return Boolean(note) || !text || confidence === null || confidence >= LEAST_SURE;
}

// A row: what it says, when, how sure that is.
export function rowOf() {
  const button = element(
    "button",
    { type: "button" },
    element("span", { class: "text", dir: "auto" }),
    element("time"),
    element("span", { class: "meta" }),
    element("i", { class: "sure", "aria-hidden": "true" }, element("b")),
  );
  return element("li", {}, button);
}

export function fill(row, { text, note, last, confidence, frames, camera, priority, alert }) {
  const [words, when, meta, sure] = row.firstElementChild.children;
  if (!text) note ||= "found, not recognised";
  say(words, text || "a piece of text");
  say(when, time(last));
  const parts = [
    alert ? `alert: ${alert}` : "",
    note,
    confidence === null || note ? "" : `${Math.round(confidence * 100)} % sure`,
    frames > 1 ? count(frames, "frame", "frames") : "",
    camera,
    priority === "standard" ? "" : priority,
  ];
  say(meta, parts.filter(Boolean).join(" · "));
  row.classList.toggle("noted", Boolean(note));
  row.classList.toggle("unsure", !note && confidence !== null && confidence < 0.5);
  row.classList.toggle("essential", priority === "essential");
  row.classList.toggle("alerted", Boolean(alert));
  sure.firstElementChild.style.width = `${Math.round((confidence ?? 0) * 100)}%`;
}

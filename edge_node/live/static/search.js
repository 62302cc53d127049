// The search over what is kept; where nothing is, over what this page has seen.

import { count, element, find, say } from "./words.js";
import { fill, rowOf } from "./readings.js";

const PAUSE_MS = 200; // of typing

export class Search extends EventTarget {
  #readings;
  #asking = null;
  #timer = 0;

  constructor(readings) {
    super();
    this.#readings = readings;
    const later = () => {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#ask(), PAUSE_MS);
    };
    find("query").addEventListener("input", later);
    for (const id of ["fuzzy", "within"]) find(id).addEventListener("change", later);
    find("search").addEventListener("submit", (event) => {
      event.preventDefault();
      clearTimeout(this.#timer);
      this.#ask();
    });
  }

  async #ask() {
    this.#asking?.abort();
    const text = find("query").value.trim();
    find("read").classList.toggle("searching", Boolean(text));
    find("found").hidden = !text;
    find("list").hidden = Boolean(text);
    if (!text) return say(find("told"), "");
    const asking = (this.#asking = new AbortController());
    try {
      const query = new URLSearchParams({ text, fuzzy: find("fuzzy").checked ? "1" : "0", within: find("within").value });
      const answer = await fetch(`/search?${query}`, { signal: asking.signal });
      const { found, error } = await answer.json();
      if (answer.ok) this.#show(found, count(found.length, "reading", "readings"));
      else if (answer.status === 404) this.#show(this.#readings.matching(text).slice(0, 50), "in what this page has seen");
      else this.#show([], error);
    } catch (error) {
      if (error.name !== "AbortError") this.#show([], "The search got no answer; try again.");
    }
  }

  #show(found, told) {
    say(find("told"), found.length ? told : told.startsWith("0") ? "Nothing like that was read." : told);
    find("found").replaceChildren(
      ...found.map((one) => {
        const row = rowOf();
        fill(row, { note: "", priority: "standard", confidence: null, frames: 1, ...one });
        mark(row.querySelector(".text"), one);
        if (one.crop) {
          const src = `/crop?${new URLSearchParams({ id: one.id })}`;
          row.firstElementChild.prepend(element("img", { src, alt: "", loading: "lazy" }));
        }
        row.firstElementChild.addEventListener("click", () => {
          this.dispatchEvent(new CustomEvent("open", { detail: one }));
        });
        return row;
      }),
    );
  }
}

// Marks what was looked for; spans count characters as Python does, whole code points.
function mark(node, { text, spans }) {
  if (!spans?.length) return;
  const letters = [...text], parts = [];
  let at = 0;
  for (const [start, end] of spans) {
    parts.push(letters.slice(at, start).join(""), element("mark", { text: letters.slice(start, end).join("") }));
    at = end;
  }
  node.replaceChildren(...parts, letters.slice(at).join(""));
}

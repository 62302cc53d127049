// Alerts: a list over the pictures, said aloud as they come; which sights they are of, for the picture and the tiles.

import { element, say, time } from "./words.js";

const MOST = 50;
const SHOWN = 3; // until somebody wants more
const find = (id) => document.getElementById(id);

export class Alerts extends EventTarget {
  #alerts = new Map(); // by id, the oldest first
  #seen = new Set(); // ids that somebody put away
  #all = false;
  severalCameras = false;

  constructor() {
    super();
    find("alerts-all").onclick = () => {
      this.#all = !this.#all;
      this.#fill();
    };
    find("alerts-seen").onclick = () => {
      for (const id of this.#alerts.keys()) this.#seen.add(id);
      this.#all = false;
      this.#fill();
      find("handle").focus({ preventScroll: true });
    };
    find("alerts-list").addEventListener("click", ({ target }) => {
      const alert = this.#alerts.get(target.closest("li")?.dataset.id);
      if (alert) this.dispatchEvent(new CustomEvent("open", { detail: alert }));
    });
  }

  // An alert, or that its text is out of sight. `before`: it was raised before this page was opened.
  add(camera, alert, before = false) {
    const known = this.#alerts.has(alert.id);
    this.#alerts.set(alert.id, { ...alert, camera });
    while (this.#alerts.size > MOST) {
      const [oldest] = this.#alerts.keys();
      this.#alerts.delete(oldest);
      this.#seen.delete(oldest);
    }
    if (!known && !before) say(find("alerts-said"), `Alert: ${words(alert)}, ${camera}, ${time(alert.raised_unix_ns)}`);
    this.#fill();
  }

  // All but these are over: of an edge node that has ended since.
  keep(ids) {
    for (const [id, alert] of this.#alerts) if (!ids.has(id)) alert.over = true;
    this.#fill();
  }

  // Pattern by sight, of what is in sight at a camera.
  inSight(camera) {
    const here = [...this.#alerts.values()].filter((alert) => alert.camera === camera && !alert.over);
    return new Map(here.map(({ sight, alert }) => [sight, alert]));
  }

  // The newest first.
  get unseen() {
    const unseen = [...this.#alerts.values()].filter(({ id }) => !this.#seen.has(id));
    return unseen.sort((a, b) => b.raised_unix_ns - a.raised_unix_ns);
  }

  #fill() {
    const unseen = this.unseen, section = find("alerts");
    section.hidden = !unseen.length;
    section.classList.toggle("over", unseen.every(({ over }) => over));
    say(find("alerts-title"), unseen.length === 1 ? "Alert" : `${unseen.length} alerts`);
    const more = find("alerts-all");
    more.hidden = unseen.length <= SHOWN;
    more.setAttribute("aria-expanded", String(this.#all));
    say(more, this.#all ? "Show fewer" : `Show all ${unseen.length}`);
    const rows = new Map([...find("alerts-list").children].map((row) => [row.dataset.id, row]));
    const wanted = (this.#all ? unseen : unseen.slice(0, SHOWN)).map((alert) => {
      const row = rows.get(alert.id) ?? rowOf(alert.id);
      const [what, where] = row.firstElementChild.children;
      say(what, words(alert));
      const parts = [time(alert.raised_unix_ns), this.severalCameras ? alert.camera : "", alert.over ? "gone" : "in sight"];
      say(where, parts.filter(Boolean).join(" · "));
      row.classList.toggle("over", alert.over);
      return row;
    });
    if (wanted.some((row, place) => find("alerts-list").children[place] !== row) || rows.size !== wanted.length) {
      find("alerts-list").replaceChildren(...wanted);
    }
  }
}

function words({ alert, text }) {
  return alert.toLocaleLowerCase() === text.toLocaleLowerCase() ? text : `${alert}, read as ${text}`;
}

function rowOf(id) {
  const what = element("span", { class: "text", dir: "auto" }), where = element("span", { class: "meta" });
  const row = element("li", {}, element("button", { type: "button", title: "Show the picture" }, what, where));
  row.dataset.id = id;
  return row;
}

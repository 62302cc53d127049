// Alerts: a list over the pictures, said aloud as they come; which sights they are of, for the picture and the tiles.

import { element, find, say, time } from "./words.js";

const MOST = 50;
const SHOWN = 3; // until somebody wants more

export class Alerts extends EventTarget {
  #alerts = new Map(); // by id, the oldest first
  #seen = new Set(); // ids that somebody put away
  #all = false;
  #begun = false;
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
      find("alerts-again").focus({ preventScroll: true });
    };
    find("alerts-again").onclick = () => {
      this.#seen.clear();
      this.#fill();
      find("alerts-seen").focus({ preventScroll: true });
    };
    find("alerts-list").addEventListener("click", ({ target }) => {
      const alert = this.#alerts.get(target.closest("li")?.dataset.id);
      if (alert) this.dispatchEvent(new CustomEvent("open", { detail: alert }));
    });
  }

  // A new alert, or that the text of a known one is out of sight.
  add(camera, alert) {
    const known = this.#alerts.has(alert.id);
    if (!known && alert.over && this.#isOlder(alert)) return; // it was let go of
    this.#put(camera, alert);
    if (!known) say(find("alerts-said"), `Alert: ${spoken(camera, alert)}`);
    this.#fill();
  }

  // Those of the edge node so far, by time: what it does not know is over. Ones that were missed are said.
  before(messages) {
    const ids = new Set(messages.map(({ alert }) => alert.id));
    for (const [id, alert] of this.#alerts) if (!ids.has(id)) alert.over = true;
    const missed = messages.filter(({ alert }) => !this.#alerts.has(alert.id)).reverse();
    for (const { camera, alert } of messages) this.#put(camera, alert);
    if (this.#begun && missed.length) {
      const newest = missed.slice(0, SHOWN).map(({ camera, alert }) => spoken(camera, alert)).join("; ");
      say(find("alerts-said"), missed.length === 1 ? `Alert: ${newest}` : `${missed.length} alerts: ${newest}`);
    }
    this.#begun = true;
    this.#fill();
  }

  #put(camera, alert) {
    this.#alerts.set(alert.id, { ...alert, camera });
    while (this.#alerts.size > MOST) {
      const [oldest] = this.#alerts.keys();
      this.#alerts.delete(oldest);
      this.#seen.delete(oldest);
    }
  }

  #isOlder({ raised_unix_ns }) {
    if (this.#alerts.size < MOST) return false;
    return [...this.#alerts.values()].every((other) => raised_unix_ns <= other.raised_unix_ns);
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
    place(wanted, find("alerts-list"));
    const away = this.#seen.size, again = find("alerts-again");
    again.hidden = !away;
    say(again, away === 1 ? "Show the alert that was put away" : `Show ${away} alerts that were put away`);
  }
}

// Rows in this order; those that stay are not touched, so that the focus stays where it is.
function place(rows, list) {
  const focused = list.contains(document.activeElement);
  for (const row of [...list.children]) if (!rows.includes(row)) row.remove();
  let at = list.firstElementChild;
  for (const row of rows) {
    if (row === at) at = at.nextElementSibling;
    else list.insertBefore(row, at);
  }
  if (focused && !list.contains(document.activeElement)) list.lastElementChild?.firstElementChild.focus();
}

function words({ alert, text }) {
  return alert.toLocaleLowerCase() === text.toLocaleLowerCase() ? text : `${alert}, read as ${text}`;
}

function spoken(camera, alert) {
  return `${words(alert)}, ${camera}, ${time(alert.raised_unix_ns)}`;
}

function rowOf(id) {
  const what = element("span", { class: "text", dir: "auto" }), where = element("span", { class: "meta" });
  const row = element("li", {}, element("button", { type: "button", title: "Show the picture" }, what, where));
  row.dataset.id = id;
  return row;
}

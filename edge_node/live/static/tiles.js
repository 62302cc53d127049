// Several cameras: a small picture of each, one of them opened.

import { element, find, say } from "./words.js";

export class Tiles extends EventTarget {
  #nav = find("tiles");
  #tiles = new Map();
  opened = "";

  set cameras(names) {
    this.#nav.hidden = names.length < 2;
    this.#tiles.clear();
    this.#nav.replaceChildren(
      ...names.map((name, place) => {
        const canvas = element("canvas", { width: 320, height: 213, "aria-hidden": "true" });
        const dot = element("i", { "aria-hidden": "true" });
        const text = element("span", { class: "text", dir: "auto" });
        const label = element("span", { class: "name" }, dot, element("span", { text: name }));
        const alert = element("span", { class: "alert", dir: "auto" });
        alert.hidden = true;
        const button = element("button", { type: "button", "aria-pressed": "false" }, canvas, label, text, alert);
        if (place < 9) button.setAttribute("aria-keyshortcuts", place + 1);
        button.onclick = () => this.open(name);
        this.#tiles.set(name, { button, canvas, dot, text, alert });
        return button;
      }),
    );
  }

  open(name) {
    if (!this.#tiles.has(name)) return;
    this.opened = name;
    for (const [other, { button }] of this.#tiles) button.setAttribute("aria-pressed", String(other === name));
    this.dispatchEvent(new CustomEvent("open", { detail: name }));
  }

  openAt(place) {
    const name = [...this.#tiles.keys()][place];
    if (name) this.open(name);
  }

  async put({ camera, lit, dark }, drawn) {
    const tile = this.#tiles.get(camera), blob = lit ?? dark;
    if (tile && blob && this.#tiles.size > 1) {
      const image = await createImageBitmap(blob).catch(() => null);
      if (image) {
        const { canvas } = tile;
        const high = Math.round((canvas.width * image.height) / image.width);
        if (canvas.height !== high) canvas.height = high;
        canvas.getContext("2d", { alpha: false }).drawImage(image, 0, 0, canvas.width, high);
        image.close();
      }
    }
    drawn();
  }

  reading(camera, { regions }) {
    const tile = this.#tiles.get(camera), texts = regions.map(({ text }) => text).filter(Boolean);
    if (tile && texts.length) say(tile.text, texts.join(" · "));
  }

  // Patterns whose alerts are in sight there.
  alerted(camera, patterns) {
    const tile = this.#tiles.get(camera);
    if (!tile) return;
    tile.alert.hidden = !patterns.length;
    tile.button.classList.toggle("alerted", Boolean(patterns.length));
    say(tile.alert, patterns.length ? `Alert: ${[...new Set(patterns)].join(", ")}` : "");
  }

  health(of) {
    for (const [name, { dot }] of this.#tiles) dot.className = of(name);
  }
}

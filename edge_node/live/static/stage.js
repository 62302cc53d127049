// The picture: the dark frame under the lit one, a divider between them, and what was read drawn over both.

import { outline } from "./outlines.js";
import { looking } from "./stream.js";
import { count, find, isRead, ms, say, time } from "./words.js";

const KEPT_FRAMES = 40;
const KEPT_BYTES = 24e6;

export class Stage extends EventTarget {
  #stage = find("stage");
  #canvases = { dark: find("dark"), lit: find("lit") };
  #boxes = find("boxes");
  #labels = find("labels");
  #handle = find("handle");
  #kept = new Map(); // frame -> what came, the newest last
  #split = 50;
  #next = null;
  #drawing = false;
  #held = false;
  #alerts = new Map();
  #painted = null;

  constructor() {
    super();
    this.#slide();
    find("outlines").onclick = () => this.toggleOutlines();
    find("pause").onclick = () => this.hold(!this.#held);
  }

  // How many pixels of a picture's width can be shown here.
  get wide() {
    return Math.max(1, Math.round(find("view").clientWidth * devicePixelRatio));
  }

  // Pattern by sight: what is marked in the picture.
  set alerts(patterns) {
    this.#alerts = patterns;
    if (this.#painted) this.#outline(this.#painted);
  }

  // A picture came; `drawn` is called once it is on the screen, or a newer one in its place.
  put(picture, drawn) {
    const { frame } = picture.reading;
    this.#kept.delete(frame);
    this.#kept.set(frame, picture);
    let bytes = 0;
    for (const { bytes: size } of this.#kept.values()) bytes += size;
    for (const [old, { bytes: size }] of this.#kept) {
      if (this.#kept.size <= KEPT_FRAMES && bytes <= KEPT_BYTES) break;
      this.#kept.delete(old);
      bytes -= size;
    }
    if (this.#held) return drawn();
    this.#next?.drawn();
    this.#next = { picture, drawn };
    this.#draw();
  }

  has(frame) {
    return this.#kept.has(frame);
  }

  // Another camera was opened.
  clear() {
    this.#kept.clear();
    this.#painted = null;
    this.hold(false);
    this.#stage.classList.remove("filled");
  }

  // Show a frame that is still here, and stay there.
  show(frame) {
    const picture = this.#kept.get(frame);
    if (!picture) return;
    this.hold(true);
    this.#next?.drawn();
    this.#next = { picture, drawn: () => {} };
    this.#draw();
  }

  hold(on) {
    this.#held = on;
    const button = find("pause");
    button.setAttribute("aria-pressed", String(on));
    say(button, on ? "Back to live" : "Hold");
    this.#stage.classList.toggle("held", on);
    const newest = [...this.#kept.values()].at(-1);
    if (!on && newest && !this.#next) {
      this.#next = { picture: newest, drawn: () => {} };
      this.#draw();
    }
  }

  toggleOutlines() {
    const shown = this.#stage.classList.toggle("bare");
    find("outlines").setAttribute("aria-pressed", String(!shown));
  }

  async #draw() {
    if (this.#drawing) return;
    this.#drawing = true;
    while (this.#next) {
      await looking();
      const { picture, drawn } = this.#next;
      this.#next = null;
      try {
        await this.#paint(picture);
      } catch (error) {
        console.error(error); // a picture that cannot be decoded: the next one may
      }
      drawn();
    }
    this.#drawing = false;
  }

  async #paint(picture) {
    const { reading, width, height, spooled } = picture;
    const images = await Promise.all([picture.dark, picture.lit].map((blob) => blob && createImageBitmap(blob)));
    await new Promise(requestAnimationFrame);
    const [dark, lit] = images;
    for (const [name, image] of [["dark", dark ?? lit], ["lit", lit ?? dark]]) {
      const canvas = this.#canvases[name];
      if (!image) continue;
      if (canvas.width !== image.width || canvas.height !== image.height) {
        [canvas.width, canvas.height] = [image.width, image.height];
      }
      canvas.getContext("2d", { alpha: false }).drawImage(image, 0, 0);
    }
    for (const image of images) image?.close();
    this.#stage.style.setProperty("--wide", width);
    this.#stage.style.setProperty("--high", height);
    this.#stage.classList.add("filled");
    this.#stage.classList.toggle("single", !dark || !lit || reading.path === "none");
    this.#handle.hidden = !dark || !lit || reading.path === "none";
    say(find("side"), litBy(reading));
    this.#painted = picture;
    this.#outline(picture);
    this.#caption(reading, width, height, spooled);
    this.#stage.dataset.frame = reading.frame;
    this.#stage.dataset.frames = Number(this.#stage.dataset.frames ?? 0) + 1;
    if (this.#stage.dataset.frames === "1") performance.mark("first frame");
    this.dispatchEvent(new CustomEvent("painted", { detail: reading }));
  }

  #outline({ reading, width, height }) {
    outline(reading.regions, width, height, this.#boxes, this.#labels, this.#alerts);
  }

  #caption(reading, width, height, spooled) {
    const texts = reading.regions.length;
    const parts = [
      reading.name,
      time(reading.captured_unix_ns),
      spooled ? "waited in the spool" : "",
      `${width} × ${height}`,
      reading.priority === "standard" ? "" : reading.priority,
      isRead(reading)
        ? count(texts, "piece of text", "pieces of text")
        : `${reading.outcome}: ${reading.reason}`,
      `${ms(reading.latency_ms)} from camera to reading`,
    ];
    say(find("caption"), parts.filter(Boolean).join(" · "));
  }

  // --- the divider: pointer, touch and keyboard ---

  #slide() {
    const stage = this.#stage;
    const follow = ({ clientX }) => {
      const { left, width } = stage.getBoundingClientRect();
      this.#put(((clientX - left) / width) * 100);
    };
    stage.addEventListener("pointerdown", (event) => {
      if (this.#handle.hidden || event.button) return;
      stage.setPointerCapture(event.pointerId);
      this.#handle.focus({ preventScroll: true });
      follow(event);
    });
    stage.addEventListener("pointermove", (event) => stage.hasPointerCapture(event.pointerId) && follow(event));
    this.#handle.addEventListener("keydown", (event) => {
      const step = event.shiftKey ? 10 : 2;
      const to = {
        ArrowLeft: this.#split - step, ArrowDown: this.#split - step,
        ArrowRight: this.#split + step, ArrowUp: this.#split + step,
        PageDown: this.#split - 10, PageUp: this.#split + 10, Home: 0, End: 100,
      }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      this.#put(to);
    });
    this.#put(50);
  }

  #put(split) {
    this.#split = Math.min(100, Math.max(0, split));
    this.#stage.style.setProperty("--split", `${this.#split}%`);
    const value = Math.round(this.#split);
    this.#handle.setAttribute("aria-valuenow", value);
    this.#handle.setAttribute("aria-valuetext", `${value} % in the dark, ${100 - value} % lit up`);
    this.#stage.classList.toggle("all-lit", this.#split < 22);
    this.#stage.classList.toggle("all-dark", this.#split > 78);
  }
}

function litBy({ outcome, path }) {
  if (outcome === "as_is") return "bright enough as it is";
  if (outcome !== "enhanced") return outcome;
  return path === "edge" ? "lit up here" : "lit up";
}

// How the node stands: chips at the top, facts beside the picture, and one line when something is not as it should be.

import { count, element, find, ms, rate, say } from "./words.js";

const RECENT_MS = 10_000;

export class Standing {
  #chips = new Map();
  #facts = new Map();
  #states = {};
  #arrived = new Map(); // camera -> [time, latency] of its last frames
  #last = new Map(); // camera -> time of its last frame
  #lost = "";
  #began = performance.now();

  constructor() {
    setInterval(() => this.#show(), 1000);
  }

  camera = "";

  reading(camera, latency) {
    this.#last.set(camera, performance.now());
    const recent = this.#arrived.get(camera) ?? [];
    recent.push([performance.now(), latency ?? 0]);
    while (recent.length && recent[0][0] < performance.now() - RECENT_MS) recent.shift();
    this.#arrived.set(camera, recent);
  }

  state(cameras) {
    this.#states = cameras;
    this.#lost = "";
    this.#show();
  }

  lost(reason) {
    this.#lost ||= reason || "This edge node does not answer: it has stopped, or the network is away. Trying again";
    this.#show();
  }

  // "good", "away" (works without the cloud), "bad" or "ended", for the dot on a tile.
  health(camera) {
    const state = this.#states[camera];
    if (!state || this.#lost) return "";
    if (state.ended) return "ended";
    if (state.source.problem) return "bad";
    return !state.cloud.wanted || state.cloud.connected ? "good" : "away";
  }

  #show() {
    const state = this.#states[this.camera];
    document.body.classList.toggle("lost", Boolean(this.#lost));
    this.#banner(state);
    if (!state) return;
    const recent = (this.#arrived.get(this.camera) ?? []).filter(([at]) => at > performance.now() - RECENT_MS);
    const span = Math.min(RECENT_MS, performance.now() - this.#began) / 1000;
    const sorted = recent.map(([, latency]) => latency).sort((a, b) => a - b);
    const cloud = cloudWords(state);
    this.#chip("cloud", cloud.kind, cloud.short);
    this.#chip("rate", "", this.#rate(recent.length / Math.max(1, span)));
    this.#chip("latency", "", sorted.length ? `${ms(sorted[sorted.length >> 1])} a frame` : "");
    this.#chip("spool", state.spool.waiting ? "warn" : "", state.spool.waiting ? `${state.spool.waiting} on disk` : "");

    const { outcomes, on_way: way, gate, spool } = state;
    const link = [rate(state.cloud.bytes_s), state.cloud.round_trip_ms && `${ms(state.cloud.round_trip_ms)} there and back`];
    this.#fact("Camera", state.ended ? `${state.source.name} has ended` : state.source.problem || state.source.name);
    this.#fact("Cloud", cloud.long, cloud.kind);
    this.#fact("Link", state.cloud.connected ? link.filter(Boolean).join(", ") + (state.cloud.slow ? ", slow" : "") : "");
    this.#pips("Window", state.cloud.connected ? state.cloud.window : null);
    this.#fact("Light", routeWords(state));
    const moving = Object.entries(way).filter(([, number]) => number).map(([name, number]) => `${number} ${name}`);
    this.#fact("On their way", moving.join(", ") || "none");
    this.#fact("On disk", spool.waiting || spool.kept
      ? `${count(spool.waiting, "frame waits", "frames wait")}${spool.given_up ? `, ${spool.given_up} given up` : ""}` : "");
    this.#fact("Gate", Object.entries(gate).filter(([name]) => name !== "gate off")
      .map(([name, number]) => `${number.toLocaleString()} ${name}`).join(", "));
    const read = outcomes.enhanced + outcomes.as_is;
    const rest = [
      outcomes.expired && `${outcomes.expired} too late`,
      outcomes.failed && `${outcomes.failed} failed`,
      state.replaced && `${state.replaced} replaced by newer ones`,
      state.skipped && `${state.skipped} left out`,
      state.sent_again && `${state.sent_again} sent again`,
    ];
    this.#fact("Frames", [`${read.toLocaleString()} read`, ...rest.filter(Boolean)].join(", "));
  }

  #rate(perSecond) {
    if (perSecond) return `${perSecond.toFixed(1)} frames/s`;
    const last = this.#last.get(this.camera);
    return last ? `no new frame for ${Math.round((performance.now() - last) / 1000)} s` : "no frame yet";
  }

  #banner(state) {
    const banner = find("banner");
    let text = this.#lost;
    if (!text && state && !state.ended) {
      if (state.source.problem) text = `${state.source.problem}. Opening it again until it works.`;
      else if (state.cloud.wanted && !state.cloud.connected) text = awayWords(state);
      else if (state.route.reason) text = `Lit up on this device for now: ${state.route.reason}.`;
    }
    say(banner, text);
    banner.hidden = !text;
    banner.classList.toggle("bad", Boolean(this.#lost || state?.source.problem));
  }

  #chip(key, kind, text) {
    let chip = this.#chips.get(key);
    if (!chip) {
      chip = element("li");
      this.#chips.set(key, chip);
      find("chips").append(chip);
    }
    chip.className = kind;
    chip.hidden = !text;
    say(chip, text);
  }

  #fact(name, text, kind = "") {
    const value = this.#value(name, Boolean(text));
    value.className = kind;
    say(value, text);
  }

  #pips(name, window) {
    const value = this.#value(name, Boolean(window?.granted));
    if (!window?.granted) return;
    const used = Math.max(0, window.granted - window.free);
    const text = `${used} of ${count(window.granted, "frame", "frames")} out`;
    if (value.dataset.text === text) return;
    value.dataset.text = text;
    const shown = Math.min(window.granted, 12);
    const pips = Array.from({ length: shown }, (_, place) => element("i", { class: place < used ? "pip used" : "pip" }));
    value.replaceChildren(element("span", { class: "pips", "aria-hidden": "true" }, ...pips), text);
  }

  #value(name, shown) {
    let value = this.#facts.get(name);
    if (!value) {
      value = element("dd");
      this.#facts.set(name, value);
      find("facts").append(element("div", {}, element("dt", { text: name }), value));
    }
    value.parentElement.hidden = !shown;
    return value;
  }
}

function cloudWords({ cloud }) {
  if (!cloud.wanted) return { kind: "", short: "on its own", long: "not used: this device lights up by itself" };
  if (!cloud.connected) return { kind: "warn", short: "cloud away", long: `away; trying ${cloud.address}` };
  if (!cloud.results) return { kind: "warn", short: "results away", long: `${cloud.address}, its results do not come` };
  return { kind: "good", short: "cloud", long: cloud.address };
}

function routeWords({ route, cloud }) {
  if (route.now === "edge") return route.reason ? `on this device: ${route.reason}` : "on this device";
  return cloud.connected ? "in the cloud" : "waits for the cloud";
}

function awayWords({ route, spool, cloud }) {
  const kept = spool.waiting ? ` ${count(spool.waiting, "frame waits", "frames wait")} on disk.` : "";
  if (route.now === "edge") return `The cloud is away: this device lights frames up by itself.${kept}`;
  return `No cloud node answers at ${cloud.address}: trying again.${kept}`;
}

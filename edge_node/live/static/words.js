// How things are said, and how elements are made: text goes in as text, never as markup.

export const find = (id) => document.getElementById(id);

export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key === "class") made.className = value;
    else if (key === "text") made.textContent = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

// Sets the text only where it differs: what does not change costs no layout.
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });

export function time(unixNs) {
  const at = new Date(unixNs / 1e6);
  const today = at.toDateString() === new Date().toDateString();
  return today ? clock.format(at) : `${day.format(at)}, ${clock.format(at)}`;
}

export function ms(value) {
  if (value >= 1000) return `${(value / 1000).toFixed(value < 10_000 ? 2 : 1)} s`;
  return value >= 100 ? `${Math.round(value)} ms` : `${value.toFixed(1)} ms`;
}

export function rate(bytesPerSecond) {
  if (!bytesPerSecond) return "";
  const mega = bytesPerSecond / 1e6;
  return mega >= 0.1 ? `${mega.toFixed(mega < 10 ? 1 : 0)} MB/s` : `${Math.round(bytesPerSecond / 1e3)} kB/s`;
}

export function count(number, one, many) {
  return `${number.toLocaleString()} ${number === 1 ? one : many}`;
}

// Whether there is a picture in which text was looked for.
export function isRead({ outcome }) {
  return outcome === "enhanced" || outcome === "as_is";
}

// The stages of a frame's walk, as people say them, and where each takes place.
export const STAGES = {
  source: ["at the camera", "edge"],
  gate: ["judged", "edge"],
  pack: ["packed", "edge"],
  spool: ["on disk", "edge"],
  uplink: ["sent", "link"],
  ingress: ["taken in", "cloud"],
  scheduler: ["queued", "cloud"],
  engine: ["lit up", "cloud"],
  publisher: ["handed back", "cloud"],
  downlink: ["on the way", "link"],
  unpack: ["unpacked", "edge"],
  local_enhancer: ["lit up here", "edge"],
  reader: ["read", "edge"],
};

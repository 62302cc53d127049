"use strict";
// What the node sends is text and numbers: it goes into the page as text alone.
const KEPT = 600;
const $ = (id) => document.getElementById(id);
const make = (tag, text, css) => {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (css) element.className = css;
  return element;
};
const number = (value, digits = 0) =>
  value === null || value === undefined ? "–" : value.toLocaleString("en", { maximumFractionDigits: digits });
const ms = (value) =>
  value === null || value === undefined ? "–" : value < 1000 ? `${number(value)} ms` : `${number(value / 1000, value < 10000 ? 2 : 1)} s`;
const bytes = (value) => {
  if (value === null || value === undefined) return "–";
  const units = ["B", "kB", "MB", "GB"];
  let step = 0;
  while (value >= 1000 && step < 3) { value /= 1000; step += 1; }
  return `${number(value, value < 10 ? 1 : 0)} ${units[step]}`;
};
const age = (s) => (s < 5400 ? `${number(s / 60)} min` : s < 172800 ? `${number(s / 3600, 1)} h` : `${number(s / 86400)} days`);
const percent = (value) => (value === null || value === undefined ? "–" : `${number(100 * value)} %`);
const mean = (values) => (values.length ? values.reduce((a, b) => a + b, 0) / values.length : null);
const use = (point) => mean(Object.values(point.use));

const CHARTS = [
  { title: "Frames a second", lines: [["lit up", (p) => p.done], ["failed, expired or turned away", (p) => p.other]], show: (v) => number(v, 1) },
  { title: "Time in this node", lines: [["p50", (p) => p.p50], ["p95", (p) => p.p95]], show: ms },
  { title: "Frames that wait", lines: [["essential", (p) => p.queue.essential], ["standard", (p) => p.queue.standard], ["secondary", (p) => p.queue.secondary]], show: number },
  { title: "Devices busy", lines: [["of their time", use]], show: percent, top: 1 },
  { title: "Batch", lines: [["frames, on average", (p) => p.batch]], show: (v) => number(v, 1) },
  { title: "Bytes a second", lines: [["frames in", (p) => p.up], ["results out", (p) => p.down]], show: bytes },
];

let points = [], words = null, span = 300, paused = false, charts = [];
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function build() {
  for (const chart of charts) chart.plot.destroy();
  $("charts").replaceChildren();
  const [ink, line, lines] = [color("--soft"), color("--line"), ["--lamp", "--edge", "--link"].map(color)];
  charts = CHARTS.map((about) => {
    const box = make("section", undefined, "chart"), note = make("p"), place = make("div", undefined, "plot");
    box.append(make("h2", about.title), place, note);
    box.tabIndex = 0;
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", `${about.title}; arrow keys move through time`);
    $("charts").append(box);
    const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    const plot = new uPlot({
      width: Math.max(200, place.clientWidth), height: 150, legend: { show: false },
      cursor: { drag: { x: false, y: false }, points: { size: 6 } },
      scales: { y: { range: (u, low, high) => [0, about.top || Math.max(high * 1.1 || 0, 1)] } },
      axes: [{ ...axis, size: 26, space: 70, values: (u, at) => at.map((t) => new Date(t * 1000).toLocaleTimeString("en-GB")) },
             { ...axis, size: 52, space: 30, values: (u, at) => at.map((v) => about.show(v)) }],
      series: [{}, ...about.lines.map(([label], n) => ({ label, stroke: lines[n], width: 1.5, spanGaps: true, points: { show: false } }))],
      hooks: { setCursor: [(u) => tell(note, about, u.cursor.idx)] },
    }, [[], ...about.lines.map(() => [])], place);
    box.addEventListener("keydown", (event) => step(event, plot));
    return { about, plot, note, place };
  });
  draw();
}

function step(event, plot) {
  const last = plot.data[0].length - 1, by = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 }[event.key];
  if (event.key === "Escape") plot.setCursor({ left: -10, top: -10 });
  if (by === undefined || last < 0) return;
  event.preventDefault();
  const now = plot.cursor.idx ?? last, index = Math.min(last, Math.max(0, now + by));
  plot.setCursor({ left: plot.valToPos(plot.data[0][index], "x"), top: 10 });
}

function tell(note, about, index) {
  const shown = visible(), point = shown[index ?? shown.length - 1];
  note.replaceChildren();
  if (!point) return;
  about.lines.forEach(([label, value], n) => {
    const entry = make("span");
    entry.append(make("i", about.show(value(point) ?? null), `c${n + 1}`), label);
    note.append(entry);
  });
  if (index !== null && index !== undefined) note.append(`at ${new Date(point.t * 1000).toLocaleTimeString("en-GB")}`);
}

const visible = () => points.slice(-span);

function draw() {
  const shown = visible(), times = shown.map((point) => point.t);
  for (const { about, plot, note } of charts) {
    plot.setData([times, ...about.lines.map(([, value]) => shown.map((point) => value(point) ?? null))]);
    const end = times[times.length - 1] || Date.now() / 1000;
    plot.setScale("x", { min: end - span, max: end });
    if (plot.cursor.idx === null || plot.cursor.idx === undefined) tell(note, about, null);
  }
}

function rows(id, cells) {
  $(id).tBodies[0].replaceChildren(...cells.map((row) => {
    const line = make("tr");
    line.append(...row.map((cell) => make("td", cell)));
    return line;
  }));
}

function write() {
  const point = points[points.length - 1], { status, queue, edges, rejected, spool } = words;
  $("state").textContent = status.ready ? "ready" : status.unready;
  $("state").className = `state ${status.ready ? "good" : "bad"}`;
  $("about").textContent = `${status.node} on ${status.address}, up ${age(status.uptime_s)}`;
  document.title = `${status.ready ? "" : "⚠ "}Lamplight cloud node`;
  rows("queue", queue.map((row) => [row.priority, number(row.frames), ms(row.oldest_ms), ms(row.wait_ms)]));
  rows("devices", status.devices.map((device) => {
    const faults = Object.entries(device.faults).map(([name, count]) => `${count} × ${name}`).join(", ");
    return [device.device, percent(point ? point.use[device.device] : null), (device.healthy ? "works" : "lost") + (faults ? `; ${faults}` : "")];
  }));
  rows("edges", edges.map((row) => [row.edge, number(row.rate, 1), `${row.out} of ${row.window}`, number(row.frames)]));
  $("edgecount").textContent = status.edges > edges.length ? `${edges.length} busiest of ${number(status.edges)}` : number(status.edges);
  const turned = Object.entries(rejected).map(([reason, count]) => `${number(count)} ${reason}`).join(", ") || "none";
  const facts = [
    ["Models", Object.entries(status.models).map(([preset, model]) => `${preset}: ${model}`).join(", ")],
    ["NATS", status.nats ? "connected" : "away"],
    ["Results that wait", `${number(status.results.waiting)}, ${bytes(spool.bytes)}${spool.oldest_s ? `, oldest ${spool.oldest_s} s` : ""}`],
    ["Turned away", turned],
  ];
  $("facts").replaceChildren(...facts.flatMap(([name, text]) => [make("dt", name), make("dd", text)]));
  const tiles = [
    ["frames/s", point && number(point.done, 1)], ["p50", point && ms(point.p50)], ["p95", point && ms(point.p95)],
    ["devices busy", point && percent(use(point))], ["edges", number(status.edges)], ["frames wait", number(status.queued.frames)],
    ["frames a batch", point && number(point.batch, 1)],
  ];
  $("tiles").replaceChildren(...tiles.map(([name, value]) => {
    const tile = make("div", undefined, "tile");
    tile.append(make("b", value ?? "–"), make("span", name));
    return tile;
  }));
}

function show() {
  if (paused || !words) return;
  write();
  draw();
}

function listen() {
  const source = new EventSource("/live/events");
  source.addEventListener("history", (event) => {
    const { points: all, ...rest } = JSON.parse(event.data);
    [points, words] = [all, rest];
    document.body.classList.remove("stale");
    show();
  });
  source.addEventListener("now", (event) => {
    const { point, ...rest } = JSON.parse(event.data);
    points.push(point);
    points.splice(0, points.length - KEPT);
    words = rest;
    show();
  });
  source.onerror = () => {
    document.body.classList.add("stale");
    $("state").textContent = "no answer from the node; trying again";
    $("state").className = "state bad";
    if (source.readyState === EventSource.CLOSED) setTimeout(listen, 5000);
  };
}

for (const input of document.getElementsByName("span")) {
  input.addEventListener("change", () => { span = Number(input.value); draw(); });
}
$("pause").addEventListener("click", () => {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", String(paused));
  $("pause").textContent = paused ? "Go on" : "Pause";
  show();
});
new ResizeObserver(() => {
  for (const { plot, place } of charts) {
    if (place.clientWidth && place.clientWidth !== plot.width) plot.setSize({ width: place.clientWidth, height: 150 });
  }
}).observe($("charts"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", build);
build();
listen();

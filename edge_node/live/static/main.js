// Joins the parts: what comes from the edge node goes where it is shown.

import { Alerts } from "./alerts.js";
import { Readings } from "./readings.js";
import { Search } from "./search.js";
import { Stage } from "./stage.js";
import { Standing } from "./standing.js";
import { Stream } from "./stream.js";
import { Tiles } from "./tiles.js";
import { waterfall } from "./waterfall.js";
import { find, say } from "./words.js";

const stage = new Stage(), readings = new Readings(), standing = new Standing(), tiles = new Tiles();
const search = new Search(readings), stream = new Stream(), alerts = new Alerts();
let names = [];

const receive = {
  hello({ cameras }) {
    stream.send({ wide: stage.wide });
    if (cameras.join("\n") !== names.join("\n")) {
      names = cameras;
      tiles.cameras = cameras;
      readings.severalCameras = alerts.severalCameras = cameras.length > 1;
    }
    const wanted = cameraInAddress();
    tiles.open(cameras.includes(wanted) ? wanted : cameras.includes(tiles.opened) ? tiles.opened : cameras[0]);
  },
  before({ messages }) {
    alerts.before(messages.filter(({ type }) => type === "alert"));
    for (const message of messages) {
      if (message.type === "alert") readings.alert(message.alert);
      else receive[message.type](message, true);
    }
    for (const name of names) mark(name);
  },
  reading({ camera, reading, spooled }, before = false) {
    readings.add(camera, reading);
    if (spooled) return; // it says nothing of now
    tiles.reading(camera, reading);
    if (!before) standing.reading(camera, reading.latency_ms);
  },
  sight({ camera, sight }) {
    readings.sight(camera, sight);
  },
  alert({ camera, alert }) {
    alerts.add(camera, alert);
    readings.alert(alert);
    mark(camera);
  },
  picture(picture) {
    const shown = stream.receipt();
    if (picture.camera === tiles.opened) stage.put(picture, shown);
    else shown();
    tiles.put(picture, () => {});
  },
  tile(picture) {
    tiles.put(picture, stream.receipt());
  },
  state({ cameras }) {
    standing.state(cameras);
    tiles.health((name) => standing.health(name));
  },
  dropped() {}, // this browser was too slow for some readings; they are kept all the same
};

stream.addEventListener("message", ({ detail }) => receive[detail.type]?.(detail));
stream.addEventListener("lost", ({ detail }) => {
  standing.lost(detail.reason);
  tiles.health((name) => standing.health(name));
});
new ResizeObserver(() => stream.send({ wide: stage.wide })).observe(find("view"));
stage.addEventListener("painted", ({ detail }) => waterfall(detail, find("stage").classList.contains("held")));
tiles.addEventListener("open", ({ detail }) => {
  if (standing.camera !== detail) stage.clear();
  stage.alerts = alerts.inSight(detail);
  standing.camera = detail;
  say(find("edge"), detail);
  document.title = `${detail} · Lamplight`;
  stream.send({ open: detail });
});

// On its tile and in its picture: which alerts are in sight.
function mark(camera) {
  const patterns = alerts.inSight(camera);
  tiles.alerted(camera, [...patterns.values()]);
  if (camera === tiles.opened) stage.alerts = patterns;
}

function cameraInAddress() {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return ""; // as of #50%
  }
}

function open({ detail: { camera, frame } }) {
  if (camera && camera !== tiles.opened) tiles.open(camera);
  if (stage.has(frame)) stage.show(frame);
  else say(find("told"), "That frame’s pictures are not in this browser any more.");
}
readings.addEventListener("open", open);
search.addEventListener("open", open);
alerts.addEventListener("open", open);

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches("input:not([type=checkbox])");
  if (event.key === "Escape" && typing) {
    event.target.value = "";
    event.target.dispatchEvent(new Event("input"));
    event.target.blur();
  }
  if (typing) return;
  if (event.key === "/") {
    event.preventDefault();
    find("query").focus();
  } else if (event.key === "b") stage.toggleOutlines();
  else if (event.key === "k") find("pause").click();
  else if (event.key === "d" && alerts.unseen.length) find("alerts-seen").click();
  else if (/^[1-9]$/.test(event.key)) tiles.openAt(Number(event.key) - 1);
});

// What was read, drawn over the picture: outlines, and labels where they hide no text.

import { element } from "./words.js";

const MOST_LABELS = 60;
const SVG = "http://www.w3.org/2000/svg";
const LETTER = 7.2, HIGH = 19, GAP = 4; // of a label, in points of the screen

// alerts: pattern by sight; those regions are marked and always have a label.
export function outline(regions, width, height, boxes, labels, alerts = new Map()) {
  boxes.setAttribute("viewBox", `0 0 ${width} ${height}`);
  boxes.replaceChildren(
    ...regions.flatMap(({ polygon, sight }) =>
      ["halo", "line"].map((kind) => {
        const shape = document.createElementNS(SVG, "polygon");
        shape.setAttribute("class", alerts.has(sight) ? `${kind} alert` : kind);
        shape.setAttribute("points", polygon.map(([x, y]) => `${x},${y}`).join(" "));
        return shape;
      }),
    ),
  );
  const scale = labels.clientWidth / width || 1;
  const taken = regions.map(({ polygon }) => bounds(polygon, scale));
  const first = regions.map((_, place) => place).sort((a, b) => alerts.has(regions[b].sight) - alerts.has(regions[a].sight));
  const shown = first.slice(0, MOST_LABELS).map((place) => {
    const { text, confidence, sight } = regions[place], alert = alerts.get(sight);
    const words = alert === undefined ? text : `Alert: ${alert}`;
    const where = words && (free(taken[place], words, taken, width * scale, height * scale) ?? (alert && taken[place]));
    if (!where) return null;
    taken.push(where);
    const label = element("span", { text: words, dir: "auto" });
    label.classList.toggle("alert", alert !== undefined);
    label.style.left = `${(100 * where.left) / (width * scale)}%`;
    label.style.top = `${(100 * where.top) / (height * scale)}%`;
    label.classList.toggle("unsure", alert === undefined && confidence < 0.5);
    return label;
  });
  labels.replaceChildren(...shown.filter(Boolean));
}

function bounds(polygon, scale) {
  const xs = polygon.map(([x]) => x * scale), ys = polygon.map(([, y]) => y * scale);
  return { left: Math.min(...xs), top: Math.min(...ys), right: Math.max(...xs), bottom: Math.max(...ys) };
}

// Above, below, right or left of a region, where the picture goes on and nothing else is.
function free({ left, top, right, bottom }, text, taken, wide, high) {
  const width = [...text].length * LETTER + 10;
  const corners = [
    [left, top - HIGH - GAP],
    [left, bottom + GAP],
    [right - width, top - HIGH - GAP],
    [right + GAP, (top + bottom - HIGH) / 2],
    [left - width - GAP, (top + bottom - HIGH) / 2],
  ];
  return corners
    .map(([x, y]) => ({ left: x, top: y, right: x + width, bottom: y + HIGH }))
    .find((place) => place.left >= 0 && place.top >= 0 && place.right <= wide && place.bottom <= high
      && !taken.some((other) => place.left < other.right && place.right > other.left
        && place.top < other.bottom && place.bottom > other.top));
}

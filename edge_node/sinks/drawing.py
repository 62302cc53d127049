"""Pictures for people: dark and enhanced side by side, boxes with what they say or their scores, a caption."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from common.frame import Reading, Region, Route
from common.packing import to_rgb
from common.pixels import Bytes
from edge_node.sinks.sink import Shown

BOX = (80, 255, 120)
HALO = (0, 0, 0)
PAPER, INK, FAINT, ALARM = (24, 24, 26), (236, 236, 236), (150, 150, 155), (255, 140, 100)
WAYS = {Route.CLOUD: "", Route.EDGE: " · lit here", Route.NONE: " · as it is"}
MIN_PANEL, MAX_PANEL = 360, 1920  # width of a panel, pixels
MAX_SCORES = 60  # more labels than this would hide the picture
LONGEST_LABEL = 40  # letters

Rectangle = tuple[float, float, float, float]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def annotate(shown: Shown) -> Bytes | None:
    """The picture to keep, (H, W, 3) uint8 RGB; None if there are no pixels at all.

    Left the dark frame, right the enhanced one with its regions or why there is none (only the enhanced one, where
    the dark one is missing), under both a caption strip.
    """
    panels = []
    if shown.dark is not None:
        panels.append(_panel(to_rgb(shown.dark), ()))
    if shown.enhanced is not None:
        panels.append(_panel(shown.enhanced, shown.reading.regions))
    elif panels:
        panels.append(_notice(panels[0].size, shown.reading))
    if not panels:
        return None
    height = max(panel.height for panel in panels)
    panels = [p if p.height == height else p.resize((round(p.width * height / p.height), height)) for p in panels]
    gap = 2
    width = sum(panel.width for panel in panels) + gap * (len(panels) - 1)
    strip = _caption(shown.reading, width, min(34, max(22, height // 16)))
    canvas = Image.new("RGB", (width, height + strip.height), PAPER)
    left = 0
    for panel in panels:
        canvas.paste(panel, (left, 0))
        left += panel.width + gap
    canvas.paste(strip, (0, height))
    return np.asarray(canvas)


def _panel(rgb: Bytes, regions: tuple[Region, ...]) -> Image.Image:
    image = Image.fromarray(rgb)
    scale = 1.0
    if image.width > MAX_PANEL:
        scale = MAX_PANEL / image.width
    elif image.width < MIN_PANEL:
        scale = -(-MIN_PANEL // image.width)
    if scale != 1.0:
        size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        image = image.resize(size, Image.Resampling.BOX if scale < 1 else Image.Resampling.NEAREST)
    draw_regions(image, regions, scale)
    return image


def draw_regions(image: Image.Image, regions: tuple[Region, ...], scale: float) -> None:
    """Outline regions on the image, coloured on a black halo, with labels where they hide no text."""
    draw = ImageDraw.Draw(image)
    line = max(2, round(image.width / 500))
    font = ImageFont.load_default(min(22, max(10, image.width // 55)))
    outlines = [[(x * scale, y * scale) for x, y in region.polygon] for region in regions]
    for outline in outlines:
        draw.line([*outline, outline[0], outline[1]], fill=HALO, width=line + 2, joint="curve")
    for outline in outlines:
        draw.line([*outline, outline[0], outline[1]], fill=BOX, width=line, joint="curve")
    taken = [_bounds(outline) for outline in outlines]
    for region, bounds in zip(regions, taken[:MAX_SCORES], strict=False):
        text = label_of(region)
        left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
        label = _free_place(bounds, right - left + 4, bottom - top + 4, line, taken, image.size)
        if label is not None:
            taken.append(label)
            draw.rectangle(label, fill=BOX)
            draw.text((label[0] + 2 - left, label[1] + 2 - top), text, fill=HALO, font=font)


def label_of(region: Region) -> str:
    """What a region says and how sure that is, or else how sure the detector is of it."""
    if not region.text:
        return f"{region.score:.2f}"
    text = region.text if len(region.text) <= LONGEST_LABEL else region.text[: LONGEST_LABEL - 1] + "…"
    return f"{text} {region.confidence:.2f}"


def _bounds(outline: list[tuple[float, float]]) -> Rectangle:
    xs, ys = [x for x, _ in outline], [y for _, y in outline]
    return min(xs), min(ys), max(xs), max(ys)


def _free_place(
    bounds: Rectangle, wide: float, high: float, line: int, taken: list[Rectangle], size: tuple[int, int]
) -> Rectangle | None:
    """Above, below, right or left of a region, where the image goes on and nothing else is."""
    left, top, right, bottom = bounds
    gap = line + 1
    corners = (
        (left, top - high - gap),
        (left, bottom + gap),
        (right + gap, top),
        (left - wide - gap, top),
        (right - wide, top - high - gap),
        (right - wide, bottom + gap),
    )
    for x, y in corners:
        place = (x, y, x + wide, y + high)
        inside = x >= 0 and y >= 0 and place[2] < size[0] and place[3] < size[1]
        if inside and not any(_meet(place, other) for other in taken):
            return place
    return None


def _meet(a: Rectangle, b: Rectangle) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _notice(size: tuple[int, int], reading: Reading) -> Image.Image:
    """A dark panel that says why there is no enhanced picture."""
    panel = Image.new("RGB", size, PAPER)
    font = ImageFont.load_default(min(24, max(12, size[0] // 28)))
    text = fit(f"{reading.outcome.name.lower()}: {reading.reason or 'no picture'}", font, size[0] - 20)
    ImageDraw.Draw(panel).text((size[0] / 2, size[1] / 2), text, fill=ALARM, font=font, anchor="mm")
    return panel


def _caption(reading: Reading, width: int, height: int) -> Image.Image:
    strip = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(strip)
    font = ImageFont.load_default(round(height * 0.58))
    facts = caption_facts(reading)
    room = width - 20
    right = int(min(draw.textlength(facts, font=font), room * 0.75))
    draw.text((10, height / 2), fit(reading.name, font, room - right - 16), fill=INK, font=font, anchor="lm")
    draw.text((width - 10, height / 2), fit(facts, font, right + 1), fill=FAINT, font=font, anchor="rm")
    return strip


def caption_facts(reading: Reading) -> str:
    """What the caption says beside the name: priority, regions or outcome, latency."""
    count = len(reading.regions)
    found = f"{count} text region{'' if count == 1 else 's'}"
    what = found if reading.outcome.is_read else reading.outcome.name.lower()
    if reading.outcome.is_read:
        what += WAYS[reading.path]
    return f"{reading.priority.name.lower()} · {what} · {reading.latency_ns / 1e6:,.0f} ms"


def fit(text: str, font: Font, width: float) -> str:
    """The text on one line, cut with an ellipsis to at most `width` pixels."""
    text = " ".join(text.encode("utf-8", "replace").decode().split())
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…" if text else ""

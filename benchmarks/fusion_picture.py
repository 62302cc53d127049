"""The picture of docs/fusion.md: a page of text that is drawn here, in the dark, alone and fused."""

from pathlib import Path

import numpy as np
from bursts import SHEET, burst
from PIL import Image, ImageDraw, ImageFont

from common.color import to_rgb
from edge_node.fusion import Fuser
from edge_node.local_enhancer import LocalEnhancer

SIZE = (480, 640)  # rows, columns
FRAMES = 8
RATIO = (150.0, 150.0)  # times less light
SEED = 4
LINES = (
    (44, "NIGHT BUS 42"), (30, "Harbour  Old Town  Airport"), (22, "every 20 minutes until 05:10"),
    (18, "Tickets from the driver or at the kiosk"), (15, "Please signal clearly. Doors open at the front."),
    (13, "Lost property: ring 555 0142, Monday to Friday, 9 to 17"), (11, "Stop 1187, platform B. Valid from 1 March."),
)  # fmt: skip


def page() -> np.ndarray:
    """(480, 640, 3) uint8: a timetable on a board."""
    picture = Image.new("RGB", SIZE[::-1], (214, 208, 196))
    pen, top = ImageDraw.Draw(picture), 24
    for size, text in LINES:
        pen.text((28, top), text, (40, 38, 44), ImageFont.load_default(size))
        top += int(size * 1.45)
    return np.asarray(picture)


def plate() -> np.ndarray:
    picture = Image.new("RGB", SHEET[::-1], (232, 232, 224))
    pen = ImageDraw.Draw(picture)
    pen.rectangle((6, 6, SHEET[1] - 7, SHEET[0] - 7), outline=(30, 30, 34), width=4)
    pen.text((24, 44), "LX 07 NFA", (30, 30, 34), ImageFont.load_default(38))
    return np.asarray(picture)


def draw(path: Path) -> None:
    """Above the newest frame alone, below the fused one; left as the camera saw it, right lit by preset `edge`."""
    scene = burst(page(), SEED, RATIO, FRAMES, sway_pixels=3.0, sheet=plate())
    fuser, enhancer = Fuser(FRAMES), LocalEnhancer()
    for frame in scene.frames:
        out = fuser.add(frame)
    rows = [np.hstack([rgb, enhancer.enhance(rgb)]) for rgb in (to_rgb(scene.frames[-1]), to_rgb(out))]
    Image.fromarray(np.vstack(rows)).save(path, quality=85)
    print(f"{path}: {FRAMES} frames, {fuser.merged:.1f} in the fused one, swayed by {np.ptp(scene.path, axis=0)}")

"""Signs, plates and labels that look as if they hang in a photograph, with the outline of every line of text."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Floats = npt.NDArray[np.float32]
Colour = tuple[int, int, int]

SCALE = 2  # canvas pixels for one pixel of the frame
FOCAL = 1800.0  # canvas pixels: how strong the perspective of a turned sign is

WHITE, BLACK = (240, 240, 232), (24, 24, 26)
BLUE, RED, GREEN, YELLOW = (28, 62, 140), (168, 32, 34), (18, 96, 62), (238, 196, 40)
PAPER, CREAM, SLATE, WOOD = (236, 232, 218), (244, 232, 196), (52, 58, 62), (120, 78, 44)


@dataclass(frozen=True)
class Line:
    """One line of text; `size` is the font's size in pixels of the frame."""

    text: str
    size: int
    font: str = "DejaVuSans-Bold"  # a file in matplotlib's font folder


@dataclass(frozen=True)
class Sign:
    """A flat sign. Positions and sizes are in pixels of the frame, angles in degrees."""

    lines: tuple[Line, ...]
    centre: tuple[float, float]
    ground: Colour = WHITE
    ink: Colour = BLACK
    border: Colour | None = None
    yaw: float = 0.0  # turned about the vertical
    roll: float = 0.0  # turned in the plane of the picture
    padding: int = 9
    radius: int = 5
    pole: bool = False
    picture: str = ""  # name of a photograph above the text, for posters


@dataclass(frozen=True)
class Face:
    """A sign seen straight on: colours (H, W, 3) in [0, 1], coverage (H, W), tight boxes of its lines (N, 4, 2)."""

    colour: Floats
    cover: Floats
    boxes: Floats


@cache
def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return ImageFont.truetype(str(folder / f"{name}.ttf"), size)


def _ink(line: Line) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the ink alone when drawn at (0, 0); Pillow's own box has the side bearings in it."""
    font, margin = _font(line.font, line.size * SCALE), line.size * SCALE
    sheet = Image.new("L", (int(font.getlength(line.text)) + 2 * margin, 3 * margin))
    ImageDraw.Draw(sheet).text((margin, margin), line.text, 255, font)
    left, top, right, bottom = sheet.getbbox() or (margin, margin, margin + 1, margin + 1)
    return left - margin, top - margin, right - margin, bottom - margin


def paint(sign: Sign, photographs: dict[str, npt.NDArray[np.uint8]]) -> Face:
    """Draw a sign straight on, in canvas pixels. Sizes follow the text."""
    pad, gap = sign.padding * SCALE, sign.padding * SCALE
    inks = [_ink(line) for line in sign.lines]
    widths, heights = [b[2] - b[0] for b in inks], [b[3] - b[1] for b in inks]
    width = int(max(widths)) + 2 * pad
    top, picture = float(pad), None
    if sign.picture:
        photograph = Image.fromarray(photographs[sign.picture])
        picture = photograph.resize((width - 2 * pad, (width - 2 * pad) * photograph.height // photograph.width))
        top += picture.height + gap
    height = int(top + sum(heights) + gap * (len(inks) - 1) + pad)

    cover = Image.new("L", (width, height), 0)
    box, radius = (0, 0, width - 1, height - 1), sign.radius * SCALE
    ImageDraw.Draw(cover).rounded_rectangle(box, radius, fill=255)
    face = Image.new("RGB", (width, height), sign.ground)
    draw = ImageDraw.Draw(face)
    if sign.border:
        inset = 2 * SCALE
        inner = (inset, inset, width - 1 - inset, height - 1 - inset)
        draw.rounded_rectangle(inner, max(1, radius - inset), outline=sign.border, width=SCALE + 1)
    if picture:
        face.paste(picture, (pad, pad))
    boxes = []
    for line, ink, w, h in zip(sign.lines, inks, widths, heights, strict=True):
        left = (width - w) / 2
        draw.text((left - ink[0], top - ink[1]), line.text, sign.ink, _font(line.font, line.size * SCALE))
        boxes.append([(left, top), (left + w, top), (left + w, top + h), (left, top + h)])
        top += h + gap
    colour, coverage = (np.asarray(image, np.float32) / np.float32(255) for image in (face, cover))
    return Face(colour, coverage, np.array(boxes, np.float32))


def pose(sign: Sign, width: int, height: int) -> Floats:
    """The 3x3 homography from a face of this size to the canvas."""
    yaw, roll = np.radians(sign.yaw), np.radians(sign.roll)
    flat = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float64)
    x, y = (flat - (width / 2, height / 2)).T
    x, y, z = x * np.cos(yaw), y, x * np.sin(yaw)
    x, y = x * np.cos(roll) - y * np.sin(roll), x * np.sin(roll) + y * np.cos(roll)
    near = FOCAL / (FOCAL + z)
    seen = np.stack([x * near, y * near], axis=1) + np.array(sign.centre) * SCALE
    return np.asarray(cv2.getPerspectiveTransform(flat.astype(np.float32), seen.astype(np.float32)), np.float32)


def hang(canvas: Floats, sign: Sign, photographs: dict[str, npt.NDArray[np.uint8]]) -> tuple[Floats, Floats]:
    """Put a sign into a canvas (H, W, 3) of sRGB in [0, 1] with its shadow, the light of the place and some blur.

    Returns the new canvas and the tight outlines of the sign's lines of text, (N, 4, 2) in canvas pixels.
    """
    height, width = canvas.shape[:2]
    face = paint(sign, photographs)
    to_canvas = pose(sign, face.cover.shape[1], face.cover.shape[0])
    place = (width, height)
    cover = cv2.warpPerspective(face.cover, to_canvas, place, flags=cv2.INTER_LINEAR)
    # Beyond its edge the face goes on in its own colour, so that no dark line shows around it.
    colour = cv2.warpPerspective(face.colour, to_canvas, place, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    if sign.pole:
        canvas = _stand(canvas, sign)
    shadow = cv2.GaussianBlur(np.roll(cover, (5 * SCALE, 4 * SCALE), (0, 1)), (0, 0), 4.0 * SCALE)
    canvas = canvas * (1 - 0.45 * shadow[..., None])
    small = cv2.resize(canvas.mean(axis=2), None, fx=1 / 16, fy=1 / 16, interpolation=cv2.INTER_AREA)
    brightness = cv2.resize(cv2.GaussianBlur(small, (0, 0), 40.0 * SCALE / 16), place)
    light = np.clip((brightness / brightness.mean()) ** 0.5, 0.7, 1.15)
    light = light * np.linspace(1.06, 0.9, height, dtype=np.float32)[:, None]
    cover = cv2.GaussianBlur(cover, (0, 0), 0.5 * SCALE)[..., None]
    colour = cv2.GaussianBlur(colour, (0, 0), 0.35 * SCALE) * light[..., None]
    outlines = cv2.perspectiveTransform(face.boxes.reshape(1, -1, 2), to_canvas).reshape(-1, 4, 2)
    return np.clip(canvas * (1 - cover) + colour * cover, 0, 1).astype(np.float32), outlines.astype(np.float32)


def _stand(canvas: Floats, sign: Sign) -> Floats:
    """A round metal pole from the sign's centre to the bottom of the canvas."""
    x, y = (round(value * SCALE) for value in sign.centre)
    half = 4 * SCALE
    across = np.linspace(-1, 1, 2 * half, dtype=np.float32)
    metal = (0.25 + 0.4 * np.sqrt(1 - across**2 * 0.95))[None, :, None]
    canvas = canvas.copy()
    canvas[max(0, y) :, x - half : x + half] = metal * np.array([0.95, 0.97, 1.0], np.float32)
    return canvas

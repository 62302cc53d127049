"""Draw the generator, docs/images/network.svg:  python docs/draw_network.py

One unit is one pixel of a page 900 wide; y points down. What is drawn is `cloud_node/laegan/network.py`.
"""

from functools import partial
from math import hypot
from pathlib import Path
from random import Random
from typing import Any

from matplotlib import rcParams
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, Polygon

WIDTH, HEIGHT = 900, 728
OUT = Path(__file__).parent / "images" / "network.svg"
INK, GREY, PALE = "#1f2933", "#66717d", "#f4f6f8"
FEATURES, GATES, STEERING = "#2463a6", "#0f7b6c", "#c2600c"  # line colours; fills are their tints
TINTS = {FEATURES: "#dfebf8", GATES: "#d8f1ec", STEERING: "#fdebd8", GREY: "#ffffff", INK: "#ffffff"}
ROWS, PITCH = (302, 378, 454, 530), 76  # centre of each level, and from one to the next
FRAME, STACK, SHARED, JOIN_IN, ENCODER, AFTER_ENCODER = 66, 88, 160, 190, 250, 314
SKIP, JOIN_OUT, DECODER, AFTER_DECODER, GATE, FUSION, RESIDUAL, RAIL = 376, 438, 500, 562, 660, 738, 820, 878
TITLE = "LAE-GAN's generator: a curve solved for the frame's exposure, then AGM-Net"
KEY = (
    "C: concatenation     ×A: attention, average-pooled to the level     "
    "block: plain residual, c = 24 (fast); SRB, c = 32 (reference, paper)"
)
MIDDLE = (ROWS[0] + ROWS[3]) / 2
CHANNELS = ("c", "2c", "4c", "8c")
Point = tuple[float, float]

# Shapes stay the same in each run, so that the file changes only with the drawing.
rcParams.update({"font.family": "DejaVu Sans", "svg.fonttype": "path", "svg.hashsalt": "network"})
figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72))
axes = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(HEIGHT, 0), aspect="equal")
axes.axis("off")


def label(x: float, y: float, text: str, colour: str = INK, size: float = 10, **style: object) -> None:
    common = {"ha": "center", "va": "center", "linespacing": 1.25, "zorder": 5, "color": colour, "fontsize": size}
    axes.text(x, y, text, **common | style)


def title(x: float, y: float, text: str) -> None:
    label(x, y, text, size=12, weight="bold", ha="left")


def panel(x: float, y: float, width: float, height: float, fill: str, edge: str = "none", **style: Any) -> None:
    shape = f"round,pad=0,rounding_size={min(7, height / 5)}"
    axes.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=shape, fc=fill, ec=edge, **{"lw": 1.2} | style))


def box(x: float, y: float, width: float, height: float, text: str, colour: str = GREY, size: float = 10) -> None:
    """A box around its centre."""
    panel(x - width / 2, y - height / 2, width, height, TINTS[colour], colour, zorder=3)
    label(x, y, text, size=size)


def node(x: float, y: float, text: str, colour: str, radius: float = 12) -> None:
    axes.add_patch(Circle((x, y), radius, fc=TINTS[colour], ec=colour, lw=1.2, zorder=4))
    label(x, y, text, colour, weight="bold")


def dot(x: float, y: float, colour: str = FEATURES) -> None:
    axes.add_patch(Circle((x, y), 2.6, fc=colour, ec="none", zorder=4))


def line(*points: Point, colour: str = GREY, style: Any = "-") -> None:
    """Ends in an arrowhead."""
    (x, y), tip = points[-2:]
    away = 7 / hypot(tip[0] - x, tip[1] - y)
    dx, dy = away * (tip[0] - x), away * (tip[1] - y)
    x, y = tip[0] - dx, tip[1] - dy
    head = [tip, (x - 0.45 * dy, y + 0.45 * dx), (x + 0.45 * dy, y - 0.45 * dx)]
    axes.add_patch(Polygon(head, fc=colour, ec="none", zorder=2))
    axes.plot(*zip(*points[:-1], (x, y), strict=True), color=colour, lw=1.4, ls=style, zorder=2, solid_capstyle="butt")


def across(y: float, *ends: float, colour: str = GREY) -> None:
    """Arrows to the right: from the first x to the second, from the third to the fourth, and so on."""
    for start, end in zip(ends[::2], ends[1::2], strict=True):
        line((start, y), (end, y), colour=colour)


flow, gate = partial(line, colour=FEATURES), partial(line, colour=GATES)


def frame(x: float, y: float, fill: str, ink: str, noise: tuple[str, ...] = ()) -> None:
    """A picture of a sign, 76 x 54."""
    axes.add_patch(FancyBboxPatch((x - 38, y - 27), 76, 54, boxstyle="square,pad=0", fc=fill, ec=INK, lw=1, zorder=3))
    label(x, y, "EXIT 24", ink, 14, weight="bold")
    random = Random(0)
    for colour in noise:
        points = [(x + random.uniform(-36, 36), y + random.uniform(-25, 25)) for _ in range(80)]
        axes.plot(*zip(*points, strict=True), ls="none", marker="s", ms=1.3, mec="none", mfc=colour, zorder=6)


def stage_one() -> None:
    panel(14, 14, 752, 138, PALE)
    title(26, 29, "Stage 1: the curve")
    frame(FRAME, 88, "#12161c", "#2c333c")
    label(FRAME, 126, "dark frame I")
    box(206, 94, 128, 56, "exposure level: page\n0.70, scene 0.45,\nwith lamps 0.22", size=9.5)
    box(373, 94, 134, 56, "solve the curve:\nthe one α that brings\nmean luma to the level")
    box(552, 94, 136, 56, "enhance, 8 times\nx ← x + α x (1 − x)")
    across(94, 104, 142, 270, 306, 620, 672)
    across(94, 440, 484, colour=STEERING)
    label(460, 83, "α", STEERING, 12, weight="bold")
    line((104, 78), (122, 78), (122, 48), (552, 48), (552, 66))
    line((373, 48), (373, 66))
    dot(373, 48, GREY)
    frame(710, 88, "#a9afb6", "#39424c", ("#d7dbe0", "#717983"))
    label(710, 126, "pre-enhanced P")
    label(373, 137, "in preset paper DCE-Net predicts 24 curve maps instead of one α, and strength is 1", GREY)


def inputs_and_left_gatepost() -> None:
    line((44, 134), (44, 207), colour=STEERING)
    box(54, 174, 76, 20, "A = 1 − L", STEERING)
    line((710, 134), (710, 174), (110, 174), (110, 194), (82, 194), (82, 207))
    box(90, 222, 136, 30, "", GATES)
    box(44, 222, 34, 20, "A", STEERING)
    box(82, 222, 34, 20, "P")
    box(128, 222, 52, 20, "lift hint")
    label(166, 222, "fast only: log₂(luma P / luma I) / 8", GREY, ha="left")
    gate((STACK, 237), (STACK, ROWS[0] - 16))
    box(STACK, 256, 134, 22, "fast: PixelUnshuffle(2)")
    box(SHARED, MIDDLE, 22, 262, "", GATES)
    label(SHARED, MIDDLE, "left gatepost: one shared 3×3 conv → c", GATES, rotation=90, weight="bold")
    for i, y in enumerate(ROWS):
        width = 96 - 12 * i
        box(STACK, y, width, 32, ("stack, h × w", "h/2 × w/2", "h/4 × w/4", "h/8 × w/8")[i], GATES, 9.5)
        entry = JOIN_IN - 9 if i else ENCODER - 42
        across(y, STACK + width / 2, SHARED - 11, SHARED + 11, entry, colour=GATES)
        if i:
            gate((STACK, ROWS[i - 1] + 16), (STACK, y - 16))
            label(STACK + 6, y - 38, "bilinear ½", size=9.5, ha="left")


def encoder() -> None:
    label(ENCODER, 270, "encoder", FEATURES, 11, weight="bold")
    for i, y in enumerate(ROWS):
        half = 42 - 4 * i
        box(ENCODER, y, 2 * half, 32, f"block, {CHANNELS[i]}", FEATURES)
        node(AFTER_ENCODER, y, "×A", STEERING)
        across(y, ENCODER + half, AFTER_ENCODER - 12, colour=FEATURES)
        if i:
            node(JOIN_IN, y, "C", FEATURES, 9)
            across(y, JOIN_IN + 9, ENCODER - half, colour=FEATURES)
            middle = y - PITCH / 2
            flow((AFTER_ENCODER, y - PITCH + 12), (AFTER_ENCODER, middle), (JOIN_IN, middle), (JOIN_IN, y - 9))
            box(ENCODER, middle, 94, 28, "PixelUnshuffle(2)\n1×1 conv", FEATURES, 9)


def decoder() -> None:
    label(DECODER, 270, "decoder", FEATURES, 11, weight="bold")
    for i, y in enumerate(ROWS[:-1]):
        half, middle, below = 42 - 4 * i, y + PITCH / 2, y + PITCH - (12 if i < 2 else 0)
        box(SKIP, y, 64, 26, "3×3 conv", FEATURES)
        node(JOIN_OUT, y, "C", FEATURES, 9)
        box(DECODER, y, 2 * half, 32, f"block, {CHANNELS[i]}", FEATURES)
        node(AFTER_DECODER, y, "×A", STEERING)
        ends = (AFTER_ENCODER + 12, SKIP - 32, SKIP + 32, JOIN_OUT - 9, JOIN_OUT + 9, DECODER - half)
        across(y, *ends, DECODER + half, AFTER_DECODER - 12, AFTER_DECODER + 12, GATE - 48, colour=FEATURES)
        flow((AFTER_DECODER, below), (AFTER_DECODER, middle), (JOIN_OUT, middle), (JOIN_OUT, y + 9))
        box(DECODER, middle, 94, 28, "PixelShuffle(2)\n1×1 conv", FEATURES, 9)
    across(ROWS[3], AFTER_ENCODER + 12, GATE - 48, colour=FEATURES)
    dot(AFTER_DECODER, ROWS[3])


def right_gatepost_and_residual() -> None:
    label(GATE, 270, "right gatepost", GATES, 11, weight="bold")
    for y, enlarge in zip(ROWS, ("", "\nbilinear ×2", "\nbilinear ×4", "\nbilinear ×8"), strict=True):
        box(GATE, y, 96, 32, f"3×3 conv → c{enlarge}", GATES)
        across(y, GATE + 48, FUSION - 12, colour=GATES)
    box(FUSION, MIDDLE, 24, 262, "", GATES)
    label(FUSION, MIDDLE, "SKFF: fuses the four levels", GATES, rotation=90, weight="bold")
    across(MIDDLE, FUSION + 12, RESIDUAL - 44, colour=GATES)
    box(RESIDUAL, MIDDLE, 88, 32, "head: 3×3 conv", FEATURES)
    box(RESIDUAL, 357, 88, 34, "fast:\nPixelShuffle(2)", size=9.5)
    label(RESIDUAL + 7, 330, "residual", ha="left", size=9.5)
    node(RESIDUAL, 305, "×A", STEERING)
    box(RESIDUAL, 251, 92, 40, "× strength\nmin(α / 0.15, 1)", STEERING)
    node(RESIDUAL, 174, "+", INK)
    for start, end in ((MIDDLE - 16, 374), (340, 317), (293, 271), (231, 186), (162, 98)):
        line((RESIDUAL, start), (RESIDUAL, end))
    dot(710, 174, GREY)
    across(174, 710, RESIDUAL - 12)
    frame(RESIDUAL, 70, "#eceff2", "#1f2933")
    label(RESIDUAL, 32, "lit frame", weight="bold")


def training() -> None:
    panel(14, 602, 874, 112, "#ffffff", GREY, ls=(0, (4, 3)))
    line((RESIDUAL + 38, 70), (RAIL, 70), (RAIL, 602), style=(0, (4, 3)))
    title(26, 618, "Training only")
    label(122, 618, "losses on the lit frame; none of this runs when frames are enhanced", GREY, ha="left")
    label(26, 650, "recipe default:\nsynthetic pairs", ha="left")
    label(26, 690, "recipe paper:\nunpaired", ha="left")
    box(287, 650, 330, 32, "DBNet twin: reading (text probability),\npreserving (fine features), as in the clean frame")
    box(667, 650, 414, 32, "Charbonnier, Sobel gradient (both: text counts twice),\ntone, towards the clean frame")
    box(183, 690, 122, 32, "ETAM: DBNet's text\nmask on P")
    box(313, 690, 122, 32, "Sobel edges\nof P")
    box(457, 690, 150, 32, "SFP: features of I,\nframe and crops")
    box(617, 690, 154, 32, "global discriminator:\nframe against real ones")
    box(787, 690, 174, 32, "local discriminator:\n5 crops against real ones")


panel(1, 1, WIDTH - 2, HEIGHT - 2, "#ffffff", "#d5dbe1")
panel(14, 194, 858, 396, PALE)
title(SKIP, 213, "Stage 2: AGM-Net")
label(SKIP, 232, "a residual that takes away the noise which the curve made visible", GREY, ha="left")
for part in (stage_one, inputs_and_left_gatepost, encoder, decoder, right_gatepost_and_residual, training):
    part()
for y, name, colour in ((486, "features", FEATURES), (508, "gateposts", GATES), (530, "steering", STEERING)):
    box(784, y, 16, 12, "", colour)
    label(798, y, name, ha="left", size=9.5)
label(26, 576, KEY, ha="left", size=9.5)
figure.savefig(OUT, transparent=True, metadata={"Title": TITLE, "Date": None, "Creator": None})
OUT.write_text("".join(f"{row.rstrip()}\n" for row in OUT.read_text("utf-8").splitlines()), "utf-8")

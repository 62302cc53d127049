"""Draw the generator, docs/images/network.svg:  python docs/draw_network.py

One unit is one pixel of a page 900 wide; y points down. What is drawn is `cloud_node/laegan/network.py`.
"""

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import matplotlib

matplotlib.use("Agg")  # files only; no display is needed

from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.patches import Circle, FancyBboxPatch  # noqa: E402

WIDTH, HEIGHT = 900, 728
OUT = Path(__file__).parent / "images" / "network.svg"
INK, GREY, PALE = "#1f2933", "#66717d", "#f4f6f8"
FEATURES, GATES, STEERING = "#2463a6", "#0f7b6c", "#c2600c"  # line colours; fills are their tints
TINTS = {FEATURES: "#dfebf8", GATES: "#d8f1ec", STEERING: "#fdebd8", GREY: "#ffffff", INK: "#ffffff"}
ROWS, PITCH = (302, 378, 454, 530), 76  # centre of each level, and from one to the next
FRAME, STACK, SHARED, JOIN_IN, ENCODER, AFTER_ENCODER = 66, 88, 160, 190, 250, 314
SKIP, JOIN_OUT, DECODER, AFTER_DECODER, GATE, FUSION, RESIDUAL, RAIL = 376, 438, 500, 562, 660, 738, 826, 886
TITLE = "LAE-GAN's generator: a curve solved for the frame's exposure, then AGM-Net"
Point = tuple[float, float]

# Shapes stay the same in each run, so that the file changes only with the drawing.
plt.rcParams.update({"font.family": "DejaVu Sans", "svg.fonttype": "path", "svg.hashsalt": "network"})
figure = plt.figure(figsize=(WIDTH / 72, HEIGHT / 72))
axes = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(HEIGHT, 0), aspect="equal")
axes.axis("off")


def label(x: float, y: float, text: str, colour: str = INK, size: float = 10, **style: object) -> None:
    axes.text(x, y, text, **{"ha": "center", "va": "center", "linespacing": 1.25, "zorder": 5} | style,
              color=colour, fontsize=size)  # fmt: skip


def panel(x: float, y: float, width: float, height: float, fill: str, edge: str = "none", **style: object) -> None:
    shape = FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0,rounding_size=7", fc=fill, ec=edge, **style)
    axes.add_patch(shape)


def box(x: float, y: float, width: float, height: float, text: str, colour: str = GREY, size: float = 10) -> None:
    """A box around its centre."""
    corner = (x - width / 2, y - height / 2)
    style = f"round,pad=0,rounding_size={min(5, height / 4)}"
    axes.add_patch(FancyBboxPatch(corner, width, height, boxstyle=style, fc=TINTS[colour], ec=colour, lw=1.2, zorder=3))
    label(x, y, text, size=size)


def node(x: float, y: float, text: str, colour: str, radius: float = 12) -> None:
    axes.add_patch(Circle((x, y), radius, fc=TINTS[colour], ec=colour, lw=1.2, zorder=4))
    label(x, y, text, colour, 10, weight="bold")


def line(*points: Point, colour: str = GREY, arrow: bool = True, style: Any = "-") -> None:
    xs, ys = zip(*points, strict=True)
    axes.plot(xs, ys, color=colour, lw=1.4, ls=style, zorder=2, solid_joinstyle="round")
    if arrow:
        head = {"arrowstyle": "-|>,head_width=0.22,head_length=0.42", "color": colour, "lw": 1.4, "shrinkA": 0}
        axes.annotate("", points[-1], points[-2], arrowprops=head | {"shrinkB": 0}, zorder=2)


def dot(x: float, y: float, colour: str = FEATURES) -> None:
    axes.add_patch(Circle((x, y), 2.6, fc=colour, ec="none", zorder=4))


def frame(x: float, y: float, fill: str, ink: str, noise: Sequence[str] = ()) -> None:
    """A picture of a sign, 76 x 54."""
    axes.add_patch(FancyBboxPatch((x - 38, y - 27), 76, 54, boxstyle="square,pad=0", fc=fill, ec=INK, lw=1, zorder=3))
    label(x, y, "EXIT 24", ink, 14, weight="bold")
    random = Random(0)
    for colour in noise:
        points = [(x + random.uniform(-36, 36), y + random.uniform(-25, 25)) for _ in range(110)]
        axes.plot(*zip(*points, strict=True), ls="none", marker="s", ms=1.3, mec="none", mfc=colour, zorder=6)


def stage_one() -> None:
    panel(14, 14, 752, 138, PALE)
    label(26, 29, "Stage 1: the curve", size=12, weight="bold", ha="left")
    frame(FRAME, 88, "#12161c", "#2c333c")
    label(FRAME, 126, "dark frame I")
    line((104, 94), (142, 94))
    box(206, 94, 128, 56, "exposure level: page\n0.65, scene 0.45,\nhalf lit already 0.22", size=9.5)
    line((270, 94), (306, 94))
    box(373, 94, 134, 56, "solve the curve:\nthe one α that brings\nmean luma to the level")
    line((440, 94), (484, 94), colour=STEERING)
    label(460, 83, "α", STEERING, 12, weight="bold")
    box(552, 94, 136, 56, "enhance, 8 times\nx ← x + α x (1 − x)")
    line((620, 94), (672, 94))
    line((104, 78), (122, 78), (122, 48), (552, 48), (552, 66))
    line((373, 48), (373, 66))
    dot(373, 48, GREY)
    frame(710, 88, "#a9afb6", "#39424c", ("#d7dbe0", "#717983"))
    label(710, 126, "pre-enhanced P")
    label(373, 137, "in preset paper DCE-Net predicts 24 curve maps instead of one α", GREY)


def inputs() -> None:
    line((44, 134), (44, 211), colour=STEERING)
    box(54, 174, 76, 20, "A = 1 − L", STEERING)
    line((710, 134), (710, 174), (110, 174), (110, 194), (82, 194), (82, 211))
    box(44, 222, 34, 20, "A", STEERING)
    box(82, 222, 34, 20, "P")
    box(128, 222, 52, 20, "lift hint")
    label(162, 222, "fast only: log₂(luma P / luma I) / 8", GREY, ha="left")
    line((STACK, 232), (STACK, 242), arrow=False)
    box(STACK, 254, 134, 22, "fast: PixelUnshuffle(2)")


def left_gatepost() -> None:
    box(SHARED, (ROWS[0] + ROWS[3]) / 2, 22, 262, "", GATES)
    label(SHARED, (ROWS[0] + ROWS[3]) / 2, "left gatepost: one shared 3×3 conv → c", GATES, rotation=90, weight="bold")
    line((STACK, 265), (STACK, ROWS[0] - 16), colour=GATES)
    for i, y in enumerate(ROWS):
        width = 96 - 12 * i
        box(STACK, y, width, 32, ("stack, h × w", "h/2 × w/2", "h/4 × w/4", "h/8 × w/8")[i], GATES, 9.5)
        line((STACK + width / 2, y), (SHARED - 11, y), colour=GATES)
        line((SHARED + 11, y), (JOIN_IN - 9 if i else ENCODER - 46, y), colour=GATES)
        if i:
            line((STACK, ROWS[i - 1] + 16), (STACK, y - 16), colour=GATES)
            label(STACK + 6, y - 38, "bilinear ½", size=9.5, ha="left")


def encoder_and_decoder() -> None:
    label(ENCODER, 270, "encoder", FEATURES, 11, weight="bold")
    label(DECODER, 270, "decoder", FEATURES, 11, weight="bold")
    for i, y in enumerate(ROWS):
        width, channels, middle = 92 - 12 * i, ("c", "2c", "4c", "8c")[i], y + PITCH / 2
        box(ENCODER, y, width, 32, f"block, {channels}", FEATURES)
        line((ENCODER + width / 2, y), (AFTER_ENCODER - 12, y), colour=FEATURES)
        node(AFTER_ENCODER, y, "×A", STEERING)
        if i:
            node(JOIN_IN, y, "C", FEATURES, 9)
            line((JOIN_IN + 9, y), (ENCODER - width / 2, y), colour=FEATURES)
        if i == 3:
            line((AFTER_ENCODER + 12, y), (GATE - 48, y), colour=FEATURES)
            continue
        # Down: what the level found, to the next one.
        line((AFTER_ENCODER, y + 12), (AFTER_ENCODER, middle), (JOIN_IN, middle), (JOIN_IN, y + PITCH - 9),
             colour=FEATURES)  # fmt: skip
        box(ENCODER, middle, 94, 28, "PixelUnshuffle(2)\n1×1 conv", FEATURES, 9)
        # Across: the skip.
        line((AFTER_ENCODER + 12, y), (SKIP - 32, y), colour=FEATURES)
        box(SKIP, y, 64, 26, "3×3 conv", FEATURES)
        line((SKIP + 32, y), (JOIN_OUT - 9, y), colour=FEATURES)
        # Up: from the level below.
        node(JOIN_OUT, y, "C", FEATURES, 9)
        line((JOIN_OUT + 9, y), (DECODER - width / 2, y), colour=FEATURES)
        box(DECODER, y, width, 32, f"block, {channels}", FEATURES)
        line((DECODER + width / 2, y), (AFTER_DECODER - 12, y), colour=FEATURES)
        node(AFTER_DECODER, y, "×A", STEERING)
        line((AFTER_DECODER + 12, y), (GATE - 48, y), colour=FEATURES)
        start = y + PITCH - (12 if i < 2 else 0)
        line((AFTER_DECODER, start), (AFTER_DECODER, middle), (JOIN_OUT, middle), (JOIN_OUT, y + 9), colour=FEATURES)
        box(DECODER, middle, 94, 28, "PixelShuffle(2)\n1×1 conv", FEATURES, 9)
    dot(AFTER_DECODER, ROWS[3])


def right_gatepost() -> None:
    label(GATE, 270, "right gatepost", GATES, 11, weight="bold")
    for y, enlarge in zip(ROWS, ("", "\nbilinear ×2", "\nbilinear ×4", "\nbilinear ×8"), strict=True):
        box(GATE, y, 96, 32, f"3×3 conv → c{enlarge}", GATES)
        line((GATE + 48, y), (FUSION - 12, y), colour=GATES)
    box(FUSION, (ROWS[0] + ROWS[3]) / 2, 24, 262, "", GATES)
    label(FUSION, (ROWS[0] + ROWS[3]) / 2, "SKFF: fuses the four levels", GATES, rotation=90, weight="bold")


def residual() -> None:
    line((FUSION + 12, ROWS[3]), (RESIDUAL - 44, ROWS[3]), colour=GATES)
    box(RESIDUAL, ROWS[3], 88, 32, "head: 3×3 conv", FEATURES)
    line((RESIDUAL, ROWS[3] - 16), (RESIDUAL, 470), colour=FEATURES)
    box(RESIDUAL, 453, 88, 34, "fast:\nPixelShuffle(2)", size=9.5)
    line((RESIDUAL, 436), (RESIDUAL, 398))
    label(RESIDUAL + 8, 418, "residual", ha="left", size=9.5)
    node(RESIDUAL, 386, "×A", STEERING)
    line((RESIDUAL, 374), (RESIDUAL, 338))
    box(RESIDUAL, 318, 92, 40, "× strength\nmin(α / 0.15, 1)", STEERING)
    line((RESIDUAL, 298), (RESIDUAL, 187))
    node(RESIDUAL, 174, "+", INK)
    dot(710, 174, GREY)
    line((710, 174), (RESIDUAL - 12, 174))
    line((RESIDUAL, 162), (RESIDUAL, 98))
    frame(RESIDUAL, 70, "#eceff2", "#1f2933")
    label(RESIDUAL, 32, "lit frame", weight="bold")


def training() -> None:
    panel(14, 602, 872, 112, "#ffffff", GREY, lw=1.2, ls=(0, (4, 3)))
    line((RESIDUAL + 38, 70), (RAIL, 70), (RAIL, 602), style=(0, (4, 3)))
    label(26, 618, "Training only", size=12, weight="bold", ha="left")
    label(122, 618, "losses on the lit frame; none of this runs when frames are enhanced", GREY, ha="left")
    label(26, 650, "recipe default:\nsynthetic pairs", ha="left")
    label(26, 690, "recipe paper:\nno pairs", ha="left")
    box(287, 650, 330, 32, "DBNet twin: reading (text probability),\npreserving (fine features), as in the clean frame")
    box(667, 650, 414, 32, "Charbonnier, Sobel gradient, tone:\ntowards the clean frame; text counts twice")
    box(183, 690, 122, 32, "ETAM: DBNet's text\nmask on P")
    box(313, 690, 122, 32, "Sobel edges\nof P")
    box(457, 690, 150, 32, "SFP: features of I,\nframe and crops")
    box(617, 690, 154, 32, "global discriminator:\nwhole frame")
    box(787, 690, 174, 32, "local discriminator:\n5 random crops")


def main() -> None:
    panel(1, 1, WIDTH - 2, HEIGHT - 2, "#ffffff", "#d5dbe1", lw=1)
    panel(14, 194, 862, 396, PALE)
    label(ENCODER + 120, 208, "Stage 2: AGM-Net", size=12, weight="bold", ha="left")
    stage_one()
    inputs()
    left_gatepost()
    encoder_and_decoder()
    right_gatepost()
    residual()
    training()
    label(26, 576, "C concatenation    ×A attention, average-pooled to the level    block: plain residual (fast), SRB "
          "(reference, paper)    c: 24 (fast), 32", ha="left", size=9.5)  # fmt: skip
    figure.savefig(OUT, transparent=True, metadata={"Title": TITLE, "Date": None, "Creator": None})


if __name__ == "__main__":
    main()

"""The pictures and the table of the demo."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from common.errors import SourceError
from deploy.demo.clip import Bytes, Outline
from deploy.demo.report import WAITING, Figures, FrameReading, StageFigures, stage_figures, stage_times

PAPER, INK, FAINT, TRUE = (22, 22, 26), (240, 240, 240), (165, 165, 170), (255, 255, 255)
# Okabe and Ito's colours, told apart with every kind of colour vision; a hatch marks the second round.
COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")
GREY = "#D9D9D9"


@dataclass(frozen=True, slots=True)
class Pair:
    """One frame before and after, uint8 RGB (H, W, 3), its true outlines, and a caption."""

    dark: Bytes
    lit: Bytes
    truth: tuple[Outline, ...]
    title: str
    caption: str


def lit_panel(path: Path, width: int, height: int) -> Bytes:
    """The enhanced frame with its boxes, cut from the right side of an annotated picture of the edge node.

    Raises:
        SourceError: the picture is missing, or too small to hold two frames of this size.
    """
    try:
        with Image.open(path) as picture:
            if picture.width < 2 * width or picture.height < height:
                size = f"{picture.width}x{picture.height}"
                raise SourceError(f"{path} is {size}: two frames of {width}x{height} do not fit")
            return np.asarray(picture.convert("RGB"))[:height, picture.width - width :]
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error}; the edge node writes it with --annotate") from None


def before_after(pairs: Sequence[Pair], path: Path, *, columns: int = 2, panel_width: int = 480) -> None:
    """Write a grid of pairs in the format of the suffix: dark left, enhanced right with found and true boxes."""
    strip, gap, margin = 30, 6, 14
    panel_height = round(panel_width * pairs[0].dark.shape[0] / pairs[0].dark.shape[1])
    cell = (2 * panel_width + gap, panel_height + strip)
    rows = -(-len(pairs) // columns)
    width = columns * cell[0] + (columns + 1) * margin
    canvas = Image.new("RGB", (width, rows * (cell[1] + margin) + margin + strip), PAPER)
    draw = ImageDraw.Draw(canvas)
    bold, plain = _font("DejaVuSans-Bold", 15), _font("DejaVuSans", 15)
    for index, pair in enumerate(pairs):
        left = margin + index % columns * (cell[0] + margin)
        top = margin + index // columns * (cell[1] + margin)
        for number, (pixels, outlines) in enumerate(((pair.dark, ()), (pair.lit, pair.truth))):
            panel = Image.fromarray(pixels).resize((panel_width, panel_height), Image.Resampling.LANCZOS)
            for outline in outlines:
                scale = panel_width / pixels.shape[1]
                _dashed(ImageDraw.Draw(panel), [(x * scale, y * scale) for x, y in outline])
            canvas.paste(panel, (left + number * (panel_width + gap), top))
        draw.text((left + 2, top + panel_height + 6), pair.title, INK, bold)
        right = left + cell[0] - 2 - draw.textlength(pair.caption, plain)
        draw.text((right, top + panel_height + 6), pair.caption, INK, plain)
    legend = "left: as the camera sees it    right: lit up    green: text found    white dashes: text that is there"
    draw.text((margin + 2, canvas.height - strip - 2), legend, FAINT, plain)
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.save(path, optimize=True, quality=88)


def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf"), size)


def _dashed(draw: ImageDraw.ImageDraw, outline: Sequence[tuple[float, float]], dash: float = 5.0) -> None:
    for start, end in zip(outline, [*outline[1:], outline[0]], strict=True):
        a, b = np.array(start), np.array(end)
        steps = max(1, int(np.hypot(*(b - a)) / dash))
        for step in range(0, steps, 2):
            p, q = a + (b - a) * step / steps, a + (b - a) * min(step + 1, steps) / steps
            draw.line((*p, *q), fill=TRUE, width=1)


def latency_plot(readings: Sequence[FrameReading], path: Path) -> None:
    """Write where each frame's time went, as PNG: a stacked bar a frame, and the share of each stage."""
    from matplotlib.figure import Figure

    stages = stage_figures(readings)
    looks = {stage.name: _look(index, stage) for index, stage in enumerate(stages)}
    figure = Figure(figsize=(13, 6.5), layout="constrained")
    bars, shares = figure.subplots(1, 2, width_ratios=[2.4, 1])
    numbers = np.array([reading.number for reading in readings])
    times = [stage_times(reading) for reading in readings]
    start = np.zeros(len(readings))
    for stage in stages:
        spent = np.array([frame.get(stage.name, 0.0) for frame in times])
        bars.bar(numbers, spent, bottom=start, width=0.9, label=stage.name, linewidth=0.3, **looks[stage.name])
        start += spent
    bars.set(
        xlabel="frame of the clip", ylabel="milliseconds from capture to reading", title="where each frame's time went"
    )
    bars.margins(x=0.01)
    bars.grid(axis="y", alpha=0.3)
    bars.set_axisbelow(True)
    for row, stage in enumerate(stages):
        shares.barh(row, stage.share * 100, linewidth=0.3, **looks[stage.name])
        label = f" {stage.share * 100:.1f} %  (p50 {stage.p50_ms:,.1f} ms)"
        shares.text(stage.share * 100, row, label, va="center", fontsize=9)
    shares.set_yticks(range(len(stages)), [stage.name for stage in stages])
    shares.invert_yaxis()
    shares.set(xlabel="share of all time, %", title="by stage, in the order of the walk")
    shares.set_xlim(0, max(stage.share for stage in stages) * 170)
    for side in ("top", "right"):
        bars.spines[side].set_visible(False)
        shares.spines[side].set_visible(False)
    bars.legend(ncols=6, fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.1), frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _look(index: int, stage: StageFigures) -> dict[str, str]:
    if stage.name == WAITING:
        return {"color": GREY, "edgecolor": "#666666"}
    hatch = "////" if index >= len(COLOURS) else ""
    return {"color": COLOURS[index % len(COLOURS)], "edgecolor": "#222222", "hatch": hatch}


def summary(figures: Figures) -> RenderableType:
    """The short tables that the demo prints."""
    text = Table(title="text found (IoU 0.5)", title_justify="left")
    for heading in ("", "found", "recall", "precision"):
        text.add_column(heading, justify="right" if heading else "left")
    for name, score in (("in the dark", figures.dark), ("lit up", figures.lit)):
        text.add_row(name, f"{score.matched} of {score.true}", _percent(score.recall), _percent(score.precision))

    stages = Table(title="time per frame", title_justify="left")
    for heading in ("stage", "p50 ms", "p95 ms", "share"):
        stages.add_column(heading, justify="left" if heading == "stage" else "right")
    for stage in figures.stages:
        stages.add_row(stage.name, f"{stage.p50_ms:,.1f}", f"{stage.p95_ms:,.1f}", _percent(stage.share))
    stages.add_section()
    latency = figures.latency
    stages.add_row("all, capture to reading", f"{latency.p50_ms:,.1f}", f"{latency.p95_ms:,.1f}", "")

    sizes = figures.sizes
    carried = Table(title="bytes per frame", title_justify="left")
    for heading in ("", "kB", "of RGB", "of PNG"):
        carried.add_column(heading, justify="right" if heading else "left")
    for name, size in (
        ("RGB pixels", sizes.rgb),
        ("the same as PNG, level 1", sizes.png),
        ("as the clip gives it (4:2:0)", sizes.raw),
        ("sent, lossless", sizes.up),
        ("came back, lit up", sizes.down),
    ):
        carried.add_row(name, f"{size / 1000:,.0f}", _percent(size / sizes.rgb), _percent(size / sizes.png))

    others = [f"{count} {name}" for name, count in sorted(figures.outcomes.items()) if name != "enhanced"]
    others += [f"{figures.missing} without a reading"] if figures.missing else []
    frames = f"{figures.enhanced} of {figures.frames} frames enhanced by {', '.join(figures.models)}"
    return Group(Text(", ".join([frames, *others])), text, stages, carried)


def _percent(part: float) -> str:
    return "-" if np.isnan(part) else f"{100 * part:.1f} %"

"""Does the camera, stream or file give a frame?"""

import time
from pathlib import Path

from common.errors import SourceError
from common.packing import to_rgb
from edge_node.check.finding import Figure, Group, in_thread
from edge_node.settings import EdgeSettings
from edge_node.sources import Captured, Source, open_source

LIMIT_S = 25.0  # cameras and streams themselves give up after ten for opening, and ten for a picture
WATCHED_S = 1.0
BLACK = 1.0  # mean of 255: no scene is that dark, a lid is


def _open(given: EdgeSettings) -> Source:
    return open_source(given.camera, given.source, size=given.camera_size, loop=given.loop, live=given.live)


def _is_empty_folder(source: str | None) -> bool:
    folder = Path(source or "")
    return source is not None and folder.is_dir() and not any(folder.iterdir())


async def check_source(given: EdgeSettings, found: Group) -> None:
    """Opens it, takes frames for a second, closes it."""
    if given.watch and _is_empty_folder(given.source):
        found.ok("opens", f"{given.source} is empty: its first image is waited for")
        return
    opened: list[Source] = []

    def look() -> tuple[float, float, list[Captured]]:
        began = time.monotonic()
        opened.append(source := _open(given))
        open_s, frames, first_s = time.monotonic() - began, [], 0.0
        for captured in source.frames():
            frames.append(captured)
            first_s = first_s or time.monotonic()
            if not source.live or time.monotonic() - first_s > WATCHED_S:
                break
        if not frames:
            raise SourceError(f"{source.name} has no frame")
        return open_s * 1e3, (first_s - began) * 1e3, frames

    try:
        seen = await found.within(
            LIMIT_S, "opens", in_thread(look), "is another program using it? unplug and plug it in"
        )
    finally:
        for source in opened:
            source.close()
    if seen is None:
        return
    open_ms, first_ms, frames = seen
    source, image = opened[0], frames[-1].image
    found.ok("opens", f"{source.name}, first frame after {first_ms:.0f} ms", open_ms=open_ms, first_frame_ms=first_ms)
    text = f"{image.width}x{image.height} {image.pixel_format.name}"
    rate = 0.0
    if source.live and len(frames) > 2:
        spent_ns = frames[-1].captured_unix_ns - frames[0].captured_unix_ns
        rate = (len(frames) - 1) * 1e9 / spent_ns if spent_ns > 0 else 0.0
        text += f", {rate:.1f} frames/s"
    level = float(to_rgb(image).mean())
    figures: dict[str, Figure] = {
        "width": image.width,
        "height": image.height,
        "format": image.pixel_format.name,
        "level": round(level, 2),
        "frames_per_s": round(rate, 2),
    }
    if level < BLACK:
        found.warn("frame", f"{text}, quite black", "is the lens covered?", **figures)
    else:
        found.ok("frame", f"{text}, mean level {level:.0f} of 255", **figures)

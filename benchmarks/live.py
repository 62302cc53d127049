"""What does the live page cost an edge node, and how soon is something to be seen?

    python benchmarks/live.py [--seconds 20]

Real night frames, lit up by the edge's own network, are shown at 10 a second to none, one and four browsers' streams
(another process reads them); CPU time of this process, less that without any, as a share of one core at 10 frames/s.
Then, where there is a Chromium, the time from opening the page to the first frame on it. Writes
benchmarks/results/live.json.
"""

import argparse
import asyncio
import contextlib
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from common.color import to_rgb
from common.frame import FrameId, Outcome, Priority, Reading, Region, Route
from common.pixels import ColorMatrix, ColorRange, PixelFormat, RawImage
from common.settings import load
from edge_node.live.options import Page
from edge_node.live.page import LivePage
from edge_node.local_enhancer import LocalEnhancer
from edge_node.node import EdgeNode
from edge_node.reader import Reader
from edge_node.settings import EdgeSettings
from edge_node.sinks import Shown
from edge_node.sources import open_source

ROOT = Path(__file__).resolve().parents[1]
CLIP = ROOT / "deploy/demo/night.mp4"
RESULTS = Path(__file__).parent / "results" / "live.json"
CASES = ((600, 400, 1, 1280), (1280, 720, 1, 1280), (1280, 720, 1, 850), (1280, 720, 4, 1280))
"""Width, height, browsers, and how many pixels of a picture's width they can show."""
FPS, FRAMES, OPENINGS = 10, 8, 7
STAGES = ("gate", "pack", "uplink", "ingress", "scheduler", "engine", "publisher", "downlink", "unpack", "reader")


def frames(width: int, height: int) -> list[Shown]:
    """Frames of the clip, mirrored at their edges where they are too small: so much detail a pixel as a camera's."""
    enhancer, made = LocalEnhancer(), []
    for number, captured in enumerate(open_source(source=str(CLIP)).frames()):
        if number == FRAMES:
            break
        image = captured.image
        if (image.width, image.height) != (width, height):
            planes = [plane[..., 0] for plane in image.planes]
            sizes = [(height, width), *[((height + 1) // 2, (width + 1) // 2)] * 2]
            grown = [_mirrored(plane, size).reshape(-1) for plane, size in zip(planes, sizes, strict=True)]
            image = RawImage(
                np.concatenate(grown), width, height, PixelFormat.I420, ColorRange.LIMITED, ColorMatrix.BT709
            )
        boxes = [((9.0, y), (200.0, y), (200.0, y + 20), (9.0, y + 20)) for y in (9.0, 99.0, 199.0)]
        regions = tuple(Region(box, 0.9, "EXIT 12", 0.9) for box in boxes)
        reading = Reading(
            FrameId("gate", "run", number), captured.name, time.time_ns(), Priority.STANDARD, Outcome.ENHANCED,
            Route.CLOUD, regions, stages_ns=dict.fromkeys(STAGES, 9_000_000),
        )  # fmt: skip
        made.append(Shown(reading, enhancer.enhance(to_rgb(image)), image))
    return made


def _mirrored(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    grow = [(0, max(0, wanted - had)) for wanted, had in zip(size, plane.shape, strict=True)]
    return np.ascontiguousarray(np.pad(plane, grow, mode="symmetric")[: size[0], : size[1]])


def watch(url: str, wide: int) -> None:
    """A browser's stream: takes what comes and says that it is shown."""
    pictures = 0
    with connect(url.replace("http", "ws") + "stream", origin=url.rstrip("/"), proxy=None, max_size=None) as stream:
        stream.send(json.dumps({"wide": wide}))
        with contextlib.suppress(ConnectionClosed):
            while True:
                if isinstance(stream.recv(), bytes):
                    pictures += 1
                    stream.send('{"shown": 1}')
    print(pictures)


async def feed(page: LivePage, shown: list[Shown], seconds: float) -> float:
    """CPU seconds of this process while it is fed."""
    [camera] = page.cameras
    before, start = time.process_time(), time.monotonic()
    for number in range(int(seconds * FPS)):
        await asyncio.sleep(max(0.0, start + number / FPS - time.monotonic()))
        camera.write(shown[number % len(shown)])
    return time.process_time() - before


async def run(size: tuple[int, int], viewers: int, wide: int, seconds: float) -> dict[str, float]:
    page, shown = LivePage(Page(live="0")), frames(*size)
    page.camera("gate")
    settings = load(EdgeSettings, ["--source", str(CLIP), "--edge", "gate", "--local", "off"], {})
    page.start({"gate": EdgeNode(settings, open_source(source=str(CLIP)), Reader(None), [])})
    command = [sys.executable, __file__, "--watch", page.url, "--wide", str(wide)]
    others = [
        await asyncio.to_thread(subprocess.Popen, command, stdout=subprocess.PIPE, text=True) for _ in range(viewers)
    ]
    while len(page.viewers) < viewers:
        await asyncio.sleep(0.05)
    await feed(page, shown, 1.0)
    cpu_s = await feed(page, shown, seconds)
    picture = page.cameras[0].picture
    await asyncio.to_thread(page.stop)
    told = [await asyncio.to_thread(other.communicate) for other in others]
    pictures = [int(out) for out, _ in told]
    return {
        "cpu_s": cpu_s,
        "pictures_s": round(min(pictures) / (seconds + 1), 2) if pictures else 0.0,
        "kb_a_picture": round(len(picture.message) / 1e3) if picture else 0,
    }


def openings(shown: list[Shown]) -> list[float]:
    """Milliseconds from opening the page to the first frame on it, in a fresh profile each time."""
    sys.path.insert(0, str(ROOT / "tests/support"))
    from chromium import browser, chromium

    if chromium() is None:
        return []
    done = asyncio.Event()
    urls: list[str] = []

    async def serve() -> None:
        page = LivePage(Page(live="0"))
        page.camera("gate").write(shown[0])
        page.start({})
        urls.append(page.url)
        await done.wait()
        await asyncio.to_thread(page.stop)

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    while not urls:
        time.sleep(0.05)
    taken = []
    with browser() as launched:
        for _ in range(OPENINGS):
            context = launched.new_context()
            page = context.new_page()
            page.goto(urls[0])
            page.locator("#stage.filled").wait_for()
            taken.append(page.evaluate("performance.getEntriesByName('first frame')[0].startTime"))
            context.close()
    loop.call_soon_threadsafe(done.set)
    thread.join()
    return sorted(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement (default: 20)")
    parser.add_argument("--watch", metavar="URL", help=argparse.SUPPRESS)
    parser.add_argument("--wide", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.watch:
        return watch(given.watch, given.wide)
    table: dict[str, object] = {}
    for width, height, viewers, wide in CASES:
        none = asyncio.run(run((width, height), 0, wide, given.seconds))
        made = asyncio.run(run((width, height), viewers, wide, given.seconds))
        spent_s = made["cpu_s"] - none["cpu_s"]
        a_picture_ms = 1e3 * spent_s / given.seconds / made["pictures_s"]
        row = {
            "cpu_ms_a_picture": round(a_picture_ms, 2),
            "core_at_10_s": round(a_picture_ms * FPS / 1e3, 3),
            "core_with_nobody": round(none["cpu_s"] / given.seconds, 4),
            "pictures_s": made["pictures_s"],
            "kb_a_picture": made["kb_a_picture"],
        }
        name = f"{width}x{height}, {viewers} browser(s) that show {wide}"
        table[name] = row
        print(f"{name}: {row}", flush=True)
    taken = openings(frames(600, 400))
    if taken:
        table["first_frame_ms"] = {"median": round(taken[len(taken) // 2]), "most": round(taken[-1])}
        print(f"first frame on the page after {table['first_frame_ms']} ms")
    RESULTS.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()

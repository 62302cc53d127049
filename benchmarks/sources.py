"""What do the sources of an edge node cost, and how soon are they back after trouble?

    python benchmarks/sources.py [--repeats 5]

Costs are CPU time, which a busy machine stretches less than the clock. Opening again is wall time against GStreamer's
RTSP server on loopback (`sh deploy/get-gstreamer.sh`; left out where it is not there), which is killed and started
again at once. Prints a table, writes benchmarks/results/sources.json.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))
from gstreamer import GSTREAMER, RtspServer  # noqa: E402

from edge_node.sources.frame_age import FrameAge  # noqa: E402
from edge_node.sources.planes import to_raw  # noqa: E402
from edge_node.sources.stream import open_stream  # noqa: E402
from edge_node.sources.watched_folder import OVERWRITTEN_S, POLL_S, WatchedFolder  # noqa: E402

WIDTH, HEIGHT, FPS = 1280, 720, 10
RESULTS = Path(__file__).parent / "results" / "sources.json"


def cpu_ms(work: Callable[[], object], times: int) -> float:
    """Median CPU milliseconds of one call, after a warm-up."""
    spent = []
    for number in range(times + 3):
        start = time.process_time()
        work()
        if number >= 3:
            spent.append((time.process_time() - start) * 1e3)
    return round(statistics.median(spent), 4)


def frames(pixel_format: str, count: int) -> list[Any]:
    """Noise as a camera's frames."""
    rng = np.random.default_rng(0)
    pictures = [rng.integers(16, 60, (HEIGHT, WIDTH, 3), dtype=np.uint8) for _ in range(count)]
    return [av.VideoFrame.from_ndarray(p, format="rgb24").reformat(format=pixel_format) for p in pictures]


def per_frame() -> dict[str, float]:
    """A frame of 1280x720 from decoder to hand, and what the watchdog adds."""
    found = {}
    for name in ("yuv420p", "yuyv422", "yuvj422p"):
        [frame] = frames(name, 1)
        found[f"planes of {name}"] = cpu_ms(lambda frame=frame: to_raw(frame), 100)
    found["decoding of a JPEG"] = decoding()
    images = [to_raw(frame) for frame in frames("yuv420p", 2)]
    age, turn = FrameAge(10.0), iter(range(10**9))
    found["watchdog, a new picture"] = cpu_ms(lambda: age.seen(images[next(turn) % 2], 0.0), 100)
    copies = [images[0], type(images[0])(images[0].data.copy(), WIDTH, HEIGHT, images[0].pixel_format)]
    found["watchdog, the same picture"] = cpu_ms(lambda: age.seen(copies[next(turn) % 2], 0.0), 100)
    return found


def decoding() -> float:
    """A dark 4:2:2 JPEG of 1280x720, as a camera sends it; one thread."""
    encoder: Any = av.CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = WIDTH, HEIGHT, "yuvj422p", Fraction(1, FPS)
    encoder.options = {"qmin": "3", "qmax": "3"}
    [packet] = encoder.encode(frames("yuvj422p", 1)[0]) + encoder.encode(None)
    content = bytes(packet)
    decoder: Any = av.CodecContext.create("mjpeg", "r")
    decoder.thread_count = 1
    return cpu_ms(lambda: decoder.decode(av.Packet(content)), 50)


def polls() -> dict[str, float]:
    """One look at a watched folder whose files were all given before."""
    found = {}
    for count in (100, 1_000, 10_000):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for number in range(count):
                (folder / f"{number}.jpg").write_bytes(b"x")
            source = WatchedFolder(folder)
            source._given = source._look()
            found[f"{count} files"] = cpu_ms(source._ready, 11)
            source._overwritten_s = 0.0
            found[f"{count} files, with their times"] = cpu_ms(source._ready, 11)
    return found


def opening(repeats: int) -> dict[str, Any]:
    """Seconds from the call to the first frame, and from a server's start to the next frame."""
    first_s, again_s = [], []
    for _ in range(repeats):
        server = RtspServer(size=(WIDTH, HEIGHT))
        start = time.monotonic()
        stream = open_stream(server.url())
        started: list[float] = []
        for number, _ in enumerate(stream.frames()):
            if number == 0:
                first_s.append(round(time.monotonic() - start, 2))
            if number == 5:
                server.end()
                server = RtspServer(server.port, size=(WIDTH, HEIGHT))
                started.append(time.monotonic())
            if stream.status.reopened and not stream.status.problem:
                again_s.append(round(time.monotonic() - started[0], 2))
                break
        stream.close()
        server.end()
    return {"first frame, s": sorted(first_s), "server killed and started, s": sorted(again_s)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    results: dict[str, Any] = {"per frame of 1280x720, CPU ms": per_frame(), "one look at a folder, CPU ms": polls()}
    if (GSTREAMER / "libgstrtspserver-1.0.so.0").exists():
        results["RTSP 1280x720"] = opening(repeats)
    for title, rows in results.items():
        print(title)
        for name, value in rows.items():
            print(f"  {name:32} {value}")
    rows = results["per frame of 1280x720, CPU ms"]
    share = 100 * FPS * (rows["planes of yuyv422"] + rows["watchdog, the same picture"]) / 1e3
    print(f"capture without decoding at {FPS} frames/s: {share:.2f} % of a core")
    look = results["one look at a folder, CPU ms"]
    share = 100 * (look["10000 files"] / POLL_S + look["10000 files, with their times"] / OVERWRITTEN_S) / 1e3
    print(f"10,000 files in a watched folder: {share:.2f} % of a core")
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()

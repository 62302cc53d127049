"""Does anything grow over days? Frames played as fast as they go, with everything on.

    python benchmarks/endurance.py --day               # 24 hours of one frame every 5 s, in 48 minutes
    python benchmarks/endurance.py --minutes 60        # or --frames 864000: a day at 10 frames/s

An edge with gate, detector, recogniser (an eighth of the frames has text), tracker, spool (`--keep-all`), readings to
be searched within a small bound, pictures of sights, and a live page that is looked at for 5 s in every 30; a real
cloud node without a network (`--preset none`) and its nats-server.
Frames are small and the detector's side too, so that many pass. Sampled each second: memory (RSS), open files and
threads of all three, and what the spool, the readings, and the results in JetStream take on disk.

With `--day` a live camera shows the 17,280 frames of pole_day.py at `--fps`; nothing is lit up on the edge, and the
cloud node is stopped (SIGSTOP) for `--away-s` in every `--away-every-s`, so that the spool runs into its bound. What is
timed in seconds or hours stays that: it is the frames of a day that are played, not its clock.

The slope is Theil and Sen's over the last two thirds with its 95 % interval, given for a day: 864,000 frames, at 10
frames/s, or the 17,280 of `--day`. Writes benchmarks/results/endurance.json (endurance-day.json) and a plot; ends with
1 where the memory of a process may grow by more than `--most` MB in such a day.
"""

import argparse
import contextlib
import json
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import psutil
from PIL import Image
from scipy.stats import theilslopes
from websockets.sync.client import connect

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))

import pole_day  # noqa: E402
from processes import Cloud, dark_sign, edge_arguments  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"
FAST_DAY = 864_000  # frames at 10 frames/s
WITHOUT_TEXT = 7  # frames for each with text
LOOK_EVERY_S, LOOK_S = 30.0, 5.0
PARTS = ("edge", "cloud", "nats")
MB = 1e6
BOUNDED = (
    "--keep-all", "--spool-mib", "16", "--readings-mib", "2", "--detector-threads", "1",
    "--connect-timeout-s", "0",
)  # fmt: skip
AS_ON_A_POLE = ("--spool-mib", "8", "--readings-mib", "1", "--local", "off", "--detector-max-side", "320")


def frames_into(folder: Path, size: tuple[int, int]) -> None:
    """A dark sign, then seven dark pictures of nothing, and so on."""
    rng = np.random.default_rng(1)
    for turn, word in enumerate(("EXIT 12", "TAXI", "BUS 44", "HOTEL")):
        dark_sign(word, (640, 480)).crop((40, 40, 460, 180)).resize(size).save(folder / f"{turn}-0.png")
        for number in range(WITHOUT_TEXT):
            noise = rng.normal(6, 2, (size[1], size[0], 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(noise).save(folder / f"{turn}-{number + 1}.png")


def disk_mb(*places: Path) -> float:
    """Bytes in files; those that go meanwhile are not counted."""
    total = 0
    for place in places:
        for path in [place, *place.rglob("*")]:
            with contextlib.suppress(OSError):
                total += path.stat().st_size if path.is_file() else 0
    return total / MB


def look(port: int, ended: threading.Event, seen: list[int]) -> None:
    """A browser that comes and goes, and acknowledges pictures as one does."""
    while not ended.wait(LOOK_EVERY_S - LOOK_S):
        with contextlib.suppress(Exception):  # an edge that is busy is looked at later
            base = f"127.0.0.1:{port}"
            for path in ("/", "/search?text=EXIT&within=3600"):
                urllib.request.urlopen(f"http://{base}{path}", timeout=10).read()
            with connect(f"ws://{base}/stream", origin=f"http://{base}", max_size=None) as socket:
                until = time.monotonic() + LOOK_S
                while time.monotonic() < until:
                    if isinstance(socket.recv(timeout=LOOK_S), bytes):
                        socket.send(json.dumps({"shown": 1}))
                    seen[0] += 1


class Count:
    """Lines of a file that grows, without reading it anew."""

    def __init__(self, file: Path) -> None:
        self._file, self._at, self.lines = file, 0, 0

    def now(self) -> int:
        with contextlib.suppress(FileNotFoundError), self._file.open("rb") as file:
            file.seek(self._at)
            new = file.read()
            self._at, self.lines = self._at + len(new), self.lines + new.count(b"\n")
        return self.lines


def sample(processes: dict[str, psutil.Process], places: dict[str, list[Path]], began: float) -> dict[str, float]:
    row = {"s": time.monotonic() - began}
    for part, process in processes.items():
        with process.oneshot():
            row[f"{part} MB"] = process.memory_info().rss / MB
            row[f"{part} files"], row[f"{part} threads"] = process.num_fds(), process.num_threads()
            row[f"{part} cpu s"] = sum(process.cpu_times()[:2])
    return row | {f"{name} MB on disk": disk_mb(*paths) for name, paths in places.items()}


class Away(threading.Thread):
    """Stops a process for some seconds, again and again, and lets it go on in the end."""

    def __init__(self, process: psutil.Process, every_s: float, for_s: float, ended: threading.Event) -> None:
        super().__init__()
        self._process, self._every_s, self._for_s, self._ended = process, every_s, for_s, ended
        self.times = 0

    def run(self) -> None:
        while self._for_s and not self._ended.wait(self._every_s - self._for_s):
            self._process.suspend()
            self.times += 1
            try:
                self._ended.wait(self._for_s)
            finally:
                self._process.resume()


def slope(frames: np.ndarray, values: np.ndarray, day: int) -> tuple[float, float, float]:
    """For a day of so many frames, with its 95 % interval, over the last two thirds."""
    late = frames >= frames[-1] / 3
    if not np.ptp(values[late]):
        return 0.0, 0.0, 0.0
    middle, _, low, high = theilslopes(values[late], frames[late])
    return middle * day, low * day, high * day


def run(
    given: argparse.Namespace, folder: Path, leaving: contextlib.ExitStack
) -> tuple[list[dict[str, float]], dict[str, Any]]:
    """`leaving` ends what was started, whatever ends this."""
    photos, out, port = folder / "photos", folder / "out", given.live_port
    source, more = str(photos), ["--loop"]
    if given.day:
        source, more = f"lavfi:movie={folder / 'day.mkv'}", list(AS_ON_A_POLE)
        pole_day.write(folder / "day.mkv", given.fps, given.frames or pole_day.DAY)
    else:
        photos.mkdir()
        frames_into(photos, tuple(map(int, given.size.split("x"))))
    cloud = Cloud("--preset", "none")
    leaving.callback(cloud.end)
    arguments = edge_arguments(cloud.address, source, out, *BOUNDED, *more, "--live", str(port),
                               "--detector-side", str(given.detector_side))  # fmt: skip
    if given.frames:
        arguments += ["--limit", str(given.frames)]
    with (folder / "edge.log").open("wb") as log:
        edge = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, stderr=log)
    leaving.callback(edge.kill)
    cloud_process = psutil.Process(cloud.pid)
    [nats] = [child for child in cloud_process.children(True) if "nats" in child.name()]
    processes = dict(zip(PARTS, (psutil.Process(edge.pid), cloud_process, nats), strict=True))
    stores = [Path(argument).parent / "store" for argument in nats.cmdline() if argument.endswith(".conf")]
    places = {
        "spool": [out / "spool"], "readings": [out / "readings.db", out / "readings.db-wal", out / "sights"],
        "readings.jsonl": [out / "readings.jsonl"], "jetstream": stores,
    }  # fmt: skip
    ended, seen, rows, count = threading.Event(), [0], [], Count(out / "readings.jsonl")
    browser = threading.Thread(target=look, args=(port, ended, seen))
    browser.start()
    away = Away(cloud_process, given.away_every_s, given.away_s if given.day else 0.0, ended)
    away.start()
    began = said = time.monotonic()
    try:
        while edge.poll() is None and (not given.minutes or time.monotonic() - began < given.minutes * 60):
            time.sleep(1.0)
            with contextlib.suppress(psutil.NoSuchProcess):
                row = sample(processes, places, began) | {"frames": count.now()}
                if row["edge MB"]:  # one that has ended counts 0
                    rows.append(row)
            if rows and time.monotonic() - said > 60:
                said = time.monotonic()
                print({key: round(value, 1) for key, value in rows[-1].items()}, flush=True)
    finally:
        ended.set()
        away.join()
        browser.join()
        edge.terminate()
        code = edge.wait(120)
        cloud.end()
    log_lines = (folder / "edge.log").read_text().splitlines()
    if code:
        sys.exit("\n".join(log_lines[-30:]))
    with contextlib.closing(sqlite3.connect(out / "readings.db")) as kept:
        tables = [name for (name,) in kept.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    outcomes = Counter(json.loads(line)["outcome"] for line in (out / "readings.jsonl").open())
    return rows, {
        "messages seen by the browser": seen[0], "said last": log_lines[-3:], "tables": len(tables),
        "outcomes": outcomes, "cloud node stopped, times": away.times,
    }  # fmt: skip


def report(rows: list[dict[str, float]], more: dict[str, Any], given: argparse.Namespace) -> float:
    """Prints, writes and draws; returns the largest growth of a process's memory that the data allow, MB a day."""
    frames = np.array([row["frames"] for row in rows], float)
    count, seconds = int(frames[-1]), rows[-1]["s"]
    day = pole_day.DAY if given.day else FAST_DAY
    rate = "one frame in 5 s" if given.day else "10 frames/s"
    print(f"{count} frames in {seconds / 60:.1f} minutes: {count / day * 24:.2f} hours of frames at {rate}; {more}")
    made: dict[str, Any] = {"frames": count, "minutes": seconds / 60, f"hours at {rate}": count / day * 24, **more}
    keys = [key for key in rows[0] if key not in ("s", "frames") and not key.endswith("cpu s")]
    for key in keys:
        values = np.array([row[key] for row in rows])
        middle, low, high = slope(frames, values, day)
        made[key] = {"first third": float(np.median(values[frames <= frames[-1] / 3])), "last": float(values[-1]),
                     "most": float(values.max()), "a day": [middle, low, high]}  # fmt: skip
        early, most = made[key]["first third"], values.max()
        print(f"{key:>22}: {early:8.1f} first third, {values[-1]:8.1f} last, {most:8.1f} most;"
              f"{middle:+9.1f} a day [{low:+.1f}, {high:+.1f}]")  # fmt: skip
    made["edge cpu ms a frame"] = rows[-1]["edge cpu s"] / count * 1e3
    made["samples"] = [{key: round(value, 2) for key, value in row.items()} for row in rows[:: 1 + len(rows) // 300]]
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(made, indent=1).split('"samples"')[0] + '"samples": [\n'
    text += ",\n".join(json.dumps(row) for row in made["samples"]) + "\n ]\n}\n"
    (RESULTS / f"{given.name}.json").write_text(text)
    figure, axes = plt.subplots(2, 2, figsize=(11, 7), sharex=True)
    titles = {" MB": "memory (RSS), MB", " files": "open files", " threads": "threads", " MB on disk": "on disk, MB"}
    for axis, (unit, title) in zip(axes.flat, titles.items(), strict=True):
        for key in keys:
            if key.endswith(unit):
                axis.plot(frames, [row[key] for row in rows], label=key.removesuffix(unit))
        axis.set(title=title, ylim=(0, None))
        axis.legend()
    for axis in axes[1]:
        axis.set_xlabel("frames")
    figure.savefig(RESULTS / f"{given.name}.png", dpi=80, bbox_inches="tight")
    return max(made[f"{part} MB"]["a day"][2] for part in PARTS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--day", action="store_true", help="24 hours of one frame every 5 s")
    parser.add_argument("--fps", type=int, default=6, help="at which --day is played (default: 6)")
    parser.add_argument("--away-every-s", type=float, default=300.0, help="of --day (default: 300)")
    parser.add_argument("--away-s", type=float, default=50.0, help="of --day; 0 = never (default: 50)")
    parser.add_argument("--minutes", type=float, default=0, help="end after so long")
    parser.add_argument("--frames", type=int, default=0, help="end after so many")
    parser.add_argument("--size", default="160x96", help="of the frames (default: 160x96)")
    parser.add_argument("--detector-side", type=int, default=64, help="(default: 64: it sees them as they are)")
    parser.add_argument("--live-port", type=int, default=8091, help="of the edge's page (default: 8091)")
    parser.add_argument("--most", type=float, default=50.0, help="MB a day that memory may grow (default: 50)")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what it started ends with it
    if not (given.minutes or given.frames or given.day):
        parser.error("give --day, --minutes, or --frames")
    given.name = "endurance-day" if given.day else "endurance"
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as leaving:
        rows, more = run(given, Path(name), leaving)
    sys.exit(int(report(rows, more, given) > given.most))


if __name__ == "__main__":
    main()

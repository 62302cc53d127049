"""What an edge takes: disk once installed, seconds to its first frame, memory with its detector.

    python benchmarks/edge_footprint.py

Installs the project with its `edge` extra into a fresh virtual environment (without pip: the tool is no part of it;
`--no-compile`: Python compiles what is imported, and the disk is looked at in the end), and runs edge nodes from
there against a cloud node without a network (`--preset none`): a few times to the first frame, then once for `--frames`
frames at `--size`, with memory (RSS) sampled twice a second. "Sent" counts from the start of the process until the
frame's last byte was handed to gRPC. Writes benchmarks/results/edge_footprint.json and a plot.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))

from processes import Cloud, dark_sign, edge_arguments, readings  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"
WORDS = ("STATION", "EXIT 12", "MAIN ROAD", "PARKING")
MB = 1e6


def disk_bytes(folder: Path) -> int:
    """Blocks taken, links not followed."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*"))


def install(folder: Path) -> Path:
    """The interpreter of a fresh environment with an edge in it."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--disable-pip-version-check"]
    pip += ["--no-compile"]
    subprocess.run([*pip, "-c", str(ROOT / "constraints.txt"), f"{ROOT}[edge]"], check=True, stderr=subprocess.DEVNULL)
    return python


def start(python: Path, arguments: list[str], folder: Path) -> subprocess.Popen[bytes]:
    """An edge of that environment: nothing of this checkout is imported. What it says is in `folder`/edge.log."""
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    with (folder / "edge.log").open("wb") as log:
        return subprocess.Popen([str(python), *arguments], cwd=folder, env=environ, stderr=log)


def first_frame_s(python: Path, cloud: str, photos: Path, out: Path, *more: str) -> float:
    """Seconds from the start of the process to the first frame sent."""
    began = time.time()
    edge = start(python, edge_arguments(cloud, photos, out, "--limit", "1", *more), out.parent)
    if edge.wait(120):
        sys.exit((out.parent / "edge.log").read_text())
    [line] = readings(out)
    return line["captured_unix_ns"] / 1e9 + (line["stages_ms"]["pack"] + line["stages_ms"]["uplink"]) / 1e3 - began


def memory(python: Path, cloud: str, photos: Path, out: Path, frames: int, *more: str) -> list[tuple[int, float]]:
    """(frames read, RSS in MB), twice a second."""
    edge = start(python, edge_arguments(cloud, photos, out, "--loop", "--limit", str(frames), *more), out.parent)
    process, samples = psutil.Process(edge.pid), []
    while edge.poll() is None:
        time.sleep(0.5)
        file = out / "readings.jsonl"
        done = file.read_bytes().count(b"\n") if file.exists() else 0
        try:
            rss = process.memory_info().rss / MB
        except psutil.NoSuchProcess:
            break
        if rss:  # a process that has ended counts 0
            samples.append((done, rss))
    if edge.returncode:
        sys.exit((out.parent / "edge.log").read_text())
    return samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=300, help="for the memory (default: 300)")
    parser.add_argument("--size", default="1280x720", help="of the frames (default: 1280x720)")
    parser.add_argument("--starts", type=int, default=5, help="(default: 5)")
    parser.add_argument("--detector-max-side", default="2048", help="(default: 2048, as the node's)")
    parser.add_argument("--no-recognize", action="store_true", help="the detector alone")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        python = install(folder / "edge")
        probe = "import importlib.util; print(importlib.util.find_spec('torch') is not None)"
        torch = subprocess.run([str(python), "-c", probe], cwd=folder, capture_output=True, text=True, check=True)
        photos = folder / "photos"
        photos.mkdir()
        for word in WORDS:
            dark_sign(word, tuple(map(int, given.size.split("x")))).save(photos / f"{word}.jpg", quality=92)
        node, detector = (
            Cloud("--preset", "none"),
            ("--detector-threads", "1", "--detector-max-side", given.detector_max_side)
            + ("--no-recognize",) * given.no_recognize,
        )
        try:
            started = {}
            for kind, more in (("with detector", detector), ("without", ("--detector", "none"))):
                times = [
                    first_frame_s(python, node.address, photos, folder / f"{kind.split()[0]}-{index}", *more)
                    for index in range(given.starts + 1)
                ][1:]  # the first fills the page cache
                started[kind] = {"median_s": statistics.median(times), "most_s": max(times)}
                print(f"first frame sent, {kind}: median {statistics.median(times):.2f} s, most {max(times):.2f} s")
            samples = memory(python, node.address, photos, folder / "out", given.frames, *detector)
        finally:
            node.end()
        size, packages = disk_bytes(folder / "edge"), {}
        for path in next((folder / "edge" / "lib").glob("python*/site-packages")).iterdir():
            packages[path.name] = round((disk_bytes(path) if path.is_dir() else path.stat().st_size) / MB, 1)
        largest = dict(sorted(packages.items(), key=lambda item: -item[1])[:8])
        print(f"on disk {size / MB:.0f} MB, torch: {torch.stdout.strip()}; largest, MB: {largest}", flush=True)
    half, mb = given.frames // 10, [rss for _, rss in samples]
    early = statistics.median([rss for done, rss in samples if half <= done <= 2 * half] or mb)
    late = statistics.median([rss for done, rss in samples if done >= given.frames - half] or mb)
    change = f"{late / early - 1:+.1%}"
    print(f"memory at {given.size}: {early:.0f} MB early, {late:.0f} MB late ({change}), {max(mb):.0f} MB peak")
    RESULTS.mkdir(exist_ok=True)
    suffix = "" if given.detector_max_side == "2048" else f"-{given.detector_max_side}"
    suffix += "-no-recognize" * given.no_recognize
    report = {
        "disk_mb": size / MB, "largest_mb": largest, "first_frame": started, "size": given.size,
        "detector_max_side": int(given.detector_max_side), "frames": given.frames,
        "rss_mb": {"early": early, "late": late, "growth": late / early - 1, "peak": max(mb)},
    }  # fmt: skip
    (RESULTS / f"edge_footprint{suffix}.json").write_text(json.dumps(report, indent=1) + "\n")
    plt.plot([done for done, _ in samples], mb)
    plt.xlabel("frames read")
    plt.ylabel("memory of the edge, MB")
    plt.ylim(bottom=0)
    plt.savefig(RESULTS / f"edge_footprint{suffix}.png", dpi=80, bbox_inches="tight")


if __name__ == "__main__":
    main()
